//! When a call has had its time: measured in this thread's CPU time, so that a busy machine convicts nobody.
//!
//! The fast path pays nothing for it: half of the time is granted by the epoch alone, and only a call that is still
//! running then has its CPU time looked at.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::engine::TICK;

/// Time budget of one call after the other.
#[derive(Debug)]
pub(crate) struct CallBudget {
    half: Duration,
    /// CPU time of the thread when the first half of the call was over.
    at_half: Option<Duration>,
}

/// Answer at the end of a grant.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Grant {
    Ticks(u64),
    Over,
}

impl CallBudget {
    pub(crate) fn new(call_time: Duration) -> Self {
        Self { half: call_time / 2, at_half: None }
    }

    /// A new call begins: how many ticks it has before [`CallBudget::at_end`] is asked.
    #[inline]
    pub(crate) const fn begin(&mut self) -> u64 {
        self.at_half = None;
        ticks(self.half)
    }

    /// The last grant has been used up; `cpu_now` is the thread's CPU time.
    pub(crate) fn at_end(&mut self, cpu_now: Duration) -> Grant {
        let Some(since) = self.at_half else {
            self.at_half = Some(cpu_now);
            return Grant::Ticks(ticks(self.half));
        };
        let left = self.half.saturating_sub(cpu_now.saturating_sub(since));
        if left < TICK { Grant::Over } else { Grant::Ticks(ticks(left)) }
    }
}

/// Ticks that last at least `time`: the first one may come at once.
const fn ticks(time: Duration) -> u64 {
    time.as_nanos().div_ceil(TICK.as_nanos()) as u64 + 1
}

/// CPU time of the calling thread.
pub(crate) fn thread_cpu_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_call_that_computes_all_along_ends_after_its_time() {
        let mut budget = CallBudget::new(100 * MS);
        assert_eq!(budget.begin(), 11);
        assert_eq!(budget.at_end(1_050 * MS), Grant::Ticks(11));
        assert_eq!(budget.at_end(1_100 * MS), Grant::Over);
    }

    #[test]
    fn a_call_that_the_machine_held_up_is_given_what_it_did_not_get() {
        let mut budget = CallBudget::new(100 * MS);
        budget.begin();
        budget.at_end(20 * MS);
        assert_eq!(budget.at_end(30 * MS), Grant::Ticks(9));
        assert_eq!(budget.at_end(40 * MS), Grant::Ticks(7));
        assert_eq!(budget.at_end(68 * MS), Grant::Over);
        assert_eq!(budget.begin(), 11, "the next call starts afresh");
        assert_eq!(budget.at_end(500 * MS), Grant::Ticks(11));
    }

    #[test]
    fn cpu_time_of_a_thread_stands_still_while_it_sleeps() {
        let before = thread_cpu_time();
        std::thread::sleep(60 * MS);
        assert!(thread_cpu_time() - before < 40 * MS);
    }
}
