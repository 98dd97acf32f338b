//! What Clickmill puts into a record's key: a route given by a module, or a producer's source position.
//!
//! A key that starts with `C1 'R'` is a route and only a module's *output* may carry it; a key that starts with
//! `C1 'P'` is the source position of `clickmill produce`, and one with `C1 'T'` makes the record a retry of a rejected
//! one. Any other key is a user's own.

use crate::ids::{Offset, SourceId};

/// First byte of every envelope; no UTF-8 text starts with it.
const MAGIC: u8 = 0xC1;
const ROUTE: u8 = b'R';
const POSITION: u8 = b'P';
const RETRY: u8 = b'T';
/// Longest message that a route carries; longer ones are cut at a character.
pub const MAX_MESSAGE_BYTES: usize = 1_024;

/// Where a module sends a record instead of to the next stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route<'a> {
    /// To `ad_events_error`; the record's value is the payload as it came to the module.
    Error { error_type: ErrorType, rule: &'a str, message: &'a str },
    /// Its pane is closed: event time and watermark in epoch milliseconds. The value is as for an error.
    Late { ts_ms: i64, watermark_ms: i64 },
}

/// Class of a dead letter, as in its envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "host", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum ErrorType {
    /// Not readable as JSON or Avro at all.
    Parsing,
    /// Readable, but against a rule.
    Schema,
    /// A module trapped, ran out of a limit, or gave malformed output.
    Smartmodule,
    /// A sink's server refused it.
    Sink,
}

impl ErrorType {
    const ALL: [Self; 4] = [Self::Parsing, Self::Schema, Self::Smartmodule, Self::Sink];

    /// The name used in JSON and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Parsing => "parsing",
            Self::Schema => "schema",
            Self::Smartmodule => "smartmodule",
            Self::Sink => "sink",
        }
    }
}

impl<'a> Route<'a> {
    /// Appends the key envelope of this route. Rule names past 255 bytes and messages past
    /// [`MAX_MESSAGE_BYTES`] are cut.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[MAGIC, ROUTE]);
        match self {
            Self::Error { error_type, rule, message } => {
                let rule = cut(rule, 255);
                let message = cut(message, MAX_MESSAGE_BYTES);
                out.extend_from_slice(&[1, *error_type as u8, rule.len() as u8]);
                out.extend_from_slice(rule.as_bytes());
                out.extend_from_slice(&(message.len() as u16).to_be_bytes());
                out.extend_from_slice(message.as_bytes());
            }
            Self::Late { ts_ms, watermark_ms } => {
                out.push(2);
                out.extend_from_slice(&ts_ms.to_be_bytes());
                out.extend_from_slice(&watermark_ms.to_be_bytes());
            }
        }
    }

    /// Whether `key` claims to be a route; [`Route::decode`] says whether it is a sound one.
    #[must_use]
    #[inline]
    pub fn is_route(key: &[u8]) -> bool {
        key.starts_with(&[MAGIC, ROUTE])
    }

    /// Reads a key envelope; `None` where it is not a route or malformed.
    #[must_use]
    pub fn decode(key: &'a [u8]) -> Option<Self> {
        let body = key.strip_prefix(&[MAGIC, ROUTE])?;
        match body.split_first()? {
            (1, rest) => {
                let (&[error_type, rule_len], rest) = rest.split_first_chunk::<2>()?;
                let (rule, rest) = rest.split_at_checked(usize::from(rule_len))?;
                let (len, rest) = rest.split_first_chunk::<2>()?;
                if rest.len() != usize::from(u16::from_be_bytes(*len)) {
                    return None;
                }
                Some(Self::Error {
                    error_type: *ErrorType::ALL.get(usize::from(error_type))?,
                    rule: std::str::from_utf8(rule).ok()?,
                    message: std::str::from_utf8(rest).ok()?,
                })
            }
            (2, rest) => {
                let (ts, rest) = rest.split_first_chunk::<8>()?;
                let watermark: &[u8; 8] = rest.try_into().ok()?;
                Some(Self::Late { ts_ms: i64::from_be_bytes(*ts), watermark_ms: i64::from_be_bytes(*watermark) })
            }
            _ => None,
        }
    }
}

/// Position of a record in what `clickmill produce` read: which source, and how many of its rows come before.
///
/// Only the last record of a batch carries it: a batch is appended whole or not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourcePosition {
    /// Fingerprint of the source's contents and of the options that decide its order.
    pub source: u64,
    /// Ordinal of the row in the order of sending, from 0.
    pub row: u64,
}

impl SourcePosition {
    /// The key envelope.
    #[must_use]
    pub fn encode(&self) -> [u8; 18] {
        let mut out = [0; 18];
        out[..2].copy_from_slice(&[MAGIC, POSITION]);
        out[2..10].copy_from_slice(&self.source.to_be_bytes());
        out[10..].copy_from_slice(&self.row.to_be_bytes());
        out
    }

    /// Reads a key envelope; `None` where it is something else.
    #[must_use]
    pub fn decode(key: &[u8]) -> Option<Self> {
        let body = key.strip_prefix(&[MAGIC, POSITION])?;
        let (source, row) = body.split_first_chunk::<8>()?;
        Some(Self { source: u64::from_be_bytes(*source), row: u64::from_be_bytes(row.try_into().ok()?) })
    }
}

/// What a retry stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryOf<'a> {
    /// The rejected record of the same partition at this offset.
    Record { offset: Offset },
    /// A line that `produce` could not make a record of.
    Line { file: &'a str, line: u64, source: Option<SourceId> },
}

/// Key of a record that is a retry: the worker counts it only where nothing has been counted for its origin yet.
///
/// Such a record is alone in its batch, so that nobody has to look for one in the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry<'a> {
    pub of: RetryOf<'a>,
    /// From 1.
    pub attempt: u32,
}

impl<'a> Retry<'a> {
    /// The key envelope.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![MAGIC, RETRY];
        out.extend_from_slice(&self.attempt.to_be_bytes());
        match self.of {
            RetryOf::Record { offset } => {
                out.push(1);
                out.extend_from_slice(&offset.0.to_be_bytes());
            }
            RetryOf::Line { file, line, source } => {
                out.push(if source.is_some() { 3 } else { 2 });
                out.extend_from_slice(&line.to_be_bytes());
                out.extend_from_slice(source.as_ref().map_or(&[], |source| &source.0[..]));
                out.extend_from_slice(file.as_bytes());
            }
        }
        out
    }

    /// Reads a key envelope; `None` where it is something else.
    #[must_use]
    pub fn decode(key: &'a [u8]) -> Option<Self> {
        let body = key.strip_prefix(&[MAGIC, RETRY])?;
        let (attempt, body) = body.split_first_chunk::<4>()?;
        let (kind, body) = body.split_first()?;
        let (number, rest) = body.split_first_chunk::<8>()?;
        let number = u64::from_be_bytes(*number);
        let of = match kind {
            1 if rest.is_empty() => RetryOf::Record { offset: Offset(number) },
            2 => RetryOf::Line { file: std::str::from_utf8(rest).ok()?, line: number, source: None },
            3 => {
                let (source, file) = rest.split_first_chunk::<8>()?;
                let source = Some(SourceId(*source));
                RetryOf::Line { file: std::str::from_utf8(file).ok()?, line: number, source }
            }
            _ => return None,
        };
        Some(Self { of, attempt: u32::from_be_bytes(*attempt) })
    }
}

fn cut(text: &str, max: usize) -> &str {
    let mut end = text.len().min(max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_and_positions_read_what_they_write() {
        let long = "é".repeat(2_000);
        for route in [
            Route::Error { error_type: ErrorType::Schema, rule: "ts_within_hour", message: "ts 5 is outside" },
            Route::Error { error_type: ErrorType::Parsing, rule: "json", message: "" },
            Route::Late { ts_ms: -5, watermark_ms: i64::MAX },
        ] {
            let mut key = Vec::new();
            route.encode(&mut key);
            assert_eq!(Route::decode(&key), Some(route));
            for cut in 0..key.len() {
                assert_eq!(Route::decode(&key[..cut]), None);
            }
        }
        let mut key = Vec::new();
        Route::Error { error_type: ErrorType::Sink, rule: &long, message: &long }.encode(&mut key);
        assert!(Route::decode(&key).is_some());
        let position = SourcePosition { source: 7, row: 9 };
        assert_eq!(SourcePosition::decode(&position.encode()), Some(position));
        assert_eq!(SourcePosition::decode(b"user key"), None);
        let line = |source| RetryOf::Line { file: "train.gz", line: 7, source };
        for of in [RetryOf::Record { offset: Offset(u64::MAX) }, line(None), line(Some(SourceId([9; 8])))] {
            let retry = Retry { of, attempt: 3 };
            assert_eq!(Retry::decode(&retry.encode()), Some(retry));
            assert_eq!(SourcePosition::decode(&retry.encode()), None);
        }
        assert_eq!(Retry::decode(&position.encode()), None);
        assert_eq!(Retry::decode(&[MAGIC, RETRY, 0, 0, 0, 1, 1, 0]), None);
        assert!(!Route::is_route(&position.encode()));
    }
}
