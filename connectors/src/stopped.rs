//! Which connectors somebody has stopped: written down in the data directory, so that a stop outlives the host.
//!
//! One name a line.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::replace::replace_file;

/// The names, and the file that holds them.
#[derive(Debug, Default)]
pub struct Stopped {
    /// None: only this process knows.
    file: Option<PathBuf>,
    names: BTreeSet<String>,
}

impl Stopped {
    /// Those of a data directory; none where nobody has stopped any.
    ///
    /// # Errors
    /// I/O, with the path.
    pub fn of(data_dir: &Path) -> io::Result<Self> {
        let file = data_dir.join("stopped-connectors");
        let names = match fs::read_to_string(&file) {
            Ok(text) => text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => BTreeSet::new(),
            Err(e) => return Err(named(&file, "read", &e)),
        };
        Ok(Self { file: Some(file), names })
    }

    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// Adds a name or takes it away; returns once that is durable.
    ///
    /// # Errors
    /// I/O, with the path, and nothing has changed.
    pub(crate) fn set(&mut self, name: &str, stopped: bool) -> io::Result<()> {
        if self.contains(name) == stopped {
            return Ok(());
        }
        let mut names = self.names.clone();
        if stopped {
            names.insert(name.to_owned());
        } else {
            names.remove(name);
        }
        if let Some(file) = &self.file {
            let text: String = names.iter().map(|name| format!("{name}\n")).collect();
            replace_file(file, text.as_bytes()).map_err(|e| named(file, "write", &e))?;
        }
        self.names = names;
        Ok(())
    }
}

fn named(file: &Path, doing: &str, e: &io::Error) -> io::Error {
    io::Error::new(e.kind(), format!("cannot {doing} {}: {e}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_stopped_is_known_to_the_next_one_and_a_failed_write_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut stopped = Stopped::of(dir.path()).unwrap();
        stopped.set("a", true).unwrap();
        stopped.set("b", true).unwrap();
        stopped.set("a", false).unwrap();
        // Left by a process that was killed: it is nobody's.
        fs::write(dir.path().join("stopped-connectors.new"), "c\nd").unwrap();
        let mut again = Stopped::of(dir.path()).unwrap();
        assert_eq!((again.contains("a"), again.contains("b"), again.contains("c")), (false, true, false));
        fs::remove_dir_all(dir.path()).unwrap();
        assert!(again.set("a", true).unwrap_err().to_string().contains("stopped-connectors"));
        assert!(!again.contains("a"));
    }
}
