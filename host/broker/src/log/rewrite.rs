//! Writes a compacted segment: batches in, batches without some of their records out, frames gapless throughout.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use clickmill_schemas::Offset;
use clickmill_schemas::record::{COUNT_LEN, Records, put_record};

use super::compact::undecodable;
use super::disk;
use super::encode::{RecordSet, with_frame};
use super::frame::{FrameHeader, Seed};
use super::index::SparseIndex;
use super::place::Place;
use super::segment::{self, SegmentHeader};
use crate::batch::StoredBatch;
use crate::error::BrokerError;

/// A segment file being written.
pub(super) struct Rewriter {
    out: BufWriter<File>,
    path: PathBuf,
    seed: Seed,
    level: i32,
    len: u64,
    index: SparseIndex,
    /// The last frame, held back in case what follows it is taken out and it has to reach further.
    held: Option<(FrameHeader, Vec<u8>)>,
}

impl Rewriter {
    pub(super) fn create(
        place: &Place,
        path: &Path,
        header: SegmentHeader,
        level: i32,
    ) -> Result<Self, BrokerError> {
        let mut out = BufWriter::new(disk::create(path)?);
        out.write_all(&header.encode(place.seed))
            .map_err(|e| BrokerError::io("write", path, e))?;
        Ok(Self {
            out,
            path: path.to_path_buf(),
            seed: place.seed,
            level,
            len: segment::HEADER_LEN,
            index: SparseIndex::new(header.base),
            held: None,
        })
    }

    /// Adds `batch` but for the records whose key is `outdated`; how many those were.
    pub(super) fn add(
        &mut self,
        batch: &StoredBatch,
        outdated: &dyn Fn(&[u8], Offset) -> bool,
    ) -> Result<u64, BrokerError> {
        let records = batch.records()?;
        let bad = |e: clickmill_schemas::record::Malformed| undecodable(batch, &e.to_string());
        let mut kept = vec![0; COUNT_LEN];
        let (mut count, mut removed) = (0u32, 0u64);
        for record in Records::new(&records).map_err(bad)? {
            let record = record.map_err(bad)?;
            let offset = Offset(
                batch
                    .base_offset
                    .0
                    .saturating_add_signed(record.offset_delta),
            );
            if record.key.is_none_or(|key| !outdated(key, offset)) {
                put_record(&mut kept, &record);
                count += 1;
            } else {
                removed += 1;
            }
        }
        if count == 0
            && let Some((held, _)) = &mut self.held
        {
            held.next = batch.next_offset;
            return Ok(removed);
        }
        self.flush_held()?;
        let mut header = FrameHeader {
            codec: batch.codec,
            count: batch.count,
            base: batch.base_offset,
            next: batch.next_offset,
            base_timestamp_ms: batch.base_timestamp_ms,
            appended_at_ms: batch.appended_at_ms,
            // The file is synced before it takes its name: all of it is as durable as it ever was.
            durable_before: batch.base_offset,
            records_len: batch.records_len as u32,
            stored_len: batch.stored.len() as u32,
            payload_crc: self.seed.checksum(&batch.stored),
        };
        let mut payload = batch.stored.to_vec();
        if removed > 0 {
            kept[..COUNT_LEN].copy_from_slice(&count.to_be_bytes());
            let set = RecordSet {
                bytes: &kept,
                count,
                base_timestamp_ms: batch.base_timestamp_ms,
            };
            (header, payload) = with_frame(set, self.level, self.seed, |draft| {
                let header = FrameHeader {
                    count,
                    codec: draft.header.codec,
                    records_len: draft.header.records_len,
                    stored_len: draft.header.stored_len,
                    payload_crc: draft.header.payload_crc,
                    ..header
                };
                (header, draft.payload().to_vec())
            });
        }
        self.held = Some((header, payload));
        Ok(removed)
    }

    fn flush_held(&mut self) -> Result<(), BrokerError> {
        if let Some((header, payload)) = self.held.take() {
            let written = self
                .out
                .write_all(&header.encode(self.seed))
                .and_then(|()| self.out.write_all(&payload));
            written.map_err(|e| BrokerError::io("write", &self.path, e))?;
            self.index.note(header.base, self.len);
            self.len += header.frame_len();
        }
        Ok(())
    }

    /// Makes the file durable; its length and index.
    pub(super) fn finish(mut self) -> Result<(u64, SparseIndex), BrokerError> {
        self.flush_held()?;
        let synced = self
            .out
            .flush()
            .and_then(|()| self.out.get_ref().sync_all());
        synced.map_err(|e| BrokerError::io("write", &self.path, e))?;
        Ok((self.len, self.index))
    }
}
