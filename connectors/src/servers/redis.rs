//! How a private Redis is made, started and recognized.
//!
//! It saves at a clean stop and every few minutes; what a crash takes, the sink writes again from the log.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use rustix::process::Signal;

use super::account::Account;
use super::record::Entry;
use super::{Probe, Program, ServerError, process};

pub struct Redis;

impl Program for Redis {
    const NAME: &'static str = "Redis";
    const STOP: Signal = Signal::TERM;

    fn dir(home: &Path) -> PathBuf {
        home.join("redis")
    }

    fn pid_file(dir: &Path) -> PathBuf {
        dir.join("redis.pid")
    }

    fn url(port: u16, password: &str) -> String {
        // With the user's name: without one, the redis-cli of Debian 12 sends an empty one, which Redis refuses.
        format!("redis://default:{password}@127.0.0.1:{port}/0")
    }

    async fn prepare(
        home: &Path,
        account: Option<&Account>,
        entry: &Entry,
        _: &mut Option<Child>,
    ) -> Result<(), ServerError> {
        let dir = Self::dir(home);
        super::home::private_dir(&dir, account)?;
        // Paths are relative to the folder that it runs in, so none needs quoting.
        let conf = format!(
            "bind 127.0.0.1\nport {}\nprotected-mode yes\nrequirepass {}\ndaemonize no\ndir .\npidfile redis.pid\n\
             save 300 1\nappendonly no\nstop-writes-on-bgsave-error no\nmaxclients 200\ntcp-backlog 128\n",
            entry.port, entry.password
        );
        super::write_private(&dir.join("redis.conf"), &conf, account)
    }

    fn command(home: &Path, account: Option<&Account>, _: &Entry) -> Result<Command, ServerError> {
        let dir = Self::dir(home);
        let elsewhere = [PathBuf::from("/usr/bin"), PathBuf::from("/usr/sbin"), PathBuf::from("/usr/local/bin")];
        let binary = process::find_program("redis-server", &elsewhere).ok_or(ServerError::Missing {
            server: "Redis",
            package: "redis-server",
            places: "/usr/bin",
            variable: "REDIS_URL",
        })?;
        let mut command = process::command(&binary, &dir, account);
        command.arg("redis.conf");
        Ok(command)
    }

    async fn probe(dir: &Path, entry: &Entry) -> Probe {
        let ask = async {
            let client = redis::Client::open(Self::url(entry.port, &entry.password))?;
            let mut connection = client.get_multiplexed_async_connection().await?;
            redis::cmd("CONFIG").arg("GET").arg("dir").query_async::<Vec<String>>(&mut connection).await
        };
        match tokio::time::timeout(Duration::from_secs(5), ask).await {
            Ok(Ok(found)) if found.get(1).is_some_and(|f| super::same_folder(Path::new(f), dir)) => Probe::Ours,
            Ok(Err(e)) if e.code() == Some("LOADING") => Probe::Starting,
            _ => Probe::Absent,
        }
    }
}
