//! What readers of a partition see: its segments and how far they are durable. Plain data behind one lock.

use std::fs::File;
use std::sync::Arc;

use clickmill_schemas::Offset;

use super::index::SparseIndex;
use super::place::Place;
use super::segment::SegmentHeader;
use crate::error::BrokerError;

/// Open files of sealed segments that are kept at hand.
const MAX_FILES: usize = 4;
/// Places that are remembered for readers who go on where they left off.
const MAX_HINTS: usize = 16;

/// A segment that takes no more batches; all of it is durable.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    /// Tells this file from another one of the same name (compaction replaces files).
    pub id: u64,
    pub header: SegmentHeader,
    /// Base of the next segment.
    pub end: Offset,
    pub len: u64,
    /// Nothing in it was appended later, epoch milliseconds.
    pub sealed_at_ms: i64,
    /// Built when first needed.
    pub index: Option<Arc<SparseIndex>>,
}

/// The segment that is appended to.
#[derive(Debug)]
pub(super) struct Active {
    pub id: u64,
    pub header: SegmentHeader,
    pub file: Arc<File>,
    pub durable_len: u64,
    /// May know frames that are not durable yet.
    pub index: SparseIndex,
}

/// Whether a partition takes appends.
#[derive(Clone, Debug)]
pub(super) enum State {
    Open,
    Failed(Arc<BrokerError>),
    Closed,
    ReadOnly,
}

/// A partition's segments, oldest first.
#[derive(Debug)]
pub(super) struct View {
    pub sealed: Vec<Segment>,
    pub active: Active,
    pub durable_end: Offset,
    pub state: State,
    next_id: u64,
    files: Vec<(u64, Arc<File>)>,
    hints: Vec<(Offset, u64, u64)>,
}

/// A segment as a reader needs it.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub id: u64,
    pub base: Offset,
    pub file: Arc<File>,
    /// Bytes that may be read.
    pub limit: u64,
    /// Where the frames up to `limit` end.
    pub end: Offset,
    /// `None` where it is still to be built.
    pub index: Option<Arc<SparseIndex>>,
}

impl View {
    pub(super) fn new(sealed: Vec<Segment>, active: Active, durable_end: Offset, state: State) -> Self {
        let next_id = sealed.len() as u64 + 1;
        Self { sealed, active, durable_end, state, next_id, files: Vec::new(), hints: Vec::new() }
    }

    pub(super) fn fresh_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// The oldest offset.
    pub(super) fn start(&self) -> Offset {
        self.sealed.first().map_or(self.active.header.base, |s| s.header.base)
    }

    /// Bytes of its segments, durable ones only.
    pub(super) fn stored_bytes(&self) -> u64 {
        self.active.durable_len + self.sealed.iter().map(|s| s.len).sum::<u64>()
    }

    /// The segment that holds `offset`, which lies between start and durable end; where in it a frame begins that is
    /// at or before the one of `offset`.
    pub(super) fn source(
        &mut self,
        place: &Place,
        offset: Offset,
    ) -> Result<(Source, Option<(Offset, u64)>), BrokerError> {
        let source = self.source_file(place, offset)?;
        let hint = self.hints.iter().find(|(o, id, _)| *o == offset && *id == source.id).map(|(o, _, p)| (*o, *p));
        let known = if offset == source.base {
            Some((offset, super::segment::HEADER_LEN))
        } else if source.id == self.active.id {
            Some(self.active.index.at_or_below(offset))
        } else {
            source.index.as_ref().map(|index| index.at_or_below(offset))
        };
        Ok((source, hint.or(known)))
    }

    fn source_file(&mut self, place: &Place, offset: Offset) -> Result<Source, BrokerError> {
        let active = &self.active;
        if offset >= active.header.base {
            return Ok(Source {
                id: active.id,
                base: active.header.base,
                file: Arc::clone(&active.file),
                limit: active.durable_len,
                end: self.durable_end,
                index: None,
            });
        }
        let after = self.sealed.partition_point(|s| s.header.base <= offset);
        let segment = &self.sealed[after.saturating_sub(1)];
        let file = match self.files.iter().find(|(id, _)| *id == segment.id) {
            Some((_, file)) => Arc::clone(file),
            None => {
                // Under the lock, so that the name still means the segment that is known here.
                let path = place.segment(segment.header.base);
                let file = Arc::new(File::open(&path).map_err(|e| match e.kind() {
                    std::io::ErrorKind::NotFound => {
                        place.corrupt(segment.header.base, &path, 0, "this segment file is missing")
                    }
                    _ => BrokerError::io("open", &path, e),
                })?);
                if self.files.len() == MAX_FILES {
                    self.files.remove(0);
                }
                self.files.push((segment.id, Arc::clone(&file)));
                file
            }
        };
        Ok(Source {
            id: segment.id,
            base: segment.header.base,
            file,
            limit: segment.len,
            end: segment.end,
            index: segment.index.clone(),
        })
    }

    /// Remembers that the frame of `offset` begins at `position` of segment `id`.
    pub(super) fn hint(&mut self, offset: Offset, id: u64, position: u64) {
        self.hints.retain(|(o, _, _)| *o != offset);
        if self.hints.len() == MAX_HINTS {
            self.hints.remove(0);
        }
        self.hints.push((offset, id, position));
    }

    /// Keeps the index of a sealed segment, if that is still there.
    pub(super) fn keep_index(&mut self, id: u64, index: &Arc<SparseIndex>) {
        if let Some(segment) = self.sealed.iter_mut().find(|s| s.id == id) {
            segment.index = Some(Arc::clone(index));
        }
    }

    /// Lets go of the files of segments that are no longer known.
    pub(super) fn forget_files(&mut self) {
        let sealed = &self.sealed;
        self.files.retain(|(id, _)| sealed.iter().any(|s| s.id == *id));
    }
}
