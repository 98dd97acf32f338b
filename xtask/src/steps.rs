//! Says what is being done and how long it took. Talks to stderr: stdout belongs to what is run.

use std::time::{Duration, Instant};

use anyhow::Result;

/// Steps shorter than this get no second line.
const WORTH_A_LINE: Duration = Duration::from_millis(500);

/// The steps of one task, in order, with their times.
#[derive(Default)]
pub struct Steps {
    done: Vec<Step>,
}

struct Step {
    name: String,
    took: Duration,
    ok: bool,
}

impl Steps {
    /// Announces `name`, does it, and notes how long it took and whether it worked.
    pub fn run<T>(&mut self, name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        eprintln!("==> {name}");
        let started = Instant::now();
        let result = work();
        let took = started.elapsed();
        let ok = result.is_ok();
        if !ok {
            eprintln!("==> {name}: FAILED after {}", seconds(took));
        } else if took >= WORTH_A_LINE {
            eprintln!("==> {name}: {}", seconds(took));
        }
        self.done.push(Step { name: name.to_owned(), took, ok });
        result
    }

    /// Marks the last step as failed: it ran to its end, and what it found is bad.
    pub fn fail_last(&mut self) {
        if let Some(step) = self.done.last_mut() {
            step.ok = false;
        }
    }

    /// One line a step: name, seconds, verdict.
    pub fn summary(&self) -> String {
        let width = self.done.iter().map(|step| step.name.chars().count()).max().unwrap_or(0);
        let mut text = String::new();
        for step in &self.done {
            let verdict = if step.ok { "ok" } else { "FAILED" };
            text.push_str(&format!("    {:width$}  {:>9}  {verdict}\n", step.name, seconds(step.took)));
        }
        text
    }
}

fn seconds(took: Duration) -> String {
    format!("{:.1} s", took.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_step_shows_in_the_summary_and_hands_its_error_on() {
        let mut steps = Steps::default();
        steps.run("first", || Ok(())).expect("works");
        let error = steps.run("second step", || Err::<(), _>(anyhow::anyhow!("broken"))).expect_err("fails");
        assert_eq!(error.to_string(), "broken");
        let summary = steps.summary();
        let verdicts: Vec<_> = summary.lines().map(|line| line.rsplit(' ').next()).collect();
        assert_eq!(verdicts, [Some("ok"), Some("FAILED")]);
    }
}
