//! `GET /api/live`: the frames as server-sent events, until the listener leaves or the server stops.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::{Stream, StreamExt};
use tokio_stream::wrappers::WatchStream;

use crate::error::ApiError;
use crate::routes::App;

/// A comment is sent when nothing else was for so long, so that a dead listener is noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

pub(crate) async fn stream(
    State(app): State<Arc<App>>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    let permit = Arc::clone(&app.live_clients).try_acquire_owned().map_err(|_| ApiError::Overloaded)?;
    // A slow listener misses frames and holds none back: the channel keeps the newest only.
    let events = WatchStream::new(app.frames.clone()).filter_map(move |frame| {
        let _held_as_long_as_the_stream = &permit;
        std::future::ready((!frame.is_empty()).then(|| Ok(Event::default().data(&*frame))))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}
