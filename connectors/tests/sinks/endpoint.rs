//! A real HTTP server that takes batches, and answers as a test tells it to.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::Value;

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Got {
    pub at: Instant,
    pub method: Method,
    pub headers: HeaderMap,
    pub text: String,
}

impl Got {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub fn key(&self) -> &str {
        self.header("idempotency-key")
    }

    pub fn body(&self) -> Value {
        serde_json::from_str(&self.text).unwrap()
    }

    pub fn offsets(&self) -> Vec<u64> {
        let body = self.body();
        body["records"].as_array().unwrap().iter().map(|record| record["offset"].as_u64().unwrap()).collect()
    }
}

/// How a request is answered.
pub enum Reply {
    Status(u16),
    /// With a body.
    Says(u16, &'static str),
    /// With a header.
    With(u16, &'static str, String),
    /// Never.
    Hang,
}

type Script = Box<dyn FnMut(&Got) -> Reply + Send>;

#[derive(Clone)]
struct Shared {
    got: Arc<Mutex<Vec<(Got, bool)>>>,
    script: Arc<Mutex<Script>>,
}

/// The server; it ends with the test's runtime.
pub struct Server {
    pub url: String,
    shared: Shared,
}

impl Server {
    pub async fn start(script: impl FnMut(&Got) -> Reply + Send + 'static) -> Self {
        let shared = Shared { got: Arc::default(), script: Arc::new(Mutex::new(Box::new(script))) };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook/s3cr3t-path", listener.local_addr().unwrap());
        let app = Router::new().fallback(take).with_state(shared.clone());
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { url, shared }
    }

    pub fn answer(&self, script: impl FnMut(&Got) -> Reply + Send + 'static) {
        *self.shared.script.lock().unwrap() = Box::new(script);
    }

    /// All requests, in order.
    pub fn got(&self) -> Vec<Got> {
        self.shared.got.lock().unwrap().iter().map(|(got, _)| got.clone()).collect()
    }

    /// Those that it took.
    pub fn accepted(&self) -> Vec<Got> {
        self.shared.got.lock().unwrap().iter().filter(|(_, taken)| *taken).map(|(got, _)| got.clone()).collect()
    }

    /// Waits for a request.
    pub async fn reach(&self, requests: usize) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.shared.got.lock().unwrap().len() < requests {
            assert!(Instant::now() < deadline, "waited in vain for {requests} requests");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

async fn take(State(shared): State<Shared>, method: Method, headers: HeaderMap, body: Bytes) -> Response {
    let got = Got { at: Instant::now(), method, headers, text: String::from_utf8(body.to_vec()).unwrap() };
    let reply = (shared.script.lock().unwrap())(&got);
    let taken = matches!(reply, Reply::Status(200..=299));
    shared.got.lock().unwrap().push((got, taken));
    match reply {
        Reply::Status(status) => (StatusCode::from_u16(status).unwrap(), "so it is").into_response(),
        Reply::Says(status, body) => (StatusCode::from_u16(status).unwrap(), body).into_response(),
        Reply::With(status, name, value) => (StatusCode::from_u16(status).unwrap(), [(name, value)]).into_response(),
        Reply::Hang => std::future::pending().await,
    }
}
