//! Private servers for tests, started through the crate's own module and stopped when a test ends, however it ends.

use std::path::Path;
use std::time::Duration;

use clickmill_connectors::{ServerError, Servers};

/// Time for a clean stop.
pub const STOP_TIME: Duration = Duration::from_secs(10);

/// A data directory with servers.
pub struct Lab {
    pub servers: Servers,
    dir: tempfile::TempDir,
}

impl Lab {
    /// In a folder that the servers' user can reach.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        open_to_all(dir.path());
        Self { servers: Servers::new(dir.path()), dir }
    }

    /// The server's address; one that was killed a moment ago may need a second attempt at its start, as a sink makes it.
    pub async fn postgres(&self) -> String {
        for _ in 0..20 {
            match self.servers.postgres().await {
                Err(e) if e.is_passing() => tokio::time::sleep(Duration::from_millis(500)).await,
                other => return must(other),
            }
        }
        must(self.servers.postgres().await)
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let servers = self.servers.clone();
        let stop = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(servers.stop(STOP_TIME)).unwrap();
        };
        // A runtime of its own: the test's may be on its way out.
        std::thread::spawn(stop).join().unwrap();
        let record = std::fs::read(self.path().join("servers/servers.json")).unwrap_or_default();
        let record: serde_json::Value = serde_json::from_slice(&record).unwrap_or_default();
        if let Some(home) = record["home"].as_str() {
            let _ = std::fs::remove_dir_all(home);
        }
    }
}

/// Tests need real servers: without them they fail, and say what to install.
pub fn must<T>(result: Result<T, ServerError>) -> T {
    result.unwrap_or_else(|e| panic!("{e}"))
}

pub fn open_to_all(dir: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)).unwrap();
}
