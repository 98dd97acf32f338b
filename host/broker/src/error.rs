//! [`BrokerError`]: what went wrong, where (topic, partition, offset, file, byte), and what to do.
//!
//! Cloneable, because one failed sync fails many appends.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clickmill_schemas::{Offset, PartitionId};

use crate::topic::TopicPartition;

/// Any failure of a broker.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BrokerError {
    #[error("topic {topic:?} does not exist")]
    UnknownTopic { topic: String },

    #[error("topic {topic:?} has {partitions} partitions, so none of number {partition}")]
    UnknownPartition { topic: String, partition: PartitionId, partitions: u32 },

    #[error("no topic {name:?} with {partitions} partitions can be made: {why}")]
    BadTopic { name: String, partitions: u32, why: &'static str },

    #[error(
        "topic {topic:?} exists with {existing} partitions, {asked} were asked for: partitions can be added, and never \
         taken away"
    )]
    PartitionsDiffer { topic: String, existing: u32, asked: u32 },

    #[error("{at}: offset {asked} is outside of what is there, {start} to {end}")]
    OffsetOutOfRange { at: TopicPartition, asked: Offset, start: Offset, end: Offset },

    #[error("{at}: cannot append this batch: {what}")]
    BadBatch { at: TopicPartition, what: String },

    /// Backpressure: try again after some appends became durable.
    #[error("{at}: {in_flight_bytes} bytes are waiting to be durable, the limit is {limit_bytes}; try again later")]
    Busy { at: TopicPartition, in_flight_bytes: usize, limit_bytes: usize },

    /// Nothing was appended. The partition goes on as soon as there is room.
    #[error("no room to write {file}: {source}; make room on the disk and try again")]
    DiskFull { file: PathBuf, source: Arc<io::Error> },

    /// The operation did not happen.
    #[error("cannot {doing} {file}: {source}")]
    Io { doing: &'static str, file: PathBuf, source: Arc<io::Error> },

    /// A sync failed: the system may have dropped what was written, so appending on top would build on sand.
    #[error(
        "{at}: appends are refused since a write could not be made durable at offset {durable_end} ({cause}); \
         everything below is safe and readable; check the disk, then restart"
    )]
    PartitionFailed { at: TopicPartition, durable_end: Offset, cause: Arc<BrokerError> },

    /// Bytes that were acknowledged are not there any more, or are not what was written.
    #[error(
        "{at}: corrupt at offset {offset}, byte {position} of {file}: {what}; \
         restore the file from a copy, or, to give up what is lost, move the topic's folder away"
    )]
    Corrupt { at: TopicPartition, offset: Offset, file: PathBuf, position: u64, what: String },

    /// A batch whose checksum holds but whose record set cannot be had from it.
    #[error("{at}: the batch at offset {offset} cannot be decoded: {what}")]
    Undecodable { at: TopicPartition, offset: Offset, what: String },

    #[error("{file} cannot be read: {what}; restore it from a copy")]
    BadFile { file: PathBuf, what: String },

    #[error("{file} has format version {found}, this program knows up to {known}: use the newer clickmill")]
    NewerFormat { file: PathBuf, found: u32, known: u32 },

    #[error("{dir} is in use by {holder}; stop it, or ask it instead")]
    Locked { dir: PathBuf, holder: crate::log::LockHolder },

    #[error("this log was opened for reading only")]
    ReadOnly,

    #[error("this log is closed")]
    Closed,

    /// Another process has the log, and has not answered as asked.
    #[error("{what}")]
    Unreachable { what: String },
}

impl BrokerError {
    /// An I/O failure, told apart by whether making room helps.
    pub(crate) fn io(doing: &'static str, file: &Path, source: io::Error) -> Self {
        use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        let file = file.to_path_buf();
        match source.kind() {
            StorageFull | QuotaExceeded | FileTooLarge => Self::DiskFull { file, source: Arc::new(source) },
            _ => Self::Io { doing, file, source: Arc::new(source) },
        }
    }

    /// True where the same call may work later without anybody changing anything but room on the disk.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Busy { .. } | Self::DiskFull { .. } | Self::Io { .. } | Self::Unreachable { .. })
    }
}
