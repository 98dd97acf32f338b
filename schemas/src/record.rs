//! Records in Fluvio's encoding (fluvio-protocol 0.50): what modules take, what they give, what the log stores.
//!
//! A *record set* is `u32 count` (big-endian) followed by `count` records. A record is
//! `varint length, i8 attributes, varint timestamp delta, varint offset delta, option key, value, varint headers`,
//! where varints are zigzag LEB128, `option key` is `0` or `1, varint length, bytes`, value is `varint length, bytes`,
//! `length` counts the bytes after itself, and there are no headers (varint 0).
//!
//! This module must not know where batches are stored, nor what their values mean.

/// Bytes of the count before the records of a set.
pub const COUNT_LEN: usize = 4;

/// A record of a set, borrowed from its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Offset less the base offset of its batch.
    pub offset_delta: i64,
    /// Milliseconds after the base timestamp of its batch.
    pub timestamp_delta_ms: i64,
    pub key: Option<&'a [u8]>,
    pub value: &'a [u8],
}

/// Bytes that are not a record set, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed record set: {what} at byte {position}")]
pub struct Malformed {
    pub what: &'static str,
    /// Byte position in the set.
    pub position: usize,
}

/// Appends a zigzag varint.
pub fn put_varint(out: &mut Vec<u8>, value: i64) {
    let mut v = ((value << 1) ^ (value >> 63)) as u64;
    while v >= 0x80 {
        out.push(v as u8 | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
}

/// Bytes that [`put_varint`] takes for `value`.
#[must_use]
pub const fn varint_len(value: i64) -> usize {
    let v = ((value << 1) ^ (value >> 63)) as u64;
    let bits = 64 - (v | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// Reads a zigzag varint at `*at` and moves `*at` past it; `None` where it is cut short or longer than 10 bytes.
#[inline]
pub fn take_varint(bytes: &[u8], at: &mut usize) -> Option<i64> {
    let first = *bytes.get(*at)?;
    if first < 0x80 {
        *at += 1;
        return Some(i64::from(first >> 1) ^ -i64::from(first & 1));
    }
    if let Some(word) = bytes.get(*at..).and_then(<[u8]>::first_chunk) {
        let word = u64::from_le_bytes(*word);
        let ends = !word & 0x8080_8080_8080_8080;
        if ends != 0 {
            // The bytes up to the first without the high bit, and then their groups of seven bits put together.
            let groups = word & (ends ^ (ends - 1)) & 0x7f7f_7f7f_7f7f_7f7f;
            let pairs = groups & 0x007f_007f_007f_007f | (groups & 0x7f00_7f00_7f00_7f00) >> 1;
            let fours = pairs & 0x0000_3fff_0000_3fff | (pairs & 0x3fff_0000_3fff_0000) >> 2;
            let v = fours & 0x0fff_ffff | (fours & 0x0fff_ffff_0000_0000) >> 4;
            *at += ends.trailing_zeros() as usize / 8 + 1;
            return Some((v >> 1) as i64 ^ -((v & 1) as i64));
        }
    }
    take_long_varint(bytes, at)
}

/// A varint of more than eight bytes, or among the last ones.
#[cold]
fn take_long_varint(bytes: &[u8], at: &mut usize) -> Option<i64> {
    let mut v = 0u64;
    for shift in (0..70).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        if shift == 63 && byte > 1 {
            return None;
        }
        v |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some((v >> 1) as i64 ^ -((v & 1) as i64));
        }
    }
    None
}

/// Appends one record (without touching any count).
pub fn put_record(out: &mut Vec<u8>, record: &Record<'_>) {
    let key_len = record.key.map_or(1, |k| 1 + varint_len(k.len() as i64) + k.len());
    let len = 1
        + varint_len(record.timestamp_delta_ms)
        + varint_len(record.offset_delta)
        + key_len
        + varint_len(record.value.len() as i64)
        + record.value.len()
        + 1;
    put_varint(out, len as i64);
    out.push(0);
    put_varint(out, record.timestamp_delta_ms);
    put_varint(out, record.offset_delta);
    match record.key {
        None => out.push(0),
        Some(key) => {
            out.push(1);
            put_varint(out, key.len() as i64);
            out.extend_from_slice(key);
        }
    }
    put_varint(out, record.value.len() as i64);
    out.extend_from_slice(record.value);
    out.push(0);
}

/// Walks a record set. Stops after the first error; trailing bytes after the last record are an error.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    bytes: &'a [u8],
    at: usize,
    left: u32,
    count: u32,
}

impl<'a> Records<'a> {
    /// Starts a walk over `bytes`, the whole of a record set.
    ///
    /// # Errors
    /// [`Malformed`] where even the count is cut short.
    pub fn new(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let head: [u8; COUNT_LEN] = bytes
            .get(..COUNT_LEN)
            .and_then(|b| b.try_into().ok())
            .ok_or(Malformed { what: "count cut short", position: 0 })?;
        let count = u32::from_be_bytes(head);
        Ok(Self { bytes, at: COUNT_LEN, left: count, count })
    }

    /// Records that the set says it has.
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// Byte position of the next record.
    #[must_use]
    pub const fn position(&self) -> usize {
        self.at
    }

    #[inline]
    fn read(&mut self) -> Result<Record<'a>, &'static str> {
        let bytes = self.bytes;
        let mut at = self.at;
        let len = take_varint(bytes, &mut at).ok_or("record length cut short")?;
        let len = usize::try_from(len).map_err(|_| "negative record length")?;
        let end = at.checked_add(len).filter(|e| *e <= bytes.len()).ok_or("record longer than its set")?;
        let bytes = &bytes[..end];
        at += 1; // attributes
        let timestamp_delta_ms = take_varint(bytes, &mut at).ok_or("timestamp cut short")?;
        let offset_delta = take_varint(bytes, &mut at).ok_or("offset cut short")?;
        let key = match bytes.get(at) {
            Some(0) => {
                at += 1;
                None
            }
            Some(1) => {
                at += 1;
                Some(slice(bytes, &mut at).ok_or("key cut short")?)
            }
            _ => return Err("bad key flag"),
        };
        let value = slice(bytes, &mut at).ok_or("value cut short")?;
        if take_varint(bytes, &mut at) != Some(0) {
            return Err("headers are not supported");
        }
        if at != end {
            return Err("bytes left over in a record");
        }
        self.at = end;
        Ok(Record { offset_delta, timestamp_delta_ms, key, value })
    }
}

#[inline]
fn slice<'a>(bytes: &'a [u8], at: &mut usize) -> Option<&'a [u8]> {
    let len = usize::try_from(take_varint(bytes, at)?).ok()?;
    let end = at.checked_add(len)?;
    let out = bytes.get(*at..end)?;
    *at = end;
    Some(out)
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, Malformed>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            if self.at < self.bytes.len() {
                let position = self.at;
                self.at = self.bytes.len();
                return Some(Err(Malformed { what: "bytes left over after the last record", position }));
            }
            return None;
        }
        self.left -= 1;
        match self.read() {
            Ok(record) => Some(Ok(record)),
            Err(what) => {
                let position = self.at;
                self.left = 0;
                self.at = self.bytes.len();
                Some(Err(Malformed { what, position }))
            }
        }
    }
}

/// Builds a record set; offset deltas are given in order from 0.
#[derive(Clone, Debug)]
pub struct RecordSetBuilder {
    bytes: Vec<u8>,
    count: u32,
    base_timestamp_ms: i64,
}

impl Default for RecordSetBuilder {
    fn default() -> Self {
        Self { bytes: vec![0; COUNT_LEN], count: 0, base_timestamp_ms: 0 }
    }
}

impl RecordSetBuilder {
    /// Appends a record with the next offset delta. The first record's timestamp is the set's base timestamp.
    pub fn push(&mut self, key: Option<&[u8]>, value: &[u8], timestamp_ms: i64) {
        if self.count == 0 {
            self.base_timestamp_ms = timestamp_ms;
        }
        let record = Record {
            offset_delta: i64::from(self.count),
            timestamp_delta_ms: timestamp_ms.wrapping_sub(self.base_timestamp_ms),
            key,
            value,
        };
        put_record(&mut self.bytes, &record);
        self.count += 1;
        self.bytes[..COUNT_LEN].copy_from_slice(&self.count.to_be_bytes());
    }

    /// The set's bytes so far, count first.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    #[must_use]
    pub const fn count(&self) -> u32 {
        self.count
    }

    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Timestamp of the first record, epoch milliseconds.
    #[must_use]
    pub const fn base_timestamp_ms(&self) -> i64 {
        self.base_timestamp_ms
    }

    /// Forgets the records and keeps the buffer.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.resize(COUNT_LEN, 0);
        self.count = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_reads_back_as_it_was_built() {
        let mut set = RecordSetBuilder::default();
        set.push(None, b"one", 1_000);
        set.push(Some(b"k"), b"", 999);
        set.push(Some(b""), &[7; 300], 2_000);
        let records: Vec<_> = Records::new(set.bytes()).unwrap().map(Result::unwrap).collect();
        assert_eq!(records.len(), 3);
        assert_eq!(records[0], Record { offset_delta: 0, timestamp_delta_ms: 0, key: None, value: b"one" });
        assert_eq!(records[1], Record { offset_delta: 1, timestamp_delta_ms: -1, key: Some(b"k"), value: b"" });
        assert_eq!(records[2].value.len(), 300);
    }

    #[test]
    fn every_cut_of_a_set_is_reported_and_never_panics() {
        let mut set = RecordSetBuilder::default();
        set.push(Some(b"key"), b"value", 5);
        set.push(None, &[1; 200], 6);
        for cut in 0..set.bytes().len() {
            let bytes = &set.bytes()[..cut];
            let ok = Records::new(bytes).map(|mut r| r.all(|x| x.is_ok())).unwrap_or(false);
            assert!(!ok, "cut at {cut} went unnoticed");
        }
    }

    #[test]
    fn varints_round_trip_at_their_length() {
        let powers = (0..63).flat_map(|bit| [(1 << bit) - 1, 1 << bit, -(1 << bit), -(1 << bit) - 1]);
        for v in powers.chain([i64::MAX, i64::MIN]) {
            let mut out = Vec::new();
            put_varint(&mut out, v);
            assert_eq!(out.len(), varint_len(v), "{v}");
            // The last bytes there are, and with others behind them.
            for more in [0, 1, 20] {
                let len = out.len();
                out.resize(len + more, 0xff);
                let mut at = 0;
                assert_eq!((take_varint(&out, &mut at), at), (Some(v), len), "{v} and {more} more bytes");
                out.truncate(len);
            }
        }
        assert_eq!(take_varint(&[0xff; 11], &mut 0), None);
    }
}
