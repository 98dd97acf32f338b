//! Small file operations whose order and syncs matter: a file is made whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};

use crate::error::BrokerError;

/// Ending of files that are not finished; left-overs are removed on open.
pub(super) const UNFINISHED: &str = "tmp";

/// Makes a folder's entries durable.
pub(super) fn sync_dir(dir: &Path) -> Result<(), BrokerError> {
    File::open(dir).and_then(|d| d.sync_all()).map_err(|e| BrokerError::io("sync", dir, e))
}

/// A new file, open for reading and writing; what stood there is gone.
pub(super) fn create(path: &Path) -> Result<File, BrokerError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)
        .map_err(|e| BrokerError::io("create", path, e))
}

/// Puts a finished, synced file in the place of `to`, durably.
pub(super) fn replace(from: &Path, to: &Path) -> Result<(), BrokerError> {
    fs::rename(from, to).map_err(|e| BrokerError::io("rename", from, e))?;
    to.parent().map_or(Ok(()), sync_dir)
}

/// Writes `bytes` as `path`, whole or not at all, durably.
pub(super) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), BrokerError> {
    use std::io::Write as _;
    let unfinished = path.with_extension(UNFINISHED);
    let mut file = create(&unfinished)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    if let Err(e) = written {
        let _ = fs::remove_file(&unfinished); // the write's error matters more
        return Err(BrokerError::io("write", path, e));
    }
    replace(&unfinished, path)
}

/// Removes files of one folder, durably. The order in which they go is the system's: callers know a left-over.
pub(super) fn remove(dir: &Path, paths: impl IntoIterator<Item = PathBuf>) -> Result<(), BrokerError> {
    for path in paths {
        fs::remove_file(&path).map_err(|e| BrokerError::io("remove", &path, e))?;
    }
    sync_dir(dir)
}
