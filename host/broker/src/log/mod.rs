//! The embedded log: topics as folders of segment files, for one machine and one process.
//!
//! Why our own files and not a key-value store: an LSM store (fjall) appended at a third of the speed for thrice the
//! CPU, wrote every byte twice, and refused the whole database for one flipped byte; what a crash leaves is ours to
//! judge here. Nearly all of an append's CPU is zstd (1.7 of 2.2 s/GB under load), the rest the kernel's. Where to read:
//! [`frame`] and [`segment`] are what lies on disk, [`partition`] appends and syncs, [`read`] fetches,
//! [`recover`] opens after a crash and tells a torn tail from a loss (with [`mark`]), [`retention`] and [`compact`]
//! make room, [`threads`] drives both.

mod budget;
mod compact;
mod disk;
mod embedded;
mod encode;
mod frame;
mod index;
mod lock;
mod mark;
mod options;
mod partition;
mod place;
mod read;
mod recover;
mod retention;
mod rewrite;
mod roll;
mod scan;
mod segment;
mod threads;
mod topics;
mod view;

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use embedded::EmbeddedLog;
pub use lock::LockHolder;
pub use options::{LogOptions, MAX_SYNC_INTERVAL};

/// Locks. Nothing panics half-way through a change under any of the log's locks (I/O comes first, then plain
/// assignments), so what a panicked thread left behind is whole.
fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for a condition to be told, at most for `time`.
fn wait_until<'a, T>(told: &Condvar, guard: MutexGuard<'a, T>, time: Duration) -> MutexGuard<'a, T> {
    told.wait_timeout(guard, time).unwrap_or_else(PoisonError::into_inner).0
}

/// Wall clock, epoch milliseconds; used for retention by age and nothing else.
fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
}
