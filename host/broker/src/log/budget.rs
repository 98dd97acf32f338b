//! A bound on the bytes that wait to be durable, over all partitions: this is where backpressure begins.

use std::sync::{Condvar, Mutex};

use super::guard;

/// Bytes in flight and their limit.
#[derive(Debug)]
pub(super) struct Budget {
    limit: usize,
    used: Mutex<usize>,
    freed: Condvar,
}

impl Budget {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, used: Mutex::new(0), freed: Condvar::new() }
    }

    /// Takes `bytes` if they fit, or if nothing else is in flight; else how many are.
    pub(super) fn try_take(&self, bytes: usize) -> Result<(), usize> {
        let mut used = guard(&self.used);
        if *used != 0 && *used + bytes > self.limit {
            return Err(*used);
        }
        *used += bytes;
        Ok(())
    }

    /// Takes `bytes` as soon as they fit. Ends, since every append in flight becomes durable or fails.
    pub(super) fn take(&self, bytes: usize) {
        let mut used = guard(&self.used);
        while *used != 0 && *used + bytes > self.limit {
            used = self.freed.wait(used).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
        *used += bytes;
    }

    pub(super) fn give_back(&self, bytes: usize) {
        if bytes > 0 {
            *guard(&self.used) -= bytes;
            self.freed.notify_all();
        }
    }

    pub(super) fn used(&self) -> usize {
        *guard(&self.used)
    }

    pub(super) const fn limit(&self) -> usize {
        self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_beyond_the_limit_are_refused_until_some_are_given_back_but_one_alone_always_passes() {
        let budget = Budget::new(100);
        budget.try_take(500).unwrap();
        assert_eq!(budget.try_take(1), Err(500));
        assert_eq!(budget.used(), 500);
        budget.give_back(500);
        budget.try_take(60).unwrap();
        budget.try_take(40).unwrap();
        assert_eq!(budget.try_take(1), Err(100));
        std::thread::scope(|s| {
            let waiting = s.spawn(|| budget.take(30));
            assert!(!waiting.is_finished());
            budget.give_back(60);
            waiting.join().unwrap();
        });
        assert_eq!(budget.try_take(31), Err(70));
    }
}
