//! How far the work is, for people: a bar on a terminal, a line now and then elsewhere. Always on standard error.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::{HumanCount, ProgressBar, ProgressStyle};

/// Between two lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Shows a number that rises.
pub struct Progress {
    bar: ProgressBar,
    ended: Arc<AtomicBool>,
    ticker: Option<JoinHandle<()>>,
}

impl Progress {
    /// `what` is done to `total` things, named `unit`; `now` tells how many are done.
    pub fn new(what: &str, unit: &str, total: Option<u64>, now: impl Fn() -> u64 + Send + 'static) -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        let bar = if is_terminal { bar(what, unit, total) } else { ProgressBar::hidden() };
        let ended = Arc::new(AtomicBool::new(false));
        let (shown, stop) = (bar.clone(), Arc::clone(&ended));
        let line = Line { what: what.to_owned(), unit: unit.to_owned(), total, begun: Instant::now() };
        let ticker = std::thread::spawn(move || {
            let mut next_line = Instant::now() + LINE_EVERY;
            while !stop.load(Ordering::Relaxed) {
                std::thread::park_timeout(Duration::from_millis(200));
                let done = now();
                shown.set_position(done);
                if !is_terminal && Instant::now() >= next_line {
                    line.print(done);
                    next_line += LINE_EVERY;
                }
            }
        });
        Self { bar, ended, ticker: Some(ticker) }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(ticker) = self.ticker.take() {
            ticker.thread().unpark();
            // It only shows numbers; a panic in it is not worth ending the work.
            let _ = ticker.join();
        }
        self.bar.finish_and_clear();
    }
}

struct Line {
    what: String,
    unit: String,
    total: Option<u64>,
    begun: Instant,
}

impl Line {
    fn print(&self, done: u64) {
        let per_second = done as f64 / self.begun.elapsed().as_secs_f64();
        let rate = HumanCount(per_second as u64);
        match self.total.filter(|total| *total > 0) {
            Some(total) => {
                let left = total.saturating_sub(done) as f64 / per_second.max(1.0);
                let percent = done * 100 / total;
                let (what, unit, done, total) = (&self.what, &self.unit, HumanCount(done), HumanCount(total));
                eprintln!("{what}: {done} of {total} {unit} ({percent} %), {rate} {unit}/s, {left:.0} s left");
            }
            None => eprintln!("{}: {} {}, {rate} {}/s", self.what, HumanCount(done), self.unit, self.unit),
        }
    }
}

fn bar(what: &str, unit: &str, total: Option<u64>) -> ProgressBar {
    let (bar, template) = match (total, unit) {
        (Some(total), "bytes") => {
            (ProgressBar::new(total), "{msg} {bar:36} {percent:>3}% of {total_bytes}, {bytes_per_sec}, {eta} left")
        }
        (Some(total), _) => {
            (ProgressBar::new(total), "{msg} {bar:36} {percent:>3}% of {human_len} {prefix}, {per_sec}, {eta} left")
        }
        (None, _) => (ProgressBar::new_spinner(), "{msg} {spinner} {human_pos} {prefix}, {per_sec}"),
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_message(what.to_owned());
    bar.set_prefix(unit.to_owned());
    bar
}
