//! The log's threads: syncers (group commit) and upkeep (retention, compaction).
//!
//! A partition is synced at once when it was idle, and otherwise once per interval: a lone append waits for one sync
//! only, and many appends share one. There are a few syncers, since a sync mostly waits, and a file system takes
//! several in one commit of its journal.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use super::budget::Budget;
use super::partition::Partition;
use super::{guard, wait_until};

/// Syncs that may be under way at once.
pub(super) const SYNCERS: usize = 3;

/// The partitions that wait for a sync, each with the moment from which on it may be had.
#[derive(Debug)]
pub(super) struct SyncQueue {
    interval: Duration,
    waiting: Mutex<Vec<(Instant, Arc<Partition>)>>,
    changed: Condvar,
    stopped: AtomicBool,
}

impl SyncQueue {
    /// Between two syncs of a partition lies at least `interval`.
    pub(super) fn new(interval: Duration) -> Self {
        Self { interval, waiting: Mutex::default(), changed: Condvar::new(), stopped: AtomicBool::new(false) }
    }

    /// Queues a partition that was clean; it queues itself once only.
    pub(super) fn push(&self, partition: &Arc<Partition>) {
        let now = Instant::now();
        let due = partition.last_sync().map_or(now, |last| now.max(last + self.interval));
        guard(&self.waiting).push((due, Arc::clone(partition)));
        self.changed.notify_one();
    }

    /// The syncers end when the queue is empty.
    pub(super) fn stop(&self) {
        let _waiting = guard(&self.waiting); // so that a syncer between its look and its wait does not miss it
        self.stopped.store(true, Ordering::Release);
        self.changed.notify_all();
    }

    /// Waits for a partition to be due; none when stopped.
    fn next(&self) -> Option<Arc<Partition>> {
        let mut waiting = guard(&self.waiting);
        loop {
            let first = waiting.iter().enumerate().min_by_key(|(_, (due, _))| *due).map(|(n, (due, _))| (n, *due));
            let stopped = self.stopped.load(Ordering::Acquire);
            waiting = match first {
                Some((n, due)) => match due.saturating_duration_since(Instant::now()) {
                    Duration::ZERO => return Some(waiting.swap_remove(n).1),
                    _ if stopped => return Some(waiting.swap_remove(n).1),
                    left => wait_until(&self.changed, waiting, left),
                },
                None if stopped => return None,
                None => self.changed.wait(waiting).unwrap_or_else(std::sync::PoisonError::into_inner),
            };
        }
    }

    /// A syncer's thread.
    pub(super) fn run(&self, budget: &Budget) {
        while let Some(partition) = self.next() {
            budget.give_back(partition.sync());
        }
    }
}

/// Tells a thread that sleeps most of the time to end.
#[derive(Debug, Default)]
pub(super) struct Stop {
    stopped: Mutex<bool>,
    changed: Condvar,
    flag: AtomicBool,
}

impl Stop {
    pub(super) fn stop(&self) {
        self.flag.store(true, Ordering::Release);
        *guard(&self.stopped) = true;
        self.changed.notify_all();
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.flag.load(Ordering::Acquire)
    }

    /// Sleeps for `time`, or until stopped; whether it was stopped.
    pub(super) fn sleep(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        let mut stopped = guard(&self.stopped);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if *stopped || left == Duration::ZERO {
                return *stopped;
            }
            stopped = wait_until(&self.changed, stopped, left);
        }
    }
}
