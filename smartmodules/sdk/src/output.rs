//! What goes out: one buffer of encoded records, written in place and used again for every call.
//!
//! Owns how a record is written before its length is known. It must not know what values mean.

use clickmill_schemas::envelope::Route;
use clickmill_schemas::record::{COUNT_LEN, put_record, varint_len};

use crate::record::Record;

/// Output of a transform call: a record set, and how many of its records carry a route.
///
/// Every record in it keeps the offset delta and the timestamp delta of the input record that it came from.
#[derive(Debug)]
pub struct Output {
    /// Written up to `end`, and initialized past it, so that values can be written in place.
    bytes: Vec<u8>,
    end: usize,
    count: u32,
    routed: u32,
    /// For what is encoded before it is known where it goes.
    scratch: Vec<u8>,
}

impl Default for Output {
    fn default() -> Self {
        Self { bytes: Vec::new(), end: COUNT_LEN, count: 0, routed: 0, scratch: Vec::new() }
    }
}

/// Room for a record's head, whatever its deltas and lengths, and for its end.
const HEAD_ROOM: usize = 48;

impl Output {
    /// Hands a value on to the next stage, in place of `record`.
    #[inline]
    pub fn forward(&mut self, record: &Record<'_>, value: &[u8]) {
        self.forward_into(record, value.len(), |room| {
            room[..value.len()].copy_from_slice(value);
            value.len()
        });
    }

    /// Hands on the value that `write` appends, in place of `record`; where `write` fails nothing is handed on.
    ///
    /// # Errors
    /// That of `write`.
    pub fn forward_with<E>(
        &mut self,
        record: &Record<'_>,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut value = std::mem::take(&mut self.scratch);
        value.clear();
        let written = write(&mut value);
        if written.is_ok() {
            self.forward(record, &value);
        }
        self.scratch = value;
        written
    }

    /// Hands on the value that `write` puts to the front of the room that it is given, of at least `max_len` bytes, and
    /// of which it returns the length. The room is not cleared. This is the fastest way.
    ///
    /// # Panics
    /// Where that length is more than the room has.
    #[inline]
    pub fn forward_into(&mut self, record: &Record<'_>, max_len: usize, write: impl FnOnce(&mut [u8]) -> usize) {
        let start = self.end;
        self.make_room(max_len);
        // Two bytes each for the lengths of record and value, the usual case; put right below where it is not.
        let bytes = &mut self.bytes[start..];
        bytes[2] = 0;
        let key_at = write_varint(bytes, 3, record.timestamp_delta_ms);
        let key_at = write_varint(bytes, key_at, record.offset_delta);
        bytes[key_at] = 0;
        let value_at = key_at + 3;
        let value_len = write(&mut bytes[value_at..]);
        let value_end = value_at + value_len;
        bytes[value_end] = 0;
        match (two_byte_varint(value_end - 1), two_byte_varint(value_len)) {
            (Some(len), Some(value_len)) => {
                bytes[..2].copy_from_slice(&len);
                bytes[key_at + 1..value_at].copy_from_slice(&value_len);
                self.end = start + value_end + 1;
            }
            _ => self.end = start + put_again(bytes, key_at, value_len),
        }
        self.count += 1;
    }

    /// Sends `record` elsewhere, its value as it came.
    pub fn route(&mut self, record: &Record<'_>, route: &Route<'_>) {
        let mut key = Vec::new();
        route.encode(&mut key);
        self.pass(record, &key);
    }

    /// Sends on a record with a route that is encoded already.
    pub(crate) fn pass(&mut self, record: &Record<'_>, route_key: &[u8]) {
        let (offset_delta, timestamp_delta_ms) = (record.offset_delta, record.timestamp_delta_ms);
        let routed = clickmill_schemas::record::Record {
            offset_delta,
            timestamp_delta_ms,
            key: Some(route_key),
            value: record.value,
        };
        self.scratch.clear();
        put_record(&mut self.scratch, &routed);
        self.make_room(self.scratch.len());
        let end = self.end + self.scratch.len();
        self.bytes[self.end..end].copy_from_slice(&self.scratch);
        self.end = end;
        self.count += 1;
        self.routed += 1;
    }

    #[inline]
    fn make_room(&mut self, max_len: usize) {
        let needed = self.end + HEAD_ROOM + max_len;
        if needed > self.bytes.len() {
            self.grow(needed);
        }
    }

    #[cold]
    fn grow(&mut self, needed: usize) {
        self.bytes.resize(needed + needed / 2, 0);
    }

    /// Records so far.
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// Records so far that carry a route.
    #[must_use]
    pub const fn routed(&self) -> u32 {
        self.routed
    }

    /// Begins a new call's output in the same buffer.
    pub(crate) fn clear(&mut self) {
        self.end = COUNT_LEN;
        self.count = 0;
        self.routed = 0;
    }

    /// The output of the call: the record set, then Fluvio's "no error".
    pub(crate) fn finish(&mut self) -> &[u8] {
        self.make_room(1);
        self.bytes[..COUNT_LEN].copy_from_slice(&self.count.to_be_bytes());
        self.bytes[self.end] = 0;
        &self.bytes[..=self.end]
    }
}

/// Writes a zigzag varint, and returns where it ends.
#[inline(always)]
fn write_varint(bytes: &mut [u8], at: usize, value: i64) -> usize {
    let zigzag = ((value << 1) ^ (value >> 63)) as u64;
    match zigzag {
        ..0x80 => {
            bytes[at] = zigzag as u8;
            at + 1
        }
        0x80..0x4000 => {
            bytes[at..at + 2].copy_from_slice(&[zigzag as u8 | 0x80, (zigzag >> 7) as u8]);
            at + 2
        }
        _ => write_longer_varint(bytes, at, zigzag),
    }
}

#[inline(never)]
fn write_longer_varint(bytes: &mut [u8], mut at: usize, mut zigzag: u64) -> usize {
    while zigzag >= 0x80 {
        bytes[at] = zigzag as u8 | 0x80;
        zigzag >>= 7;
        at += 1;
    }
    bytes[at] = zigzag as u8;
    at + 1
}

/// Moves the value of a record that has no lengths yet, and writes them in as many bytes as they take. Returns the
/// record's end.
#[cold]
fn put_again(bytes: &mut [u8], key_at: usize, value_len: usize) -> usize {
    let deltas = key_at - 3;
    let value_at = key_at + 3;
    // Attributes, deltas, key flag, lengths, headers.
    let len = 1 + deltas + 1 + varint_len(value_len as i64) + value_len + 1;
    let head_len = varint_len(len as i64);
    let new_value_at = head_len + 2 + deltas + varint_len(value_len as i64);
    bytes.copy_within(value_at..value_at + value_len, new_value_at.max(value_at));
    bytes.copy_within(2..=key_at, head_len);
    if new_value_at < value_at {
        bytes.copy_within(value_at..value_at + value_len, new_value_at);
    }
    write_varint(bytes, 0, len as i64);
    write_varint(bytes, head_len + 2 + deltas, value_len as i64);
    bytes[new_value_at + value_len] = 0;
    new_value_at + value_len + 1
}

/// The zigzag varint of `len` where that takes two bytes.
#[inline]
fn two_byte_varint(len: usize) -> Option<[u8; 2]> {
    (64..8_192).contains(&len).then_some([(len << 1) as u8 | 0x80, (len >> 6) as u8])
}

/// Records that a module emits of its own: a record set with keys, offset deltas from 0.
#[derive(Debug)]
pub struct RecordSet {
    bytes: Vec<u8>,
    count: u32,
}

impl Default for RecordSet {
    fn default() -> Self {
        Self { bytes: vec![0; COUNT_LEN], count: 0 }
    }
}

impl RecordSet {
    /// Appends a record.
    pub fn push(&mut self, key: &[u8], value: &[u8]) {
        put_record(
            &mut self.bytes,
            &clickmill_schemas::record::Record {
                offset_delta: i64::from(self.count),
                timestamp_delta_ms: 0,
                key: Some(key),
                value,
            },
        );
        self.count += 1;
    }

    #[must_use]
    pub const fn count(&self) -> u32 {
        self.count
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.extend_from_slice(&[0; COUNT_LEN]);
        self.count = 0;
    }

    /// The record set, count first.
    pub(crate) fn finish(&mut self) -> &[u8] {
        self.bytes[..COUNT_LEN].copy_from_slice(&self.count.to_be_bytes());
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clickmill_schemas::record::Records;

    fn record(value: &[u8]) -> Record<'_> {
        Record { offset: 1_007, offset_delta: 7, timestamp_delta_ms: -300, key: Some(b"user"), value }
    }

    #[test]
    fn values_of_every_length_class_are_written_as_the_plain_encoder_does() {
        for len in [0, 1, 40, 55, 56, 57, 63, 64, 8_180, 8_185, 8_191, 8_192, 1_100_000] {
            let value = vec![7; len];
            let mut out = Output::default();
            out.forward(&record(b"first"), b"first");
            out.forward(&record(b""), &value);
            let mut expected = vec![0, 0, 0, 2];
            for value in [&b"first"[..], &value] {
                let plain =
                    clickmill_schemas::record::Record { offset_delta: 7, timestamp_delta_ms: -300, key: None, value };
                put_record(&mut expected, &plain);
            }
            expected.push(0);
            assert_eq!(out.finish(), expected, "length {len}");
        }
    }

    #[test]
    fn a_failed_write_leaves_no_trace() {
        let mut out = Output::default();
        out.forward(&record(b""), b"kept");
        let failed = out.forward_with(&record(b""), |bytes| {
            bytes.extend_from_slice(&[9; 500]);
            Err("no")
        });
        assert_eq!(failed, Err("no"));
        out.route(&record(b"original"), &Route::Late { ts_ms: 1, watermark_ms: 2 });
        assert_eq!((out.count(), out.routed()), (2, 1));
        let bytes = out.finish();
        let records: Vec<_> = Records::new(&bytes[..bytes.len() - 1]).unwrap().map(Result::unwrap).collect();
        assert_eq!((records[0].key, records[0].value), (None, &b"kept"[..]));
        assert_eq!(records[1].value, b"original");
        assert_eq!(Route::decode(records[1].key.unwrap()), Some(Route::Late { ts_ms: 1, watermark_ms: 2 }));
    }
}
