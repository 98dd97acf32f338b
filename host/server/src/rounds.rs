//! What `clickmill produce` talks to: rounds of ready batches, and how far a source has come.
//!
//! Every record set is walked and rebuilt before anything is appended, so that a log holds only sound ones. A sender
//! that got no success asks for its positions; the question waits for the rounds that came before it, and [`crate::sources`]
//! refuses those that come after it with what is there by then.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::Request;
use clickmill_broker::{Appended, StoredBatch, TopicPartition};
use clickmill_pipeline::topics::{AD_EVENTS_ERROR, AD_EVENTS_RAW};
use clickmill_schemas::envelope::SourcePosition;
use clickmill_schemas::record::{RecordSetBuilder, Records};
use clickmill_schemas::round::{Batches, RoundBatch};
use clickmill_schemas::{Offset, PartitionId};
use serde_json::{Value, json};
use tokio::sync::RwLock;

use crate::error::ApiError;
use crate::routes::App;
use crate::sources::Sources;

fn writable(topic: &str) -> Result<(), ApiError> {
    if topic == AD_EVENTS_RAW || topic == AD_EVENTS_ERROR {
        return Ok(());
    }
    Err(ApiError::ReadOnlyTopic { topic: topic.to_owned(), allowed: AD_EVENTS_RAW })
}

/// What orders rounds and the questions after them.
#[derive(Debug, Default)]
pub(crate) struct Rounds {
    /// Rounds hold it shared; who asks for positions waits for the rounds before it.
    gate: Arc<RwLock<()>>,
    known: Mutex<HashMap<String, Sources>>,
}

impl Rounds {
    fn known(&self) -> MutexGuard<'_, HashMap<String, Sources>> {
        // Every change under this lock is whole: a panic between leaves nothing half done.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A batch of a round, walked to its end.
#[derive(Debug)]
struct Walked {
    partition: PartitionId,
    set: RecordSetBuilder,
    /// As its last record says.
    position: Option<SourcePosition>,
}

pub(crate) async fn append(
    State(app): State<Arc<App>>,
    Path(topic): Path<String>,
    request: Request<Body>,
) -> Result<Json<Value>, ApiError> {
    let body = app.bodies.read(request).await?;
    let before_questions = Arc::clone(&app.rounds.gate).read_owned().await;
    app.blocking(move |app| {
        let _held = before_questions;
        let partitions = app.topic(&topic)?.spec.partitions;
        writable(&topic)?;
        let batches = parse(&body.bytes, partitions)?;
        let bases = append_all(app, &topic, &batches);
        if bases.is_err() {
            let mut known = app.rounds.known();
            let sources = known.entry(topic).or_default();
            batches.iter().filter_map(|b| b.position).for_each(|p| sources.forget(p.source));
        }
        Ok(Json(json!({"base_offsets": bases?})))
    })
    .await
}

/// Appends in order and waits until all of it is durable.
fn append_all(app: &App, topic: &str, batches: &[Walked]) -> Result<Vec<Offset>, ApiError> {
    let mut appended: Vec<Appended> = Vec::with_capacity(batches.len());
    let mut refusal = None;
    {
        let mut known = app.rounds.known();
        let sources = known.entry(topic.to_owned()).or_default();
        let positions: Vec<_> = batches.iter().map(|b| (b.partition, b.position)).collect();
        sources.check(&positions).map_err(|e| ApiError::Stale(e.to_string()))?;
        for Walked { partition, set, position } in batches {
            match app.broker.append(&TopicPartition::new(topic, *partition), set) {
                Ok(a) => {
                    appended.push(a);
                    sources.appended(*partition, *position);
                }
                Err(e) => {
                    refusal = Some(e);
                    break;
                }
            }
        }
    }
    // Those on their way are waited for even after a refusal: positions must not change after the answer.
    let bases: Vec<_> = appended.into_iter().map(Appended::wait).collect();
    match refusal {
        Some(e) => Err(e.into()),
        None => Ok(bases.into_iter().collect::<Result<_, _>>()?),
    }
}

/// The batches of a round, each walked to its end.
fn parse(body: &[u8], partitions: u32) -> Result<Vec<Walked>, ApiError> {
    let mut batches = Vec::new();
    for (number, batch) in Batches::new(body).enumerate() {
        let bad = |e: &dyn std::fmt::Display| ApiError::BadRequest(format!("batch {number}: {e}"));
        let batch = batch.map_err(|e| bad(&e))?;
        batches.push(walk(&batch, partitions).map_err(|e| bad(&e))?);
    }
    if batches.is_empty() {
        return Err(ApiError::BadRequest("the round has no batches".to_owned()));
    }
    Ok(batches)
}

fn walk(batch: &RoundBatch<'_>, partitions: u32) -> Result<Walked, String> {
    if batch.partition.0 >= partitions {
        return Err(format!("partition {} is not among the topic's {partitions}", batch.partition));
    }
    let mut set = RecordSetBuilder::default();
    let mut position = None;
    for record in Records::new(batch.set).map_err(|e| e.to_string())? {
        let record = record.map_err(|e| e.to_string())?;
        let expected = i64::from(set.count());
        if record.offset_delta != expected {
            return Err(format!("record {expected} has the offset delta {}", record.offset_delta));
        }
        let timestamp_ms = batch.base_timestamp_ms.checked_add(record.timestamp_delta_ms);
        let timestamp_ms = timestamp_ms.ok_or_else(|| format!("the timestamp of record {expected} overflows"))?;
        set.push(record.key, record.value, timestamp_ms);
        position = record.key.and_then(SourcePosition::decode);
    }
    if set.is_empty() {
        return Err("it has no records".to_owned());
    }
    Ok(Walked { partition: batch.partition, set, position })
}

pub(crate) async fn positions(
    State(app): State<Arc<App>>,
    Path((topic, source)): Path<(String, String)>,
) -> Result<Json<Value>, ApiError> {
    let source: u64 =
        source.parse().map_err(|_| ApiError::BadRequest(format!("source {source:?} is not a number of 64 bits")))?;
    let after_rounds = Arc::clone(&app.rounds.gate).write_owned().await;
    app.blocking(move |app| {
        let _held = after_rounds;
        let partitions = app.topic(&topic)?.spec.partitions;
        let mut rows = Vec::new();
        for partition in (0..partitions).map(PartitionId) {
            rows.push(last_row(app, &TopicPartition::new(topic.as_str(), partition), source)?);
        }
        app.rounds.known().entry(topic).or_default().learn(source, rows.clone());
        Ok(Json(json!({"positions": rows})))
    })
    .await
}

/// The newest row of this source in a partition.
fn last_row(app: &App, at: &TopicPartition, source: u64) -> Result<Option<u64>, ApiError> {
    let mut row = None;
    let mut failure = None;
    app.broker.last_batch_with(at, &mut |batch| match position(batch) {
        Ok(Some(position)) if position.source == source => {
            row = Some(position.row);
            true
        }
        Ok(_) => false,
        Err(e) => {
            failure = Some(e);
            true
        }
    })?;
    failure.map_or(Ok(row), Err)
}

fn position(batch: &StoredBatch) -> Result<Option<SourcePosition>, ApiError> {
    let set = batch.records()?;
    let bad = |e| ApiError::Internal(format!("{}, batch at offset {}: {e}", batch.at, batch.base_offset));
    let mut last = None;
    for record in Records::new(&set).map_err(bad)? {
        last = record.map_err(bad)?.key.and_then(SourcePosition::decode);
    }
    Ok(last)
}

#[cfg(test)]
mod tests {
    use clickmill_schemas::record::{Record, put_record};
    use clickmill_schemas::round::put_batch;
    use proptest::prelude::*;

    use super::*;

    fn round(partition: u32, set: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let batch = RoundBatch { partition: PartitionId(partition), base_timestamp_ms: 1_000, set };
        put_batch(&mut out, &batch).unwrap();
        out
    }

    fn sound_set() -> RecordSetBuilder {
        let mut set = RecordSetBuilder::default();
        set.push(None, b"one", 1_000);
        set.push(Some(&SourcePosition { source: 1, row: 2 }.encode()), b"two", 1_005);
        set
    }

    #[test]
    fn a_sound_round_is_rebuilt_byte_for_byte() {
        let set = sound_set();
        let parsed = parse(&round(2, set.bytes()), 3).unwrap();
        assert_eq!(parsed[0].partition, PartitionId(2));
        assert_eq!(parsed[0].set.bytes(), set.bytes());
        assert_eq!(parsed[0].set.base_timestamp_ms(), 1_000);
    }

    #[test]
    fn unsound_rounds_are_refused_with_the_batch_that_is_at_fault() {
        let mut skipping = 1u32.to_be_bytes().to_vec();
        put_record(&mut skipping, &Record { offset_delta: 7, timestamp_delta_ms: 0, key: None, value: b"x" });
        let sound = sound_set();
        for (body, needle) in [
            (Vec::new(), "no batches"),
            (round(3, sound.bytes()), "partition 3 is not among"),
            (round(0, &0u32.to_be_bytes()), "no records"),
            (round(0, &skipping), "offset delta 7"),
            (round(0, &sound.bytes()[..sound.bytes().len() - 1]), "malformed record set"),
        ] {
            let refusal = parse(&body, 3).unwrap_err().to_string();
            assert!(refusal.contains(needle), "{refusal}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(mut body: Vec<u8>, at: usize, byte: u8) {
            let _ = parse(&body, 3);
            body = round(1, sound_set().bytes());
            let at = at % body.len();
            body[at] = byte;
            let _ = parse(&body, 3);
        }
    }
}
