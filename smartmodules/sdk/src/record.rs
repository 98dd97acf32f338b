//! What comes in: the input of a transform call, walked in place.
//!
//! Owns the head and tail that stand around the record set. The records' own encoding is `schemas::record`.

use clickmill_schemas::record::{Malformed, Records};

/// A record, borrowed from the input of the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Position in its partition: the base offset of its batch and its own delta.
    pub offset: i64,
    /// Offset less the base offset of its batch.
    pub offset_delta: i64,
    /// Milliseconds after the base timestamp of its batch.
    pub timestamp_delta_ms: i64,
    /// The producer's own. Modules further down never see it.
    pub key: Option<&'a [u8]>,
    pub value: &'a [u8],
}

/// An input: `i64 base offset, u32 length, record set` and more (Fluvio's base timestamp) that we do not need.
#[derive(Clone, Debug)]
pub struct Input<'a> {
    base_offset: i64,
    records: Records<'a>,
}

impl<'a> Input<'a> {
    /// Reads the head; `None` where it is cut short.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        let (base_offset, rest) = bytes.split_first_chunk::<8>()?;
        let (len, rest) = rest.split_first_chunk::<4>()?;
        let set = rest.get(..u32::from_be_bytes(*len) as usize)?;
        Some(Self { base_offset: i64::from_be_bytes(*base_offset), records: Records::new(set).ok()? })
    }

    /// Appends an input for this record set.
    pub fn encode(out: &mut Vec<u8>, base_offset: i64, set: &[u8], base_timestamp_ms: i64) {
        out.extend_from_slice(&base_offset.to_be_bytes());
        out.extend_from_slice(&(set.len() as u32).to_be_bytes());
        out.extend_from_slice(set);
        out.extend_from_slice(&base_timestamp_ms.to_be_bytes());
    }
}

impl<'a> Iterator for Input<'a> {
    type Item = Result<Record<'a>, Malformed>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let record = match self.records.next()? {
            Ok(record) => record,
            Err(malformed) => return Some(Err(malformed)),
        };
        Some(Ok(Record {
            offset: self.base_offset.wrapping_add(record.offset_delta),
            offset_delta: record.offset_delta,
            timestamp_delta_ms: record.timestamp_delta_ms,
            key: record.key,
            value: record.value,
        }))
    }
}
