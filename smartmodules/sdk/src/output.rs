//! What goes out: one buffer of encoded records, written in place and used again for every call.
//!
//! Owns how a record is written before its length is known. It must not know what values mean.

use std::convert::Infallible;

use clickmill_schemas::envelope::Route;
use clickmill_schemas::record::{COUNT_LEN, put_record, put_varint, varint_len};

use crate::record::Record;

/// Output of a transform call: a record set, and how many of its records carry a route.
///
/// Every record in it keeps the offset delta and the timestamp delta of the input record that it came from.
#[derive(Debug)]
pub struct Output {
    bytes: Vec<u8>,
    count: u32,
    routed: u32,
    route_key: Vec<u8>,
}

impl Default for Output {
    fn default() -> Self {
        Self {
            bytes: vec![0; COUNT_LEN],
            count: 0,
            routed: 0,
            route_key: Vec::new(),
        }
    }
}

impl Output {
    /// Hands a value on to the next stage, in place of `record`.
    #[inline]
    pub fn forward(&mut self, record: &Record<'_>, value: &[u8]) {
        let Ok(()) = self.forward_with(record, |out| -> Result<(), Infallible> {
            out.extend_from_slice(value);
            Ok(())
        });
    }

    /// Hands on the value that `write` appends, in place of `record`. Where `write` fails nothing is handed on, and
    /// what it had appended is gone. It must only append.
    ///
    /// # Errors
    /// That of `write`.
    #[inline]
    pub fn forward_with<E>(
        &mut self,
        record: &Record<'_>,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let start = self.bytes.len();
        // Two bytes each for the lengths of record and value, the usual case; put right below where it is not.
        self.bytes.extend_from_slice(&[0, 0, 0]);
        put_varint(&mut self.bytes, record.timestamp_delta_ms);
        put_varint(&mut self.bytes, record.offset_delta);
        self.bytes.extend_from_slice(&[0, 0, 0]);
        let value_at = self.bytes.len();
        if let Err(e) = write(&mut self.bytes) {
            self.bytes.truncate(start);
            return Err(e);
        }
        let value_len = self.bytes.len() - value_at;
        self.bytes.push(0);
        let len = self.bytes.len() - start - 2;
        match (two_byte_varint(len), two_byte_varint(value_len)) {
            (Some(len), Some(value_len)) => {
                self.bytes[start..start + 2].copy_from_slice(&len);
                self.bytes[value_at - 2..value_at].copy_from_slice(&value_len);
            }
            _ => self.put_again(start, value_at, record),
        }
        self.count += 1;
        Ok(())
    }

    /// Sends `record` elsewhere, its value as it came.
    pub fn route(&mut self, record: &Record<'_>, route: &Route<'_>) {
        let mut key = std::mem::take(&mut self.route_key);
        key.clear();
        route.encode(&mut key);
        self.put(record, &key);
        self.route_key = key;
    }

    /// Passes on a record that an earlier stage routed.
    pub(crate) fn pass(&mut self, record: &Record<'_>, route_key: &[u8]) {
        self.put(record, route_key);
    }

    fn put(&mut self, record: &Record<'_>, key: &[u8]) {
        put_record(
            &mut self.bytes,
            &clickmill_schemas::record::Record {
                offset_delta: record.offset_delta,
                timestamp_delta_ms: record.timestamp_delta_ms,
                key: Some(key),
                value: record.value,
            },
        );
        self.count += 1;
        self.routed += 1;
    }

    /// Writes the record at `start` again, with lengths of another size.
    #[cold]
    fn put_again(&mut self, start: usize, value_at: usize, record: &Record<'_>) {
        let value_end = self.bytes.len() - 1;
        let value_len = value_end - value_at;
        let mut head = Vec::with_capacity(32);
        put_varint(&mut head, record.timestamp_delta_ms);
        put_varint(&mut head, record.offset_delta);
        let len = 1 + head.len() + 1 + varint_len(value_len as i64) + value_len + 1;
        let deltas = std::mem::take(&mut head);
        put_varint(&mut head, len as i64);
        head.push(0);
        head.extend_from_slice(&deltas);
        head.push(0);
        put_varint(&mut head, value_len as i64);
        self.bytes.splice(start..value_at, head);
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
        self.bytes.clear();
        self.bytes.extend_from_slice(&[0; COUNT_LEN]);
        self.count = 0;
        self.routed = 0;
    }

    /// The output of the call: the record set, then Fluvio's "no error".
    pub(crate) fn finish(&mut self) -> &[u8] {
        self.bytes[..COUNT_LEN].copy_from_slice(&self.count.to_be_bytes());
        self.bytes.push(0);
        &self.bytes
    }
}

/// The zigzag varint of `len` where that takes two bytes.
#[inline]
fn two_byte_varint(len: usize) -> Option<[u8; 2]> {
    (64..8_192)
        .contains(&len)
        .then_some([(len << 1) as u8 | 0x80, (len >> 6) as u8])
}

/// Records that a module emits of its own: a record set with keys, offset deltas from 0.
#[derive(Debug)]
pub struct RecordSet {
    bytes: Vec<u8>,
    count: u32,
}

impl Default for RecordSet {
    fn default() -> Self {
        Self {
            bytes: vec![0; COUNT_LEN],
            count: 0,
        }
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
        Record {
            offset: 1_007,
            offset_delta: 7,
            timestamp_delta_ms: -300,
            key: Some(b"user"),
            value,
        }
    }

    #[test]
    fn values_of_every_length_class_are_written_as_the_plain_encoder_does() {
        for len in [
            0, 1, 40, 55, 56, 57, 63, 64, 8_180, 8_185, 8_191, 8_192, 1_100_000,
        ] {
            let value = vec![7; len];
            let mut out = Output::default();
            out.forward(&record(b"first"), b"first");
            out.forward(&record(b""), &value);
            let mut expected = vec![0, 0, 0, 2];
            for value in [&b"first"[..], &value] {
                let plain = clickmill_schemas::record::Record {
                    offset_delta: 7,
                    timestamp_delta_ms: -300,
                    key: None,
                    value,
                };
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
        out.route(
            &record(b"original"),
            &Route::Late {
                ts_ms: 1,
                watermark_ms: 2,
            },
        );
        assert_eq!((out.count(), out.routed()), (2, 1));
        let bytes = out.finish();
        let records: Vec<_> = Records::new(&bytes[..bytes.len() - 1])
            .unwrap()
            .map(Result::unwrap)
            .collect();
        assert_eq!((records[0].key, records[0].value), (None, &b"kept"[..]));
        assert_eq!(records[1].value, b"original");
        assert_eq!(
            Route::decode(records[1].key.unwrap()),
            Some(Route::Late {
                ts_ms: 1,
                watermark_ms: 2
            })
        );
    }
}
