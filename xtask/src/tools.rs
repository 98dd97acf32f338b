//! Finds programs and folders, and runs commands with errors that can be read.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// The repository that this xtask belongs to: the folder above its own.
pub fn repository_root() -> Result<PathBuf> {
    let own =
        env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    own.parent()
        .map(Path::to_path_buf)
        .with_context(|| format!("{} has no parent folder: run this as `cargo xtask`", own.display()))
}

/// The program's path, when it is in one of `PATH`'s folders.
pub fn on_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join(program)).find(|file| is_executable(file))
}

/// A file that someone may execute.
pub fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// Runs a command with its output shown; an error unless it exits with 0.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start `{}`", shown(command)))?;
    if !status.success() {
        bail!("`{}` failed ({status})", shown(command));
    }
    Ok(())
}

/// Runs a command and returns what it printed on stdout, trimmed; its stderr goes into the error.
pub fn output(command: &mut Command) -> Result<String> {
    let done = command.output().with_context(|| format!("cannot start `{}`", shown(command)))?;
    if !done.status.success() {
        let said = String::from_utf8_lossy(&done.stderr);
        bail!("`{}` failed ({}): {}", shown(command), done.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&done.stdout).trim().to_owned())
}

/// Does the command exit with 0? Its output is thrown away.
pub fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Like [`run`], but gives up after `limit`: for what waits on a network that may not be there.
pub fn run_within(limit: Duration, command: &mut Command) -> Result<()> {
    let mut child = command.spawn().with_context(|| format!("cannot start `{}`", shown(command)))?;
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            if status.success() {
                return Ok(());
            }
            bail!("`{}` failed ({status})", shown(command));
        }
        if started.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            bail!("`{}` was not done after {} s", shown(command), limit.as_secs());
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// The command as one would type it; a long argument (a script) is cut.
fn shown(command: &Command) -> String {
    const LONGEST: usize = 120;
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words
        .map(|word| {
            let word = word.to_string_lossy();
            match word.char_indices().nth(LONGEST) {
                Some((cut, _)) => format!("{}…", &word[..cut]),
                None => word.into_owned(),
            }
        })
        .collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_fails_is_named_with_what_it_said() {
        let error = output(Command::new("sh").args(["-c", "echo no luck >&2; exit 3"])).expect_err("fails").to_string();
        assert!(error.contains("sh -c"), "{error}");
        assert!(error.contains("exit status: 3): no luck"), "{error}");
    }

    #[test]
    fn a_command_that_hangs_is_ended() {
        let started = Instant::now();
        let error = run_within(Duration::from_millis(50), Command::new("sleep").arg("60")).expect_err("ended");
        assert!(error.to_string().contains("was not done"), "{error}");
        assert!(started.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn programs_are_found_on_the_path_and_only_there() {
        assert!(on_path("sh").is_some());
        assert!(on_path("clickmill-has-no-such-program").is_none());
    }
}
