//! Private servers: a PostgreSQL and a Redis that clickmill starts itself, under its data directory.
//!
//! They listen on a free port of 127.0.0.1 behind a random password, never run as root, and live in a process group
//! of their own. A host that was killed leaves them running; the next one adopts what answers to the recorded
//! password from the recorded folder. This module knows nothing of what sinks write into them.

mod account;
mod error;
mod home;
mod postgres;
mod process;
mod record;
mod redis;

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{OpenOptionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use tokio::sync::Mutex;

use account::Account;
pub use error::ServerError;
use record::{Entry, Record};

/// Time for a start, crash recovery included.
const START_TIME: Duration = Duration::from_secs(60);
/// Time to wait, at a stop, for who is just starting a server.
const LOCK_PATIENCE: Duration = Duration::from_millis(200);
/// Attempts to get a port that nobody takes between our look and the server's bind.
const PORT_ATTEMPTS: usize = 5;

/// What a look at a recorded address finds.
enum Probe {
    /// It knows our password and works in our folder.
    Ours,
    /// It answers, and asks for patience.
    Starting,
    /// Nobody, or somebody else.
    Absent,
}

/// What is particular to one kind of server.
trait Program {
    const NAME: &'static str;
    /// The signal that asks it to end.
    const STOP: Signal;
    fn dir(home: &Path) -> PathBuf;
    fn pid_file(dir: &Path) -> PathBuf;
    fn url(port: u16, password: &str) -> String;
    /// What makes its files, where a host that was killed has left that running.
    fn left_maker(_home: &Path) -> Option<Pid> {
        None
    }
    /// Makes its files; called before every start. A program that makes them is in `child` while it runs.
    async fn prepare(
        home: &Path,
        account: Option<&Account>,
        entry: &Entry,
        child: &mut Option<Child>,
    ) -> Result<(), ServerError>;
    fn command(home: &Path, account: Option<&Account>, entry: &Entry) -> Result<Command, ServerError>;
    async fn probe(dir: &Path, entry: &Entry) -> Probe;
}

/// The private servers of one data directory. Cheap to clone; the data directory's owner has the only ones.
#[derive(Clone)]
pub struct Servers {
    inner: Arc<Inner>,
}

struct Inner {
    dir: PathBuf,
    /// Guards `servers.json`.
    record: std::sync::Mutex<()>,
    postgres: Mutex<Slot>,
    redis: Mutex<Slot>,
}

/// What this process has of one server.
#[derive(Default)]
struct Slot {
    /// The process, where this one started it.
    child: Option<Child>,
    /// Whether it was said that the server is up.
    known: bool,
}

impl Servers {
    /// Starts nothing yet.
    #[must_use]
    pub fn new(data_dir: &Path) -> Self {
        let inner = Inner {
            dir: data_dir.join("servers"),
            record: std::sync::Mutex::new(()),
            postgres: Mutex::default(),
            redis: Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The data directory that they belong to.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        self.inner.dir.parent().unwrap_or(Path::new(""))
    }

    /// Address of the running PostgreSQL, with its password; starts or adopts it where needed.
    ///
    /// # Errors
    /// [`ServerError`]
    pub async fn postgres(&self) -> Result<String, ServerError> {
        let mut server = self.inner.postgres.lock().await;
        self.inner.ensure::<postgres::Postgres>(&mut server, |r| &mut r.postgres).await
    }

    /// Address of the running Redis, with its password; starts or adopts it where needed.
    ///
    /// # Errors
    /// [`ServerError`]
    pub async fn redis(&self) -> Result<String, ServerError> {
        let mut server = self.inner.redis.lock().await;
        self.inner.ensure::<redis::Redis>(&mut server, |r| &mut r.redis).await
    }

    /// Stops what runs, adopted or not, both at once. What has not ended when the time is nearly up is killed with its
    /// children: what that takes from them, the sinks write again from the log.
    ///
    /// # Errors
    /// [`ServerError::Io`] where the record cannot be read.
    pub async fn stop(&self, within: Duration) -> Result<(), ServerError> {
        let Some(home) = Record::load(&self.inner.dir)?.home else {
            return Ok(());
        };
        let deadline = Instant::now() + within;
        tokio::join!(
            stop::<postgres::Postgres>(&home, &self.inner.postgres, deadline),
            stop::<redis::Redis>(&home, &self.inner.redis, deadline)
        );
        Ok(())
    }

    /// Stops them as [`stop`](Self::stop) does and removes their files, which may lie aside of the data directory.
    ///
    /// # Errors
    /// [`ServerError::Io`] where the record cannot be read or the files cannot be removed.
    pub async fn remove(&self, within: Duration) -> Result<(), ServerError> {
        self.stop(within).await?;
        match Record::load(&self.inner.dir)?.home.map(|home| (fs::remove_dir_all(&home), home)) {
            Some((Err(e), home)) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(ServerError::io("remove", &home, e))
            }
            _ => Ok(()),
        }
    }
}

impl Inner {
    /// Changes the record under its lock.
    fn update<T>(&self, change: impl FnOnce(&mut Record) -> Result<T, ServerError>) -> Result<T, ServerError> {
        let _guard = self.record.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let path = self.dir.join("servers.lock");
        // A connector that runs by itself is another process; each has it for an instant.
        let _alone = lock_file(&path).and_then(|file| file.lock().map(|()| file));
        let _alone = _alone.map_err(|e| ServerError::io("lock", &path, e))?;
        let mut record = Record::load(&self.dir)?;
        let before = record.clone();
        let out = change(&mut record)?;
        if record != before {
            record.save(&self.dir)?;
        }
        Ok(out)
    }

    async fn ensure<P: Program>(
        &self,
        server: &mut Slot,
        slot: fn(&mut Record) -> &mut Option<Entry>,
    ) -> Result<String, ServerError> {
        let _alone = alone(&self.dir.join(P::NAME).with_extension("lock")).await?;
        if let Some(child) = server.child.as_mut() {
            // Reaps one that died, so that its process id names nobody.
            let _ = child.try_wait();
        }
        let account = account::server_account()?;
        let account = account.as_ref();
        let home = {
            // Both servers are started at once: the second must not look at a folder that is half made.
            let _guard = self.record.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            home::prepare(&self.dir, account)?
        };
        let dir = P::dir(&home);
        let known = self.update(|record| {
            record.home = Some(home.clone());
            record.user = account.map(|a| a.name.clone());
            if let Some(entry) = slot(record) {
                entry.url = P::url(entry.port, &entry.password);
            }
            Ok(slot(record).clone())
        })?;
        if let Some(entry) = &known {
            if adopt::<P>(&dir, entry, &log_of::<P>(&home)).await? {
                if !server.known {
                    server.known = true;
                    tracing::info!(server = P::NAME, port = entry.port, "private server runs already: it is used");
                }
                return Ok(entry.url.clone());
            }
        } else if dir.exists() {
            let record = self.dir.join("servers.json");
            return Err(ServerError::LostPassword { server: P::NAME, dir, record });
        }
        let password = match known.as_ref() {
            Some(entry) => entry.password.clone(),
            None => record::new_password()?,
        };
        let mut wish = known.map(|entry| entry.port);
        let mut attempts_left = PORT_ATTEMPTS;
        loop {
            attempts_left -= 1;
            let port = free_port(wish.take())?;
            let entry = Entry { port, password: password.clone(), url: P::url(port, &password) };
            // On disk before the server starts: a host killed in between finds it again by port and password.
            self.update(|record| {
                *slot(record) = Some(entry.clone());
                Ok(())
            })?;
            P::prepare(&home, account, &entry, &mut server.child).await?;
            match start::<P>(&home, account, &entry, &mut server.child).await {
                Err(ServerError::Exited { tail, .. }) if attempts_left > 0 && tail.contains("in use") => {}
                Err(e) => return Err(e),
                Ok(()) => {
                    server.known = true;
                    return Ok(entry.url);
                }
            }
        }
    }
}

/// Held by who looks for a server or starts it: a second process on the data directory must not start another one on the same
/// files meanwhile.
async fn alone(path: &Path) -> Result<File, ServerError> {
    let fault = |e| ServerError::io("lock", path, e);
    if let Some(folder) = path.parent() {
        home::make_dir(folder, 0o711)?;
    }
    let file = lock_file(path).map_err(fault)?;
    let deadline = Instant::now() + START_TIME;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(e) => return Err(fault(e.into())),
        }
    }
}

fn lock_file(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().create(true).write(true).truncate(false).mode(0o600).open(path)
}

fn log_of<P: Program>(home: &Path) -> PathBuf {
    P::dir(home).with_extension("log")
}

/// Whether the recorded server answers, waited for where its process is there and not ready.
async fn adopt<P: Program>(dir: &Path, entry: &Entry, log: &Path) -> Result<bool, ServerError> {
    let deadline = Instant::now() + START_TIME;
    loop {
        let pid = process::running(&P::pid_file(dir), dir);
        match (P::probe(dir, entry).await, pid) {
            (Probe::Ours, _) => return Ok(true),
            (Probe::Absent, None) => return Ok(false),
            (_, Some(pid)) if Instant::now() > deadline => {
                return Err(silent::<P>(pid.as_raw_nonzero().get(), entry, log));
            }
            (Probe::Starting, None) if Instant::now() > deadline => return Ok(false),
            _ => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

fn silent<P: Program>(pid: i32, entry: &Entry, log: &Path) -> ServerError {
    let seconds = START_TIME.as_secs();
    ServerError::Silent { server: P::NAME, pid, port: entry.port, seconds, log: log.to_path_buf() }
}

async fn start<P: Program>(
    home: &Path,
    account: Option<&Account>,
    entry: &Entry,
    slot: &mut Option<Child>,
) -> Result<(), ServerError> {
    let (dir, log) = (P::dir(home), log_of::<P>(home));
    let child = slot.insert(process::spawn(P::command(home, account, entry)?, &log, account)?);
    let deadline = Instant::now() + START_TIME;
    loop {
        if let Probe::Ours = P::probe(&dir, entry).await {
            tracing::info!(server = P::NAME, port = entry.port, pid = child.id(), "private server is up");
            return Ok(());
        }
        if let Some(status) = child.try_wait().map_err(|e| ServerError::io("wait for", &dir, e))? {
            *slot = None;
            let tail = process::tail(&log);
            return Err(ServerError::Exited { server: P::NAME, status, log, tail });
        }
        if Instant::now() > deadline {
            return Err(silent::<P>(child.id().cast_signed(), entry, &log));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn stop<P: Program>(home: &Path, server: &Mutex<Slot>, deadline: Instant) {
    let dir = P::dir(home);
    let pid_file = P::pid_file(&dir);
    // Who is still starting it has the lock, perhaps for long: then its pid file must do.
    let mut lock = tokio::time::timeout(LOCK_PATIENCE, server.lock()).await.ok();
    let mut unknown = Slot::default();
    let slot = &mut lock.as_deref_mut().unwrap_or(&mut unknown).child;
    let child = slot.as_mut().and_then(|c| match c.try_wait() {
        Ok(None) => Pid::from_raw(c.id().cast_signed()),
        _ => None,
    });
    let running = process::running(&pid_file, &dir);
    // One that was only just started has no pid file yet, and what makes a server's files has none at all: neither has
    // anything to lose.
    let pid = running.or(child).or_else(|| P::left_maker(home));
    if let Some(pid) = pid {
        let gone = || match slot.as_mut() {
            // A child of ours is a zombie until it is waited for; an adopted one just disappears.
            Some(child) if child.id().cast_signed() == pid.as_raw_nonzero().get() => {
                matches!(child.try_wait(), Ok(Some(_)))
            }
            _ => !process::is_alive(pid),
        };
        let ended = match running {
            Some(pid) => process::end(pid, P::STOP, deadline, gone).await,
            None => process::kill(pid, deadline, gone).await,
        };
        if !ended {
            let pid = pid.as_raw_nonzero().get();
            tracing::warn!(server = P::NAME, pid, "private server does not end");
        }
    }
    *slot = None;
}

/// The wished port where it is free, else any free one.
fn free_port(wish: Option<u16>) -> Result<u16, ServerError> {
    let bind = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).and_then(|l| l.local_addr()).map(|a| a.port());
    wish.and_then(|port| bind(port).ok())
        .map_or_else(|| bind(0), Ok)
        .map_err(|e| ServerError::io("find a free port on", Path::new("127.0.0.1"), e))
}

fn same_folder(a: &Path, b: &Path) -> bool {
    match (fs::canonicalize(a), fs::canonicalize(b)) {
        (Ok(a), Ok(b)) => a == b,
        _ => false,
    }
}

/// A file that only the account can read.
fn write_private(path: &Path, text: &str, account: Option<&Account>) -> Result<(), ServerError> {
    let fault = |e| ServerError::io("write", path, e);
    let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(path).map_err(fault)?;
    file.write_all(text.as_bytes()).map_err(fault)?;
    account.map_or(Ok(()), |a| chown(path, Some(a.uid), Some(a.gid))).map_err(fault)
}
