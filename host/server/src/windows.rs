//! `GET /api/windows`: merged windows as JSON, JSON lines or CSV, written as they are read.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use clickmill_pipeline::views::render::{CSV_HEADER, put_csv, put_json};
use clickmill_pipeline::views::time::parse_time;
use clickmill_pipeline::views::windows::parse_size;
use clickmill_pipeline::views::{ViewError, WindowQuery, WindowRow, windows};
use futures_util::stream;
use serde::Deserialize;
use tokio::sync::OwnedSemaphorePermit;

use crate::error::ApiError;
use crate::routes::App;

/// Bytes of a chunk of the answer, about.
const CHUNK_BYTES: usize = 64 << 10;
/// How long a reader may take for the whole answer, which is held in memory until then.
const MAX_READ_TIME: Duration = Duration::from_secs(120);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Params {
    size: String,
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
        Ok(WindowQuery {
            size_ms: parse_size(&self.size).map_err(ApiError::BadRequest)?,
            dimension: self.dimension.clone(),
            from_ms: time(&self.from)?,
            to_ms: time(&self.to)?,
        })
    }
}

pub(crate) async fn list(
    State(app): State<Arc<App>>,
    params: Result<Query<Params>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(params) = params.map_err(|e| ApiError::BadRequest(e.body_text()))?;
    let query = params.query()?;
    let held = Arc::clone(&app.window_answers).acquire_owned().await.map_err(|_| ApiError::Overloaded)?;
    let windows = app.blocking(move |app| Ok(windows(&*app.broker, &query)?)).await?;
    let writer = Writer {
        rows: Box::new(windows.into_rows()),
        format: params.format,
        at: At::Begin,
        until: Instant::now() + MAX_READ_TIME,
        _held: held,
    };
    let content_type = match params.format {
        Format::Json => "application/json",
        Format::Jsonl => "application/jsonl",
        Format::Csv => "text/csv; charset=utf-8; header=present",
    };
    let body = Body::from_stream(stream::iter(writer));
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
struct Writer {
    rows: Box<dyn Iterator<Item = Result<WindowRow, ViewError>> + Send>,
    format: Format,
    at: At,
    until: Instant,
    _held: OwnedSemaphorePermit,
}

impl Writer {
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

impl Iterator for Writer {
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
