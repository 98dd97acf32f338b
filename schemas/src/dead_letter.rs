//! The envelope of `ad_events_error`: a rejected record with the reason.

use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};

use crate::envelope::ErrorType;
use crate::ids::{DeploymentId, Epoch, ModuleDigest, Offset, PartitionId, RunId, SourceId};

/// Longest value that a dead letter holds whole. JSON makes at most six bytes of one, so a letter stays well below the
/// least batch that a broker may be set to.
pub const MAX_PAYLOAD_BYTES: usize = 1 << 20;

/// Where a rejected payload came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Origin {
    Record {
        topic: String,
        partition: PartitionId,
        offset: Offset,
    },
    /// A line that `produce` could not make a record of; such lines are not in the ledger.
    Line {
        file: String,
        line: u64,
        /// The contents that it was a line of, since a file's name may be another's tomorrow.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        source: Option<SourceId>,
    },
}

impl fmt::Display for Origin {
    /// `topic/partition@offset`, or `file:line`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Record { topic, partition, offset } => write!(f, "{topic}/{partition}@{offset}"),
            Self::Line { file, line, .. } => write!(f, "{file}:{line}"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RawEncoding {
    Utf8,
    Base64,
}

/// A rejected value, or its beginning where it is longer than [`MAX_PAYLOAD_BYTES`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RawPayload {
    pub raw_payload: String,
    pub raw_encoding: RawEncoding,
    /// Bytes of the whole value, where this is its beginning; the whole is at the letter's origin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw_payload_bytes: Option<u64>,
}

impl RawPayload {
    /// Of a whole value.
    #[must_use]
    pub fn new(value: &[u8]) -> Self {
        Self::beginning(value, value.len() as u64)
    }

    /// Of the first bytes of a value that has `whole` of them: as text where they are UTF-8, cut between characters;
    /// else in Base64.
    #[must_use]
    pub fn beginning(bytes: &[u8], whole: u64) -> Self {
        let (raw_payload, raw_encoding, kept) = match std::str::from_utf8(bytes) {
            Ok(text) => {
                let kept = &text[..text.floor_char_boundary(MAX_PAYLOAD_BYTES)];
                (kept.to_owned(), RawEncoding::Utf8, kept.len())
            }
            Err(_) => {
                let kept = &bytes[..bytes.len().min(MAX_PAYLOAD_BYTES)];
                (BASE64_STANDARD.encode(kept), RawEncoding::Base64, kept.len())
            }
        };
        Self { raw_payload, raw_encoding, raw_payload_bytes: (whole > kept as u64).then_some(whole) }
    }

    /// The bytes that it stands for: all of them, or the beginning; none where it is no Base64.
    #[must_use]
    pub fn bytes(&self) -> Option<Vec<u8>> {
        match self.raw_encoding {
            RawEncoding::Utf8 => Some(self.raw_payload.clone().into_bytes()),
            RawEncoding::Base64 => BASE64_STANDARD.decode(&self.raw_payload).ok(),
        }
    }

    /// Whether there is more of the value than this.
    #[must_use]
    pub const fn is_cut(&self) -> bool {
        self.raw_payload_bytes.is_some()
    }
}

/// One dead letter (`dead_letter.schema.json`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    #[serde(flatten)]
    pub payload: RawPayload,
    pub error_type: ErrorType,
    /// Name of the rule that rejected it.
    pub rule: String,
    pub message: String,
    pub retry_count: u32,
    /// Wall clock, epoch milliseconds.
    pub error_timestamp_ms: i64,
    pub origin: Origin,
    /// Set where a worker wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judged: Option<Judged>,
    /// Where a module's code was when it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stacktrace: Option<String>,
    /// Set where a retry of the record at `origin` was rejected: where that one lies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retried_at: Option<RetriedAt>,
    /// Set where a connector's server refused it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connector: Option<String>,
}

/// Place of a retry in the input topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetriedAt {
    pub partition: PartitionId,
    pub offset: Offset,
}

impl DeadLetter {
    /// The record of the input topic that was rejected: a retry, or the one at the origin; none of a line or of a sink's row.
    #[must_use]
    pub const fn rejected(&self) -> Option<RetriedAt> {
        match (&self.judged, &self.origin, self.retried_at) {
            (None, ..) => None,
            (_, _, Some(retried_at)) => Some(retried_at),
            (_, Origin::Record { partition, offset, .. }, None) => {
                Some(RetriedAt { partition: *partition, offset: *offset })
            }
            (_, Origin::Line { .. }, None) => None,
        }
    }
}

/// Who judged a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judged {
    pub run: RunId,
    pub epoch: Epoch,
    pub stage: String,
    pub sha256: ModuleDigest,
    pub deployment: DeploymentId,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_whole_up_to_its_limit_and_a_longer_one_says_how_long_it_was() {
        for (value, kept) in [
            ("ä".repeat(MAX_PAYLOAD_BYTES / 2).into_bytes(), MAX_PAYLOAD_BYTES),
            (format!("x{}", "ä".repeat(MAX_PAYLOAD_BYTES / 2)).into_bytes(), MAX_PAYLOAD_BYTES - 1),
            (vec![1; MAX_PAYLOAD_BYTES + 1], MAX_PAYLOAD_BYTES),
        ] {
            let payload = RawPayload::new(&value);
            assert_eq!((payload.raw_encoding, payload.raw_payload.len()), (RawEncoding::Utf8, kept));
            assert_eq!(payload.raw_payload.as_bytes(), &value[..kept]);
            assert_eq!(payload.raw_payload_bytes, (value.len() > kept).then_some(value.len() as u64));
        }
        let payload = RawPayload::new(&vec![0xff; 2 * MAX_PAYLOAD_BYTES]);
        assert_eq!((payload.raw_encoding, payload.raw_payload_bytes), (RawEncoding::Base64, Some(2 << 20)));
        assert_eq!(BASE64_STANDARD.decode(payload.raw_payload).unwrap(), [0xff; MAX_PAYLOAD_BYTES]);
    }

    #[test]
    fn a_letter_has_the_fields_of_its_schema() {
        let schema: serde_json::Value = serde_json::from_str(include_str!("../dead_letter.schema.json")).unwrap();
        let judged = Judged {
            run: RunId([1; 16]),
            epoch: Epoch(1),
            stage: "validate".into(),
            sha256: ModuleDigest([2; 32]),
            deployment: DeploymentId(3),
        };
        let mut letter = DeadLetter {
            payload: RawPayload::beginning(b"{", 5),
            error_type: ErrorType::Parsing,
            rule: "json".into(),
            message: "cut short".into(),
            retry_count: 0,
            error_timestamp_ms: 7,
            origin: Origin::Line { file: "f".into(), line: 1, source: None },
            judged: Some(judged),
            stacktrace: Some("0: validate".into()),
            retried_at: Some(RetriedAt { partition: PartitionId(0), offset: Offset(9) }),
            connector: Some("postgres".into()),
        };
        let fields = |letter: &DeadLetter| -> Vec<String> {
            let json = serde_json::to_value(letter).unwrap();
            assert_eq!(serde_json::from_value::<DeadLetter>(json.clone()).unwrap(), *letter);
            json.as_object().unwrap().keys().cloned().collect()
        };
        let mut known: Vec<String> = schema["properties"].as_object().unwrap().keys().cloned().collect();
        let mut all = fields(&letter);
        all.sort();
        known.sort();
        assert_eq!(all, known);
        (letter.payload, letter.judged) = (RawPayload::new(b"{"), None);
        (letter.stacktrace, letter.retried_at, letter.connector) = (None, None, None);
        let mut least = fields(&letter);
        let required = schema["required"].as_array().unwrap().iter().map(|f| f.as_str().unwrap().to_owned());
        let mut required: Vec<String> = required.collect();
        least.sort();
        required.sort();
        assert_eq!(least, required);
    }
}
