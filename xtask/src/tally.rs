//! Counts what test runners report: libtest's lines (`cargo test`) and Python's unittest.

use std::ops::AddAssign;

/// How many tests did what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub passed: u64,
    pub failed: u64,
    pub ignored: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
    }
}

impl Tally {
    /// One check that is no test: formatting, lints.
    pub fn check(ok: bool) -> Self {
        Self { passed: u64::from(ok), failed: u64::from(!ok), ignored: 0 }
    }

    /// A suite that ended badly has at least one failure, whatever its lines said.
    pub fn of_suite(mut self, ended_well: bool) -> Self {
        if !ended_well && self.failed == 0 {
            self.failed = 1;
        }
        self
    }

    /// `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s`
    pub fn of_libtest_line(line: &str) -> Option<Self> {
        let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
        let mut tally = Self::default();
        for count in counts.split("; ") {
            let Some((number, what)) = count.split_once(' ') else {
                continue;
            };
            let Ok(number) = number.parse::<u64>() else {
                continue;
            };
            match what {
                "passed" => tally.passed = number,
                "failed" => tally.failed = number,
                "ignored" => tally.ignored = number,
                _ => {}
            }
        }
        Some(tally)
    }

    /// `Ran 5 tests in 0.1s`, a blank line, then `OK (skipped=1)` or `FAILED (failures=1, errors=2)`.
    pub fn of_unittest(output: &str) -> Option<Self> {
        let ran =
            output.lines().rev().find_map(|line| line.strip_prefix("Ran ")?.split(' ').next()?.parse::<u64>().ok())?;
        let verdict = output.lines().rev().find(|line| line.starts_with("OK") || line.starts_with("FAILED"))?;
        let details = verdict.split_once('(').map_or("", |(_, rest)| rest.trim_end_matches(')'));
        let mut tally = Self::default();
        for detail in details.split(", ") {
            match detail.split_once('=').and_then(|(what, number)| Some((what, number.parse::<u64>().ok()?))) {
                Some(("failures" | "errors", number)) => tally.failed += number,
                Some(("skipped", number)) => tally.ignored += number,
                _ => {}
            }
        }
        tally.passed = ran.saturating_sub(tally.failed + tally.ignored);
        Some(tally)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_libtest_are_counted_and_others_are_not() {
        let line = "test result: FAILED. 3 passed; 2 failed; 1 ignored; 0 measured; 7 filtered out; finished in 0.01s";
        assert_eq!(Tally::of_libtest_line(line), Some(Tally { passed: 3, failed: 2, ignored: 1 }));
        assert_eq!(Tally::of_libtest_line("test tally::tests::x ... ok"), None);
    }

    #[test]
    fn verdicts_of_unittest_are_counted() {
        let good = "..s\n-----\nRan 3 tests in 0.101s\n\nOK (skipped=1)\n";
        assert_eq!(Tally::of_unittest(good), Some(Tally { passed: 2, failed: 0, ignored: 1 }));
        let bad = "Ran 5 tests in 0.1s\n\nFAILED (failures=1, errors=2)\n";
        assert_eq!(Tally::of_unittest(bad), Some(Tally { passed: 2, failed: 3, ignored: 0 }));
        assert_eq!(Tally::of_unittest("Traceback (most recent call last):"), None);
    }

    #[test]
    fn a_suite_that_ended_badly_is_never_counted_as_all_passed() {
        let clean = Tally { passed: 4, failed: 0, ignored: 0 };
        assert_eq!(clean.of_suite(false).failed, 1);
        assert_eq!(clean.of_suite(true).failed, 0);
    }
}
