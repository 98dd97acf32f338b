//! `GET /api/windows`: merged windows as JSON, JSON lines or CSV, written as they are read.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use clickmill_pipeline::views::render::{CSV_HEADER, put_csv, put_json};
use clickmill_pipeline::views::time::parse_time;
use clickmill_pipeline::views::windows::parse_size;
use clickmill_pipeline::views::{ViewError, WindowQuery, WindowRow, windows};
use futures_util::stream;
use serde::Deserialize;
use tokio::sync::{mpsc, oneshot};

use crate::error::ApiError;
use crate::routes::App;

/// Bytes of a chunk of the answer, about.
const CHUNK_BYTES: usize = 64 << 10;
/// Chunks that are ready before the reader takes them.
const CHUNKS_AHEAD: usize = 2;
/// How long a reader may take for the whole answer, which holds memory and a thread until then.
const MAX_READ_TIME: Duration = Duration::from_secs(120);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Params {
    size: Option<String>,
    dimension: Option<String>,
    from: Option<String>,
    to: Option<String>,
    #[serde(default)]
    format: Format,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    #[default]
    Json,
    Jsonl,
    Csv,
}

impl Params {
    fn query(&self) -> Result<WindowQuery, ApiError> {
        let time = |text: &Option<String>| text.as_deref().map(parse_time).transpose().map_err(ApiError::BadRequest);
        let missing = || ApiError::BadRequest("the size of the windows is missing: ?size=1m or ?size=5m".to_owned());
        let size = self.size.as_deref().ok_or_else(missing)?;
        Ok(WindowQuery {
            size_ms: parse_size(size).map_err(ApiError::BadRequest)?,
            dimension: self.dimension.clone(),
            from_ms: time(&self.from)?,
            to_ms: time(&self.to)?,
        })
    }
}

pub(crate) async fn list(
    State(app): State<Arc<App>>,
    params: Result<Query<Params>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(params) = params?;
    let query = params.query()?;
    let held = Arc::clone(&app.streamed_answers).acquire_owned().await.map_err(|_| ApiError::Overloaded)?;
    let (first, begun) = oneshot::channel();
    let (chunks, body) = mpsc::channel(CHUNKS_AHEAD);
    tokio::task::spawn_blocking(move || {
        let _held = held;
        match windows(&*app.broker, &query) {
            // A receiver that is gone is a client that is gone.
            Err(e) => drop(first.send(Err(e))),
            Ok(windows) => {
                let _ = first.send(Ok(()));
                let mut writer = Writer::new(windows.into_rows(), params.format);
                while writer.next().is_some_and(|chunk| chunks.blocking_send(chunk).is_ok()) {}
            }
        }
    });
    begun.await.map_err(|e| ApiError::Internal(format!("a task of the server failed: {e}")))??;
    let content_type = match params.format {
        Format::Json => "application/json",
        Format::Jsonl => "application/jsonl",
        Format::Csv => "text/csv; charset=utf-8; header=present",
    };
    let chunks = stream::unfold(body, async |mut body| body.recv().await.map(|chunk| (chunk, body)));
    let body = Body::from_stream(chunks);
    Ok(([(header::CONTENT_TYPE, content_type)], body).into_response())
}

/// Where in its answer a [`Writer`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Begin,
    FirstRow,
    Rows,
    End,
}

/// Makes the answer chunk by chunk, as fast as the reader takes it.
struct Writer<R> {
    rows: R,
    format: Format,
    at: At,
    until: Instant,
}

impl<R: Iterator<Item = Result<WindowRow, ViewError>>> Writer<R> {
    fn new(rows: R, format: Format) -> Self {
        Self { rows, format, at: At::Begin, until: Instant::now() + MAX_READ_TIME }
    }

    fn put_row(&mut self, out: &mut String, row: &WindowRow) {
        match self.format {
            Format::Csv => put_csv(out, row),
            Format::Jsonl => {
                put_json(out, row);
                out.push('\n');
            }
            Format::Json => {
                out.push_str(if self.at == At::FirstRow { "\n" } else { ",\n" });
                put_json(out, row);
            }
        }
        self.at = At::Rows;
    }
}

impl<R: Iterator<Item = Result<WindowRow, ViewError>>> Iterator for Writer<R> {
    /// An error breaks the connection off: a cut answer must not look like a whole one.
    type Item = io::Result<String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at == At::End {
            return None;
        }
        if Instant::now() > self.until {
            self.at = At::End;
            return Some(Err(io::Error::new(io::ErrorKind::TimedOut, "the reader of windows was too slow")));
        }
        let mut out = String::with_capacity(CHUNK_BYTES + 1_024);
        if self.at == At::Begin {
            match self.format {
                Format::Csv => out.extend([CSV_HEADER, "\n"]),
                Format::Json => out.push_str("{\"windows\":["),
                Format::Jsonl => {}
            }
            self.at = At::FirstRow;
        }
        while out.len() < CHUNK_BYTES {
            match self.rows.next() {
                Some(Ok(row)) => self.put_row(&mut out, &row),
                Some(Err(e)) => {
                    self.at = At::End;
                    tracing::error!("an answer of windows is broken off: {e}");
                    return Some(Err(io::Error::other(e)));
                }
                None => {
                    if matches!(self.format, Format::Json) {
                        out.push_str("]}\n");
                    }
                    self.at = At::End;
                    break;
                }
            }
        }
        Some(Ok(out))
    }
}
