//! The [`Broker`] trait: what the pipeline, the server and the connectors may ask of any broker.
//!
//! Laws, whatever the broker: a batch is visible (to `fetch`, `ends`, `last_batch_with`) only after it is durable;
//! offsets of a partition rise by the records appended and never change; what was acknowledged is never lost
//! silently, only by retention or compaction. All calls may block, none is async: callers on an async runtime use
//! `spawn_blocking`, and every wait here ends by itself.

use std::time::Duration;

use clickmill_schemas::Offset;
use clickmill_schemas::record::RecordSetBuilder;

use crate::batch::StoredBatch;
use crate::error::BrokerError;
use crate::topic::{Ends, TopicInfo, TopicPartition, TopicSpec};

/// Topics of record batches.
pub trait Broker: Send + Sync + 'static {
    /// Makes the topic, or takes the existing one over: its retention and compaction become those of `spec`.
    ///
    /// # Errors
    /// [`BrokerError::PartitionsDiffer`] where it exists with another number of partitions,
    /// [`BrokerError::BadTopic`] where the name or the number of partitions cannot be had.
    fn create_topic(&self, spec: &TopicSpec) -> Result<TopicInfo, BrokerError>;

    /// Gives the topic more partitions, empty ones behind those that it has, and returns it: whole or not at all,
    /// whatever ends the process meanwhile. Who asks afterwards sees them all, and the records that there are stay where
    /// they are: a key may go to another partition from now on.
    ///
    /// # Errors
    /// [`BrokerError::UnknownTopic`], [`BrokerError::PartitionsDiffer`] where it has more than `partitions` already (as
    /// many is fine), [`BrokerError::BadTopic`] where so many cannot be had.
    fn add_partitions(&self, name: &str, partitions: u32) -> Result<TopicInfo, BrokerError>;

    /// Takes the topic away with all its records, whole or not at all; what is being appended to it fails or is lost with
    /// it. A topic that is made under its name afterwards is another one.
    ///
    /// # Errors
    /// [`BrokerError::UnknownTopic`]; I/O, and it is still there.
    fn delete_topic(&self, name: &str) -> Result<(), BrokerError>;

    /// The topic of that name, if there is one.
    ///
    /// # Errors
    /// When the broker cannot be asked.
    fn topic(&self, name: &str) -> Result<Option<TopicInfo>, BrokerError>;

    /// All topics, by name.
    ///
    /// # Errors
    /// When the broker cannot be asked.
    fn topics(&self) -> Result<Vec<TopicInfo>, BrokerError>;

    /// Hands a batch over; [`Appended::wait`] tells when it is durable. Batches of one caller keep their order.
    /// Blocks while too many bytes are in flight.
    ///
    /// # Errors
    /// [`BrokerError::DiskFull`] and [`BrokerError::Io`] (nothing was appended; may be tried again),
    /// [`BrokerError::PartitionFailed`] (a sync failed; reads go on, appends only after a reopen),
    /// [`BrokerError::BadBatch`] for an empty or oversized set.
    fn append(&self, at: &TopicPartition, set: &RecordSetBuilder) -> Result<Appended, BrokerError>;

    /// [`append`](Self::append), but [`BrokerError::Busy`] instead of blocking.
    ///
    /// # Errors
    /// As `append`, and [`BrokerError::Busy`].
    fn try_append(&self, at: &TopicPartition, set: &RecordSetBuilder) -> Result<Appended, BrokerError>;

    /// Whole batches in order, the first of them the one that contains `from` (it may begin before `from`). As many
    /// as `max_bytes` of *stored* (compressed) bytes hold, but at least one; at the end, waits up to `max_wait` for
    /// one and then returns none.
    ///
    /// # Errors
    /// [`BrokerError::OffsetOutOfRange`] below the start or above the end (at the end is fine),
    /// [`BrokerError::Corrupt`] where the stored bytes are not what was written.
    fn fetch(
        &self,
        at: &TopicPartition,
        from: Offset,
        max_bytes: usize,
        max_wait: Duration,
    ) -> Result<Vec<StoredBatch>, BrokerError>;

    /// What the partition holds, durable only.
    ///
    /// # Errors
    /// Unknown topic or partition; a broker that cannot be asked.
    fn ends(&self, at: &TopicPartition) -> Result<Ends, BrokerError>;

    /// Bytes that the partition's records take where they are stored, durable ones only. None where the broker does not
    /// tell.
    ///
    /// # Errors
    /// As [`ends`](Self::ends).
    fn stored_bytes(&self, at: &TopicPartition) -> Result<Option<u64>, BrokerError> {
        let _ = at;
        Ok(None)
    }

    /// The newest batch that `matches`, asked newest first; `None` when none does.
    ///
    /// # Errors
    /// As [`fetch`](Self::fetch).
    fn last_batch_with(
        &self,
        at: &TopicPartition,
        matches: &mut dyn FnMut(&StoredBatch) -> bool,
    ) -> Result<Option<StoredBatch>, BrokerError>;

    /// Retention and compaction leave everything at or above `floor` alone from now on, also after a restart and
    /// until told another floor. An unknown partition is ignored.
    fn keep_from(&self, at: &TopicPartition, floor: Offset);
}

/// A batch on its way to being durable. Dropping it does not take the batch back.
#[must_use = "an append is acknowledged only by `wait`"]
pub struct Appended(Box<dyn FnOnce() -> Result<Offset, BrokerError> + Send>);

impl Appended {
    /// For implementations of [`Broker`]: `wait` blocks until the batch is durable or has failed.
    pub fn new(wait: impl FnOnce() -> Result<Offset, BrokerError> + Send + 'static) -> Self {
        Self(Box::new(wait))
    }

    /// Blocks until the batch is durable; its base offset.
    ///
    /// # Errors
    /// The batch is not durable and will not be seen: [`BrokerError::PartitionFailed`].
    pub fn wait(self) -> Result<Offset, BrokerError> {
        (self.0)()
    }
}

impl std::fmt::Debug for Appended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Appended")
    }
}
