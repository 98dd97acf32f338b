//! A folder for what is too large for memory: made when it is needed, removed at the end, and by the next one where the
//! program was killed.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::Context as _;
use rustix::process::{Pid, test_kill_process};
use tempfile::TempDir;

/// The folder's name begins with this and the process id.
const PREFIX: &str = "produce-";

/// A folder that may not be made yet.
pub struct Scratch {
    parent: PathBuf,
    made: OnceLock<TempDir>,
}

impl Scratch {
    pub fn new(data_dir: &Path) -> Self {
        Self { parent: data_dir.join("tmp"), made: OnceLock::new() }
    }

    /// The folder.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn dir(&self) -> anyhow::Result<&Path> {
        if let Some(made) = self.made.get() {
            return Ok(made.path());
        }
        let make = || -> io::Result<TempDir> {
            std::fs::create_dir_all(&self.parent)?;
            remove_left_over(&self.parent)?;
            tempfile::Builder::new().prefix(&format!("{PREFIX}{}-", std::process::id())).tempdir_in(&self.parent)
        };
        let made = make().with_context(|| format!("cannot make a folder in {}", self.parent.display()))?;
        Ok(self.made.get_or_init(|| made).path())
    }
}

/// Removes the folders of processes that are gone.
fn remove_left_over(parent: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(parent)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_prefix(PREFIX));
        let pid = name.and_then(|n| n.split('-').next()?.parse().ok()).and_then(Pid::from_raw);
        if pid.is_some_and(|pid| test_kill_process(pid) == Err(rustix::io::Errno::SRCH)) {
            std::fs::remove_dir_all(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_goes_and_so_do_those_of_the_dead() {
        let dir = tempfile::tempdir().unwrap();
        let tmp = dir.path().join("tmp");
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let dead = tmp.join(format!("{PREFIX}{}-x", child.id()));
        child.wait().unwrap();
        let living = tmp.join(format!("{PREFIX}{}-x", std::process::id()));
        for folder in [&dead, &living, &tmp.join("another")] {
            std::fs::create_dir_all(folder.join("inside")).unwrap();
        }
        let scratch = Scratch::new(dir.path());
        let made = scratch.dir().unwrap().to_owned();
        assert_eq!(scratch.dir().unwrap(), made);
        assert!(made.is_dir() && living.is_dir() && tmp.join("another").is_dir() && !dead.exists());
        drop(scratch);
        assert!(!made.exists());
    }
}
