//! How long a sink waits before it tries again: doubling from 100 ms to 10 s, with jitter so that sinks of many hosts
//! do not come back in step.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(10);

/// Waits of consecutive failures.
#[derive(Clone, Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The next wait. `random` decides where in the upper half of the step it falls.
    pub fn next(&mut self, random: u8) -> Duration {
        let step = FIRST.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        step / 2 + step / 2 * u32::from(random) / 255
    }

    /// Something worked.
    pub const fn reset(&mut self) {
        self.failures = 0;
    }
}

/// A random byte; a fixed one where the system gives none, which only costs the jitter.
#[must_use]
pub fn random_byte() -> u8 {
    let mut byte = [128u8];
    let _ = getrandom::fill(&mut byte);
    byte[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_from_a_tenth_of_a_second_to_ten_seconds_and_start_over() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.next(0), FIRST / 2);
        assert_eq!(backoff.next(255), FIRST * 2);
        for _ in 0..100 {
            assert!(backoff.next(255) <= LONGEST);
        }
        assert_eq!(backoff.next(255), LONGEST);
        backoff.reset();
        assert_eq!(backoff.next(255), FIRST);
    }
}
