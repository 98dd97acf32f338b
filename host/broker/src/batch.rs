//! [`StoredBatch`]: a record set as it lies in a log, decompressed only where the reader wants the bytes.
//!
//! It is checked (CRC) before it gets here. It knows nothing of files.

use std::cell::RefCell;

use bytes::Bytes;
use clickmill_schemas::Offset;
use clickmill_schemas::record::RecordSetBuilder;

use crate::error::BrokerError;
use crate::topic::TopicPartition;

/// How the record set of a batch is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// As it is.
    Raw,
    /// One zstd frame.
    Zstd,
}

/// A batch of a partition. Cheap to clone.
#[derive(Clone, Debug)]
pub struct StoredBatch {
    /// Where it was read.
    pub at: TopicPartition,
    /// Offset of a record = this + the record's offset delta.
    pub base_offset: Offset,
    /// The offset after the batch. More than `base_offset + count` where compaction took records out.
    pub(crate) next_offset: Offset,
    /// Records in the set; 0 is possible in a compacted topic.
    pub count: u32,
    /// Timestamp of a record = this + the record's timestamp delta, epoch milliseconds.
    pub base_timestamp_ms: i64,
    /// Wall clock when it was appended, epoch milliseconds; where that is not known, its base timestamp.
    pub appended_at_ms: i64,
    pub(crate) codec: Codec,
    pub(crate) records_len: usize,
    pub(crate) stored: Bytes,
}

thread_local! {
    static DECOMPRESSOR: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { RefCell::new(None) };
}

impl StoredBatch {
    /// A batch that was not read out of a log's files, for other implementations of [`Broker`](crate::Broker). Its records
    /// have the offsets from `base_offset` on; up to `next_offset` there are no others.
    #[must_use]
    pub fn of(at: TopicPartition, base_offset: Offset, next_offset: Offset, set: &RecordSetBuilder) -> Self {
        Self {
            at,
            base_offset,
            next_offset,
            count: set.count(),
            base_timestamp_ms: set.base_timestamp_ms(),
            appended_at_ms: set.base_timestamp_ms(),
            codec: Codec::Raw,
            records_len: set.bytes().len(),
            stored: Bytes::copy_from_slice(set.bytes()),
        }
    }

    /// Bytes of the record set.
    #[must_use]
    pub const fn records_len(&self) -> usize {
        self.records_len
    }

    /// Bytes that it takes in the log, without its header.
    #[must_use]
    pub fn stored_len(&self) -> usize {
        self.stored.len()
    }

    /// The offset after the batch.
    #[must_use]
    pub const fn next_offset(&self) -> Offset {
        self.next_offset
    }

    /// Puts the record set into `dst`, which has [`records_len`](Self::records_len) bytes, without a copy between.
    ///
    /// # Errors
    /// [`BrokerError::Undecodable`] where `dst` has another length or the bytes do not decompress to that length.
    pub fn read_into(&self, dst: &mut [u8]) -> Result<(), BrokerError> {
        let bad = |what: String| BrokerError::Undecodable { at: self.at.clone(), offset: self.base_offset, what };
        if dst.len() != self.records_len {
            return Err(bad(format!("{} bytes do not fit a buffer of {}", self.records_len, dst.len())));
        }
        match self.codec {
            Codec::Raw => {
                if self.stored.len() != dst.len() {
                    return Err(bad(format!("{} bytes stored, {} announced", self.stored.len(), dst.len())));
                }
                dst.copy_from_slice(&self.stored);
            }
            Codec::Zstd => {
                let len = DECOMPRESSOR
                    .with_borrow_mut(|slot| {
                        if slot.is_none() {
                            *slot = Some(zstd::bulk::Decompressor::new()?);
                        }
                        match slot {
                            Some(zstd) => zstd.decompress_to_buffer(&self.stored, dst),
                            None => Ok(0),
                        }
                    })
                    .map_err(|e| bad(format!("zstd: {e}")))?;
                if len != self.records_len {
                    return Err(bad(format!("{len} bytes decompressed, {} announced", self.records_len)));
                }
            }
        }
        Ok(())
    }

    /// The record set.
    ///
    /// # Errors
    /// As [`read_into`](Self::read_into).
    pub fn records(&self) -> Result<Vec<u8>, BrokerError> {
        let mut out = vec![0; self.records_len];
        self.read_into(&mut out)?;
        Ok(out)
    }
}
