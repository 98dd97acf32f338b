//! Processes of private servers: started in a process group of their own (Ctrl-C on the host is not theirs), known
//! by their pid file and working directory, ended by signals. Knows nothing of what the programs are.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::{OpenOptionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::ServerError;
use super::account::Account;

/// What of the time for a stop is kept for the end by force.
const KILL_TIME: Duration = Duration::from_millis(400);

/// A command that runs in `dir` as `account`, with nothing of our environment that could redirect it.
pub fn command(program: &Path, dir: &Path, account: Option<&Account>) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into()));
    command.env("LC_ALL", "C").current_dir(dir).stdin(Stdio::null()).process_group(0);
    if let Some(account) = account {
        command.uid(account.uid).gid(account.gid);
    }
    command
}

/// Starts a server whose output goes to `log`.
pub fn spawn(mut command: Command, log: &Path, account: Option<&Account>) -> Result<Child, ServerError> {
    let fault = |e| ServerError::io("open", log, e);
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(log).map_err(fault)?;
    if let Some(account) = account {
        chown(log, Some(account.uid), Some(account.gid)).map_err(fault)?;
    }
    let copy = file.try_clone().map_err(fault)?;
    let program = PathBuf::from(command.get_program());
    command.stdout(file).stderr(copy).spawn().map_err(|e| ServerError::io("start", &program, e))
}

/// The process that a pid file names, where it lives and works in `dir`; a stale file names none or a stranger.
pub fn running(pid_file: &Path, dir: &Path) -> Option<Pid> {
    let text = fs::read_to_string(pid_file).ok()?;
    let pid: i32 = text.lines().next()?.trim().parse().ok()?;
    let pid = Pid::from_raw(pid).filter(|_| pid > 1)?;
    let cwd = fs::canonicalize(format!("/proc/{}/cwd", pid.as_raw_nonzero())).ok()?;
    (cwd == fs::canonicalize(dir).ok()?).then_some(pid)
}

/// Ends a process: by `signal`, and what is left of it shortly before `deadline` by SIGKILL, its children included.
/// True where nothing is left.
pub async fn end(pid: Pid, signal: Signal, deadline: Instant, mut gone: impl FnMut() -> bool) -> bool {
    // A failure means that the process is gone already, which is what we look at next.
    let _ = kill_process(pid, signal);
    if wait(deadline.checked_sub(KILL_TIME).unwrap_or(deadline), &mut gone).await {
        return true;
    }
    kill(pid, deadline, gone).await
}

/// Ends a process and its children by SIGKILL. True where nothing is left.
pub async fn kill(pid: Pid, deadline: Instant, mut gone: impl FnMut() -> bool) -> bool {
    let killed = kill_tree(pid);
    wait(deadline, || gone() && !killed.iter().any(|pid| is_alive(*pid))).await
}

async fn wait(deadline: Instant, mut done: impl FnMut() -> bool) -> bool {
    loop {
        if done() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Kills a process and all that descend from it. A group would not do: PostgreSQL's children have groups of their own.
fn kill_tree(root: Pid) -> Vec<Pid> {
    let mut tree = vec![root];
    let mut looked_at = 0;
    while let Some(parent) = tree.get(looked_at).copied() {
        // Before its children are listed: one that is stopped makes no more of them.
        let _ = kill_process(parent, Signal::STOP);
        let parent = parent.as_raw_nonzero().get();
        tree.extend(all().filter(|pid| state(*pid).is_some_and(|(_, of)| of == parent)));
        looked_at += 1;
    }
    for pid in &tree {
        let _ = kill_process(*pid, Signal::KILL);
    }
    tree
}

/// A process of that name that works in `dir`.
pub fn named(name: &str, dir: &Path) -> Option<Pid> {
    all().find(|pid| {
        let of = Path::new("/proc").join(pid.as_raw_nonzero().to_string());
        fs::read_to_string(of.join("comm")).is_ok_and(|found| found.trim_end() == name)
            && fs::read_link(of.join("cwd")).is_ok_and(|cwd| cwd == dir)
    })
}

fn all() -> impl Iterator<Item = Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?))
}

/// Whether there is such a process that has not ended yet.
pub fn is_alive(pid: Pid) -> bool {
    state(pid).is_some_and(|(state, _)| state != 'Z')
}

/// The letter of a process's state, and its parent.
fn state(pid: Pid) -> Option<(char, i32)> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    // Its name, in parentheses, may hold anything.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

/// The last lines of a log, for an error.
pub fn tail(log: &Path) -> String {
    const MAX_BYTES: u64 = 2_000;
    let read = || -> std::io::Result<String> {
        let mut file = fs::File::open(log)?;
        let len = file.metadata()?.len();
        file.seek(SeekFrom::Start(len.saturating_sub(MAX_BYTES)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    read().map_or_else(|e| format!("(cannot read it: {e})"), |text| text.trim().to_owned())
}

/// The program in the folders of PATH, then in `elsewhere`.
pub fn find_program(name: &str, elsewhere: &[PathBuf]) -> Option<PathBuf> {
    find_in(name, std::env::var_os("PATH").as_deref(), elsewhere)
}

fn find_in(name: &str, path: Option<&OsStr>, elsewhere: &[PathBuf]) -> Option<PathBuf> {
    let on_path = path.map(|p| std::env::split_paths(p).collect::<Vec<_>>()).unwrap_or_default();
    on_path.iter().chain(elsewhere).map(|dir| dir.join(name)).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_file_counts_only_while_its_process_works_in_that_folder() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pid");
        assert_eq!(running(&file, dir.path()), None);
        for stale in ["", "x", "-1", "0", "1", "999999999"] {
            fs::write(&file, stale).unwrap();
            assert_eq!(running(&file, dir.path()), None, "{stale:?}");
        }
        fs::write(&file, format!("{}\nmore\n", std::process::id())).unwrap();
        assert_eq!(running(&file, dir.path()), None, "a stranger's pid");
        assert!(running(&file, &std::env::current_dir().unwrap()).is_some());
    }

    #[test]
    fn programs_are_found_on_the_path_before_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        fs::create_dir_all(&a).unwrap();
        fs::create_dir_all(b.join("server")).unwrap();
        fs::write(a.join("server"), "").unwrap();
        assert_eq!(find_in("server", Some(b.as_os_str()), std::slice::from_ref(&a)), Some(a.join("server")));
        assert_eq!(find_in("server", None, &[b]), None, "a folder is no program");
    }
}
