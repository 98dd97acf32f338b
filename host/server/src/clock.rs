//! The only place of this crate that looks at the wall clock: timestamps of records without one, ages of commits.

use clickmill_pipeline::clock::{Clock, SystemClock};

/// Epoch milliseconds.
pub(crate) fn now_ms() -> i64 {
    SystemClock.now_ms()
}
