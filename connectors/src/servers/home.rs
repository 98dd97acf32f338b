//! Where private servers keep their files: under the data directory, or aside where their user cannot get there.
//!
//! The place aside is `/var/tmp/clickmill-<hash of the data directory>`: its name can be guessed, so what is found
//! there is used only where it is a folder of that user which nobody else can enter.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use super::ServerError;
use super::account::Account;

const ASIDE: &str = "/var/tmp";

/// The folder for the servers' files, made where it is missing and owned by the account.
///
/// # Errors
/// [`ServerError::Io`]; [`ServerError::UnsafeHome`] where something else stands in its place.
pub fn prepare(servers_dir: &Path, account: Option<&Account>) -> Result<PathBuf, ServerError> {
    make_dir(servers_dir, 0o711)?;
    let servers_dir = fs::canonicalize(servers_dir).map_err(|e| ServerError::io("find", servers_dir, e))?;
    let home = match account {
        Some(account) if !can_traverse(&servers_dir, account)? => {
            Path::new(ASIDE).join(format!("clickmill-{:016x}", fnv(&servers_dir)))
        }
        _ => servers_dir.join("home"),
    };
    private_dir(&home, account)?;
    Ok(home)
}

/// A folder that only the account can enter.
///
/// # Errors
/// As [`prepare`].
pub fn private_dir(dir: &Path, account: Option<&Account>) -> Result<(), ServerError> {
    let made = make_dir(dir, 0o700)?;
    if let Some(account) = account.filter(|_| made) {
        chown(dir, Some(account.uid), Some(account.gid)).map_err(|e| ServerError::io("give away", dir, e))?;
    }
    let found = fs::symlink_metadata(dir).map_err(|e| ServerError::io("look at", dir, e))?;
    let owner = account.map_or_else(|| rustix::process::geteuid().as_raw(), |a| a.uid);
    if !found.is_dir() || found.uid() != owner || found.mode() & 0o077 != 0 {
        return Err(ServerError::UnsafeHome { dir: dir.to_path_buf(), owner });
    }
    Ok(())
}

/// Whether it was made now. Its mode is set apart from the umask.
pub fn make_dir(dir: &Path, mode: u32) -> Result<bool, ServerError> {
    if let Some(parent) = dir.parent().filter(|p| !p.as_os_str().is_empty()) {
        fs::create_dir_all(parent).map_err(|e| ServerError::io("make", parent, e))?;
    }
    match fs::DirBuilder::new().mode(mode).create(dir) {
        Ok(()) => {
            fs::set_permissions(dir, fs::Permissions::from_mode(mode))
                .map_err(|e| ServerError::io("set the mode of", dir, e))?;
            Ok(true)
        }
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
        Err(e) => Err(ServerError::io("make", dir, e)),
    }
}

fn can_traverse(dir: &Path, account: &Account) -> Result<bool, ServerError> {
    for ancestor in dir.ancestors() {
        let found = fs::metadata(ancestor).map_err(|e| ServerError::io("look at", ancestor, e))?;
        if !may_enter(found.mode(), found.uid(), found.gid(), account) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The search bit of the class that the account falls into.
const fn may_enter(mode: u32, uid: u32, gid: u32, account: &Account) -> bool {
    let bit = if uid == account.uid {
        0o100
    } else if gid == account.gid {
        0o010
    } else {
        0o001
    };
    mode & bit != 0
}

/// FNV-1a: a short stable name for a path; nothing depends on its being hard to guess.
fn fnv(path: &Path) -> u64 {
    path.as_os_str()
        .as_encoded_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, b| (hash ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_entered_by_the_bit_of_the_class_that_one_falls_into() {
        let account = Account { name: "postgres".into(), uid: 101, gid: 104 };
        assert!(may_enter(0o755, 0, 0, &account));
        assert!(!may_enter(0o700, 0, 0, &account));
        assert!(may_enter(0o700, 101, 0, &account));
        assert!(may_enter(0o710, 0, 104, &account));
        assert!(!may_enter(0o701, 0, 104, &account));
        assert!(!may_enter(0o077, 101, 104, &account));
    }

    #[test]
    fn a_home_that_others_can_enter_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("home");
        private_dir(&home, None).unwrap();
        private_dir(&home, None).unwrap();
        fs::set_permissions(&home, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(matches!(private_dir(&home, None), Err(ServerError::UnsafeHome { .. })));
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path(), &link).unwrap();
        assert!(matches!(private_dir(&link, None), Err(ServerError::UnsafeHome { .. })));
    }
}
