//! How a private PostgreSQL is made, started and recognized.
//!
//! `synchronous_commit` is off: a sink's offset lies in the transaction of its rows, so what a crash takes from the
//! end is written again from the log.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use tokio_postgres::{Config, NoTls, error::SqlState};

use super::account::Account;
use super::record::Entry;
use super::{Probe, Program, ServerError, process};

const USER: &str = "clickmill";
const DATABASE: &str = "postgres";
/// Time for an initdb that a killed host left to end.
const MAKER_STOP_TIME: Duration = Duration::from_secs(2);

pub struct Postgres;

impl Program for Postgres {
    const NAME: &'static str = "PostgreSQL";
    // A fast shutdown: it does not wait for clients.
    const STOP: Signal = Signal::INT;

    fn dir(home: &Path) -> PathBuf {
        home.join("postgres")
    }

    fn pid_file(dir: &Path) -> PathBuf {
        dir.join("postmaster.pid")
    }

    fn url(port: u16, password: &str) -> String {
        format!("postgres://{USER}:{password}@127.0.0.1:{port}/{DATABASE}")
    }

    fn left_maker(home: &Path) -> Option<Pid> {
        process::named("initdb", home)
    }

    async fn prepare(
        home: &Path,
        account: Option<&Account>,
        entry: &Entry,
        child: &mut Option<Child>,
    ) -> Result<(), ServerError> {
        let dir = Self::dir(home);
        if dir.exists() {
            return Ok(());
        }
        if let Some(left) = Self::left_maker(home) {
            // It would write into what we make.
            process::kill(left, Instant::now() + MAKER_STOP_TIME, || !process::is_alive(left)).await;
        }
        let initdb = program("initdb", None)?;
        // Made aside and renamed: an interrupted initdb leaves nothing that looks finished.
        let (new, password) = (home.join("postgres.new"), home.join("postgres.password"));
        if new.exists() {
            fs::remove_dir_all(&new).map_err(|e| ServerError::io("remove", &new, e))?;
        }
        super::write_private(&password, &entry.password, account)?;
        let mut command = process::command(&initdb, home, account);
        command.args(["--encoding=UTF8", "--locale=C", "--auth=scram-sha-256", "--username", USER]);
        command.arg("--pwfile").arg(&password).arg("--pgdata").arg(&new);
        let log = home.join("initdb.log");
        let made = child.insert(process::spawn(command, &log, account)?);
        let status = loop {
            match made.try_wait().map_err(|e| ServerError::io("wait for", &initdb, e))? {
                Some(status) => break status,
                None => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        };
        *child = None;
        fs::remove_file(&password).map_err(|e| ServerError::io("remove", &password, e))?;
        if !status.success() {
            return Err(ServerError::Initdb { status, output: process::tail(&log) });
        }
        fs::rename(&new, &dir).map_err(|e| ServerError::io("rename", &new, e))
    }

    fn command(home: &Path, account: Option<&Account>, entry: &Entry) -> Result<Command, ServerError> {
        let dir = Self::dir(home);
        let version_file = dir.join("PG_VERSION");
        let major = fs::read_to_string(&version_file).map_err(|e| ServerError::io("read", &version_file, e))?;
        let binary = program("postgres", Some(major.trim()))?;
        let mut command = process::command(&binary, home, account);
        command.arg("-D").arg(&dir).arg("-p").arg(entry.port.to_string());
        for setting in [
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "shared_buffers=64MB",
            "synchronous_commit=off",
            "max_connections=50",
            "max_wal_size=1GB",
            "wal_level=minimal",
            "max_wal_senders=0",
            "jit=off",
            "timezone=UTC",
            "log_timezone=UTC",
        ] {
            command.arg("-c").arg(setting);
        }
        Ok(command)
    }

    async fn probe(dir: &Path, entry: &Entry) -> Probe {
        let mut config = Config::new();
        config.host("127.0.0.1").port(entry.port).user(USER).password(&entry.password).dbname(DATABASE);
        config.connect_timeout(Duration::from_secs(2));
        let ask = async {
            let (client, connection) = config.connect(NoTls).await?;
            let (row, _) = tokio::join!(
                async {
                    let row = client.query_one("SHOW data_directory", &[]).await;
                    drop(client);
                    row
                },
                connection
            );
            Ok::<String, tokio_postgres::Error>(row?.get(0))
        };
        match tokio::time::timeout(Duration::from_secs(5), ask).await {
            Ok(Ok(found)) if super::same_folder(Path::new(&found), dir) => Probe::Ours,
            Ok(Err(e)) if e.code() == Some(&SqlState::CANNOT_CONNECT_NOW) => Probe::Starting,
            _ => Probe::Absent,
        }
    }
}

/// A program of PostgreSQL, of that major version where it matters: on PATH, else the newest of the distribution's.
fn program(name: &str, major: Option<&str>) -> Result<PathBuf, ServerError> {
    let missing = ServerError::Missing {
        server: "PostgreSQL",
        package: "postgresql",
        places: "/usr/lib/postgresql/*/bin",
        variable: "DATABASE_URL",
    };
    let mut dirs: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|e| Some((e.file_name().to_str()?.parse().ok()?, e.path().join("bin"))))
        .filter(|(_, bin)| bin.join(name).is_file())
        .collect();
    dirs.sort_by_key(|(major, _)| std::cmp::Reverse(*major));
    let same = |m: &u32| major.is_some_and(|wanted| wanted == m.to_string());
    if let Some((_, bin)) = dirs.iter().find(|(m, _)| same(m)) {
        return Ok(bin.join(name));
    }
    let bins: Vec<PathBuf> = dirs.into_iter().map(|(_, bin)| bin).collect();
    process::find_program(name, &bins).ok_or(missing)
}
