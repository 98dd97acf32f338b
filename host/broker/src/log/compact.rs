//! Compaction: of the records of a key, only the newest (by offset) stays, as far as sealed segments go.
//!
//! A pass remembers the newest offset of each key in the part that no pass has seen, up to a bounded number of keys,
//! then rewrites the sealed segments below, neighbours into one file until that has half of a segment's size. Offsets keep their values and
//! frames stay gapless: a frame reaches over what was taken out behind it. A rewritten file is finished and synced
//! beside the old one and renamed over it; its header says how far it reaches, so that the files which it took in are
//! known as left-overs should a crash keep them. Keys are remembered as 128 bits of a hash with random seeds: two
//! keys out of a billion meet with a chance of 10^-21.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::fs::{self, File};
use std::hash::BuildHasher;
use std::path::Path;
use std::sync::Arc;

use clickmill_schemas::Offset;
use clickmill_schemas::record::{Malformed, Records};

use super::disk;
use super::guard;
use super::partition::Partition;
use super::rewrite::{Rewriter, Rewritten};
use super::scan::{Scanner, Step};
use super::segment;
use super::threads::Stop;
use super::view::Segment;
use crate::batch::StoredBatch;
use crate::error::BrokerError;

/// The newest offset of each key seen.
pub(super) struct NewestOfKey {
    seeds: (RandomState, RandomState),
    newest: HashMap<u128, Offset>,
    limit: usize,
}

impl NewestOfKey {
    pub(super) fn new(limit: usize) -> Self {
        Self { seeds: (RandomState::new(), RandomState::new()), newest: HashMap::new(), limit: limit.max(1) }
    }

    fn hash(&self, key: &[u8]) -> u128 {
        u128::from(self.seeds.0.hash_one(key)) << 64 | u128::from(self.seeds.1.hash_one(key))
    }

    /// Notes a record, offsets rising; false where there is no room for another key.
    pub(super) fn note(&mut self, key: &[u8], offset: Offset) -> bool {
        let hash = self.hash(key);
        if self.newest.len() >= self.limit && !self.newest.contains_key(&hash) {
            return false;
        }
        self.newest.insert(hash, offset);
        true
    }

    /// Whether a newer record of the key is known.
    pub(super) fn is_outdated(&self, key: &[u8], offset: Offset) -> bool {
        self.newest.get(&self.hash(key)).is_some_and(|newest| *newest > offset)
    }
}

/// What a pass may touch, from what is sealed: nothing where less than half of it is new.
fn worth_it(sealed: &[Segment], compacted_to: Offset, floor: Option<Offset>) -> bool {
    let reachable = |s: &&Segment| floor.is_none_or(|f| s.header.base < f);
    let all: u64 = sealed.iter().filter(reachable).map(|s| s.len).sum();
    let new: u64 = sealed.iter().filter(reachable).filter(|s| s.end > compacted_to).map(|s| s.len).sum();
    let end = sealed.last().map_or(Offset(0), |s| s.end);
    new > 0 && new * 2 >= all && floor.unwrap_or(end).min(end) > compacted_to
}

impl Partition {
    /// Compacts what is worth it; the number of records taken out. One pass at a time (the caller sees to it).
    /// [`BrokerError::Closed`] when told to stop.
    pub(super) fn compact(
        &self,
        max_keys: usize,
        segment_bytes: u64,
        level: i32,
        stop: &Stop,
    ) -> Result<u64, BrokerError> {
        let upkeep = *guard(&self.upkeep);
        let sealed = guard(&self.view).sealed.clone();
        if !worth_it(&sealed, upkeep.compacted_to, upkeep.floor) {
            return Ok(0);
        }
        let mut keys = NewestOfKey::new(max_keys);
        let noted_to = self.note_keys(&sealed, upkeep.compacted_to, &mut keys, stop)?;
        let horizon = upkeep.floor.map_or(noted_to, |floor| floor.min(noted_to));
        let outdated = |key: &[u8], offset| offset < horizon && keys.is_outdated(key, offset);
        let mut left = &sealed[..sealed.partition_point(|s| s.header.base < horizon)];
        let mut removed = 0;
        while !left.is_empty() {
            let (taken_out, group) = self.rewrite(left, segment_bytes, level, stop, &outdated)?;
            removed += taken_out;
            left = &left[group..];
        }
        guard(&self.upkeep).compacted_to = horizon;
        if removed > 0 {
            tracing::info!(partition = %self.place.at, removed, below = horizon.0, "compaction took out old records");
        }
        Ok(removed)
    }

    /// Notes the keys of sealed records from `from` on; the offset up to which there was room.
    fn note_keys(
        &self,
        sealed: &[Segment],
        from: Offset,
        keys: &mut NewestOfKey,
        stop: &Stop,
    ) -> Result<Offset, BrokerError> {
        let mut full_at = None;
        for segment in sealed.iter().filter(|s| s.end > from) {
            self.each_batch(segment, stop, &mut |batch| {
                let records = batch.records()?;
                let bad = |e: Malformed| undecodable(&batch, &e.to_string());
                for record in Records::new(&records).map_err(bad)? {
                    let record = record.map_err(bad)?;
                    let offset = Offset(batch.base_offset.0.saturating_add_signed(record.offset_delta));
                    let Some(key) = record.key.filter(|_| offset >= from) else {
                        continue;
                    };
                    if !keys.note(key, offset) {
                        full_at = Some(offset);
                        return Ok(false);
                    }
                }
                Ok(true)
            })?;
            if let Some(full_at) = full_at {
                return Ok(full_at);
            }
        }
        Ok(sealed.last().map_or(from, |s| s.end))
    }

    /// Rewrites the first of `segments`, and further ones until the file has half a segment's size, without the records of keys
    /// that are `outdated`; how many those were, and how many segments it took.
    fn rewrite(
        &self,
        segments: &[Segment],
        segment_bytes: u64,
        level: i32,
        stop: &Stop,
        outdated: &dyn Fn(&[u8], Offset) -> bool,
    ) -> Result<(u64, usize), BrokerError> {
        let Some(first) = segments.first() else {
            return Ok((0, 0));
        };
        let unfinished = self.place.segment(first.header.base).with_extension(disk::UNFINISHED);
        let mut rewriter = Rewriter::create(&self.place, &unfinished, first.header, level)?;
        let (mut removed, mut taken) = (0, 0);
        let mut fill = || {
            for segment in segments {
                if taken > 0 && rewriter.len() * 2 > segment_bytes {
                    break;
                }
                taken += 1;
                self.each_batch(segment, stop, &mut |batch| {
                    removed += rewriter.add(&batch, outdated)?;
                    Ok(true)
                })?;
            }
            Ok(())
        };
        let done = fill().and_then(|()| {
            let group = &segments[..taken];
            if removed == 0 && taken == 1 {
                return Ok(false);
            }
            let end = group.last().map_or(first.end, |s| s.end);
            self.put_in_place(group, &unfinished, rewriter.finish(end)?)
        });
        if !matches!(done, Ok(true)) {
            let _ = fs::remove_file(&unfinished); // removed at the next open otherwise
        }
        done.map(|_| (removed, taken))
    }

    /// Lets a finished file take the place of the segments that went into it; false where those are gone meanwhile.
    fn put_in_place(&self, group: &[Segment], unfinished: &Path, done: Rewritten) -> Result<bool, BrokerError> {
        let ([first, taken_in @ ..], Some(last)) = (group, group.last()) else {
            return Ok(false);
        };
        {
            let mut view = guard(&self.view);
            let Some(at) = view.sealed.iter().position(|s| s.id == first.id) else {
                return Ok(false);
            };
            // Under the lock: whoever opens the file by its name finds what the view says of it.
            fs::rename(unfinished, self.place.segment(first.header.base))
                .map_err(|e| BrokerError::io("rename", unfinished, e))?;
            let segment = Segment {
                id: view.fresh_id(),
                header: done.header,
                end: last.end,
                len: done.len,
                sealed_at_ms: last.sealed_at_ms,
                index: Some(Arc::new(done.index)),
            };
            view.sealed.splice(at..at + group.len(), [segment]);
            view.forget_files();
        }
        disk::sync_dir(&self.place.dir)?;
        if !taken_in.is_empty() {
            disk::remove(&self.place.dir, taken_in.iter().map(|s| self.place.segment(s.header.base)))?;
        }
        Ok(true)
    }

    /// Calls `each` with every batch of a sealed segment until it says false; everything is checked.
    fn each_batch(
        &self,
        segment: &Segment,
        stop: &Stop,
        each: &mut dyn FnMut(StoredBatch) -> Result<bool, BrokerError>,
    ) -> Result<(), BrokerError> {
        let path = self.place.segment(segment.header.base);
        let file = File::open(&path).map_err(|e| BrokerError::io("open", &path, e))?;
        let mut walk = Scanner::frames(&file, self.place.seed, segment::HEADER_LEN, segment.header.base, segment.len);
        loop {
            let (offset, at) = (walk.expected(), walk.position());
            let batch = match walk.step().map_err(|e| self.place.read_error(offset, &path, at, e))? {
                Step::End if offset == segment.end => return Ok(()),
                Step::End => {
                    return Err(self.place.corrupt(offset, &path, at, "the file ends before its last frame"));
                }
                Step::Bad { fault, .. } => {
                    return Err(self.place.corrupt(offset, &path, at, &fault.to_string()));
                }
                Step::Frame { header, payload, .. } => self.batch(&header, payload.to_vec().into()),
            };
            if stop.is_stopped() {
                return Err(BrokerError::Closed);
            }
            if !each(batch)? {
                return Ok(());
            }
        }
    }
}

pub(super) fn undecodable(batch: &StoredBatch, what: &str) -> BrokerError {
    BrokerError::Undecodable { at: batch.at.clone(), offset: batch.base_offset, what: what.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(lens: &[u64]) -> Vec<Segment> {
        let header = |n: usize| segment::SegmentHeader {
            base: Offset(n as u64 * 10),
            previous: None,
            reaches: None,
            created_at_ms: 0,
        };
        let segment = |(n, len): (usize, &u64)| Segment {
            id: n as u64,
            header: header(n),
            end: Offset(n as u64 * 10 + 10),
            len: *len,
            sealed_at_ms: 0,
            index: None,
        };
        lens.iter().enumerate().map(segment).collect()
    }

    #[test]
    fn a_pass_waits_until_half_of_what_it_would_rewrite_is_new() {
        let all = sealed(&[100, 100, 100, 100]);
        assert!(worth_it(&all, Offset(0), None));
        assert!(worth_it(&all, Offset(20), None));
        assert!(!worth_it(&all, Offset(30), None));
        assert!(!worth_it(&all, Offset(40), None));
        assert!(!worth_it(&all, Offset(0), Some(Offset(0))));
        assert!(!worth_it(&[], Offset(0), None));
    }

    #[test]
    fn a_full_memory_of_keys_refuses_new_keys_and_still_updates_known_ones() {
        let mut keys = NewestOfKey::new(2);
        assert!(keys.note(b"a", Offset(1)) && keys.note(b"b", Offset(2)) && keys.note(b"a", Offset(3)));
        assert!(!keys.note(b"c", Offset(4)));
        assert!(keys.is_outdated(b"a", Offset(1)) && !keys.is_outdated(b"a", Offset(3)));
        assert!(!keys.is_outdated(b"b", Offset(2)) && !keys.is_outdated(b"c", Offset(0)));
    }
}
