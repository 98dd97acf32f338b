//! One partition: appends, group commit, and who waits for it.
//!
//! Two locks: the writer's (held over a write) and the view's (held for look-ups only, so that readers never wait
//! for the disk); taken in this order. Laws: sealed segments are durable in whole; the view's durable end never
//! passes what a successful sync covered; the mark is written before the end is published; a partition fails only
//! while no sync is under way, so what a sync proved is published before anything is cut.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use clickmill_schemas::Offset;

use super::encode::Draft;
use super::mark::{Mark, MarkFile};
use super::place::Place;
use super::recover::{Recovered, recover};
use super::segment::{self, SegmentHeader};
use super::view::{State, View};
use super::{guard, now_ms, wait_until};
use crate::error::BrokerError;
use crate::topic::Ends;

#[cfg(test)]
mod tests;

/// A partition of the embedded log.
#[derive(Debug)]
pub(super) struct Partition {
    pub(super) place: Place,
    segment_bytes: u64,
    pub(super) writer: Mutex<Writer>,
    pub(super) view: Mutex<View>,
    /// Told when the durable end or the state changes.
    changed: Condvar,
    /// `None` in a log that was opened for reading only.
    mark: Mutex<Option<MarkFile>>,
    /// Held over a sync, and while the partition fails.
    syncing: Mutex<()>,
    /// Syncs that are to fail, as those of a disk that goes bad.
    #[cfg(test)]
    bad_syncs: std::sync::atomic::AtomicU32,
    /// When the last sync began.
    last_sync: Mutex<Option<Instant>>,
    /// Queued for a syncer.
    dirty: AtomicBool,
    /// Retention's floor and how far compaction got.
    pub(super) upkeep: Mutex<Upkeep>,
}

/// What retention and compaction remember.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Upkeep {
    pub floor: Option<Offset>,
    /// Below this, no record is older than another of its key that lies below this too.
    pub compacted_to: Offset,
}

/// The active segment as its writer knows it.
#[derive(Debug)]
pub(super) struct Writer {
    pub file: Arc<File>,
    pub header: SegmentHeader,
    /// Bytes in the active segment.
    pub len: u64,
    /// The offset of the next record.
    pub next: Offset,
    /// Budget that the appends since the last sync hold.
    pub held_bytes: usize,
}

/// How far a sync reaches: taken before it, published after it.
pub(super) struct Reach {
    file: Arc<File>,
    segment: Offset,
    len: u64,
    end: Offset,
    held_bytes: usize,
}

impl Partition {
    /// Makes the folder of a new, empty partition.
    pub(super) fn create(place: &Place) -> Result<(), BrokerError> {
        std::fs::create_dir_all(&place.dir).map_err(|e| BrokerError::io("create", &place.dir, e))?;
        let header = SegmentHeader { base: Offset(0), previous: None, reaches: None, created_at_ms: now_ms() };
        segment::create(&place.dir, &header, place.seed)?;
        MarkFile::open(&place.dir, place.seed, Mark::default())?;
        super::disk::sync_dir(&place.dir)
    }

    /// Opens a partition's folder, see [`recover`].
    pub(super) fn open(place: Place, segment_bytes: u64, writable: bool) -> Result<Self, BrokerError> {
        let Recovered { sealed, active, end, floor, cut_bytes } = recover(&place, writable)?;
        if cut_bytes > 0 {
            let partition = place.at.to_string();
            tracing::info!(partition, offset = end.0, cut_bytes, "cut a torn tail that was never acknowledged");
        }
        let writer = Writer {
            file: Arc::clone(&active.file),
            header: active.header,
            len: active.durable_len,
            next: end,
            held_bytes: 0,
        };
        let view = View::new(sealed, active, end, if writable { State::Open } else { State::ReadOnly });
        let mark = Mark { start: view.start(), end, floor };
        let mark = if writable { Some(MarkFile::open(&place.dir, place.seed, mark)?) } else { None };
        Ok(Self {
            place,
            segment_bytes,
            writer: Mutex::new(writer),
            view: Mutex::new(view),
            changed: Condvar::new(),
            mark: Mutex::new(mark),
            syncing: Mutex::new(()),
            #[cfg(test)]
            bad_syncs: Default::default(),
            last_sync: Mutex::new(None),
            dirty: AtomicBool::new(false),
            upkeep: Mutex::new(Upkeep { floor, compacted_to: Offset(0) }),
        })
    }

    pub(super) fn ends(&self) -> Ends {
        let view = guard(&self.view);
        Ends { start: view.start(), end: view.durable_end }
    }

    /// Of its segments.
    pub(super) fn stored_bytes(&self) -> u64 {
        guard(&self.view).stored_bytes()
    }

    /// Writes a frame; it holds `held_bytes` of the budget until it is synced. Returns its base and next offset, and
    /// whether the partition has to be queued for a sync.
    pub(super) fn write(
        &self,
        draft: &mut Draft<'_>,
        held_bytes: usize,
    ) -> Result<(Offset, Offset, bool), BrokerError> {
        let mut writer = guard(&self.writer);
        self.may_append(writer.next)?;
        if writer.len > segment::HEADER_LEN && writer.len + draft.len() > self.segment_bytes {
            self.roll(&mut writer)?;
        }
        let (base, position) = (writer.next, writer.len);
        let next = base.plus(u64::from(draft.header.count));
        draft.header.base = base;
        draft.header.next = next;
        draft.header.appended_at_ms = now_ms();
        draft.header.durable_before = guard(&self.view).durable_end;
        if let Err(e) = writer.file.write_all_at(draft.finish(self.place.seed), position) {
            let error = BrokerError::io("write", &self.place.segment(writer.header.base), e);
            if writer.file.set_len(position).is_err() {
                // What stands behind the last frame is unknown now; nothing may be written on top of it.
                self.fail(&error);
            }
            return Err(error);
        }
        writer.len += draft.len();
        writer.next = next;
        writer.held_bytes += held_bytes;
        guard(&self.view).active.index.note(base, position);
        Ok((base, next, !self.dirty.swap(true, Ordering::AcqRel)))
    }

    pub(super) fn may_append(&self, next: Offset) -> Result<(), BrokerError> {
        match &guard(&self.view).state {
            State::Open if next.0 < u64::MAX / 2 => Ok(()),
            State::Open => Err(BrokerError::BadBatch { at: self.place.at.clone(), what: "offsets ran out".into() }),
            state => Err(self.refusal(state, next)),
        }
    }

    fn refusal(&self, state: &State, durable_end: Offset) -> BrokerError {
        match state {
            State::Failed(cause) => {
                let cause = Arc::clone(cause);
                BrokerError::PartitionFailed { at: self.place.at.clone(), durable_end, cause }
            }
            State::ReadOnly => BrokerError::ReadOnly,
            State::Open | State::Closed => BrokerError::Closed,
        }
    }

    /// Waits until all below `next` is durable.
    pub(super) fn wait_durable(&self, next: Offset) -> Result<(), BrokerError> {
        let mut view = guard(&self.view);
        loop {
            if view.durable_end >= next {
                return Ok(());
            }
            if !matches!(view.state, State::Open) {
                return Err(self.refusal(&view.state, view.durable_end));
            }
            view = self.changed.wait(view).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
    }

    /// Waits until something beyond `offset` is durable, or `until`; whether it is.
    pub(super) fn wait_beyond(&self, offset: Offset, until: Instant) -> bool {
        let mut view = guard(&self.view);
        loop {
            if view.durable_end > offset {
                return true;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left == Duration::ZERO || matches!(view.state, State::Closed) {
                return false;
            }
            view = wait_until(&self.changed, view, left);
        }
    }

    /// Makes everything that was written durable and publishes it; the bytes of budget that are free again.
    pub(super) fn sync(&self) -> usize {
        *guard(&self.last_sync) = Some(Instant::now());
        let mut writer = guard(&self.writer);
        self.dirty.store(false, Ordering::Release);
        let reach = Self::reach(&mut writer);
        drop(writer);
        let _ = self.sync_reach(&reach); // told to those who wait
        reach.held_bytes
    }

    /// When the last sync began.
    pub(super) fn last_sync(&self) -> Option<Instant> {
        *guard(&self.last_sync)
    }

    /// One at a time, and none after one that failed: the system reports a lost write to one sync only, and the next
    /// must not take it for a success.
    pub(super) fn sync_reach(&self, reach: &Reach) -> Result<(), BrokerError> {
        let one = guard(&self.syncing);
        {
            let view = guard(&self.view);
            if !matches!(view.state, State::Open) {
                return Err(self.refusal(&view.state, view.durable_end));
            }
        }
        let result = self.sync_file(reach).map_err(|e| BrokerError::io("sync", &self.place.segment(reach.segment), e));
        match &result {
            Ok(()) => self.publish(reach),
            Err(error) => self.fail_between_syncs(&one, error),
        }
        result
    }

    fn sync_file(&self, reach: &Reach) -> std::io::Result<()> {
        #[cfg(test)]
        if self.bad_syncs.try_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
            return Err(std::io::Error::other("a bad disk"));
        }
        reach.file.sync_data()
    }

    pub(super) fn reach(writer: &mut Writer) -> Reach {
        Reach {
            file: Arc::clone(&writer.file),
            segment: writer.header.base,
            len: writer.len,
            end: writer.next,
            held_bytes: std::mem::take(&mut writer.held_bytes),
        }
    }

    fn publish(&self, reach: &Reach) {
        if let Some(mark) = guard(&self.mark).as_mut()
            && let Err(error) = mark.advance(reach.end)
        {
            // The mark is a safeguard for the next open; the data itself is safe.
            tracing::warn!(%error, "the mark of what is synced could not be written");
        }
        let mut view = guard(&self.view);
        // A roll may have published more in the meantime.
        if reach.end > view.durable_end {
            view.durable_end = reach.end;
            if view.active.header.base == reach.segment {
                view.active.durable_len = reach.len;
            }
            drop(view);
            self.changed.notify_all();
        }
    }

    /// Stops appends for good, where it is unknown what the file holds.
    pub(super) fn fail(&self, error: &BrokerError) {
        self.fail_between_syncs(&guard(&self.syncing), error);
    }

    /// After a failed sync the system may have dropped pages and call the next sync a success: stop here. The guard
    /// says that no sync is under way, whose mark would claim what is cut here.
    fn fail_between_syncs(&self, _syncing: &MutexGuard<'_, ()>, error: &BrokerError) {
        let mut view = guard(&self.view);
        if matches!(view.state, State::Open) {
            tracing::error!(partition = %self.place.at, %error, "appends stop, reads go on");
            view.state = State::Failed(Arc::new(error.clone()));
            let durable_len = view.active.durable_len;
            view.active.index.cut(durable_len);
            // So that a reopen does not find what its appender was told had failed; if this fails too, it may.
            let _ = view.active.file.set_len(durable_len);
        }
        drop(view);
        self.changed.notify_all();
    }

    /// Changes the mark, if this log may write.
    pub(super) fn with_mark(
        &self,
        change: impl FnOnce(&mut MarkFile) -> Result<(), BrokerError>,
    ) -> Result<(), BrokerError> {
        guard(&self.mark).as_mut().map_or(Ok(()), change)
    }

    /// Takes no more appends; what was written is made durable first (but for a partition that failed: what it could
    /// not make durable is gone), and the mark too. The bytes of budget set free.
    pub(super) fn close(&self) -> usize {
        let mut writer = guard(&self.writer);
        let reach = Self::reach(&mut writer);
        let _ = self.sync_reach(&reach); // told to those who wait
        {
            let mut view = guard(&self.view);
            if matches!(view.state, State::Open) {
                view.state = State::Closed;
            }
        }
        self.changed.notify_all();
        if let Err(error) = self.with_mark(|mark| mark.sync()) {
            tracing::warn!(partition = %self.place.at, %error, "the mark could not be synced");
        }
        reach.held_bytes
    }
}
