//! Runs modules written with Fluvio's stock crate in Fluvio's own engine and in Clickmill's, and compares.
//!
//! `cases` says what is run, `input` generates what on; `theirs` and `ours` bring both to the same form (`run`). What
//! differs by design is in README.md, and is asserted in `theirs` and `design`.

mod cases;
mod design;
mod input;
mod ours;
mod run;
mod speed;
mod theirs;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, ValueEnum};

use crate::cases::{Case, Modules, Shows};
use crate::run::{Outcome, Run};

#[derive(Parser)]
#[command(about = "Compares what Fluvio's engine and Clickmill's make of the same modules")]
struct Cli {
    /// Folder of the modules of conformance/modules
    #[arg(long)]
    modules: PathBuf,
    /// Folder of those of smartmodules/examples
    #[arg(long)]
    examples: PathBuf,
    /// Folder of those compiled for WASI
    #[arg(long)]
    examples_for_wasi: Option<PathBuf>,
    /// Do only this
    #[arg(long)]
    only: Option<Part>,
    /// How a speed that is below its goal ends: with exit code 1 (the default) or with a line that says so
    #[arg(long)]
    report_speed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Outputs, accumulators and errors
    Outcomes,
    /// Records a second of both
    Speed,
}

fn main() -> ExitCode {
    match compare(&Cli::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn compare(cli: &Cli) -> Result<bool> {
    let modules = Modules { folder: &cli.modules, examples: &cli.examples, for_wasi: cli.examples_for_wasi.as_deref() };
    let mut ok = true;
    if cli.only != Some(Part::Speed) {
        ok &= outcomes(&modules)?;
    }
    if cli.only != Some(Part::Outcomes) {
        ok &= speed::measure(&modules)? || cli.report_speed;
    }
    Ok(ok)
}

fn outcomes(modules: &Modules<'_>) -> Result<bool> {
    println!("{:<11} {:<58} {:>7} {:>8} {:>7}  outcome", "kind", "case", "records", "made", "failed");
    let (mut same, mut different) = (0, 0);
    for case in cases::all(modules)? {
        let records: usize = case.batches.iter().map(|batch| batch.records.len()).sum();
        let run = Run { stages: &case.stages, before: case.before.as_ref(), batches: &case.batches };
        let found = theirs::run(&run).and_then(|theirs| Ok((theirs, ours::run(&run)?)));
        let verdict =
            found.as_ref().map_err(|error| format!("{error:#}")).and_then(|(theirs, ours)| judge(&case, theirs, ours));
        let (made, failed) = match &found {
            Ok((Outcome::Ran { records, failed, .. }, _)) => (records.iter().map(Vec::len).sum(), failed.len()),
            _ => (0, 0),
        };
        let shown = verdict.as_ref().map_or_else(|what| format!("DIFFERS: {what}"), |()| "same".to_owned());
        println!("{:<11} {:<58} {records:>7} {made:>8} {failed:>7}  {shown}", case.kind, case.name);
        if verdict.is_ok() { same += 1 } else { different += 1 }
    }
    for (name, found) in design::all(modules) {
        let shown = found.as_ref().map_or_else(|error| format!("NOT SO: {error:#}"), |()| "as it is known".to_owned());
        println!("{:<11} {name:<58} {:>7} {:>8} {:>7}  {shown}", "by design", "", "", "");
        if found.is_ok() { same += 1 } else { different += 1 }
    }
    println!("\n{same} as they must be, {different} not");
    Ok(different == 0)
}

/// An error says what differs, or that the case does not show what it is there for.
fn judge(case: &Case, theirs: &Outcome, ours: &Outcome) -> Result<(), String> {
    if theirs != ours {
        return Err(difference(theirs, ours));
    }
    let shows = match ours {
        Outcome::Refused(Some(_)) => Shows::Refusal,
        Outcome::Refused(None) => Shows::InitTraps,
        Outcome::LookbackFailed { .. } => Shows::LookbackError,
        Outcome::Ran { failed, .. } if failed.iter().any(|failed| failed.hint.is_none()) => Shows::Traps,
        Outcome::Ran { failed, .. } if !failed.is_empty() => Shows::Errors,
        Outcome::Ran { records, .. } if records.iter().any(|batch| !batch.is_empty()) => Shows::Records,
        Outcome::Ran { .. } => Shows::Nothing,
    };
    let made = matches!(ours, Outcome::Ran { records, .. } if records.iter().any(|batch| !batch.is_empty()));
    if matches!(shows, Shows::Errors | Shows::Traps) && !made {
        return Err("nothing came out beside the errors".to_owned());
    }
    if shows == case.shows { Ok(()) } else { Err(format!("both show {shows:?}, and it is there for {:?}", case.shows)) }
}

/// The first place where they part.
fn difference(theirs: &Outcome, ours: &Outcome) -> String {
    let (
        Outcome::Ran { records: a, failed: fa, accumulator: aa },
        Outcome::Ran { records: b, failed: fb, accumulator: ab },
    ) = (theirs, ours)
    else {
        return format!("Fluvio {}, Clickmill {}", brief(theirs), brief(ours));
    };
    for (batch, (a, b)) in a.iter().zip(b).enumerate() {
        if let Some(at) = (0..a.len().max(b.len())).find(|at| a.get(*at) != b.get(*at)) {
            return format!(
                "batch {batch}, output {at}: Fluvio {}, Clickmill {}",
                brief(&a.get(at)),
                brief(&b.get(at))
            );
        }
    }
    match fa.iter().zip(fb).find(|(a, b)| a != b) {
        Some((a, b)) => format!("failed: Fluvio {}, Clickmill {}", brief(a), brief(b)),
        None => format!("failed: {} and {}; accumulators {aa:?} and {ab:?}", fa.len(), fb.len()),
    }
}

fn brief(what: &dyn std::fmt::Debug) -> String {
    let text = format!("{what:?}");
    text.chars().take(300).collect()
}

/// What `work` returns; `None` where it panics, without a word on standard error.
pub fn unless_it_panics<T>(work: impl FnOnce() -> T) -> Option<T> {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
    std::panic::set_hook(hook);
    done.ok()
}
