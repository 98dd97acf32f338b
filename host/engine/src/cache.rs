//! The compile cache's directory: machine code is loaded from it unseen, so only we may be able to write it.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

use wasmtime::{Cache, CacheConfig};

use crate::EngineError;

/// Permission bits of group and others to write.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// Makes the directory if it is missing, refuses it if others could write to it, and opens the cache in it.
pub(crate) fn open(path: &Path) -> Result<Cache, EngineError> {
    let refused = |problem: String| EngineError::CacheDir { path: path.to_owned(), problem };
    let io = |e: std::io::Error| refused(e.to_string());
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(io)?;
    }
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(e) if e.kind() != ErrorKind::AlreadyExists => return Err(io(e)),
        _ => {}
    }
    // Of the entry itself: a link could be turned elsewhere by whoever owns it.
    let found = fs::symlink_metadata(path).map_err(io)?;
    if !found.is_dir() {
        return Err(refused("it is not a directory".into()));
    }
    let us = rustix::process::geteuid().as_raw();
    if found.uid() != us {
        return Err(refused(format!("it belongs to user {} and we are user {us}", found.uid())));
    }
    if found.mode() & WRITABLE_BY_OTHERS != 0 {
        return Err(refused(format!("its mode is {:o}", found.mode() & 0o7777)));
    }
    let mut config = CacheConfig::new();
    config.with_directory(fs::canonicalize(path).map_err(io)?);
    Cache::new(config).map_err(|e| refused(format!("{e:#}")))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_new_cache_directory_is_ours_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/cache");
        open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        open(&path).unwrap();
    }

    #[test]
    fn a_directory_that_others_can_write_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        for mode in [0o770, 0o707, 0o777] {
            set_mode(dir.path(), mode);
            let error = open(dir.path()).unwrap_err().to_string();
            assert!(error.contains(&format!("{mode:o}")), "{error}");
            assert!(error.contains(dir.path().to_str().unwrap()), "{error}");
        }
        set_mode(dir.path(), 0o755);
        open(dir.path()).unwrap();
    }

    #[test]
    fn a_link_or_a_file_in_its_place_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path(), &link).unwrap();
        assert!(matches!(open(&link), Err(EngineError::CacheDir { .. })));
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(matches!(open(&file), Err(EngineError::CacheDir { .. })));
    }

    #[test]
    fn a_directory_of_another_user_is_refused() {
        // Only root can make one.
        let dir = tempfile::tempdir().unwrap();
        if std::os::unix::fs::chown(dir.path(), Some(12_345), None).is_ok() {
            let error = open(dir.path()).unwrap_err().to_string();
            assert!(error.contains("user 12345"), "{error}");
        }
    }
}
