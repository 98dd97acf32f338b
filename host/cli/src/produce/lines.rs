//! JSON lines: sent as they are, since judging them is the module's work.
//!
//! Only the line end (a line feed, perhaps behind a carriage return) and a byte order mark at the beginning of a file
//! do not belong to a line. Blank lines are skipped, lines over the limit become dead letters.

use std::borrow::Cow;
use std::ops::ControlFlow;
use std::sync::mpsc::RecvTimeoutError;

use clickmill_broker::partitioner::partition_for;
use serde::Deserialize;

use super::dead;
use super::event::Value;
use super::input::chunks::{Chunk, Chunks, KEPT_OF_LONG_LINE, Lines};
use super::input::files::Source;
use super::input::rows::{Fault, Place};
use super::rounds::{LINGER, Rounds};
use super::survey::Cut;

/// What there was besides rows.
#[derive(Debug, Default)]
pub struct LinesRead {
    pub rows: u64,
    pub bad_lines: u64,
    pub blank_lines: u64,
    pub cut: Option<Cut>,
}

/// What of a line decides when and where it is sent.
#[derive(Default, Deserialize)]
struct Needed<'a> {
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    ts: Option<i64>,
}

/// Sends every line. `needs_ts`: rows are held back by their event time.
pub fn send_all(
    chunks: &Chunks,
    sources: &[Source],
    max_line_bytes: usize,
    needs_ts: bool,
    rounds: &mut Rounds,
) -> LinesRead {
    let mut sender = Sender {
        sources,
        max_line_bytes,
        needs_ts,
        rounds,
        place: Place::default(),
        value: Value::default(),
        read: LinesRead::default(),
    };
    while sender.take(chunks).is_continue() {}
    sender.read
}

struct Sender<'a> {
    sources: &'a [Source],
    max_line_bytes: usize,
    needs_ts: bool,
    rounds: &'a mut Rounds,
    place: Place,
    value: Value,
    read: LinesRead,
}

impl Sender<'_> {
    fn take(&mut self, chunks: &Chunks) -> ControlFlow<()> {
        match chunks.chunks.recv_timeout(LINGER) {
            Ok(Chunk::File(file)) => self.place = Place { file, line: 1, byte: 0 },
            Ok(Chunk::Lines(lines)) => {
                let flow = self.lines(&lines);
                chunks.recycle(lines);
                flow?;
            }
            Ok(Chunk::LongLine { head, len }) => {
                self.bad(&head, len)?;
                self.pass(len + 1);
            }
            Ok(Chunk::Cut { damage, lost }) => {
                self.place.byte += lost;
                self.read.cut = Some(Cut { place: self.place, damage });
                return ControlFlow::Break(());
            }
            // Nothing comes: what is there need not wait.
            Err(RecvTimeoutError::Timeout) => self.rounds.flush()?,
            Err(RecvTimeoutError::Disconnected) => return ControlFlow::Break(()),
        }
        ControlFlow::Continue(())
    }

    fn pass(&mut self, bytes: u64) {
        self.place.line += 1;
        self.place.byte += bytes;
    }

    fn lines(&mut self, lines: &Lines) -> ControlFlow<()> {
        let mut left = &lines.bytes[..lines.len];
        if self.place.byte == 0
            && let Some(rest) = left.strip_prefix(b"\xef\xbb\xbf")
        {
            left = rest;
            self.place.byte = 3;
        }
        while !left.is_empty() {
            let (len, next) = memchr::memchr(b'\n', left).map_or((left.len(), left.len()), |at| (at, at + 1));
            let line = left[..len].strip_suffix(b"\r").unwrap_or(&left[..len]);
            if line.iter().all(u8::is_ascii_whitespace) {
                self.read.blank_lines += 1;
            } else if line.len() > self.max_line_bytes {
                self.bad(&line[..line.len().min(KEPT_OF_LONG_LINE)], line.len() as u64)?;
            } else {
                self.send(line)?;
            }
            self.pass(next as u64);
            left = &left[next..];
        }
        ControlFlow::Continue(())
    }

    fn send(&mut self, line: &[u8]) -> ControlFlow<()> {
        self.read.rows += 1;
        let mut needed = Needed::default();
        let quick_id = if self.needs_ts { None } else { leading_id(line) };
        if quick_id.is_none() {
            needed = serde_json::from_slice(line).unwrap_or_default();
        }
        let id = quick_id.or(needed.id.as_deref().map(str::as_bytes)).unwrap_or(line);
        let partition = partition_for(id, self.rounds.partitions());
        if !self.rounds.next_row(partition) {
            return ControlFlow::Continue(());
        }
        self.value.set(line);
        self.rounds.push(partition, needed.ts, &mut self.value)
    }

    fn bad(&mut self, head: &[u8], len: u64) -> ControlFlow<()> {
        self.read.bad_lines += 1;
        let (file, line) = (&self.sources[self.place.file].name, self.place.line);
        let message = Fault::TooLong(len).to_string();
        self.rounds.push_dead_letter(|from| dead::letter((file, line, from), head, len, dead::LINE_TOO_LONG, message))
    }
}

/// The id of a line that begins with it, as those of `produce` do, where it has no escapes.
fn leading_id(line: &[u8]) -> Option<&[u8]> {
    let rest = line.strip_prefix(b"{\"id\":\"")?;
    let end = memchr::memchr2(b'"', b'\\', rest)?;
    (rest[end] == b'"').then(|| &rest[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_found_wherever_it_stands() {
        assert_eq!(leading_id(br#"{"id":"12","click":1}"#), Some(&b"12"[..]));
        assert_eq!(leading_id(br#"{"id":"1\"2","click":1}"#), None);
        assert_eq!(leading_id(br#"{"id":"1"#), None);
        assert_eq!(leading_id(br#"{ "id":"1"}"#), None);
        let needed: Needed<'_> = serde_json::from_str(r#"{"ts":5,"x":[{"id":1}],"id":"1\"2"}"#).unwrap();
        assert_eq!((needed.id.as_deref(), needed.ts), (Some("1\"2"), Some(5)));
    }
}
