//! The log's two threads: the syncer (group commit) and upkeep (retention, compaction).
//!
//! The syncer syncs what is dirty at once when the disk was idle, and otherwise once per interval: a lone append
//! waits for one sync only, and many appends share one.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use super::budget::Budget;
use super::partition::Partition;
use super::{guard, wait_until};

/// The partitions that wait for a sync.
#[derive(Debug, Default)]
pub(super) struct SyncQueue {
    dirty: Mutex<Vec<Arc<Partition>>>,
    changed: Condvar,
    stopped: AtomicBool,
}

impl SyncQueue {
    pub(super) fn push(&self, partition: &Arc<Partition>) {
        guard(&self.dirty).push(Arc::clone(partition));
        self.changed.notify_one();
    }

    /// The syncer ends when the queue is empty.
    pub(super) fn stop(&self) {
        let _dirty = guard(&self.dirty); // so that a syncer between its look and its wait does not miss it
        self.stopped.store(true, Ordering::Release);
        self.changed.notify_all();
    }

    /// Waits for dirty partitions; none when stopped.
    fn take(&self) -> Vec<Arc<Partition>> {
        let mut dirty = guard(&self.dirty);
        while dirty.is_empty() && !self.stopped.load(Ordering::Acquire) {
            dirty = self
                .changed
                .wait(dirty)
                .unwrap_or_else(std::sync::PoisonError::into_inner);
        }
        std::mem::take(&mut dirty)
    }

    /// The syncer's thread.
    pub(super) fn run(&self, budget: &Budget, interval: Duration) {
        loop {
            let dirty = self.take();
            if dirty.is_empty() {
                return;
            }
            let begun = Instant::now();
            for partition in dirty {
                budget.give_back(partition.sync());
            }
            std::thread::sleep(interval.saturating_sub(begun.elapsed()));
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
