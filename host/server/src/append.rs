//! `POST /api/topics/{topic}/records`: JSON lines in, acknowledged once they are durable.
//!
//! A line is sent as it is: judging is the modules' work. The lines of a partition are appended in batches, each whole
//! or not at all; the answer says exactly which lines are in, so that the rest can be sent again without duplicates.

use std::borrow::Cow;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use clickmill_broker::partitioner::partition_for;
use clickmill_broker::{BrokerError, TopicPartition};
use clickmill_pipeline::topics::{self, AD_EVENTS_RAW};
use clickmill_schemas::record::RecordSetBuilder;
use clickmill_schemas::{Offset, PartitionId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::clock::now_ms;
use crate::error::ApiError;
use crate::routes::App;

/// A batch is closed once its record set has this many bytes.
const BATCH_BYTES: usize = 512 << 10;

pub(crate) async fn records(
    State(app): State<Arc<App>>,
    Path(topic): Path<String>,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    let named = topic.clone();
    let info = app.blocking(move |app| app.topic(&named)).await?;
    if topics::is_own(&topic) && topic != AD_EVENTS_RAW {
        return Err(ApiError::ReadOnlyTopic { topic, allowed: AD_EVENTS_RAW });
    }
    let body = app.bodies.read(request).await?;
    app.blocking(move |app| {
        let (batches, blank_lines) = split(&body.bytes, info.spec.partitions, app.options.max_record_bytes, now_ms())?;
        let outcome = append(app, &topic, batches);
        Ok(outcome.response(blank_lines))
    })
    .await
}

/// Lines for one partition, and which lines of the body they are (from 1).
#[derive(Debug, Default)]
struct Batch {
    set: RecordSetBuilder,
    lines: Vec<u64>,
}

/// Some editors and exports begin a text with it; it is no part of the first line.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Batches in the order to be appended, per partition; and the number of blank lines.
fn split(
    body: &[u8],
    partitions: u32,
    max_record_bytes: usize,
    now_ms: i64,
) -> Result<(Vec<(PartitionId, Batch)>, u64), ApiError> {
    let body = body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body);
    let mut open: Vec<Batch> = (0..partitions).map(|_| Batch::default()).collect();
    let mut closed = Vec::new();
    let mut blank_lines = 0;
    for (number, line) in (1u64..).zip(body.split(|b| *b == b'\n')) {
        if line.len() > max_record_bytes {
            let len = line.len();
            return Err(ApiError::BadRequest(format!(
                "line {number} has {len} bytes, more than {max_record_bytes}; nothing of this request was stored"
            )));
        }
        if line.trim_ascii().is_empty() {
            blank_lines += 1;
            continue;
        }
        let partition = partition_for(&hashed(line), partitions);
        let Some(batch) = open.get_mut(partition.0 as usize) else {
            continue;
        };
        batch.set.push(None, line, now_ms);
        batch.lines.push(number);
        if batch.set.bytes().len() >= BATCH_BYTES {
            closed.push((partition, std::mem::take(batch)));
        }
    }
    // What follows the last line end is not a line.
    blank_lines -= u64::from(body.is_empty() || body.ends_with(b"\n"));
    let rest = open.into_iter().zip(0..).filter(|(batch, _)| !batch.set.is_empty());
    closed.extend(rest.map(|(batch, p)| (PartitionId(p), batch)));
    Ok((closed, blank_lines))
}

/// What decides a line's partition: its `id`, or the whole line where it has none that can be read.
fn hashed(line: &[u8]) -> Cow<'_, [u8]> {
    #[derive(Deserialize)]
    struct Id<'a> {
        #[serde(borrow)]
        id: Cow<'a, str>,
    }
    match serde_json::from_slice::<Id<'_>>(line) {
        Ok(Id { id: Cow::Borrowed(id) }) => Cow::Borrowed(id.as_bytes()),
        Ok(Id { id: Cow::Owned(id) }) => Cow::Owned(id.into_bytes()),
        Err(_) => Cow::Borrowed(line),
    }
}

/// A batch that is in.
#[derive(Debug, Serialize)]
struct Stored {
    partition: PartitionId,
    base_offset: Offset,
    records: u32,
}

#[derive(Debug, Default)]
struct Outcome {
    stored: Vec<Stored>,
    /// Lines that are not in.
    refused: Vec<u64>,
    error: Option<BrokerError>,
}

fn append(app: &App, topic: &str, batches: Vec<(PartitionId, Batch)>) -> Outcome {
    let mut outcome = Outcome::default();
    let mut on_their_way = Vec::new();
    for (partition, batch) in batches {
        let place = TopicPartition::new(topic, partition);
        // After a refusal nothing more is sent, so that the lines of a partition keep their order.
        let sent = match &outcome.error {
            None => app.broker.try_append(&place, &batch.set),
            Some(error) => Err(error.clone()),
        };
        match sent {
            Ok(appended) => on_their_way.push((partition, batch, appended)),
            Err(error) => {
                outcome.refused.extend(batch.lines);
                outcome.error.get_or_insert(error);
            }
        }
    }
    for (partition, batch, appended) in on_their_way {
        match appended.wait() {
            Ok(base_offset) => outcome.stored.push(Stored { partition, base_offset, records: batch.set.count() }),
            Err(error) => {
                outcome.refused.extend(batch.lines);
                outcome.error.get_or_insert(error);
            }
        }
    }
    outcome.refused.sort_unstable();
    outcome
}

impl Outcome {
    fn response(self, blank_lines: u64) -> Response {
        let accepted: u64 = self.stored.iter().map(|s| u64::from(s.records)).sum();
        let mut body = json!({"accepted": accepted, "blank_lines": blank_lines, "offsets": self.stored});
        let Some(error) = self.error else {
            return Json(body).into_response();
        };
        let status = match &error {
            BrokerError::Busy { .. } => StatusCode::TOO_MANY_REQUESTS,
            BrokerError::DiskFull { .. } => StatusCode::INSUFFICIENT_STORAGE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let code = if status == StatusCode::TOO_MANY_REQUESTS { "backpressure" } else { "append_failed" };
        let message = format!(
            "{error}; {accepted} lines are stored, {} are not: send again only the lines in not_stored_lines",
            self.refused.len()
        );
        body["error"] = json!({"code": code, "message": message});
        body["not_stored_lines"] = ranges(&self.refused);
        (status, [(header::RETRY_AFTER, "1")], Json(body)).into_response()
    }
}

/// Sorted line numbers as `[[first, last], …]`.
fn ranges(lines: &[u64]) -> Value {
    let runs = lines.chunk_by(|a, b| a + 1 == *b).filter_map(|run| Some(json!([run.first()?, run.last()?])));
    Value::Array(runs.collect())
}

#[cfg(test)]
mod tests {
    use clickmill_schemas::record::Records;

    use super::*;

    #[test]
    fn lines_go_as_they_are_to_the_partition_of_their_id() {
        let body = b"{\"id\":\"a\"}\n\n  \r\n{\"click\":1,\"id\":\"b\\u0063\"}\nnot json\n\xff\xfe";
        let (batches, blank) = split(body, 3, 100, 5).unwrap();
        assert_eq!(blank, 2);
        let mut sent: Vec<u64> = batches.iter().flat_map(|(_, b)| b.lines.clone()).collect();
        sent.sort_unstable();
        assert_eq!(sent, [1, 4, 5, 6]);
        for (line, key) in [(1, &b"a"[..]), (4, b"bc"), (5, b"not json"), (6, b"\xff\xfe")] {
            let (partition, _) = batches.iter().find(|(_, b)| b.lines.contains(&line)).unwrap();
            assert_eq!(*partition, partition_for(key, 3), "line {line}");
        }
    }

    #[test]
    fn a_byte_order_mark_at_the_beginning_is_no_part_of_a_line() {
        let (batches, _) = split(b"\xef\xbb\xbfx\n\xef\xbb\xbfy", 1, 10, 0).unwrap();
        let records: Vec<_> = Records::new(batches[0].1.set.bytes()).unwrap().map(|r| r.unwrap().value).collect();
        assert_eq!(records, [&b"x"[..], b"\xef\xbb\xbfy"]);
    }

    #[test]
    fn what_follows_the_last_line_end_is_no_line() {
        assert_eq!(split(b"", 1, 10, 0).unwrap().1, 0);
        assert_eq!(split(b"x\n", 1, 10, 0).unwrap().1, 0);
        assert_eq!(split(b"x\n\n", 1, 10, 0).unwrap().1, 1);
        assert_eq!(split(b"x\n ", 1, 10, 0).unwrap().1, 1);
    }

    #[test]
    fn an_over_long_line_is_named_and_nothing_is_sent() {
        let refusal = split(b"short\nlonger than ten\n", 1, 10, 0).unwrap_err();
        assert!(refusal.to_string().starts_with("line 2 has 15 bytes"), "{refusal}");
    }

    #[test]
    fn refused_lines_are_given_as_ranges() {
        assert_eq!(ranges(&[1, 2, 3, 7, 9, 10]), json!([[1, 3], [7, 7], [9, 10]]));
        assert_eq!(ranges(&[]), json!([]));
    }
}
