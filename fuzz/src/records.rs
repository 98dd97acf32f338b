//! Record sets and rounds against a plain reader; the values and keys of Clickmill's own topics.

use std::fmt::Debug;

use clickmill_pipeline::deployment::Deployment;
use clickmill_schemas::dead_letter::DeadLetter;
use clickmill_schemas::envelope::{MAX_MESSAGE_BYTES, Route, SourcePosition};
use clickmill_schemas::output::Output;
use clickmill_schemas::record::{Record, Records, put_record};
use clickmill_schemas::round::{Batches, put_batch};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Bytes as a record set, and as a round of them.
pub fn record_set(data: &[u8]) {
    one_set(data);
    let mut rebuilt = Vec::new();
    let mut walk = Batches::new(data);
    for batch in &mut walk {
        let Ok(batch) = batch else {
            assert!(walk.next().is_none(), "a walk goes on behind an error");
            return;
        };
        one_set(batch.set);
        put_batch(&mut rebuilt, &batch).expect("no set has 4 GiB");
    }
    assert_eq!(rebuilt, data, "a round reads back to its bytes");
}

fn one_set(data: &[u8]) {
    let walked: Result<Vec<Record<'_>>, _> = Records::new(data).and_then(|mut walk| walk.by_ref().collect());
    assert_eq!(walked.as_ref().ok(), plain_set(data).as_ref(), "{walked:?}");
    let Ok(records) = walked else { return };
    let mut rebuilt = (records.len() as u32).to_be_bytes().to_vec();
    records.iter().for_each(|record| put_record(&mut rebuilt, record));
    assert!(rebuilt.len() <= data.len(), "no encoding is shorter than ours");
    let again: Result<Vec<_>, _> = Records::new(&rebuilt).and_then(Iterator::collect);
    assert_eq!(again, Ok(records));
}

/// A record set, read the obvious way.
fn plain_set(data: &[u8]) -> Option<Vec<Record<'_>>> {
    let (count, mut rest) = data.split_first_chunk::<4>()?;
    let mut records = Vec::new();
    for _ in 0..u32::from_be_bytes(*count) {
        let mut record = take(&mut rest)?;
        let record = &mut record;
        let (_attributes, after) = record.split_first()?;
        *record = after;
        let (timestamp_delta_ms, offset_delta) = (varint(record)?, varint(record)?);
        let (flag, after) = record.split_first()?;
        *record = after;
        let key = match flag {
            0 => None,
            1 => Some(take(record)?),
            _ => return None,
        };
        let value = take(record)?;
        if varint(record)? != 0 || !record.is_empty() {
            return None;
        }
        records.push(Record { offset_delta, timestamp_delta_ms, key, value });
    }
    rest.is_empty().then_some(records)
}

/// Bytes behind their length.
fn take<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = usize::try_from(varint(bytes)?).ok()?;
    let (taken, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    Some(taken)
}

fn varint(bytes: &mut &[u8]) -> Option<i64> {
    let mut value = 0u128;
    for shift in (0..70).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u128::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            let zigzag = u64::try_from(value).ok()?;
            return Some((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64));
        }
    }
    None
}

/// Bytes as everything that a key or a value of Clickmill's topics can be beside a partial: what reads, reads back.
pub fn topic_record(data: &[u8]) {
    if let Ok(output) = Output::decode(data) {
        assert_eq!(Output::decode(&output.encode()).expect("what was encoded reads"), output);
        assert!(!output.key().is_empty());
    }
    reads_back::<DeadLetter>(data);
    reads_back::<Deployment>(data);
    assert!(Route::is_route(data) || Route::decode(data).is_none());
    if let Some(route) = Route::decode(data) {
        let mut key = Vec::new();
        route.encode(&mut key);
        let cut = matches!(route, Route::Error { message, .. } if message.len() > MAX_MESSAGE_BYTES);
        assert!(cut || key == data, "a route reads back to its bytes");
        assert!(Route::decode(&key).is_some());
    }
    if let Some(position) = SourcePosition::decode(data) {
        assert!(position.encode() == data && !Route::is_route(data));
    }
}

fn reads_back<T: Serialize + DeserializeOwned + PartialEq + Debug>(data: &[u8]) {
    if let Ok(value) = serde_json::from_slice::<T>(data) {
        let bytes = serde_json::to_vec(&value).expect("what was read can be written");
        assert_eq!(serde_json::from_slice::<T>(&bytes).expect("what was written reads"), value);
    }
}
