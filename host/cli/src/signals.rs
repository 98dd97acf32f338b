//! What asks this program to end: Ctrl-C, SIGTERM, the end of the terminal (SIGHUP), or the end of who started it. A SIGHUP
//! while there still is somebody to listen asks a host to look at its connector files again, as daemons do.

use std::io;

use anyhow::Result;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal as Number, getppid, set_parent_process_death_signal};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The work was ended by a signal before it was done. No fault of the work, and no success.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Interrupted(pub &'static str);

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    Stop,
    Reload,
}

/// Signals that ask a host to end. From when this is made, they do not end the program by themselves.
pub struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
    /// None under nohup, which is there so that a program outlives its terminal.
    hangup: Option<Signal>,
    /// It was begun in a terminal.
    terminal: bool,
}

impl StopSignals {
    /// # Errors
    /// Where the system gives no handler.
    pub fn new() -> io::Result<Self> {
        let ignored = std::fs::read_to_string("/proc/self/status").is_ok_and(|status| ignores_hangup(&status));
        let hangup = if ignored { None } else { Some(signal(SignalKind::hangup())?) };
        let (interrupt, terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        Ok(Self { interrupt, terminate, hangup, terminal: has_terminal() })
    }

    /// Waits for one of them.
    pub async fn recv(&mut self) {
        self.asked().await;
    }

    /// Waits for one of them, and tells a hangup that is no end from the others.
    pub async fn asked(&mut self) -> Asked {
        let terminal = self.terminal;
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => Asked::Stop,
            _ = self.terminate.recv() => Asked::Stop,
            _ = hangup => match is_alone(terminal) {
                true => Asked::Stop,
                false => Asked::Reload,
            },
        }
    }
}

fn has_terminal() -> bool {
    std::fs::File::open("/dev/tty").is_ok()
}

/// Whether the terminal that the program was begun in is gone, or whoever read what it says.
fn is_alone(had_terminal: bool) -> bool {
    let stderr = std::io::stderr();
    let mut heard = [PollFd::new(&stderr, PollFlags::empty())];
    let answered = poll(&mut heard, Some(&Timespec::default()));
    let gone = heard[0].revents().intersects(PollFlags::ERR | PollFlags::HUP);
    answered.is_ok() && gone || had_terminal && !has_terminal()
}

/// Ends the program at such a signal with exit code 1, after these words: for work that may be ended anywhere.
///
/// # Errors
/// Where the system gives no handler or no thread.
pub fn end_with_words(words: String) -> Result<()> {
    // Behind a progress bar, perhaps.
    end_by_signal(1, move || crate::output::say(format_args!("\n{words}")))
}

/// Ends the program at such a signal with exit code 0: for what is shown until somebody has seen enough.
///
/// # Errors
/// As [`end_with_words`].
pub fn end_well() -> Result<()> {
    end_by_signal(0, || {})
}

fn end_by_signal(code: i32, say: impl FnOnce() + Send + 'static) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let mut signals = {
        let _within = runtime.enter();
        StopSignals::new()?
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        runtime.block_on(signals.recv());
        say();
        std::process::exit(code);
    })?;
    Ok(())
}

/// Whether a process's status says that it ignores SIGHUP, which is signal 1.
fn ignores_hangup(status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}

/// Ends this process when `parent`, which started it, is gone, however it went.
///
/// # Errors
/// Where the system cannot do that, or `parent` is gone already.
pub fn end_with(parent: i32) -> Result<()> {
    set_parent_process_death_signal(Some(Number::TERM))?;
    anyhow::ensure!(getppid() == Pid::from_raw(parent), "process {parent}, which started this one, is gone");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ignored_hangup_is_read_from_the_status() {
        assert!(ignores_hangup("Name:\tx\nSigBlk:\t0\nSigIgn:\t0000000000001001\nSigCgt:\t1\n"));
        assert!(!ignores_hangup("Name:\tx\nSigIgn:\t0000000000001000\nSigCgt:\t0000000000000001\n"));
        assert!(!ignores_hangup(""));
    }
}
