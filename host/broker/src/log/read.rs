//! Reads batches of a partition: forwards from an offset, or newest first. Every checksum is checked on the way.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use clickmill_schemas::Offset;

use super::frame::{FrameFault, FrameHeader, HEADER_LEN};
use super::guard;
use super::index::SparseIndex;
use super::partition::Partition;
use super::place::Place;
use super::scan::{Scanner, Step};
use super::segment;
use super::view::Source;
use crate::batch::StoredBatch;
use crate::error::BrokerError;
use crate::topic::Ends;

/// Most bytes that one read takes from a file, whatever was asked for (but for one longer frame).
const MAX_READ: usize = 64 << 20;

impl Partition {
    /// See [`Broker::fetch`](crate::Broker::fetch).
    pub(super) fn fetch(
        &self,
        from: Offset,
        max_bytes: usize,
        until: Instant,
    ) -> Result<Vec<StoredBatch>, BrokerError> {
        let Ends { start, end } = self.ends();
        if from < start || from > end {
            return Err(BrokerError::OffsetOutOfRange { at: self.place.at.clone(), asked: from, start, end });
        }
        if !self.wait_beyond(from, until) {
            return Ok(Vec::new());
        }
        let found = {
            let mut view = guard(&self.view);
            let start = view.start();
            if from < start {
                let end = view.durable_end; // retention was at work since
                return Err(BrokerError::OffsetOutOfRange { at: self.place.at.clone(), asked: from, start, end });
            }
            view.source(&self.place, from)?
        };
        let (source, known) = found;
        let path = self.place.segment(source.base);
        let near = match known {
            Some(near) => near,
            None => self.build_index(&source)?.at_or_below(from),
        };
        let (base, position) = seek(&self.place, &source, near, from)?;
        let want = (max_bytes.clamp(HEADER_LEN, MAX_READ) as u64).min(source.limit.saturating_sub(position));
        let bytes = read(&self.place, &source.file, base, &path, position, want)?;
        let mut batches = Vec::new();
        let mut parsed = self.parse(&bytes, base, &mut batches);
        if batches.is_empty() && matches!(parsed.fault, Some(FrameFault::CutShort)) {
            // The first frame is longer than was asked for; its header says how long.
            let len = frame_len(&self.place, &source, base, position)?;
            let bytes = read(&self.place, &source.file, base, &path, position, len)?;
            parsed = self.parse(&bytes, base, &mut batches);
        }
        if batches.is_empty() {
            let what = parsed.fault.map_or_else(|| "the file ends before what was durable".into(), |f| f.to_string());
            return Err(self.place.corrupt(base, &path, position, &what));
        }
        // Whatever stopped the walk behind some whole frames is met again, and judged, by the next fetch.
        guard(&self.view).hint(parsed.next, source.id, position + parsed.len);
        Ok(batches)
    }

    /// See [`Broker::last_batch_with`](crate::Broker::last_batch_with).
    pub(super) fn last_batch_with(
        &self,
        matches: &mut dyn FnMut(&StoredBatch) -> bool,
    ) -> Result<Option<StoredBatch>, BrokerError> {
        let Ends { mut end, .. } = self.ends();
        loop {
            let (source, active_index) = {
                let mut view = guard(&self.view);
                if end <= view.start() {
                    return Ok(None);
                }
                let (source, _) = view.source(&self.place, Offset(end.0 - 1))?;
                let active = (source.id == view.active.id).then(|| view.active.index.clone());
                (source, active)
            };
            let index = match (active_index, &source.index) {
                (Some(index), _) => Arc::new(index),
                (None, Some(index)) => Arc::clone(index),
                (None, None) => self.build_index(&source)?,
            };
            let path = self.place.segment(source.base);
            let mut next = source.end;
            for (base, from, to) in index.stretches(source.limit).into_iter().rev() {
                let bytes = read(&self.place, &source.file, base, &path, from, to - from)?;
                let mut batches = Vec::new();
                let parsed = self.parse(&bytes, base, &mut batches);
                if parsed.fault.is_some() || parsed.next != next {
                    let what = parsed.fault.map_or_else(|| "frames are missing here".into(), |f| f.to_string());
                    return Err(self.place.corrupt(parsed.next, &path, from + parsed.len, &what));
                }
                if let Some(found) = batches.into_iter().rev().find(|b| b.base_offset < end && matches(b)) {
                    return Ok(Some(found));
                }
                next = base;
            }
            end = source.base;
        }
    }

    /// Walks the headers of a sealed segment once; kept for the next time.
    fn build_index(&self, source: &Source) -> Result<Arc<SparseIndex>, BrokerError> {
        let path = self.place.segment(source.base);
        let mut index = SparseIndex::new(source.base);
        let mut walk = Scanner::headers(&source.file, self.place.seed, segment::HEADER_LEN, source.base, source.limit);
        loop {
            let (offset, at) = (walk.expected(), walk.position());
            match walk.step().map_err(|e| self.place.read_error(offset, &path, at, e))? {
                Step::Frame { position, header, .. } => index.note(header.base, position),
                Step::End if offset == source.end => break,
                Step::End => {
                    return Err(self.place.corrupt(offset, &path, at, "the file ends before its last frame"));
                }
                Step::Bad { position, fault } => {
                    return Err(self.place.corrupt(offset, &path, position, &fault.to_string()));
                }
            }
        }
        let index = Arc::new(index);
        guard(&self.view).keep_index(source.id, &index);
        Ok(index)
    }

    /// Takes whole frames off the front of `bytes`, the first one of base `base`, into `batches`.
    fn parse(&self, bytes: &Bytes, base: Offset, batches: &mut Vec<StoredBatch>) -> Parsed {
        let (mut at, mut next) = (0usize, base);
        let fault = loop {
            if at == bytes.len() {
                break None;
            }
            let rest = &bytes[at..];
            let header = match FrameHeader::decode(rest, self.place.seed) {
                Ok(header) if header.base == next && header.next >= header.base => header,
                Ok(_) => break Some(FrameFault::WrongOffset),
                Err(fault) => break Some(fault),
            };
            let len = header.frame_len() as usize;
            if rest.len() < len {
                break Some(FrameFault::CutShort);
            }
            let stored = bytes.slice(at + HEADER_LEN..at + len);
            if let Err(fault) = header.check_payload(&stored, self.place.seed) {
                break Some(fault);
            }
            batches.push(self.batch(&header, stored));
            at += len;
            next = header.next;
        };
        Parsed { len: at as u64, next, fault }
    }
}

impl Partition {
    /// A batch whose checksums were checked.
    pub(super) fn batch(&self, header: &FrameHeader, stored: Bytes) -> StoredBatch {
        StoredBatch {
            at: self.place.at.clone(),
            base_offset: header.base,
            next_offset: header.next,
            count: header.count,
            base_timestamp_ms: header.base_timestamp_ms,
            appended_at_ms: header.appended_at_ms,
            codec: header.codec,
            records_len: header.records_len as usize,
            stored,
        }
    }
}

/// How far the whole frames reach, and what stopped them.
struct Parsed {
    len: u64,
    next: Offset,
    fault: Option<FrameFault>,
}

/// From a frame at or before the one that contains `offset`, to that one: its base and position.
fn seek(place: &Place, source: &Source, near: (Offset, u64), offset: Offset) -> Result<(Offset, u64), BrokerError> {
    if near.0 == offset {
        return Ok(near);
    }
    let path = place.segment(source.base);
    let mut walk = Scanner::headers(&source.file, place.seed, near.1, near.0, source.limit);
    loop {
        let (base, at) = (walk.expected(), walk.position());
        match walk.step().map_err(|e| place.read_error(base, &path, at, e))? {
            Step::Frame { position, header, .. } if header.next > offset => return Ok((base, position)),
            Step::Frame { .. } => {}
            Step::End => {
                return Err(place.corrupt(base, &path, at, "the file ends before what was durable"));
            }
            Step::Bad { position, fault } => {
                return Err(place.corrupt(base, &path, position, &fault.to_string()));
            }
        }
    }
}

fn read(
    place: &Place,
    file: &File,
    offset: Offset,
    path: &std::path::Path,
    position: u64,
    len: u64,
) -> Result<Bytes, BrokerError> {
    let mut bytes = vec![0; len as usize];
    file.read_exact_at(&mut bytes, position).map_err(|e| place.read_error(offset, path, position, e))?;
    Ok(bytes.into())
}

/// Length of the frame at `position`, which lies within what may be read.
fn frame_len(place: &Place, source: &Source, base: Offset, position: u64) -> Result<u64, BrokerError> {
    let path = place.segment(source.base);
    let mut head = [0; HEADER_LEN];
    source.file.read_exact_at(&mut head, position).map_err(|e| place.read_error(base, &path, position, e))?;
    let header = FrameHeader::decode(&head, place.seed)
        .map_err(|fault| place.corrupt(base, &path, position, &fault.to_string()))?;
    if header.frame_len() > source.limit - position {
        return Err(place.corrupt(base, &path, position, &FrameFault::CutShort.to_string()));
    }
    Ok(header.frame_len())
}
