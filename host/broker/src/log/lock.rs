//! The lock of a log's folder: one process writes, and a second one learns who.
//!
//! `<dir>/LOCK` is held by flock, so a dead holder holds nothing. Its first line says who: JSON, rewritten at will.

use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::error::BrokerError;

/// Longest text of a holder, bytes.
const MAX_TEXT_LEN: usize = 1_000;
/// Readers hold the lock for an instant when they look whether it is taken; a writer waits them out.
const PATIENCE: Duration = Duration::from_millis(200);

/// Who holds a log's folder.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockHolder {
    /// Its process id; 0 where it is not known.
    pub pid: u32,
    /// What it says of itself, for example the address that it answers at.
    pub text: String,
}

impl fmt::Display for LockHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.pid, self.text.as_str()) {
            (0, _) => f.write_str("another process"),
            (pid, "") => write!(f, "process {pid}"),
            (pid, text) => write!(f, "process {pid} ({text})"),
        }
    }
}

/// The lock, held as long as this lives.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
    path: PathBuf,
}

impl Lock {
    /// Takes the lock of `dir`.
    pub(super) fn take(dir: &Path) -> Result<Self, BrokerError> {
        let path = dir.join("LOCK");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|e| BrokerError::io("open", &path, e))?;
        let until = Instant::now() + PATIENCE;
        loop {
            match file.try_lock() {
                Ok(()) => {
                    let lock = Self { file, path };
                    lock.say("")?;
                    return Ok(lock);
                }
                Err(TryLockError::WouldBlock) if Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(BrokerError::Locked { dir: dir.to_path_buf(), holder: read_holder(&path) });
                }
                Err(TryLockError::Error(e)) => return Err(BrokerError::io("lock", &path, e)),
            }
        }
    }

    /// Writes who holds the lock: this process, and `text`.
    pub(super) fn say(&self, text: &str) -> Result<(), BrokerError> {
        let mut end = text.len().min(MAX_TEXT_LEN);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let holder = LockHolder { pid: std::process::id(), text: text[..end].to_owned() };
        let fail = |e: std::io::Error| BrokerError::io("write", &self.path, e);
        let mut line = serde_json::to_vec(&holder).map_err(|e| fail(e.into()))?;
        line.push(b'\n');
        // In one write, then cut: a reader sees a whole first line, the old one or the new one.
        self.file.write_all_at(&line, 0).map_err(fail)?;
        self.file.set_len(line.len() as u64).map_err(fail)
    }
}

/// Who holds `dir` now, if anybody does.
pub(super) fn holder(dir: &Path) -> Result<Option<LockHolder>, BrokerError> {
    let path = dir.join("LOCK");
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(BrokerError::io("open", &path, e)),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(None),
        Err(TryLockError::WouldBlock) => Ok(Some(read_holder(&path))),
        Err(TryLockError::Error(e)) => Err(BrokerError::io("lock", &path, e)),
    }
}

fn read_holder(path: &Path) -> LockHolder {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|f| f.take(4 * MAX_TEXT_LEN as u64 * 2).read_to_end(&mut bytes));
    let line = bytes.split(|b| *b == b'\n').next().unwrap_or_default();
    read.ok().and_then(|_| serde_json::from_slice(line).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_one_learns_who_holds_the_lock_and_gets_it_when_the_first_lets_go() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(holder(dir.path()).unwrap(), None);
        let first = Lock::take(dir.path()).unwrap();
        first.say("a longer text that is replaced").unwrap();
        first.say("http://127.0.0.1:8088").unwrap();
        let expected = LockHolder { pid: std::process::id(), text: "http://127.0.0.1:8088".into() };
        assert_eq!(holder(dir.path()).unwrap(), Some(expected.clone()));
        match Lock::take(dir.path()) {
            Err(BrokerError::Locked { holder, .. }) => assert_eq!(holder, expected),
            other => panic!("{other:?}"),
        }
        drop(first);
        assert_eq!(holder(dir.path()).unwrap(), None);
        drop(Lock::take(dir.path()).unwrap());
    }

    #[test]
    fn a_very_long_text_is_cut_and_still_read() {
        let dir = tempfile::tempdir().unwrap();
        let lock = Lock::take(dir.path()).unwrap();
        lock.say(&"\"é".repeat(5_000)).unwrap();
        let seen = holder(dir.path()).unwrap().unwrap();
        assert!(seen.text.starts_with("\"é\"é") && seen.text.len() <= MAX_TEXT_LEN);
    }
}
