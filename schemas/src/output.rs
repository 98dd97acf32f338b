//! The JSON records of `ctr_windows` that are not partials: epochs, decisions, late events, commits.
//!
//! `produced = counted + rejected + late + dropped` of a [`Ledger`] holds for every commit.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::dead_letter::Origin;
use crate::ids::{DeploymentId, Epoch, Generation, ModuleDigest, Offset, PartitionId, RunId};

/// Fates of the input records of a prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    pub counted: u64,
    pub rejected: u64,
    pub late: u64,
    pub dropped: u64,
    /// `rejected` by rule.
    pub rejected_by_rule: BTreeMap<String, u64>,
    /// `dropped` by reason.
    pub dropped_by_reason: BTreeMap<String, u64>,
}

impl Ledger {
    /// Records that have a fate.
    #[must_use]
    pub const fn accounted(&self) -> u64 {
        self.counted + self.rejected + self.late + self.dropped
    }

    pub fn reject(&mut self, rule: &str) {
        self.rejected += 1;
        *self.rejected_by_rule.entry(rule.to_owned()).or_default() += 1;
    }

    pub fn drop_for(&mut self, reason: &str, records: u64) {
        if records > 0 {
            self.dropped += records;
            *self.dropped_by_reason.entry(reason.to_owned()).or_default() += records;
        }
    }

    pub fn add(&mut self, other: &Self) {
        self.counted += other.counted;
        self.rejected += other.rejected;
        self.late += other.late;
        self.dropped += other.dropped;
        for (rule, n) in &other.rejected_by_rule {
            *self.rejected_by_rule.entry(rule.clone()).or_default() += n;
        }
        for (reason, n) in &other.dropped_by_reason {
            *self.dropped_by_reason.entry(reason.clone()).or_default() += n;
        }
    }
}

/// Who wrote an output record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    pub run: RunId,
    pub partition: PartitionId,
    pub epoch: Epoch,
}

/// What is not a function of the input prefix, written down before it takes effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Decision {
    /// From its offset on, this deployment judges. A generation other than the one before begins there with empty state;
    /// without one it stays as it was.
    Activation {
        deployment: DeploymentId,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        generation: Option<Generation>,
    },
    /// This record alone makes the stage fail: it goes to the DLQ as `smartmodule`.
    Verdict { stage: String, sha256: ModuleDigest, message: String },
    /// From its offset on, the watermark is at least this (epoch milliseconds).
    WatermarkAdvance { watermark_ms: i64 },
    /// Retention took the records from its offset up to `end`, unseen.
    Gap { end: Offset },
}

/// How far a partition is: everything below `as_of_offset` has its fate in `ledger` and is in the output topics.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    pub generation: Generation,
    pub as_of_offset: Offset,
    /// Greatest watermark so far, epoch milliseconds; none before the first event.
    pub watermark_ms: Option<i64>,
    /// Windows that end at or before this change no more in this partition.
    pub closed_before_ms: Option<i64>,
    pub ledger: Ledger,
    /// Wall clock of the commit, epoch milliseconds: for people and metrics, never for a value.
    pub committed_at_ms: i64,
    /// When the oldest record that this commit is the first to hold was appended, epoch milliseconds: for metrics. None where
    /// it holds no new record, of a run that nobody reads yet, and from versions that did not write it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_append_ms: Option<i64>,
}

/// A record of `ctr_windows` in JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    #[serde(flatten)]
    pub stamp: Stamp,
    #[serde(flatten)]
    pub body: Body,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Body {
    /// Opens a worker's term: records of lower epochs that come after it are dropped by readers.
    Epoch,
    /// An event that came after its pane was closed.
    Late {
        offset: Offset,
        ts_ms: i64,
        watermark_ms: i64,
    },
    Decision {
        offset: Offset,
        decision: Decision,
    },
    Commit(Commit),
    /// The partition goes back to where it was at this offset: what lower epochs wrote about offsets at or above it is void,
    /// in both output topics. A commit for the offset follows, and windows as they were then.
    Rewind {
        as_of_offset: Offset,
    },
    /// What became of a retry that was not rejected: in `ad_events_error`, where its dead letter would be.
    Retried {
        offset: Offset,
        attempt: u32,
        origin: Origin,
        fate: RetryFate,
    },
    /// Begins a run that judges again what another has judged: the decisions of this epoch are taken over from that one.
    Inherit {
        from: RunId,
    },
}

/// What becomes of a retry that is not rejected again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetryFate {
    Counted,
    /// Its window is closed.
    Late,
    /// A stage has filtered it.
    Dropped,
    /// Its origin has been counted, or is late, by now.
    Repeated,
}

impl Output {
    /// Key in the topic: compaction keeps the newest record of each.
    #[must_use]
    pub fn key(&self) -> String {
        let Stamp { run, partition, epoch } = self.stamp;
        match &self.body {
            Body::Epoch => format!("epoch|{run}|{partition}"),
            Body::Late { offset, .. } => format!("late|{run}|{partition}|{offset}"),
            Body::Decision { offset, decision } => {
                let what = match decision {
                    Decision::Activation { .. } => "activation",
                    Decision::Verdict { .. } => "verdict",
                    Decision::WatermarkAdvance { .. } => "watermark",
                    Decision::Gap { .. } => "gap",
                };
                format!("decision|{run}|{partition}|{offset}|{what}")
            }
            Body::Commit(_) => format!("commit|{run}|{partition}"),
            // Each of them counts, for a savepoint that was made between two.
            Body::Rewind { .. } => format!("rewind|{run}|{partition}|{epoch}"),
            Body::Inherit { .. } => format!("inherit|{run}|{partition}"),
            Body::Retried { offset, .. } => format!("retried|{run}|{partition}|{offset}"),
        }
    }

    /// # Errors
    /// Where `value` is not such JSON.
    pub fn decode(value: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(value)
    }

    /// The value in the topic.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        // Plain structs with string keys: serialization has no failing case.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_reads_back() {
        let stamp = Stamp { run: RunId([1; 16]), partition: PartitionId(2), epoch: Epoch(3) };
        let mut ledger = Ledger { counted: 5, ..Ledger::default() };
        ledger.reject("json");
        ledger.drop_for("filtered", 2);
        assert_eq!(ledger.accounted(), 8);
        let commit = Commit {
            generation: Generation(0),
            as_of_offset: Offset(8),
            watermark_ms: Some(-1),
            closed_before_ms: None,
            ledger,
            committed_at_ms: 1,
            oldest_append_ms: Some(1),
        };
        let verdict =
            Decision::Verdict { stage: "validate".into(), sha256: ModuleDigest([9; 32]), message: "trap".into() };
        let activation = |generation| Decision::Activation { deployment: DeploymentId(0), generation };
        for body in [
            Body::Epoch,
            Body::Late { offset: Offset(1), ts_ms: 2, watermark_ms: 3 },
            Body::Decision { offset: Offset(4), decision: verdict },
            Body::Decision { offset: Offset(4), decision: activation(None) },
            Body::Decision { offset: Offset(4), decision: activation(Some(Generation(1))) },
            Body::Commit(commit),
            Body::Rewind { as_of_offset: Offset(7) },
            Body::Inherit { from: RunId([2; 16]) },
            Body::Retried {
                offset: Offset(9),
                attempt: 1,
                origin: Origin::Line { file: "f".into(), line: 2, source: None },
                fate: RetryFate::Late,
            },
        ] {
            let output = Output { stamp, body };
            assert_eq!(Output::decode(&output.encode()).unwrap(), output);
        }
    }

    #[test]
    fn a_commit_of_a_version_that_did_not_write_when_its_oldest_record_was_appended_reads_on() {
        let old = br#"{"run":"01010101010101010101010101010101","partition":0,"epoch":1,"kind":"commit","generation":0,
            "as_of_offset":8,"watermark_ms":null,"closed_before_ms":null,"committed_at_ms":7,
            "ledger":{"counted":8,"rejected":0,"late":0,"dropped":0,"rejected_by_rule":{},"dropped_by_reason":{}}}"#;
        let Output { body: Body::Commit(commit), .. } = Output::decode(old).unwrap() else { panic!("no commit") };
        assert_eq!((commit.as_of_offset, commit.oldest_append_ms), (Offset(8), None));
        let output = Output {
            stamp: Stamp { run: RunId([1; 16]), partition: PartitionId(0), epoch: Epoch(1) },
            body: Body::Commit(commit),
        };
        assert!(!String::from_utf8(output.encode()).unwrap().contains("oldest"), "and is written as it was");
    }
}
