//! Why a record came late, and why a window is still open: which partition and which record hold the watermark.

use clickmill_broker::{Broker, TopicPartition};
use clickmill_schemas::record::Records;
use clickmill_schemas::{Offset, PartitionId};
use serde::{Deserialize, Serialize};

use crate::blame::{Blame, Fate, event_time};
use crate::topics::AD_EVENTS_RAW;
use crate::views::status::PartitionView;
use crate::views::windows::{SIZES_MS, size_name};
use crate::views::{BadRecord, ViewError};

/// Length of the panes by which lateness is judged: the shortest windows.
const PANE_MS: i64 = SIZES_MS[0];
/// Batches that are read back in search of the record that moved the watermark.
const MOST_BATCHES: usize = 10_000;

/// A late record, and what it came after.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhyLate {
    pub partition: PartitionId,
    pub offset: Offset,
    /// Its event time, epoch milliseconds, as all times here.
    pub ts_ms: i64,
    /// The end of its pane.
    pub pane_end_ms: i64,
    /// A watermark at or beyond this closes the pane: its end and the allowed lateness.
    pub closes_at_ms: i64,
    /// The watermark before it.
    pub watermark_ms: i64,
    /// How far the watermark was beyond that.
    pub late_by_ms: i64,
    /// The record that had moved the watermark there; none where it was moved in another way, as an idle partition's is.
    pub holder: Option<Holder>,
}

/// A record that holds a watermark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    pub offset: Offset,
    pub ts_ms: i64,
}

/// A window, and what it waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhyOpen {
    pub size: String,
    pub start_ms: i64,
    pub end_ms: i64,
    /// No partition changes it any more.
    #[serde(rename = "final")]
    pub final_: bool,
    /// The partitions that hold it open, the one that is furthest behind first.
    pub held_by: Vec<Waiting>,
}

/// A partition that has not closed a window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    pub partition: PartitionId,
    /// None before its first event.
    pub watermark_ms: Option<i64>,
    /// How much further its watermark must come.
    pub missing_ms: Option<i64>,
    /// The newest record that it has processed.
    pub newest_offset: Option<Offset>,
    /// Records that wait for it.
    pub lag: u64,
}

/// What a late record came after; none for a record that was not late.
pub(crate) fn late(
    broker: &dyn Broker,
    blame: &Blame,
    (out_of_orderness_ms, lateness_ms): (i64, i64),
) -> Result<Option<WhyLate>, ViewError> {
    let (Fate::Late, Some(ts_ms), Some(watermark_ms)) = (blame.fate, blame.ts_ms, blame.watermark_ms) else {
        return Ok(None);
    };
    let pane_end_ms = ts_ms - ts_ms.rem_euclid(PANE_MS) + PANE_MS;
    let closes_at_ms = pane_end_ms + lateness_ms;
    let at = TopicPartition::new(AD_EVENTS_RAW, blame.partition);
    let wanted = watermark_ms + out_of_orderness_ms;
    let (mut holder, mut failure, mut batches) = (None, None, 0);
    broker.last_batch_with(&at, &mut |batch| {
        if batch.base_offset >= blame.offset {
            return false;
        }
        batches += 1;
        let set = match batch.records() {
            Ok(set) => set,
            Err(e) => {
                failure = Some(ViewError::Broker(e));
                return true;
            }
        };
        let bad = |e| ViewError::Record {
            topic: AD_EVENTS_RAW.to_owned(),
            partition: blame.partition,
            offset: batch.base_offset,
            source: BadRecord::Malformed(e),
        };
        match Records::new(&set) {
            Err(e) => failure = Some(bad(e)),
            // The first of them moved it; the search goes from the newest batch back.
            Ok(records) => {
                for record in records.flatten() {
                    let offset = batch.base_offset.plus(record.offset_delta.unsigned_abs());
                    let ts_ms = event_time(record.value);
                    if offset < blame.offset && ts_ms == Some(wanted) {
                        holder = Some(Holder { offset, ts_ms: wanted });
                        break;
                    }
                }
            }
        }
        failure.is_some() || holder.is_some() || batches >= MOST_BATCHES
    })?;
    if let Some(e) = failure {
        return Err(e);
    }
    let late_by_ms = watermark_ms - closes_at_ms;
    let (partition, offset) = (blame.partition, blame.offset);
    Ok(Some(WhyLate { partition, offset, ts_ms, pane_end_ms, closes_at_ms, watermark_ms, late_by_ms, holder }))
}

/// What a window waits for.
#[must_use]
pub fn open(size_ms: i64, start_ms: i64, partitions: &[PartitionView]) -> WhyOpen {
    let start_ms = start_ms - start_ms.rem_euclid(size_ms);
    let end_ms = start_ms + size_ms;
    let waits = |p: &&PartitionView| p.closed_before_ms.is_none_or(|closed| closed < end_ms);
    let mut held_by: Vec<Waiting> = partitions
        .iter()
        .filter(waits)
        .map(|p| Waiting {
            partition: p.partition,
            watermark_ms: p.watermark_ms,
            missing_ms: p.closed_before_ms.map(|closed| end_ms - closed),
            newest_offset: p.processed_offset.0.checked_sub(1).map(Offset),
            lag: p.lag,
        })
        .collect();
    held_by.sort_by_key(|w| (w.watermark_ms, w.partition));
    WhyOpen { size: size_name(size_ms), start_ms, end_ms, final_: held_by.is_empty(), held_by }
}

#[cfg(test)]
mod tests {
    use clickmill_schemas::output::Ledger;

    use super::*;
    use crate::views::status::LedgerView;

    fn partition(n: u32, closed_before_ms: Option<i64>) -> PartitionView {
        PartitionView {
            topic: AD_EVENTS_RAW.to_owned(),
            partition: PartitionId(n),
            log_start_offset: Offset(0),
            log_end_offset: Offset(10),
            processed_offset: Offset(10),
            lag: 0,
            watermark_ms: closed_before_ms.map(|ms| ms + 60_000),
            closed_before_ms,
            epoch: None,
            committed_at_ms: None,
            ledger: LedgerView { produced: 10, fates: Ledger::default(), waiting: 0 },
        }
    }

    #[test]
    fn a_window_is_held_by_those_that_have_not_closed_it_the_furthest_behind_first() {
        let all = [partition(0, Some(120_000)), partition(1, Some(50_000)), partition(2, None)];
        let why = open(60_000, 61_000, &all);
        assert_eq!((why.start_ms, why.end_ms, why.final_), (60_000, 120_000, false));
        let held: Vec<_> = why.held_by.iter().map(|w| (w.partition.0, w.missing_ms)).collect();
        assert_eq!(held, [(2, None), (1, Some(70_000))]);
        assert!(open(60_000, 0, &all[..1]).final_);
    }
}
