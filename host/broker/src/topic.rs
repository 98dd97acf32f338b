//! Names and shapes: what a topic is, which partition is meant, what it holds.
//!
//! Plain data; nothing here touches a disk.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use clickmill_schemas::{Offset, PartitionId, RunId};
use serde::{Deserialize, Serialize};

/// Most partitions that a topic may have (each holds open files).
pub const MAX_PARTITIONS: u32 = 256;
/// Longest name of a topic, bytes.
pub const MAX_NAME_LEN: usize = 200;

/// When old records go. Without limits they stay.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// Records appended longer ago than this may go, a whole segment at a time.
    pub max_age: Option<Duration>,
    /// The oldest segments go while the partition has more stored bytes than this.
    pub max_bytes: Option<u64>,
}

/// What is asked of a topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopicSpec {
    /// ASCII letters, digits, `.`, `_` and `-`; not a dot first; at most [`MAX_NAME_LEN`].
    pub name: String,
    /// From 1 to [`MAX_PARTITIONS`]; can only grow later, by [`Broker::add_partitions`](crate::Broker::add_partitions).
    pub partitions: u32,
    pub retention: Retention,
    /// Keep only the newest record of each key (of what lies in sealed segments); records without a key stay.
    pub compact: bool,
}

impl TopicSpec {
    /// A topic that keeps everything.
    #[must_use]
    pub fn new(name: &str, partitions: u32) -> Self {
        Self { name: name.to_owned(), partitions, retention: Retention::default(), compact: false }
    }

    /// Why no topic can be made of this, if so.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        let name = self.name.as_bytes();
        let plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        if name.is_empty() || name.len() > MAX_NAME_LEN {
            Some("a name has 1 to 200 bytes")
        } else if name[0] == b'.' || !name.iter().all(plain) {
            Some("a name has only ASCII letters, digits, '.', '_' and '-', and no dot first")
        } else if self.partitions == 0 || self.partitions > MAX_PARTITIONS {
            Some("a topic has 1 to 256 partitions")
        } else {
            None
        }
    }
}

/// A topic as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicInfo {
    pub spec: TopicSpec,
    /// Random, made with the topic: two topics of one name are told apart by it.
    pub id: RunId,
}

/// Which partition of which topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    pub topic: Arc<str>,
    pub partition: PartitionId,
}

impl TopicPartition {
    #[must_use]
    pub fn new(topic: impl Into<Arc<str>>, partition: PartitionId) -> Self {
        Self { topic: topic.into(), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

/// What a partition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// The oldest offset that can be fetched.
    pub start: Offset,
    /// Exclusive: the offset that the next durable record gets.
    pub end: Offset,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_their_folder_are_refused() {
        for bad in ["", ".", "..", ".hidden", "a/b", "a\\b", "a b", "ä", "a\0b", &"x".repeat(201)] {
            assert!(TopicSpec::new(bad, 1).fault().is_some(), "{bad:?}");
        }
        for good in ["ad_events_raw", "a", "a.b-c_9", &"x".repeat(200)] {
            assert_eq!(TopicSpec::new(good, 1).fault(), None, "{good:?}");
        }
        assert!(TopicSpec::new("t", 0).fault().is_some());
        assert!(TopicSpec::new("t", MAX_PARTITIONS + 1).fault().is_some());
    }
}
