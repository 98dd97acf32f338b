//! A broker that has no room in one partition.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use clickmill_broker::{Appended, Broker, BrokerError, Ends, StoredBatch, TopicInfo, TopicPartition, TopicSpec};
use clickmill_schemas::Offset;
use clickmill_schemas::record::RecordSetBuilder;

/// Refuses appends to one partition, after some.
pub struct Busy {
    pub inner: Arc<dyn Broker>,
    pub partition: u32,
    pub free: AtomicUsize,
}

impl Broker for Busy {
    fn create_topic(&self, spec: &TopicSpec) -> Result<TopicInfo, BrokerError> {
        self.inner.create_topic(spec)
    }
    fn add_partitions(&self, name: &str, partitions: u32) -> Result<TopicInfo, BrokerError> {
        self.inner.add_partitions(name, partitions)
    }
    fn delete_topic(&self, name: &str) -> Result<(), BrokerError> {
        self.inner.delete_topic(name)
    }
    fn topic(&self, name: &str) -> Result<Option<TopicInfo>, BrokerError> {
        self.inner.topic(name)
    }
    fn topics(&self) -> Result<Vec<TopicInfo>, BrokerError> {
        self.inner.topics()
    }
    fn append(&self, at: &TopicPartition, set: &RecordSetBuilder) -> Result<Appended, BrokerError> {
        self.inner.append(at, set)
    }
    fn try_append(&self, at: &TopicPartition, set: &RecordSetBuilder) -> Result<Appended, BrokerError> {
        if at.partition.0 == self.partition
            && self.free.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_err()
        {
            return Err(BrokerError::Busy { at: at.clone(), in_flight_bytes: 2, limit_bytes: 1 });
        }
        self.inner.try_append(at, set)
    }
    fn fetch(
        &self,
        at: &TopicPartition,
        from: Offset,
        max: usize,
        wait: Duration,
    ) -> Result<Vec<StoredBatch>, BrokerError> {
        self.inner.fetch(at, from, max, wait)
    }
    fn ends(&self, at: &TopicPartition) -> Result<Ends, BrokerError> {
        self.inner.ends(at)
    }
    fn last_batch_with(
        &self,
        at: &TopicPartition,
        matches: &mut dyn FnMut(&StoredBatch) -> bool,
    ) -> Result<Option<StoredBatch>, BrokerError> {
        self.inner.last_batch_with(at, matches)
    }
    fn keep_from(&self, at: &TopicPartition, floor: Offset) {
        self.inner.keep_from(at, floor);
    }
}
