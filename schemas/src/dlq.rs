//! The records of `ad_events_dlq`: what has become of each dead letter.
//!
//! One record says all that is known of a letter; the newest of each key counts, and compaction keeps it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::dead_letter::{DeadLetter, Origin, RawPayload};
use crate::ids::{DeploymentId, Epoch, Offset, PartitionId, RunId};

/// Name of a dead letter, from its origin: `0-1234` of a record of the input topic, `train.gz:17@5f0c…` of a line,
/// `postgres:ctr_windows-0-88` of what a connector's server refused.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LetterId(pub String);

impl LetterId {
    #[must_use]
    pub fn of(letter: &DeadLetter) -> Self {
        Self::new(&letter.origin, letter.connector.as_deref())
    }

    /// Of a letter with this origin; `connector` where a server refused it.
    #[must_use]
    pub fn new(origin: &Origin, connector: Option<&str>) -> Self {
        Self(match (origin, connector) {
            (Origin::Record { topic, partition, offset }, Some(connector)) => {
                format!("{connector}:{topic}-{partition}-{offset}")
            }
            (Origin::Record { partition, offset, .. }, None) => format!("{partition}-{offset}"),
            (Origin::Line { source: Some(source), .. }, _) => format!("{origin}@{source}"),
            (Origin::Line { source: None, .. }, _) => origin.to_string(),
        })
    }
}

impl fmt::Display for LetterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a letter is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LetterState {
    /// For its next attempt.
    Waiting,
    /// Sent again: its fate is not known yet.
    Retrying,
    /// There is nothing left to do about it.
    Resolved,
    /// Given up: it waits for a new deployment or an edit, and for somebody to retry it.
    Dead,
}

impl LetterState {
    pub const ALL: [Self; 4] = [Self::Waiting, Self::Retrying, Self::Resolved, Self::Dead];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Retrying => "retrying",
            Self::Resolved => "resolved",
            Self::Dead => "dead",
        }
    }
}

/// What an attempt came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It has passed the modules, and was sent again.
    Sent,
    Counted,
    /// Its window was closed by then.
    Late,
    /// A stage has filtered it.
    Dropped,
    /// It had been taken in before.
    Repeated,
    Rejected,
    /// The connector's server has it now.
    Accepted,
    /// There is a newer version of it, or it is gone: nothing is missing without it.
    Superseded,
}

impl Outcome {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Counted => "counted",
            Self::Late => "late",
            Self::Dropped => "dropped",
            Self::Repeated => "repeated",
            Self::Rejected => "rejected",
            Self::Accepted => "accepted",
            Self::Superseded => "superseded",
        }
    }
}

/// One attempt to have a letter taken in after all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// From 1.
    pub attempt: u32,
    /// Wall clock, epoch milliseconds.
    pub at_ms: i64,
    /// The deployment that it was tried with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<DeploymentId>,
    pub outcome: Outcome,
    /// Of a rejection: the rule, and in words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub rule: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// All that is known of a letter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Letter {
    pub id: LetterId,
    pub state: LetterState,
    /// Why it is in that state, for people.
    pub reason: String,
    /// Wall clocks, epoch milliseconds: of the first rejection, and of the last change.
    pub first_error_ms: i64,
    pub changed_at_ms: i64,
    /// When its next attempt is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_at_ms: Option<i64>,
    /// When it was given up; none where it was edited since, or was a letter of the run before too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub given_up_at_ms: Option<i64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<Attempt>,
    /// What is sent in the place of the payload that was rejected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edited: Option<RawPayload>,
    /// The newest dead letter of this origin.
    pub letter: DeadLetter,
}

/// A record of `ad_events_dlq`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
// Tagged from outside: read in one pass.
#[serde(rename_all = "snake_case")]
pub enum DlqRecord {
    Letter(Box<Letter>),
    /// Somebody wants no more of it.
    Purged {
        run: RunId,
        id: LetterId,
    },
    /// All letters of `ad_events_error` below `next` are in this topic, as far as they are this run's; `epochs` are the
    /// highest that were seen there.
    Taken {
        run: RunId,
        next: Offset,
        epochs: Vec<(PartitionId, Epoch)>,
    },
    /// A partition has gone back to a savepoint: what is said before this of its records from here on is void.
    Rewound {
        run: RunId,
        partition: PartitionId,
        as_of_offset: Offset,
    },
}

impl DlqRecord {
    /// Key in the topic.
    #[must_use]
    pub fn key(&self) -> String {
        match self {
            Self::Letter(letter) => format!("letter|{}", letter.id),
            // Of the same key: it takes the letter's place.
            Self::Purged { id, .. } => format!("letter|{id}"),
            Self::Taken { .. } => "taken".to_owned(),
            // Each counts, for what lies between two.
            Self::Rewound { run, partition, as_of_offset } => format!("rewound|{run}|{partition}|{as_of_offset}"),
        }
    }

    /// # Errors
    /// Where `value` is no such JSON.
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
    use crate::envelope::ErrorType;
    use crate::ids::SourceId;

    #[test]
    fn every_record_reads_back() {
        let run = RunId([1; 16]);
        let origin = Origin::Record { topic: "t".into(), partition: PartitionId(0), offset: Offset(9) };
        let letter = DeadLetter {
            payload: RawPayload::new(b"\xff"),
            error_type: ErrorType::Sink,
            rule: "sqlstate_23514".into(),
            message: String::new(),
            retry_count: 1,
            error_timestamp_ms: 5,
            origin: origin.clone(),
            judged: None,
            stacktrace: None,
            retried_at: None,
            connector: Some("postgres".into()),
        };
        let attempt = Attempt {
            attempt: 1,
            at_ms: 6,
            deployment: Some(DeploymentId(2)),
            outcome: Outcome::Rejected,
            rule: "r".into(),
            message: "m".into(),
        };
        let id = LetterId::of(&letter);
        assert_eq!(id.0, "postgres:t-0-9");
        let letter = Letter {
            id: id.clone(),
            state: LetterState::Waiting,
            reason: "due".into(),
            first_error_ms: 5,
            changed_at_ms: 6,
            due_at_ms: Some(7),
            given_up_at_ms: Some(8),
            attempts: vec![attempt],
            edited: Some(RawPayload::new(b"{}")),
            letter,
        };
        for record in [
            DlqRecord::Letter(Box::new(letter)),
            DlqRecord::Purged { run, id },
            DlqRecord::Taken { run, next: Offset(3), epochs: vec![(PartitionId(2), Epoch(4))] },
            DlqRecord::Rewound { run, partition: PartitionId(0), as_of_offset: Offset(8) },
        ] {
            assert_eq!(DlqRecord::decode(&record.encode()).unwrap(), record);
        }
        assert_eq!(LetterId::new(&origin, None).0, "0-9");
        let line = |source| Origin::Line { file: "a/b.csv".into(), line: 7, source };
        assert_eq!(LetterId::new(&line(None), None).0, "a/b.csv:7");
        let todays = LetterId::new(&line(Some(SourceId::from(0xab))), None).0;
        assert_eq!(todays, "a/b.csv:7@00000000000000ab");
    }
}
