//! Goes on to a new segment: the old one is sealed, durable in whole, so that only the last one can have a torn tail.

use std::sync::Arc;

use super::index::SparseIndex;
use super::partition::{Partition, Writer};
use super::segment::{self, SegmentHeader};
use super::view::{Active, Segment};
use super::{guard, now_ms};
use crate::error::BrokerError;

impl Partition {
    /// Seals the active segment, durable in whole, and begins the next one.
    pub(super) fn roll(&self, writer: &mut Writer) -> Result<(), BrokerError> {
        let held_bytes = writer.held_bytes;
        let reach = Self::reach(writer);
        writer.held_bytes = held_bytes; // given back by the syncer, for whom the partition is queued
        self.sync_reach(&reach)?;
        self.may_append(writer.next)?;
        let header = SegmentHeader {
            base: writer.next,
            previous: Some(writer.header.base),
            reaches: None,
            created_at_ms: now_ms(),
        };
        let file = segment::create(&self.place.dir, &header, self.place.seed).inspect_err(|error| {
            // Under its name but perhaps not durable: appending on to the old segment would contradict it.
            if self.place.segment(header.base).exists() {
                self.fail(error);
            }
        })?;
        let file = Arc::new(file);
        let mut view = guard(&self.view);
        let active = Active {
            id: view.fresh_id(),
            header,
            file: Arc::clone(&file),
            durable_len: segment::HEADER_LEN,
            index: SparseIndex::new(header.base),
        };
        let old = std::mem::replace(&mut view.active, active);
        view.sealed.push(Segment {
            id: old.id,
            header: old.header,
            end: writer.next,
            len: writer.len,
            sealed_at_ms: header.created_at_ms,
            index: Some(Arc::new(old.index)),
        });
        *writer = Writer { file, header, len: segment::HEADER_LEN, next: writer.next, held_bytes };
        Ok(())
    }

    /// Seals the active segment if it holds something and was begun before `begun_before_ms`.
    pub(super) fn roll_if_older(&self, begun_before_ms: i64) -> Result<(), BrokerError> {
        let mut writer = guard(&self.writer);
        let due = writer.len > segment::HEADER_LEN && writer.header.created_at_ms < begun_before_ms;
        if due && self.may_append(writer.next).is_ok() { self.roll(&mut writer) } else { Ok(()) }
    }
}
