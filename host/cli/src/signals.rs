//! What asks this program to end: Ctrl-C, SIGTERM, the end of the terminal (SIGHUP), or the end of who started it.

use std::io;

use anyhow::Result;
use rustix::process::{Pid, Signal as Number, getppid, set_parent_process_death_signal};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The work was ended by a signal before it was done. No fault of the work, and no success.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Interrupted(pub &'static str);

/// Signals that ask a host to end. From when this is made, they do not end the program by themselves.
pub struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
    /// None under nohup, which is there so that a program outlives its terminal.
    hangup: Option<Signal>,
}

impl StopSignals {
    /// # Errors
    /// Where the system gives no handler.
    pub fn new() -> io::Result<Self> {
        let ignored = std::fs::read_to_string("/proc/self/status").is_ok_and(|status| ignores_hangup(&status));
        let hangup = if ignored { None } else { Some(signal(SignalKind::hangup())?) };
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())?, hangup })
    }

    /// Waits for one of them.
    pub async fn recv(&mut self) {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = hangup => {}
        }
    }
}

/// Ends the program at such a signal with exit code 1, after these words: for work that may be ended anywhere.
///
/// # Errors
/// Where the system gives no handler or no thread.
pub fn end_with_words(words: String) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let mut signals = {
        let _within = runtime.enter();
        StopSignals::new()?
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        runtime.block_on(signals.recv());
        // Behind a progress bar, perhaps.
        crate::output::say(format_args!("\n{words}"));
        std::process::exit(1);
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
