//! Where checkpoints and epochs are kept.
//!
//! A store needs four operations, and one guarantee: of two `create` calls with one name exactly one answers
//! [`Created::New`], and what it wrote is durable and whole before the answer. Names are never overwritten.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{CWD, RenameFlags, renameat_with};

/// Answer of [`CheckpointStore::create`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    New,
    /// Somebody else has this name; nothing was changed.
    Exists,
}

/// A store that did not do as it was asked.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} {}: {source}", path.display())]
pub struct StoreError {
    pub doing: &'static str,
    pub path: PathBuf,
    pub source: io::Error,
}

/// A place for the checkpoints of one partition.
pub trait CheckpointStore: Send {
    /// Names in the store, in no order.
    ///
    /// # Errors
    /// [`StoreError`] where the place cannot be reached, as for the others.
    fn list(&self) -> Result<Vec<String>, StoreError>;
    /// Contents of a name, none where it does not exist.
    ///
    /// # Errors
    /// [`StoreError`].
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError>;
    /// Writes a new name whole and durably, or leaves the one that exists alone.
    ///
    /// # Errors
    /// [`StoreError`].
    fn create(&self, name: &str, bytes: &[u8]) -> Result<Created, StoreError>;
    /// Removes a name; one that does not exist is no error.
    ///
    /// # Errors
    /// [`StoreError`].
    fn delete(&self, name: &str) -> Result<(), StoreError>;
}

/// A folder of this machine.
#[derive(Debug)]
pub struct DirectoryStore {
    folder: PathBuf,
    handle: File,
    temporaries: AtomicU64,
}

const TEMPORARY: &str = ".writing-";

impl DirectoryStore {
    /// Opens the folder, makes it where it is missing, and clears what a crash left half written.
    ///
    /// # Errors
    /// [`StoreError`] where the folder cannot be made or read.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        let fail = |doing, source| StoreError { doing, path: folder.to_owned(), source };
        fs::create_dir_all(folder).map_err(|e| fail("make the folder", e))?;
        let handle = File::open(folder).map_err(|e| fail("open the folder", e))?;
        let store = Self { folder: folder.to_owned(), handle, temporaries: AtomicU64::new(0) };
        for entry in fs::read_dir(folder).map_err(|e| fail("list", e))? {
            let name = entry.map_err(|e| fail("list", e))?.file_name();
            if name.to_string_lossy().starts_with(TEMPORARY) {
                store.delete(&name.to_string_lossy())?;
            }
        }
        Ok(store)
    }

    /// Opens a folder in which another may be writing, to read; none where there is no such folder.
    ///
    /// # Errors
    /// [`StoreError`] where it cannot be opened.
    pub fn open_to_read(folder: &Path) -> Result<Option<Self>, StoreError> {
        match File::open(folder) {
            Ok(handle) => Ok(Some(Self { folder: folder.to_owned(), handle, temporaries: AtomicU64::new(0) })),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(StoreError { doing: "open the folder", path: folder.to_owned(), source }),
        }
    }

    /// The file of a name.
    #[must_use]
    pub fn path_of(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn fail(&self, doing: &'static str, name: &str, source: io::Error) -> StoreError {
        StoreError { doing, path: self.path_of(name), source }
    }
}

impl CheckpointStore for DirectoryStore {
    fn list(&self) -> Result<Vec<String>, StoreError> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(|e| self.fail("list", "", e))? {
            let name = entry.map_err(|e| self.fail("list", "", e))?.file_name().to_string_lossy().into_owned();
            if !name.starts_with('.') {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        match fs::read(self.folder.join(name)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(self.fail("read", name, e)),
        }
    }

    fn create(&self, name: &str, bytes: &[u8]) -> Result<Created, StoreError> {
        let number = self.temporaries.fetch_add(1, Ordering::Relaxed);
        let temporary = self.folder.join(format!("{TEMPORARY}{}-{number}", std::process::id()));
        let write = || {
            let mut file = File::create(&temporary)?;
            file.write_all(bytes)?;
            file.sync_all()
        };
        let renamed = write().and_then(|()| {
            // A rename that refuses to replace is the compare-and-set.
            renameat_with(CWD, &temporary, CWD, self.folder.join(name), RenameFlags::NOREPLACE).map_err(io::Error::from)
        });
        match renamed {
            Ok(()) => {
                self.handle.sync_all().map_err(|e| self.fail("make durable", name, e))?;
                Ok(Created::New)
            }
            Err(e) => {
                // The write has failed already; what is left is cleared at the next open.
                let _ = fs::remove_file(&temporary);
                if e.kind() == io::ErrorKind::AlreadyExists {
                    Ok(Created::Exists)
                } else {
                    Err(self.fail("write", name, e))
                }
            }
        }
    }

    fn delete(&self, name: &str) -> Result<(), StoreError> {
        match fs::remove_file(self.folder.join(name)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(self.fail("delete", name, e)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_created_once_and_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let store = DirectoryStore::open(folder.path()).unwrap();
        assert_eq!(store.create("epoch-1", b"a").unwrap(), Created::New);
        assert_eq!(store.create("epoch-1", b"b").unwrap(), Created::Exists);
        assert_eq!(store.read("epoch-1").unwrap().unwrap(), b"a");
        assert_eq!(store.list().unwrap(), ["epoch-1"]);
        store.delete("epoch-1").unwrap();
        store.delete("epoch-1").unwrap();
        assert_eq!(store.read("epoch-1").unwrap(), None);
    }

    #[test]
    fn of_many_that_race_for_an_epoch_one_gets_it() {
        let folder = tempfile::tempdir().unwrap();
        // One that opens clears what another is just writing, whose attempt then fails: here nobody opens meanwhile.
        let store = DirectoryStore::open(folder.path()).unwrap();
        let create = || usize::from(store.create("epoch-1", b"x").unwrap() == Created::New);
        let winners: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(create)).collect();
            threads.into_iter().map(|t| t.join().unwrap()).sum()
        });
        assert_eq!(winners, 1);
    }

    #[test]
    fn what_a_crash_left_half_written_is_cleared_at_open() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(".writing-1-0"), b"half").unwrap();
        let store = DirectoryStore::open(folder.path()).unwrap();
        assert!(store.list().unwrap().is_empty());
        assert!(!folder.path().join(".writing-1-0").exists());
    }
}
