//! A bucket: a real HTTP server with the part of S3 that a folder of files needs, which can be told to refuse.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

const DATE: &str = "2014-10-21T00:00:00.000Z";
const HTTP_DATE: &str = "Tue, 21 Oct 2014 00:00:00 GMT";

#[derive(Clone, Default)]
struct Shared {
    objects: Arc<Mutex<BTreeMap<String, Bytes>>>,
    /// The status of every answer; 0: as it should be.
    refusing: Arc<AtomicU16>,
}

/// The bucket `b`; it ends with the test's runtime.
pub struct Bucket {
    pub endpoint: String,
    shared: Shared,
}

impl Bucket {
    pub async fn start() -> Self {
        let shared = Shared::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let object = get(read).put(write).delete(remove);
        let app = Router::new().route("/b", get(list)).route("/b/{*key}", object).with_state(shared.clone());
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { endpoint, shared }
    }

    pub fn refuse(&self, status: u16) {
        self.shared.refusing.store(status, Ordering::Relaxed);
    }

    pub fn keys(&self) -> Vec<String> {
        self.shared.objects.lock().unwrap().keys().cloned().collect()
    }
}

impl Shared {
    fn refused(&self) -> Result<(), StatusCode> {
        match self.refusing.load(Ordering::Relaxed) {
            0 => Ok(()),
            status => Err(StatusCode::from_u16(status).unwrap()),
        }
    }
}

async fn list(
    State(shared): State<Shared>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Result<String, StatusCode> {
    shared.refused()?;
    let (prefix, objects) = (query.get("prefix").cloned().unwrap_or_default(), shared.objects.lock().unwrap());
    let found = objects.iter().filter(|(key, _)| key.starts_with(&prefix)).map(|(key, bytes)| {
        let (key, size) = (key.replace('=', "&#61;"), bytes.len());
        format!(
            "<Contents><Key>{key}</Key><LastModified>{DATE}</LastModified><ETag>e</ETag><Size>{size}</Size></Contents>"
        )
    });
    Ok(format!("<ListBucketResult>{}</ListBucketResult>", found.collect::<String>()))
}

async fn read(State(shared): State<Shared>, Path(key): Path<String>) -> Result<Response, StatusCode> {
    shared.refused()?;
    let found = shared.objects.lock().unwrap().get(&key).cloned();
    let bytes = found.ok_or(StatusCode::NOT_FOUND)?;
    Ok(([("etag", "e"), ("last-modified", HTTP_DATE)], bytes).into_response())
}

async fn write(State(shared): State<Shared>, Path(key): Path<String>, bytes: Bytes) -> Result<Response, StatusCode> {
    shared.refused()?;
    shared.objects.lock().unwrap().insert(key, bytes);
    Ok([("etag", "e")].into_response())
}

async fn remove(State(shared): State<Shared>, Path(key): Path<String>) -> Result<StatusCode, StatusCode> {
    shared.refused()?;
    shared.objects.lock().unwrap().remove(&key);
    Ok(StatusCode::NO_CONTENT)
}
