//! Records as JSON: a partial decoded, JSON as it is, other text as text, and other bytes in base64.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clickmill_broker::TopicPartition;
use clickmill_schemas::partial::{self, Metrics, Partial};
use clickmill_schemas::record::Record;
use clickmill_schemas::{Epoch, Generation, Offset, PartitionId, RunId};
use serde::Serialize;
use serde::de::IgnoredAny;

/// A record as it stands in a body.
#[derive(Clone, Debug)]
pub struct Item {
    pub offset: Offset,
    pub json: String,
}

/// A partial, with the names of the Parquet columns.
#[derive(Serialize)]
struct PartialJson<'a> {
    run: RunId,
    partition: PartitionId,
    generation: Generation,
    epoch: Epoch,
    as_of_offset: Offset,
    window_size_ms: i64,
    window_start: String,
    dimension: &'a str,
    lower_bound: bool,
    entries: Vec<EntryJson<'a>>,
}

#[derive(Serialize)]
struct EntryJson<'a> {
    key: &'a str,
    impressions: i64,
    clicks: i64,
    conversions: i64,
    cost_micros: i64,
    revenue_micros: i64,
}

impl<'a> EntryJson<'a> {
    fn new(key: &'a str, m: &Metrics) -> Self {
        let Metrics { impressions, clicks, conversions, cost_micros, revenue_micros } = *m;
        Self { key, impressions, clicks, conversions, cost_micros, revenue_micros }
    }
}

impl Item {
    pub fn new(offset: Offset, timestamp_ms: i64, record: &Record<'_>) -> Self {
        let key = match record.key.map(|key| (key, std::str::from_utf8(key))) {
            None => "\"key\":null".to_owned(),
            Some((_, Ok(text))) => format!("\"key\":{}", quoted(text)),
            Some((bytes, Err(_))) => format!("\"key_base64\":\"{}\"", STANDARD.encode(bytes)),
        };
        let value = value(record);
        Self { offset, json: format!("{{\"offset\":{offset},\"timestamp_ms\":{timestamp_ms},{key},{value}}}") }
    }
}

fn value(record: &Record<'_>) -> String {
    if let Some(partial) = decoded(record).as_ref().and_then(partial_json) {
        return format!("\"value\":{partial}");
    }
    match std::str::from_utf8(record.value) {
        Ok(text) if serde_json::from_str::<IgnoredAny>(text).is_ok() => format!("\"value\":{}", text.trim()),
        Ok(text) => format!("\"value_text\":{}", quoted(text)),
        Err(_) => format!("\"value_base64\":\"{}\"", STANDARD.encode(record.value)),
    }
}

fn decoded(record: &Record<'_>) -> Option<Partial> {
    partial::is_partial(record.value).then(|| Partial::decode(record.key?, record.value).ok()).flatten()
}

fn partial_json(p: &Partial) -> Option<String> {
    serde_json::to_string(&PartialJson {
        run: p.owner.run,
        partition: p.owner.partition,
        generation: p.owner.generation,
        epoch: p.version.epoch,
        as_of_offset: p.version.as_of,
        window_size_ms: p.window.size_ms,
        window_start: jiff::Timestamp::from_millisecond(p.window.start_ms).ok()?.to_string(),
        dimension: &p.window.dimension,
        lower_bound: p.lower_bound,
        entries: p.entries.iter().map(|(key, m)| EntryJson::new(key, m)).collect(),
    })
    .ok()
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A batch's body.
pub fn body(connector: &str, at: &TopicPartition, items: &[Item]) -> String {
    let (topic, connector) = (quoted(&at.topic), quoted(connector));
    let records: Vec<&str> = items.iter().map(|item| item.json.as_str()).collect();
    let (partition, records) = (at.partition, records.join(","));
    format!("{{\"topic\":{topic},\"partition\":{partition},\"connector\":{connector},\"records\":[{records}]}}")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn shown(key: Option<&[u8]>, value: &[u8]) -> Value {
        let record = Record { offset_delta: 0, timestamp_delta_ms: 0, key, value };
        serde_json::from_str(&Item::new(Offset(7), 5, &record).json).unwrap()
    }

    #[test]
    fn each_record_is_as_readable_as_its_bytes_are() {
        for (key, value, expected) in [
            (None, &b" {\"a\": [1, \"x\"]}\n"[..], json!({"key": null, "value": {"a": [1, "x"]}})),
            (Some(&b"k\"1"[..]), b"a \"line\"", json!({"key": "k\"1", "value_text": "a \"line\""})),
            (Some(b"\xff"), b"\x80\x81", json!({"key_base64": "/w==", "value_base64": "gIE="})),
            (None, b"", json!({"key": null, "value_text": ""})),
        ] {
            let mut expected = expected;
            (expected["offset"], expected["timestamp_ms"]) = (json!(7), json!(5));
            assert_eq!(shown(key, value), expected);
        }
    }
}
