//! Writes a compacted segment: batches in, batches without some of their records out, frames gapless throughout.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;
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

/// A finished file.
pub(super) struct Rewritten {
    pub header: SegmentHeader,
    pub len: u64,
    pub index: SparseIndex,
}

/// A segment file being written.
pub(super) struct Rewriter {
    header: SegmentHeader,
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
    pub(super) fn create(place: &Place, path: &Path, header: SegmentHeader, level: i32) -> Result<Self, BrokerError> {
        let mut out = BufWriter::new(disk::create(path)?);
        // Room for the header, whose last word comes last.
        out.write_all(&[0; segment::HEADER_LEN as usize]).map_err(|e| BrokerError::io("write", path, e))?;
        Ok(Self {
            header,
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
            let offset = Offset(batch.base_offset.0.saturating_add_signed(record.offset_delta));
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
            let set = RecordSet { bytes: &kept, count, base_timestamp_ms: batch.base_timestamp_ms };
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
            let written = self.out.write_all(&header.encode(self.seed)).and_then(|()| self.out.write_all(&payload));
            written.map_err(|e| BrokerError::io("write", &self.path, e))?;
            self.index.note(header.base, self.len);
            self.len += header.frame_len();
        }
        Ok(())
    }

    /// Bytes so far.
    pub(super) fn len(&self) -> u64 {
        self.len + self.held.as_ref().map_or(0, |(header, _)| header.frame_len())
    }

    /// Makes the file durable; its frames reach up to `end`.
    pub(super) fn finish(mut self, end: Offset) -> Result<Rewritten, BrokerError> {
        self.flush_held()?;
        let header = SegmentHeader { reaches: Some(end), ..self.header };
        let synced = self.out.flush().and_then(|()| {
            let file = self.out.get_ref();
            file.write_all_at(&header.encode(self.seed), 0).and_then(|()| file.sync_all())
        });
        synced.map_err(|e| BrokerError::io("write", &self.path, e))?;
        Ok(Rewritten { header, len: self.len, index: self.index })
    }
}
