//! What goes through the chain at once: a stored batch, or the part of one up to where something binds.

use std::error::Error;

use clickmill_broker::{BrokerError, StoredBatch};
use clickmill_engine::BatchSource;
use clickmill_schemas::Offset;
use clickmill_schemas::record::{Malformed, Record, Records, put_record};

/// A batch that cannot be cut.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

/// Consecutive records of one stored batch.
pub(crate) struct Input<'a> {
    pub batch: &'a StoredBatch,
    from: Offset,
    to: Offset,
    /// The record set, where it is not the whole batch.
    part: Option<Vec<u8>>,
}

impl<'a> Input<'a> {
    /// The records of `batch` from `from` on, up to its end or `limit`, whichever comes first.
    pub(crate) fn new(batch: &'a StoredBatch, from: Offset, limit: Option<Offset>) -> Result<Self, InputError> {
        let to = limit.map_or(batch.next_offset(), |limit| limit.min(batch.next_offset()));
        let whole = from == batch.base_offset && to == batch.next_offset();
        let part = if whole { None } else { Some(part(&batch.records()?, batch.base_offset, from, to)?) };
        Ok(Self { batch, from, to, part })
    }

    pub(crate) const fn from(&self) -> Offset {
        self.from
    }

    /// The offset after its last record.
    pub(crate) const fn to(&self) -> Offset {
        self.to
    }
}

/// The records of `set` in [from, to), counted from `from`.
fn part(set: &[u8], base: Offset, from: Offset, to: Offset) -> Result<Vec<u8>, Malformed> {
    let mut out = vec![0; 4];
    let mut count: u32 = 0;
    for record in Records::new(set)? {
        let record = record?;
        let offset = base.plus(record.offset_delta.unsigned_abs());
        if offset >= from && offset < to {
            put_record(&mut out, &Record { offset_delta: i64::from(count), ..record });
            count += 1;
        }
    }
    out[..4].copy_from_slice(&count.to_be_bytes());
    Ok(out)
}

impl BatchSource for Input<'_> {
    fn base_offset(&self) -> Offset {
        self.from
    }

    fn base_timestamp_ms(&self) -> i64 {
        self.batch.base_timestamp_ms
    }

    fn count(&self) -> u32 {
        // Of a part it is what a batch's count bounds.
        self.part.as_ref().map_or(self.batch.count, |_| (self.to.0 - self.from.0) as u32)
    }

    fn records_len(&self) -> usize {
        self.part.as_ref().map_or(self.batch.records_len(), Vec::len)
    }

    fn write_records(&self, dst: &mut [u8]) -> Result<(), Box<dyn Error + Send + Sync>> {
        match &self.part {
            None => self.batch.read_into(dst).map_err(Into::into),
            Some(part) => {
                dst.copy_from_slice(part);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use clickmill_schemas::record::RecordSetBuilder;

    use super::*;

    #[test]
    fn parts_of_a_batch_hold_each_record_once_and_count_from_their_own_start() {
        let mut set = RecordSetBuilder::default();
        (0..10_u8).for_each(|n| set.push(Some(&[n]), &[n, n], i64::from(n)));
        let parts = [(100, 103), (103, 104), (104, 110)];
        let mut seen = Vec::new();
        for (from, to) in parts {
            let bytes = part(set.bytes(), Offset(100), Offset(from), Offset(to)).unwrap();
            let records: Vec<_> = Records::new(&bytes).unwrap().map(Result::unwrap).collect();
            assert_eq!(records.len() as u64, to - from);
            for (delta, record) in records.iter().enumerate() {
                assert_eq!(record.offset_delta, delta as i64);
                seen.push((record.key.unwrap()[0], record.value.to_vec(), record.timestamp_delta_ms));
            }
        }
        let expected: Vec<_> = (0..10_u8).map(|n| (n, vec![n, n], i64::from(n))).collect();
        assert_eq!(seen, expected);
    }
}
