//! [`Feed`]: what has been read of `ctr_windows`, as far as the live page needs it, and the frame made of it.
//!
//! Pure: whoever holds a feed gives it the topic's records in order and the wall clock. Its memory is bounded by the
//! span of event time that it keeps, whatever the topic holds.

use std::collections::{BTreeMap, VecDeque};

use crate::frame::{Categories, Frame, FrameWindow};
use clickmill_pipeline::views::status::{LedgerView, ModuleView};
use clickmill_pipeline::views::time::iso8601;
use clickmill_schemas::merge::{Fence, Progress, Unreadable, WindowRecord, WindowTable};
use clickmill_schemas::output::{Body, Commit};
use clickmill_schemas::partial::{self, Head, Partial, WindowKey};
use clickmill_schemas::record::Record;
use clickmill_schemas::{PartitionId, RunId};

const MINUTE_MS: i64 = 60_000;
const TOTAL: &str = "total";
const CATEGORY: &str = "site_category";
/// Event time that is kept behind the watermark.
const SPAN_MS: i64 = 2 * 60 * MINUTE_MS;
/// Event time that is kept before it; a pane further ahead is not shown.
const AHEAD_MS: i64 = 60 * MINUTE_MS;
/// Windows that are kept, whatever their times.
const MAX_WINDOWS: usize = 2_000;
/// Windows of a frame.
const SHOWN_WINDOWS: usize = 30;
/// Commits of this age at most make the rate.
const RATE_SPAN_MS: i64 = 10_000;

/// What has been read so far of `ctr_windows`, as far as the live page needs it.
#[derive(Debug)]
pub(crate) struct Feed {
    run: RunId,
    partitions: u32,
    fence: Fence,
    progress: Progress,
    table: WindowTable,
    rates: BTreeMap<PartitionId, VecDeque<(i64, u64)>>,
    newest_watermark_ms: Option<i64>,
}

impl Feed {
    pub(crate) fn new(run: RunId, partitions: u32) -> Self {
        Self {
            run,
            partitions,
            fence: Fence::default(),
            progress: Progress::default(),
            table: WindowTable::default(),
            rates: BTreeMap::new(),
            newest_watermark_ms: None,
        }
    }

    /// The topic that is followed was made anew: what is known is of no use.
    pub(crate) fn is_of(&self, run: RunId, partitions: u32) -> bool {
        (self.run, self.partitions) == (run, partitions)
    }

    /// Event time before which nothing is shown, as far as the commits tell.
    pub(crate) fn expect_watermark(&mut self, watermark_ms: Option<i64>) {
        self.newest_watermark_ms = self.newest_watermark_ms.max(watermark_ms);
    }

    /// Takes a record in.
    pub(crate) fn take(&mut self, record: &Record<'_>) -> Result<(), Unreadable> {
        if !partial::is_partial(record.value) {
            let read = WindowRecord::decode(record.key, record.value)?;
            let WindowRecord::Output(output) = &read else {
                return Ok(());
            };
            if output.stamp.run == self.run && self.fence.admits(read.term()) {
                self.progress.apply(output);
                if let Body::Commit(commit) = &output.body {
                    self.commit(output.stamp.partition, commit);
                }
            }
            return Ok(());
        }
        let key = record.key.unwrap_or_default();
        let head = Head::decode(key, record.value)?;
        let term = (head.owner.run, head.owner.partition, head.version.epoch);
        if head.owner.run == self.run && self.fence.admits(term) && self.keeps(&head.window) {
            self.table.apply(Partial::decode(key, record.value)?);
            if self.table.len() > MAX_WINDOWS {
                self.forget_oldest();
            }
        }
        Ok(())
    }

    fn commit(&mut self, partition: PartitionId, commit: &Commit) {
        let samples = self.rates.entry(partition).or_default();
        samples.push_back((commit.committed_at_ms, commit.as_of_offset.0));
        while samples.front().is_some_and(|(at, _)| *at < commit.committed_at_ms - RATE_SPAN_MS) {
            samples.pop_front();
        }
        if commit.watermark_ms > self.newest_watermark_ms {
            self.newest_watermark_ms = commit.watermark_ms;
            self.forget();
        }
    }

    fn keeps(&self, window: &WindowKey) -> bool {
        let near = |watermark: i64| {
            window.end_ms() > watermark.saturating_sub(SPAN_MS) && window.start_ms < watermark.saturating_add(AHEAD_MS)
        };
        window.size_ms == MINUTE_MS
            && (window.dimension == TOTAL || window.dimension == CATEGORY)
            && self.newest_watermark_ms.is_none_or(near)
    }

    fn forget(&mut self) {
        let mut table = std::mem::take(&mut self.table);
        table.retain(|window| self.keeps(window));
        self.table = table;
    }

    fn forget_oldest(&mut self) {
        let starts: std::collections::BTreeSet<i64> = self.table.iter().map(|(w, _)| w.start_ms).collect();
        if let Some(middle) = starts.iter().nth(starts.len() / 2).copied() {
            self.table.retain(|window| window.start_ms >= middle);
        }
    }

    fn events_per_second(&self, now_ms: i64) -> f64 {
        let rate = |samples: &VecDeque<(i64, u64)>| {
            let (first, last) = (samples.front()?, samples.back()?);
            let fresh = now_ms - last.0 < RATE_SPAN_MS && last.0 > first.0;
            fresh.then(|| last.1.saturating_sub(first.1) as f64 * 1_000.0 / (last.0 - first.0) as f64)
        };
        // Not `sum`: of nothing, it is -0.
        self.rates.values().filter_map(rate).fold(0.0, |sum, rate| sum + rate)
    }

    /// What there is to show now; `ends` are the ends of the input partitions.
    pub(crate) fn frame(&self, now_ms: i64, ends: &[u64], modules: Vec<ModuleView>, caught_up: bool) -> Frame {
        let final_before_ms = self.progress.final_before_ms(self.partitions);
        let mut ledger = LedgerView { produced: ends.iter().sum(), fates: self.progress.ledger(), waiting: 0 };
        let mut processed = 0;
        for (partition, end) in (0..).map(PartitionId).zip(ends) {
            let offset = self.progress.processed(partition).0;
            processed += offset;
            ledger.waiting += end.saturating_sub(offset);
        }
        let of = |dimension: &'static str| self.table.iter().filter(move |(w, _)| w.dimension == dimension);
        let mut windows: Vec<FrameWindow> = of(TOTAL)
            .map(|(w, merged)| FrameWindow::new(w, merged, final_before_ms))
            .filter(|w| w.impressions > 0)
            .collect();
        windows.drain(..windows.len().saturating_sub(SHOWN_WINDOWS));
        let categories = of(CATEGORY).last().map(|(window, merged)| Categories::new(window, merged));
        Frame {
            at_ms: now_ms,
            caught_up,
            events_per_second: self.events_per_second(now_ms),
            log_end: ledger.produced,
            processed,
            lag: ledger.waiting,
            balanced: ledger.balances(),
            ledger,
            watermark: (0..self.partitions)
                .filter_map(|p| self.progress.commit(PartitionId(p)).and_then(|c| c.watermark_ms))
                .min()
                .map(iso8601),
            windows,
            categories,
            modules,
        }
    }
}

#[cfg(test)]
mod tests {
    use clickmill_schemas::output::{Ledger, Output, Stamp};
    use clickmill_schemas::partial::{
        Metrics, Owner, Version, key_prefix, put_end, put_entry, put_guest_head, put_guest_key, put_stamps,
    };
    use clickmill_schemas::{Epoch, Generation, Offset};

    use super::*;

    const RUN: RunId = RunId([1; 16]);

    fn take_partial(feed: &mut Feed, epoch: u64, as_of: u64, start_ms: i64, dimension: &str, impressions: i64) {
        let owner = Owner { run: RUN, partition: PartitionId(0), generation: Generation(0) };
        let mut key = key_prefix(&owner).into_bytes();
        put_guest_key(&mut key, MINUTE_MS, start_ms, dimension);
        let mut value = Vec::new();
        put_stamps(&mut value, &Version { epoch: Epoch(epoch), as_of: Offset(as_of) });
        put_guest_head(&mut value, false, 1);
        put_entry(&mut value, b"", &Metrics { impressions, clicks: 1, ..Metrics::default() });
        put_end(&mut value);
        feed.take(&Record { offset_delta: 0, timestamp_delta_ms: 0, key: Some(&key), value: &value }).unwrap();
    }

    fn take_commit(feed: &mut Feed, epoch: u64, as_of: u64, watermark_ms: i64, at_ms: i64) {
        let output = Output {
            stamp: Stamp { run: RUN, partition: PartitionId(0), epoch: Epoch(epoch) },
            body: Body::Commit(Commit {
                generation: Generation(0),
                as_of_offset: Offset(as_of),
                watermark_ms: Some(watermark_ms),
                closed_before_ms: Some(watermark_ms - MINUTE_MS),
                ledger: Ledger { counted: as_of, ..Ledger::default() },
                committed_at_ms: at_ms,
                oldest_append_ms: None,
            }),
        };
        let value = output.encode();
        feed.take(&Record { offset_delta: 0, timestamp_delta_ms: 0, key: None, value: &value }).unwrap();
    }

    #[test]
    fn a_frame_tells_rate_lag_ledger_and_which_windows_are_final() {
        let mut feed = Feed::new(RUN, 1);
        take_partial(&mut feed, 1, 100, 0, TOTAL, 60);
        take_partial(&mut feed, 1, 100, MINUTE_MS, TOTAL, 40);
        take_commit(&mut feed, 1, 100, 2 * MINUTE_MS, 5_000);
        take_commit(&mut feed, 1, 300, 2 * MINUTE_MS, 6_000);
        let frame = feed.frame(6_500, &[350], Vec::new(), true);
        assert_eq!((frame.lag, frame.processed, frame.balanced), (50, 300, true));
        assert_eq!((frame.ledger.produced, frame.ledger.waiting), (350, 50));
        assert_eq!(frame.events_per_second, 200.0);
        let shown: Vec<_> = frame.windows.iter().map(|w| (w.start.as_str(), w.impressions, w.r#final)).collect();
        assert_eq!(shown, [("1970-01-01T00:00:00Z", 60, true), ("1970-01-01T00:01:00Z", 40, false)]);
        let idle = feed.frame(60_000, &[350], Vec::new(), true).events_per_second;
        assert!(idle == 0.0 && idle.is_sign_positive(), "{idle:?}");
    }

    #[test]
    fn a_commit_ahead_of_its_log_shows_as_a_ledger_that_does_not_balance() {
        let mut feed = Feed::new(RUN, 1);
        take_commit(&mut feed, 1, 100, 0, 0);
        assert!(!feed.frame(0, &[90], Vec::new(), true).balanced);
    }

    #[test]
    fn a_fenced_workers_partials_are_not_shown() {
        let mut feed = Feed::new(RUN, 1);
        take_partial(&mut feed, 2, 10, 0, TOTAL, 5);
        take_partial(&mut feed, 1, 99, 0, TOTAL, 77);
        assert_eq!(feed.frame(0, &[0], Vec::new(), true).windows[0].impressions, 5);
    }

    #[test]
    fn what_is_kept_stays_bounded_and_a_pane_of_the_year_2100_does_not_push_the_others_out() {
        let mut feed = Feed::new(RUN, 1);
        take_commit(&mut feed, 1, 1, 0, 0);
        take_partial(&mut feed, 1, 1, 4_102_444_800_000, TOTAL, 1);
        for minute in 0..5_000 {
            take_partial(&mut feed, 1, minute, minute as i64 * MINUTE_MS, TOTAL, 1);
            take_commit(&mut feed, 1, minute, minute as i64 * MINUTE_MS, 0);
        }
        assert!(feed.table.len() <= 122, "{}", feed.table.len());
        let frame = feed.frame(0, &[0], Vec::new(), true);
        assert_eq!(frame.windows.len(), SHOWN_WINDOWS);
        assert_eq!(frame.windows[29].start, iso8601(4_999 * MINUTE_MS));

        let mut unbounded = Feed::new(RUN, 1);
        for minute in 0..10_000 {
            take_partial(&mut unbounded, 1, 1, minute * MINUTE_MS, TOTAL, 1);
        }
        assert!(unbounded.table.len() <= MAX_WINDOWS);
    }
}
