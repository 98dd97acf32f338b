//! What modules say: lines of text by stage, bounded, since a module may talk without end.
//!
//! Lines are for people. They are no part of a result: how many of them are kept depends on when they are taken.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use clickmill_schemas::ModuleDigest;

use crate::abi;

/// Lines of a stage that are kept between two takings; more are counted.
const MAX_LINES: usize = 64;
/// Bytes of a line; longer ones are cut.
pub(crate) const MAX_LINE_BYTES: usize = 1_024;
/// Standard output and standard error.
const STREAMS: usize = 2;

/// A line that a module said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    pub stage: String,
    pub sha256: ModuleDigest,
    /// Printable, without a line end.
    pub text: String,
    /// Lines of the stage behind this one that were more than is kept.
    pub left_out: u64,
}

/// The log of a stage, shared with its instances, one after the other.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log(Arc<Mutex<Lines>>);

#[derive(Debug, Default)]
struct Lines {
    kept: Vec<String>,
    left_out: u64,
    /// What was written to a stream behind its last line end.
    open: [Vec<u8>; STREAMS],
}

impl Log {
    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds text, a line or several.
    pub(crate) fn say(&self, text: &[u8]) {
        let mut lines = self.lines();
        text.split(|byte| *byte == b'\n').for_each(|line| lines.add(line));
    }

    /// Adds bytes that were written to a stream: what stands behind the last line end waits for the next.
    pub(crate) fn write(&self, stream: usize, bytes: &[u8]) {
        let mut lines = self.lines();
        let lines = &mut *lines;
        let Some(open) = lines.open.get_mut(stream) else { return };
        let mut open = std::mem::take(open);
        let mut parts = bytes.split(|byte| *byte == b'\n').peekable();
        while let Some(part) = parts.next() {
            let room = MAX_LINE_BYTES.saturating_sub(open.len());
            open.extend_from_slice(&part[..part.len().min(room)]);
            if parts.peek().is_some() {
                lines.add(&open);
                open.clear();
            }
        }
        lines.open[stream] = open;
    }

    /// A new instance writes from the start of a line.
    pub(crate) fn end_lines(&self) {
        let mut lines = self.lines();
        for stream in 0..STREAMS {
            let open = std::mem::take(&mut lines.open[stream]);
            lines.add(&open);
        }
    }

    /// Moves the lines behind those in `out`.
    pub(crate) fn take(&self, stage: &str, sha256: ModuleDigest, out: &mut Vec<LogLine>) {
        let mut lines = self.lines();
        let left_out = std::mem::take(&mut lines.left_out);
        let line = |text| LogLine { stage: stage.to_owned(), sha256, text, left_out: 0 };
        out.extend(lines.kept.drain(..).map(line));
        if let Some(last) = out.last_mut().filter(|_| left_out > 0) {
            last.left_out = left_out;
        }
    }
}

impl Lines {
    fn add(&mut self, line: &[u8]) {
        if line.trim_ascii().is_empty() {
            return;
        }
        if self.kept.len() == MAX_LINES {
            self.left_out += 1;
            return;
        }
        self.kept.push(abi::printable(line.trim_ascii_end(), MAX_LINE_BYTES));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(log: &Log) -> Vec<(String, u64)> {
        let mut out = Vec::new();
        log.take("s", ModuleDigest([0; 32]), &mut out);
        out.into_iter().map(|line| (line.text, line.left_out)).collect()
    }

    #[test]
    fn streams_are_put_together_to_lines_apart_from_each_other() {
        let log = Log::default();
        log.write(0, b"one ");
        log.write(1, b"error\n\n");
        log.write(0, b"line\nand an");
        assert_eq!(texts(&log), [("error".into(), 0), ("one line".into(), 0)]);
        log.say(b"said\r\nin two lines");
        log.write(0, b"other");
        log.end_lines();
        assert_eq!(texts(&log), [("said".into(), 0), ("in two lines".into(), 0), ("and another".into(), 0)]);
        assert_eq!(texts(&log), []);
    }

    #[test]
    fn lines_are_bounded_in_length_and_number_and_cannot_steer_a_terminal() {
        let log = Log::default();
        for _ in 0..3 {
            log.write(0, &[b'x'; 100_000]);
        }
        log.write(0, b"\n\x1b[2J\n");
        for i in 0..100 {
            log.say(format!("line {i}").as_bytes());
        }
        let lines = texts(&log);
        assert_eq!((lines.len(), lines[0].0.len(), lines[1].0.as_str()), (MAX_LINES, MAX_LINE_BYTES, "\\u{1b}[2J"));
        assert_eq!(lines.iter().map(|(_, left_out)| *left_out).sum::<u64>(), 38);
        assert_eq!(lines[MAX_LINES - 1].1, 38);
    }
}
