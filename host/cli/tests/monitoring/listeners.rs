//! Two small HTTP servers: one that stands for Slack, and one that stands for a host's `/metrics` and says what it is told to.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::common::Value;

/// Keeps every message that it gets.
pub struct Slack {
    pub url: String,
    heard: Arc<Mutex<Vec<Value>>>,
}

impl Slack {
    pub fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/services/T0/B0/s3cr3t", listener.local_addr().unwrap());
        let heard = Arc::new(Mutex::new(Vec::new()));
        let keep = Arc::clone(&heard);
        serve(listener, move |body| {
            keep.lock().unwrap().push(serde_json::from_slice(body).unwrap());
            Some("ok".to_owned())
        });
        Self { url, heard }
    }

    /// Titles and texts of the messages so far.
    pub fn messages(&self) -> Vec<String> {
        let heard = self.heard.lock().unwrap();
        heard.iter().map(|m| format!("{} {}", m["attachments"][0]["title"], m["attachments"][0]["text"])).collect()
    }

    pub fn heard(&self, part: &str) -> bool {
        self.messages().iter().any(|message| message.contains(part))
    }
}

/// A target for Prometheus.
pub struct Target {
    pub address: SocketAddr,
    down: Arc<AtomicBool>,
}

impl Target {
    /// `page` gives what stands under `/metrics` at each scrape.
    pub fn open(page: impl FnMut() -> String + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (down, mut page) = (Arc::new(AtomicBool::new(false)), page);
        let is_down = Arc::clone(&down);
        serve(listener, move |_| (!is_down.load(Ordering::Relaxed)).then(&mut page));
        Self { address, down }
    }

    /// Takes connections and answers nothing, as a host that hangs.
    pub fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::Relaxed);
    }
}

/// Answers each request with what `answer` makes of its body; none: closes the connection.
fn serve(listener: TcpListener, mut answer: impl FnMut(&[u8]) -> Option<String> + Send + 'static) {
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            if let Some(answer) = request(&stream).and_then(|body| answer(&body)) {
                let head = format!("Content-Type: text/plain\r\nContent-Length: {}\r\nConnection: close", answer.len());
                let _ = write!(stream, "HTTP/1.1 200 OK\r\n{head}\r\n\r\n{answer}");
            }
        }
    });
}

fn request(stream: &TcpStream) -> Option<Vec<u8>> {
    let mut reader = BufReader::new(stream);
    let (mut line, mut length) = (String::new(), 0);
    while reader.read_line(&mut line).ok()? > 2 {
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
            length = value.trim().parse().ok()?;
        }
        line.clear();
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(body)
}
