//! `cargo xtask test`: every check there is, a summary, and one closing line.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result};

use crate::cargo::{cargo, target};
use crate::setup::{self, Needs};
use crate::steps::Steps;
use crate::tally::Tally;
use crate::{build, tools};

/// Sets up, builds and runs all checks; each runs even when one before it failed.
pub fn run_all(root: &Path, steps: &mut Steps) -> Result<ExitCode> {
    setup::ensure(root, steps, Needs::everything())?;
    let program = build::everything_with_tests(root, steps)?;

    let mut total = Tally::default();
    total += Tally::check(shown(steps.run("formatting", || format_check(root))));
    total += Tally::check(shown(steps.run("clippy", || lint(root))));

    let skips = target(root).join("xtask-skipped.txt");
    fs::write(&skips, "").with_context(|| format!("cannot write {}", skips.display()))?;
    let suites: [(&str, Suite); 2] = [
        ("tests of the recount script", recount_tests),
        ("tests: unit, property, end-to-end, recount", |root, program, skips| cargo_tests(root, program, skips)),
    ];
    for (name, suite) in suites {
        match steps.run(name, || suite(root, &program, &skips)) {
            Ok(tally) => {
                if tally.failed > 0 {
                    steps.fail_last();
                }
                total += tally;
            }
            failed => total += Tally::check(shown(failed)),
        }
    }

    let skipped = fs::read_to_string(&skips).unwrap_or_default();
    eprintln!("\n==> summary\n{}", steps.summary());
    for line in skipped.lines() {
        eprintln!("    skipped: {line}");
    }
    println!("{}", closing_line(total));
    Ok(if total.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

type Suite = fn(&Path, &Path, &Path) -> Result<Tally>;

fn closing_line(total: Tally) -> String {
    let Tally { passed, failed, ignored } = total;
    match ignored {
        0 => format!("{passed} passed, {failed} failed"),
        _ => format!("{passed} passed, {failed} failed, {ignored} ignored"),
    }
}

/// Was it a success? Says why where it was none: the other checks go on.
fn shown<T>(result: Result<T>) -> bool {
    if let Err(error) = &result {
        eprintln!("error: {error:#}");
    }
    result.is_ok()
}

/// `cargo fmt --check` of the whole workspace.
pub fn format_check(root: &Path) -> Result<()> {
    let mut command = Command::new("cargo");
    tools::run(command.current_dir(root).args(["fmt", "--all", "--check"]))
        .context("run `cargo fmt --all` to repair it")
}

/// Clippy on everything, with warnings as errors.
pub fn lint(root: &Path) -> Result<()> {
    let mut command = cargo(root);
    command.args(["clippy", "--release", "--workspace", "--all-targets", "--", "-D", "warnings"]);
    tools::run(&mut command)
}

/// All tests of the workspace, the end-to-end ones among them. Their lines pass through and are counted.
fn cargo_tests(root: &Path, program: &Path, skips: &Path) -> Result<Tally> {
    let mut command = cargo(root);
    command
        .args(["test", "--release", "--workspace", "--no-fail-fast"])
        .env("CLICKMILL_BIN", program)
        .env("CLICKMILL_RECOUNT_PYTHON", setup::recount_python(root))
        // A test that skips itself says so with one line in this file.
        .env("CLICKMILL_SKIPS_FILE", skips)
        .stdout(Stdio::piped());
    let mut child = command.spawn().context("cannot start `cargo test`")?;
    let mut tally = Tally::default();
    if let Some(output) = child.stdout.take() {
        for line in BufReader::new(output).split(b'\n') {
            let line = String::from_utf8_lossy(&line.context("cannot read what `cargo test` prints")?).into_owned();
            println!("{line}");
            if let Some(counted) = Tally::of_libtest_line(&line) {
                tally += counted;
            }
        }
    }
    let status = child.wait().context("cannot wait for `cargo test`")?;
    Ok(tally.of_suite(status.success()))
}

/// The script that judges the windows is itself judged, against sums done by hand.
fn recount_tests(root: &Path, _program: &Path, _skips: &Path) -> Result<Tally> {
    let mut command = Command::new(setup::recount_python(root));
    command.current_dir(root.join("xtask/recount")).args(["-m", "unittest", "-q"]).env("PYTHONDONTWRITEBYTECODE", "1");
    let done = command.output().context("cannot start Python's unittest")?;
    let said = String::from_utf8_lossy(&done.stderr);
    eprint!("{said}");
    Ok(Tally::of_unittest(&said).unwrap_or_default().of_suite(done.status.success()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closing_line_names_ignored_tests_only_where_there_are_some() {
        assert_eq!(closing_line(Tally { passed: 7, failed: 0, ignored: 0 }), "7 passed, 0 failed");
        assert_eq!(closing_line(Tally { passed: 7, failed: 1, ignored: 2 }), "7 passed, 1 failed, 2 ignored");
    }
}
