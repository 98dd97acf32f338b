//! One who listens to the live stream.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::Running;

pub struct Listener {
    pub socket: TcpStream,
    seen: Vec<u8>,
}

impl Listener {
    /// Opens the stream; its head has been read when this returns.
    pub async fn open(server: &Running) -> Self {
        Self::over(TcpStream::connect(server.address).await.unwrap(), server.address).await
    }

    /// With little room for what it has not read.
    pub async fn open_slowly(server: &Running) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4_096).unwrap();
        Self::over(socket.connect(server.address).await.unwrap(), server.address).await
    }

    async fn over(mut socket: TcpStream, address: SocketAddr) -> Self {
        let head = format!("GET /api/live HTTP/1.1\r\nHost: {address}\r\n\r\n");
        socket.write_all(head.as_bytes()).await.unwrap();
        let mut listener = Self { socket, seen: Vec::new() };
        let head = listener.until(b"\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 200") && head.contains("content-type: text/event-stream"), "{head}");
        listener
    }

    /// What comes up to these bytes, and they.
    async fn until(&mut self, end: &[u8]) -> String {
        let read = async {
            loop {
                if let Some(at) = self.seen.windows(end.len()).position(|w| w == end) {
                    return self.seen.drain(..at + end.len()).collect::<Vec<u8>>();
                }
                assert!(self.socket.read_buf(&mut self.seen).await.unwrap() > 0, "the stream ended");
            }
        };
        let read = tokio::time::timeout(Duration::from_secs(10), read).await.expect("something in time");
        String::from_utf8(read).unwrap()
    }

    /// What comes up to these bytes.
    pub async fn text(&mut self, end: &[u8]) -> String {
        self.until(end).await
    }

    /// Name and data of the next event. Each is one chunk of the body.
    pub async fn event(&mut self) -> (String, Value) {
        loop {
            let text = self.until(b"\n\n\r\n").await;
            let Some((_, event)) = text.split_once("event: ") else { continue };
            let (name, data) = event.split_once("\ndata: ").unwrap();
            return (name.to_owned(), serde_json::from_str(data.trim_end()).unwrap_or_else(|e| panic!("{e}: {data}")));
        }
    }

    /// The next event of which this holds.
    pub async fn event_with(&mut self, is_it: impl Fn(&str, &Value) -> bool) -> (String, Value) {
        loop {
            let (name, data) = self.event().await;
            if is_it(&name, &data) {
                return (name, data);
            }
        }
    }
}
