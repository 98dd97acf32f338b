//! When an idle partition's watermark is advanced: a pure decision (rule 3 has the worker write it down).
//!
//! A partition that has nothing to read while others go on would keep every window from becoming final.

use std::time::Duration;

/// What a worker knows of another partition.
#[derive(Clone, Copy, Debug)]
pub struct Neighbour {
    pub watermark_ms: Option<i64>,
    /// Time since it last processed a record.
    pub quiet_for: Duration,
}

/// The watermark to advance to, if the time has come: the least of the partitions that still move. Those that are idle
/// too follow the same ones; if they held each other, two idle partitions would stand for ever.
///
/// Only while another partition still moves: when the whole stream stands, its producer may come back to where it
/// stood, and nothing is gained by closing windows before it does.
#[must_use]
pub fn advance_to(own_ms: Option<i64>, quiet_for: Duration, idle_after: Duration, others: &[Neighbour]) -> Option<i64> {
    if quiet_for < idle_after {
        return None;
    }
    let least = others.iter().filter(|o| o.quiet_for < idle_after).map(|o| o.watermark_ms).min()??;
    (own_ms < Some(least)).then_some(least)
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Duration = Duration::from_secs(60);
    const LONG: Duration = Duration::from_secs(61);
    const SHORT: Duration = Duration::from_millis(5);

    fn other(watermark_ms: Option<i64>, quiet_for: Duration) -> Neighbour {
        Neighbour { watermark_ms, quiet_for }
    }

    #[test]
    fn an_idle_partition_follows_the_least_of_the_others_that_move() {
        let others = [other(Some(50), SHORT), other(Some(40), SHORT), other(Some(20), LONG), other(None, LONG)];
        assert_eq!(advance_to(Some(10), LONG, IDLE, &others), Some(40));
        assert_eq!(advance_to(None, LONG, IDLE, &others), Some(40));
    }

    #[test]
    fn two_idle_partitions_do_not_hold_each_other() {
        let (moves, first, second) = (other(Some(1_180), SHORT), other(Some(465), LONG), other(None, LONG));
        assert_eq!(advance_to(first.watermark_ms, LONG, IDLE, &[moves, second]), Some(1_180));
        assert_eq!(advance_to(second.watermark_ms, LONG, IDLE, &[moves, first]), Some(1_180));
    }

    #[test]
    fn one_that_moves_and_has_no_watermark_yet_is_waited_for() {
        assert_eq!(advance_to(Some(10), LONG, IDLE, &[other(Some(50), SHORT), other(None, SHORT)]), None);
    }

    #[test]
    fn nothing_moves_before_its_time_backwards_or_without_the_others() {
        let others = [other(Some(50), SHORT)];
        assert_eq!(advance_to(Some(10), SHORT, IDLE, &others), None);
        assert_eq!(advance_to(Some(50), LONG, IDLE, &others), None);
        assert_eq!(advance_to(Some(10), LONG, IDLE, &[other(None, SHORT), other(Some(9), SHORT)]), None);
        assert_eq!(advance_to(Some(10), LONG, IDLE, &[]), None);
    }

    #[test]
    fn when_the_whole_stream_stands_nothing_is_decided() {
        assert_eq!(advance_to(Some(10), LONG, IDLE, &[other(Some(50), LONG)]), None);
    }
}
