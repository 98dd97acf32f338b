//! Avazu's rows out of chunks of lines: each line is a row of 24 columns, or bad with the reason.
//!
//! A quoted field may span lines. Where that does not give a row of 24 columns, only the first line is bad and the
//! next one is looked at by itself, so one stray quote never swallows the rows behind it.

use std::sync::mpsc::RecvError;

use super::chunks::{Chunk, Chunks, Damage, KEPT_OF_LONG_LINE, Lines, PADDING};
use super::columns::{Columns, WIDTH};
use super::files::Source;
use super::split::{self, Quoted, Span};
use crate::exit::mistake;

/// A row of 24 columns.
#[derive(Debug)]
pub struct Row<'a> {
    /// The fields stand in it; at least [`PADDING`] bytes follow the last one.
    pub text: &'a [u8],
    /// In the order of [`super::columns::COLUMNS`].
    pub spans: &'a [Span; WIDTH],
    /// No field needs an escape in JSON.
    pub plain: bool,
    /// The row as it stands in the file, without its last line feed.
    pub raw: &'a [u8],
}

impl<'a> Row<'a> {
    /// The bytes of a column.
    #[inline]
    pub fn field(&self, column: usize) -> &'a [u8] {
        let (start, end) = self.spans[column];
        &self.text[start as usize..end as usize]
    }
}

/// Why a line is no row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It has this many columns.
    Columns(usize),
    /// A quote is not closed, or something follows a closing quote.
    Quotes,
    /// It has this many bytes.
    TooLong(u64),
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Columns(n) => write!(f, "{n} columns instead of {WIDTH}"),
            Self::Quotes => f.write_str("a quote that is not closed, or text behind a closing quote"),
            Self::TooLong(len) => write!(f, "a line of {len} bytes, more than --max-line-bytes allows"),
        }
    }
}

/// Where in the files something is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Number of the file, from 0.
    pub file: usize,
    /// Line, from 1.
    pub line: u64,
    /// Byte of the (decompressed) file, from 0.
    pub byte: u64,
}

/// What a file has next.
#[derive(Debug)]
pub enum Item<'a> {
    Row(Row<'a>),
    /// A line that is no row, whole, or its beginning where it is too long.
    Bad {
        place: Place,
        raw: &'a [u8],
        fault: Fault,
    },
    /// The file cannot be read any further from `place` on; nothing follows.
    Cut {
        place: Place,
        damage: Damage,
    },
}

/// Reads rows. Rows must be taken with a `while let`, since each borrows the reader.
pub struct RowReader<'s> {
    chunks: Chunks,
    sources: &'s [Source],
    max_line_bytes: usize,
    lines: Lines,
    at: usize,
    /// A chunk that was taken while looking for a closing quote and is not part of the row.
    next: Option<Chunk>,
    place: Place,
    columns: Columns,
    header_due: bool,
    spans: [Span; WIDTH],
    scratch: [Span; WIDTH],
    unquoted: Vec<u8>,
    long_line: Vec<u8>,
    /// Lines without anything on them, so far.
    pub blank_lines: u64,
}

/// A line, by its bytes in `lines`.
struct Line {
    start: usize,
    /// Without line feed and carriage return.
    end: usize,
    /// With them.
    next: usize,
}

impl<'s> RowReader<'s> {
    pub fn new(chunks: Chunks, sources: &'s [Source], max_line_bytes: usize) -> Self {
        Self {
            chunks,
            sources,
            max_line_bytes,
            lines: Lines::default(),
            at: 0,
            next: None,
            place: Place::default(),
            columns: Columns::InOrder,
            header_due: false,
            spans: [(0, 0); WIDTH],
            scratch: [(0, 0); WIDTH],
            unquoted: Vec::new(),
            long_line: Vec::new(),
            blank_lines: 0,
        }
    }

    /// The next row or bad line; `None` after the last.
    ///
    /// # Errors
    /// A mistake where a file has no header or another one.
    pub fn next(&mut self) -> anyhow::Result<Option<Item<'_>>> {
        loop {
            if self.at >= self.lines.len {
                match self.take_chunk() {
                    Ok(Chunk::Lines(lines)) => {
                        self.chunks.recycle(std::mem::replace(&mut self.lines, lines));
                        self.at = 0;
                        if self.place.byte == 0 && self.lines.bytes.starts_with(b"\xef\xbb\xbf") {
                            (self.at, self.place.byte) = (3, 3);
                        }
                    }
                    Ok(Chunk::File(file)) => {
                        self.check_header_came()?;
                        self.place = Place { file, line: 1, byte: 0 };
                        self.header_due = true;
                    }
                    Ok(Chunk::LongLine { head, len }) => return self.long(head, len).map(Some),
                    Ok(Chunk::Cut { damage, lost }) => {
                        self.place.byte += lost;
                        return Ok(Some(Item::Cut { place: self.place, damage }));
                    }
                    Err(RecvError) => return self.check_header_came().map(|()| None),
                }
                continue;
            }
            let line = self.line();
            if line.start == line.end {
                self.blank_lines += 1;
                self.pass(line.next, 1);
                continue;
            }
            let place = self.place;
            if line.end - line.start > self.max_line_bytes && !self.header_due {
                self.pass(line.next, 1);
                let kept = line.end.min(line.start + KEPT_OF_LONG_LINE);
                let fault = Fault::TooLong((line.end - line.start) as u64);
                return Ok(Some(Item::Bad { place, raw: &self.lines.bytes[line.start..kept], fault }));
            }
            let spans = if matches!(self.columns, Columns::InOrder) { &mut self.spans } else { &mut self.scratch };
            let seen = split::at_commas(&self.lines.bytes, line.start, line.end, spans);
            let has_quotes = !seen.plain && memchr::memchr(b'"', &self.lines.bytes[line.start..line.end]).is_some();
            if self.header_due {
                self.read_header(&line)?;
                continue;
            }
            if has_quotes {
                return self.quoted_row(&line).map(Some);
            }
            self.pass(line.next, 1);
            let raw = &self.lines.bytes[line.start..without_feed(&self.lines.bytes, line.next)];
            if seen.fields != WIDTH {
                return Ok(Some(Item::Bad { place, raw, fault: Fault::Columns(seen.fields) }));
            }
            if let Columns::Permuted(places) = &self.columns {
                self.spans = places.map(|p| self.scratch[p]);
            }
            let row = Row { text: &self.lines.bytes, spans: &self.spans, plain: seen.plain, raw };
            return Ok(Some(Item::Row(row)));
        }
    }

    fn take_chunk(&mut self) -> Result<Chunk, RecvError> {
        self.next.take().map_or_else(|| self.chunks.chunks.recv(), Ok)
    }

    fn line(&self) -> Line {
        let lines = &self.lines.bytes[self.at..self.lines.len];
        let (len, next) = memchr::memchr(b'\n', lines).map_or((lines.len(), lines.len()), |at| (at, at + 1));
        let end = if lines[..len].last() == Some(&b'\r') { len - 1 } else { len };
        Line { start: self.at, end: self.at + end, next: self.at + next }
    }

    fn pass(&mut self, next: usize, lines: u64) {
        self.place.byte += (next - self.at) as u64;
        self.place.line += lines;
        self.at = next;
    }

    fn long(&mut self, head: Vec<u8>, len: u64) -> anyhow::Result<Item<'_>> {
        self.check_header_came()?;
        let place = self.place;
        self.place.line += 1;
        self.place.byte += len + 1;
        self.long_line = head;
        Ok(Item::Bad { place, raw: &self.long_line, fault: Fault::TooLong(len) })
    }

    fn check_header_came(&self) -> anyhow::Result<()> {
        if self.header_due {
            return Err(mistake(format!("{} has no header line", self.sources[self.place.file].name)));
        }
        Ok(())
    }

    fn read_header(&mut self, line: &Line) -> anyhow::Result<()> {
        let text = &self.lines.bytes[line.start..line.end];
        let header: Vec<Vec<u8>> = text
            .split(|b| *b == b',')
            .map(|f| f.strip_prefix(b"\"").and_then(|f| f.strip_suffix(b"\"")).unwrap_or(f).to_vec())
            .collect();
        let header: Vec<&[u8]> = header.iter().map(Vec::as_slice).collect();
        let name = &self.sources[self.place.file].name;
        self.columns = Columns::of_header(&header)
            .map_err(|fault| mistake(format!("{name}: not Avazu's {WIDTH} columns: {fault}")))?;
        self.header_due = false;
        self.pass(line.next, 1);
        Ok(())
    }

    /// The row that begins at `line`, which has quotes.
    fn quoted_row(&mut self, line: &Line) -> anyhow::Result<Item<'_>> {
        let place = self.place;
        let found = loop {
            let text = &self.lines.bytes[self.at..self.lines.len];
            let found = split::quoted(text, &mut self.unquoted, &mut self.scratch);
            if found == Quoted::Open && text.len() <= self.max_line_bytes && self.append_chunk() {
                continue;
            }
            break found;
        };
        // `append_chunk` moved the line to the front of a new buffer.
        let first = Line { start: self.at, end: self.at + (line.end - line.start), next: 0 };
        let fault = match found {
            Quoted::Row { len, fields: WIDTH } if len <= self.max_line_bytes => {
                let start = self.at;
                let lines = memchr::memchr_iter(b'\n', &self.lines.bytes[start..start + len]).count().max(1) as u64;
                self.pass(start + len, lines);
                self.spans = match &self.columns {
                    Columns::InOrder => self.scratch,
                    Columns::Permuted(places) => places.map(|p| self.scratch[p]),
                };
                self.unquoted.extend_from_slice(&[0; PADDING]);
                let raw = &self.lines.bytes[start..without_feed(&self.lines.bytes, start + len)];
                // With quotes there may be anything in a field.
                return Ok(Item::Row(Row { text: &self.unquoted, spans: &self.spans, plain: false, raw }));
            }
            Quoted::Row { len, fields } if len <= first.end - first.start + 2 => Fault::Columns(fields),
            _ => Fault::Quotes,
        };
        let next = self.line().next;
        self.pass(next, 1);
        Ok(Item::Bad { place, raw: &self.lines.bytes[first.start..without_feed(&self.lines.bytes, next)], fault })
    }

    /// Adds the next chunk's lines to those that are left; false where none follow in this file.
    fn append_chunk(&mut self) -> bool {
        match self.take_chunk() {
            Ok(Chunk::Lines(more)) => {
                let mut bytes = self.lines.bytes[self.at..self.lines.len].to_vec();
                bytes.extend_from_slice(&more.bytes[..more.len]);
                let len = bytes.len();
                bytes.extend_from_slice(&[0; PADDING]);
                self.chunks.recycle(more);
                self.lines = Lines { bytes, len };
                self.at = 0;
                true
            }
            Ok(other) => {
                self.next = Some(other);
                false
            }
            Err(RecvError) => false,
        }
    }
}

/// `next` without the line feed that is before it.
fn without_feed(bytes: &[u8], next: usize) -> usize {
    if next > 0 && bytes[next - 1] == b'\n' { next - 1 } else { next }
}

#[cfg(test)]
mod tests;
