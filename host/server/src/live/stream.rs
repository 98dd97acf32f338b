//! `GET /api/live`: a snapshot and then updates as server-sent events, until the listener leaves or the server stops.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::Hub;
use crate::error::ApiError;
use crate::routes::App;

/// A comment is sent when nothing else was for so long, so that a listener that is gone is noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// One who listens.
struct Listener {
    hub: Arc<Hub>,
    /// To be sent first.
    snapshot: Option<Bytes>,
    updates: Receiver<Bytes>,
    _place: OwnedSemaphorePermit,
}

impl Listener {
    /// What it is sent next; none at the end.
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(snapshot) = self.snapshot.take().filter(|bytes| !bytes.is_empty()) {
            return Some(snapshot);
        }
        match tokio::time::timeout(KEEP_ALIVE, self.updates.recv()).await {
            Ok(Ok(event)) => Some(event),
            Ok(Err(RecvError::Closed)) => None,
            // It reads more slowly than updates come. They are for who has all before them, so it begins anew.
            Ok(Err(RecvError::Lagged(_))) => {
                let (snapshot, updates) = self.hub.join()?;
                self.updates = updates;
                Some(snapshot)
            }
            Err(_) => Some(Bytes::from_static(b": nothing new\n\n")),
        }
    }
}

pub(crate) async fn events(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    let place = Arc::clone(&app.live_clients).try_acquire_owned().map_err(|_| ApiError::Overloaded)?;
    let hub = Arc::clone(&app.hub);
    let (snapshot, updates) = hub.join().ok_or(ApiError::Overloaded)?;
    let listener = Listener { hub, snapshot: Some(snapshot), updates, _place: place };
    let events = stream::unfold(listener, async |mut listener| {
        let event = listener.next().await?;
        Some((Ok::<_, Infallible>(event), listener))
    });
    Ok(([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(events)).into_response())
}
