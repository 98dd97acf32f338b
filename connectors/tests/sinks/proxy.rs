//! What stands between a sink and its server: answers late, or not at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use clickmill_connectors::ServerUrl;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Ends with the test's runtime.
pub struct Proxy {
    /// A connection to it may take a second.
    pub url: ServerUrl,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    delay_ms: AtomicU64,
    is_mute: AtomicBool,
}

impl Proxy {
    /// Before the server of an address.
    pub async fn start(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (login, place) = server.rsplit_once('@').unwrap();
        let (server, database) = place.split_once('/').unwrap();
        let url = format!("{login}@{}/{database}?connect_timeout=1", listener.local_addr().unwrap());
        let state = Arc::<State>::default();
        tokio::spawn(accept(listener, server.to_owned(), state.clone()));
        Self { url: ServerUrl(url), state }
    }

    /// Each answer takes so much longer.
    pub fn delay(&self, by: Duration) {
        self.state.delay_ms.store(by.as_millis().try_into().unwrap(), Ordering::Relaxed);
    }

    /// Nothing is answered, neither on connections that are there nor on new ones, which are taken all the same. Those of that
    /// time stay mute.
    pub fn mute(&self, is_mute: bool) {
        self.state.is_mute.store(is_mute, Ordering::Relaxed);
    }
}

async fn accept(listener: TcpListener, server: String, state: Arc<State>) {
    let mut mute = Vec::new();
    loop {
        let (client, _) = listener.accept().await.unwrap();
        if state.is_mute.load(Ordering::Relaxed) {
            mute.push(client);
            continue;
        }
        let server = TcpStream::connect(&server).await.unwrap();
        let ((mut from_client, to_client), (from_server, mut to_server)) = (client.into_split(), server.into_split());
        tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
        tokio::spawn(answer(from_server, to_client, state.clone()));
    }
}

async fn answer(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    state: Arc<State>,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 1 << 16];
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(state.delay_ms.load(Ordering::Relaxed))).await;
        if state.is_mute.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        to.write_all(&buffer[..count]).await?;
    }
}
