//! What the tests share: small record sets in, records with their offsets out.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clickmill_broker::{Broker, BrokerError, EmbeddedLog, LogOptions, StoredBatch, TopicPartition, TopicSpec};
use clickmill_schemas::record::{RecordSetBuilder, Records};
use clickmill_schemas::{Offset, PartitionId};

pub const NO_WAIT: Duration = Duration::ZERO;
pub const MUCH: usize = 1 << 20;

/// A record as read back: offset, key, value.
pub type Row = (u64, Option<Vec<u8>>, Vec<u8>);

pub fn at(partition: u32) -> TopicPartition {
    TopicPartition::new("t", PartitionId(partition))
}

/// Options for small segments; upkeep only when asked for.
pub fn small(segment_bytes: u64) -> LogOptions {
    LogOptions { segment_bytes, maintenance_interval: Duration::from_secs(3_600), ..LogOptions::default() }
}

/// A log with topic `t` of `partitions`.
pub fn log(dir: &Path, partitions: u32, segment_bytes: u64) -> Arc<EmbeddedLog> {
    let log = EmbeddedLog::open(dir, small(segment_bytes)).unwrap();
    log.create_topic(&TopicSpec::new("t", partitions)).unwrap();
    Arc::new(log)
}

pub fn set<V: AsRef<[u8]>>(values: impl IntoIterator<Item = V>) -> RecordSetBuilder {
    let mut set = RecordSetBuilder::default();
    for (n, value) in values.into_iter().enumerate() {
        set.push(None, value.as_ref(), 1_000 + n as i64);
    }
    set
}

/// A batch of one record, durable; its offset.
pub fn put(log: &EmbeddedLog, at: &TopicPartition, key: Option<&[u8]>, value: &[u8]) -> u64 {
    let mut set = RecordSetBuilder::default();
    set.push(key, value, 5);
    log.append(at, &set).unwrap().wait().unwrap().0
}

pub fn rows(batch: &StoredBatch) -> Vec<Row> {
    let bytes = batch.records().unwrap();
    let records: Vec<Row> = Records::new(&bytes)
        .unwrap()
        .map(|r| r.unwrap())
        .map(|r| (batch.base_offset.0 + r.offset_delta as u64, r.key.map(<[u8]>::to_vec), r.value.to_vec()))
        .collect();
    assert_eq!(records.len(), batch.count as usize);
    records
}

/// Everything from `from` to the end, batch after batch without a gap.
pub fn read_from(log: &dyn Broker, at: &TopicPartition, from: Offset) -> Result<Vec<Row>, BrokerError> {
    let end = log.ends(at)?.end;
    let (mut next, mut out) = (from, Vec::new());
    while next < end {
        let batches = log.fetch(at, next, MUCH, NO_WAIT)?;
        assert!(!batches.is_empty(), "nothing at {next} though the end is {end}");
        for batch in batches {
            assert!(batch.base_offset <= next && next < batch.next_offset(), "a gap at {next}: {batch:?}");
            let skip = next.0;
            out.extend(rows(&batch).into_iter().filter(|(offset, _, _)| *offset >= skip));
            next = batch.next_offset();
        }
    }
    assert_eq!(next, end);
    Ok(out)
}

pub fn read_all(log: &dyn Broker, at: &TopicPartition) -> Result<Vec<Row>, BrokerError> {
    read_from(log, at, log.ends(at)?.start)
}

/// The segment files of a partition of `t`, in order.
pub fn segments(dir: &Path, partition: u32) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir.join("t").join(partition.to_string()))
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "log"))
        .collect();
    files.sort();
    files
}

pub fn mark_file(dir: &Path, partition: u32) -> PathBuf {
    dir.join("t").join(partition.to_string()).join("synced")
}

/// A copy of a closed log's folder, to damage.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// This test binary again, running one of its ignored tests as a process of its own.
pub fn child(test: &str, dir: &Path) -> std::process::Command {
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args([test, "--exact", "--ignored", "--nocapture", "--test-threads=1"]).env("LOG_DIR", dir);
    command
}

/// Where a child finds the log; `None` when the ignored test is run by hand.
pub fn child_dir() -> Option<PathBuf> {
    std::env::var_os("LOG_DIR").map(PathBuf::from)
}

/// A small generator of numbers for moments and sizes; the seed is printed by the tests that use it.
pub struct Numbers(pub u64);

impl Numbers {
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}
