//! The envelope of `ad_events_error`: a rejected record, whole, with the reason.

use serde::{Deserialize, Serialize};

use crate::envelope::ErrorType;
use crate::ids::{DeploymentId, Epoch, ModuleDigest, Offset, PartitionId, RunId};

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
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RawEncoding {
    Utf8,
    Base64,
}

/// One dead letter (`dead_letter.schema.json`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    pub raw_payload: String,
    pub raw_encoding: RawEncoding,
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
