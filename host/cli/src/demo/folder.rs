//! The folder of one demo, and those that killed demos left behind.
//!
//! A folder that goes with its demo has a lock file, held for as long as the demo lives. A folder without one is kept.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use clickmill_broker::EmbeddedLog;
use clickmill_connectors::Servers;

use super::say;

const PREFIX: &str = "demo-";
const LOCK: &str = "demo.lock";
/// Time for the private servers of a killed demo to end.
const STOP_TIME: Duration = Duration::from_secs(5);

/// The folder of this demo.
pub struct Folder {
    path: PathBuf,
    lock: Option<File>,
}

impl Folder {
    /// Makes a new one. With `keep` it has no lock, and nobody removes it.
    pub fn new(data_dir: &Path, keep: bool) -> Result<Self> {
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let path = data_dir.join(format!("{PREFIX}{seconds}-{}", std::process::id()));
        let path = std::path::absolute(&path).context("the current directory")?;
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        let lock = match keep {
            true => None,
            false => Some(new_lock(&path).with_context(|| format!("cannot make a lock in {}", path.display()))?),
        };
        Ok(Self { path, lock })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn data_dir(&self) -> PathBuf {
        data_dir_in(&self.path)
    }

    pub const fn is_kept(&self) -> bool {
        self.lock.is_none()
    }

    /// From now on, nobody removes it.
    pub fn keep(&mut self) {
        if self.lock.take().is_some() {
            // Without it, the next demo takes the folder for one to keep; one that stays only costs the folder.
            let _ = fs::remove_file(self.path.join(LOCK));
        }
    }

    /// Removes it with all that it holds.
    pub async fn remove(self) -> Result<()> {
        remove(&self.path).await
    }
}

/// Held from before it has its name, so that nobody finds it free while its demo lives.
fn new_lock(folder: &Path) -> io::Result<File> {
    let unfinished = folder.join("demo.lock.new");
    let lock = File::create(&unfinished)?;
    lock.try_lock()?;
    fs::rename(unfinished, folder.join(LOCK))?;
    Ok(lock)
}

fn data_dir_in(folder: &Path) -> PathBuf {
    folder.join("data")
}

async fn remove(folder: &Path) -> Result<()> {
    Servers::new(&data_dir_in(folder)).remove(STOP_TIME).await?;
    fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))
}

/// Stops and removes what killed demos left in `data_dir`. What cannot be removed is said, and stays.
pub async fn sweep(data_dir: &Path) {
    let entries = fs::read_dir(data_dir).into_iter().flatten().flatten();
    for folder in entries.filter(|e| e.file_name().to_string_lossy().starts_with(PREFIX)).map(|e| e.path()) {
        let Ok(lock) = File::open(folder.join(LOCK)) else {
            continue;
        };
        // Its demo lives, or somebody runs a host on what it left.
        let in_use = !matches!(EmbeddedLog::holder(&data_dir_in(&folder).join("log")), Ok(None));
        if lock.try_lock().is_err() || in_use {
            continue;
        }
        match remove(&folder).await {
            Ok(()) => say(&format!("removed what a killed demo left: {}", folder.display())),
            Err(error) => say(&format!("a killed demo left {}: {error:#}", folder.display())),
        }
    }
}
