//! A round: the record batches that `clickmill produce` sends to a host in one request, and their encoding.
//!
//! For each batch `partition u32, base timestamp i64, length u32` (big-endian), then that many bytes of a record set
//! ([`crate::record`]). Nothing stands before the first or after the last batch. A partition may come more than once:
//! its batches are appended in the order of the round. A batch is appended whole or not at all, a round is not: the
//! sender asks for its source positions ([`crate::envelope::SourcePosition`]) after anything but a success.

use crate::ids::PartitionId;

/// Bytes before the record set of each batch.
pub const BATCH_HEAD_LEN: usize = 4 + 8 + 4;

/// One batch of a round, borrowed from its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoundBatch<'a> {
    pub partition: PartitionId,
    /// Timestamp of the first record, epoch milliseconds.
    pub base_timestamp_ms: i64,
    /// A record set, count first. Nothing but its length was looked at.
    pub set: &'a [u8],
}

/// Bytes that are not a round, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed round: {what} at byte {position}")]
pub struct MalformedRound {
    pub what: &'static str,
    pub position: usize,
}

/// Appends one batch.
///
/// # Errors
/// [`MalformedRound`] for a record set of 4 GiB or more, which no log takes either.
pub fn put_batch(out: &mut Vec<u8>, batch: &RoundBatch<'_>) -> Result<(), MalformedRound> {
    let Ok(len) = u32::try_from(batch.set.len()) else {
        return Err(MalformedRound { what: "record set of 4 GiB or more", position: out.len() });
    };
    out.extend_from_slice(&batch.partition.0.to_be_bytes());
    out.extend_from_slice(&batch.base_timestamp_ms.to_be_bytes());
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(batch.set);
    Ok(())
}

/// Walks the batches of a round; stops after the first error.
#[derive(Clone, Debug)]
pub struct Batches<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Batches<'a> {
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }
}

impl<'a> Iterator for Batches<'a> {
    type Item = Result<RoundBatch<'a>, MalformedRound>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.bytes.get(self.at..).filter(|rest| !rest.is_empty())?;
        let position = self.at;
        self.at = self.bytes.len();
        let Some((head, body)) = rest.split_first_chunk::<BATCH_HEAD_LEN>() else {
            return Some(Err(MalformedRound { what: "batch head cut short", position }));
        };
        let [p0, p1, p2, p3, t0, t1, t2, t3, t4, t5, t6, t7, l0, l1, l2, l3] = *head;
        let len = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
        let Some(set) = body.get(..len) else {
            return Some(Err(MalformedRound { what: "record set longer than its round", position }));
        };
        self.at = position + BATCH_HEAD_LEN + len;
        Some(Ok(RoundBatch {
            partition: PartitionId(u32::from_be_bytes([p0, p1, p2, p3])),
            base_timestamp_ms: i64::from_be_bytes([t0, t1, t2, t3, t4, t5, t6, t7]),
            set,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_batches() -> Vec<u8> {
        let mut round = Vec::new();
        put_batch(&mut round, &RoundBatch { partition: PartitionId(2), base_timestamp_ms: -5, set: b"abc" }).unwrap();
        put_batch(&mut round, &RoundBatch { partition: PartitionId(2), base_timestamp_ms: i64::MAX, set: b"" })
            .unwrap();
        round
    }

    #[test]
    fn a_round_reads_back_in_order_and_may_name_a_partition_twice() {
        let round = two_batches();
        let batches: Vec<_> = Batches::new(&round).map(Result::unwrap).collect();
        assert_eq!(batches[0], RoundBatch { partition: PartitionId(2), base_timestamp_ms: -5, set: b"abc" });
        assert_eq!(batches[1].base_timestamp_ms, i64::MAX);
        assert_eq!(batches.len(), 2);
        assert_eq!(Batches::new(&[]).count(), 0);
    }

    #[test]
    fn a_cut_inside_a_batch_is_an_error_and_ends_the_walk() {
        let round = two_batches();
        let first = BATCH_HEAD_LEN + 3;
        for cut in 1..round.len() {
            let batches: Vec<_> = Batches::new(&round[..cut]).collect();
            let errors = batches.iter().filter(|b| b.is_err()).count();
            assert_eq!(errors, usize::from(cut != first), "cut at {cut}");
            assert!(batches.last().is_some_and(|b| b.is_err() == (cut != first)));
        }
    }
}
