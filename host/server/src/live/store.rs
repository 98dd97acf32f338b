//! [`Store`]: what has been read of `ctr_windows`, and the events and answers made of it.
//!
//! Pure: whoever holds a store gives it the topic's records in order and the wall clock. Its memory is bounded, whatever
//! the topic holds. Event time goes by the greatest watermark of the partitions.

use std::collections::BTreeSet;
use std::sync::Mutex;

use clickmill_pipeline::views::status::LedgerView;
use clickmill_pipeline::views::windows::Slice;
use clickmill_schemas::merge::{Fence, Progress, Unreadable, WindowRecord};
use clickmill_schemas::output::{Body, Commit, Output};
use clickmill_schemas::partial::{self, Head};
use clickmill_schemas::record::Record;
use clickmill_schemas::{PartitionId, RunId};

use super::deployments::Deployments;
use super::event::{Event, Sizes, Window};
use super::marks::Marks;
use super::rate::Rates;
use super::table::{AHEAD_MS, At, Counted, SPANS_MS, TOTAL, Table};

/// Bytes of windows that are held: as many as one pass over the topic may hold that answers the same questions. Reckoned with 30
/// bytes a key, that is an hour of both sizes where a dimension has 10,000 keys in each of 3 partitions.
pub(super) const LIMIT_BYTES: usize = 64 << 20;
/// Windows of a snapshot, by size.
const SHOWN: [usize; 2] = [120, 60];

/// A store that one thread feeds and requests read; none before there is a topic.
pub(crate) type Shared = Mutex<Option<Store>>;

/// What has been read so far.
#[derive(Debug)]
pub(crate) struct Store {
    run: RunId,
    pub(super) partitions: u32,
    pub(super) deployments: Deployments,
    fence: Fence,
    progress: Progress,
    pub(super) table: Table,
    marks: Marks,
    rates: Rates,
    newest_watermark_ms: Option<i64>,
    final_before_ms: Option<i64>,
    /// Everything has been read once: since then no part of a window is missed.
    pub(super) caught_up: bool,
    /// A commit has been read that nobody has been told of.
    pub(super) has_news: bool,
    /// Windows that nobody has been told of as they are now.
    changed: BTreeSet<At>,
    paused: Option<String>,
}

/// What a store cannot know by itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now<'a> {
    pub(super) wall_ms: i64,
    /// Ends of the input's partitions.
    pub(super) ends: &'a [u64],
    pub(super) caught_up: bool,
}

impl Store {
    pub(super) fn new(run: RunId, partitions: u32, limit_bytes: usize) -> Self {
        Self {
            run,
            partitions,
            deployments: Deployments::default(),
            fence: Fence::default(),
            progress: Progress::default(),
            table: Table::new(limit_bytes),
            marks: Marks::default(),
            rates: Rates::default(),
            newest_watermark_ms: None,
            final_before_ms: None,
            caught_up: false,
            has_news: false,
            changed: BTreeSet::new(),
            paused: None,
        }
    }

    /// Whether it is of the run that readers take.
    pub(super) fn is_of(&self, run: RunId) -> bool {
        self.run == run
    }

    /// Event time comes at least this far, as is known beforehand: what is too old by then is passed over.
    pub(super) fn expect_watermark(&mut self, watermark_ms: Option<i64>) {
        if let Some(ms) = watermark_ms.filter(|ms| Some(*ms) > self.newest_watermark_ms) {
            self.advance(ms);
        }
    }

    /// Takes a record in that was written at `wall_ms`.
    pub(super) fn take(&mut self, wall_ms: i64, record: &Record<'_>) -> Result<(), Unreadable> {
        if !partial::is_partial(record.value) {
            let read = WindowRecord::decode(record.key, record.value)?;
            if let WindowRecord::Output(output) = &read
                && output.stamp.run == self.run
                && self.fence.admits(read.term())
            {
                self.output(wall_ms, output);
            }
            return Ok(());
        }
        let head = Head::decode(record.key.unwrap_or_default(), record.value)?;
        let (owner, window, as_of) = (head.owner, head.window.clone(), head.version.as_of);
        if owner.run != self.run || !self.fence.admits((owner.run, owner.partition, head.version.epoch)) {
            return Ok(());
        }
        let commit = self.progress.commit(owner.partition);
        let passed = commit.is_some_and(|c| c.watermark_ms.is_some_and(|now| now >= window.end_ms()));
        if commit.is_none()
            && window.dimension == TOTAL
            && window.size_ms == SPANS_MS[0].0
            && self.is_near(window.start_ms)
        {
            // Compaction has taken the older commits. What was counted last for a window was so about when it ended.
            self.marks.reached(owner.partition, as_of, window.start_ms, &self.deployments);
        }
        let counted = match (passed, self.caught_up) {
            (false, _) => Counted::InTime,
            (true, true) => Counted::After,
            (true, false) => Counted::AfterUnknown,
        };
        if self.table.apply(head, record.value, counted)? {
            self.changed.insert((window.size_ms, window.start_ms));
        }
        Ok(())
    }

    fn is_near(&self, start_ms: i64) -> bool {
        self.newest_watermark_ms.is_some_and(|now| start_ms < now.saturating_add(AHEAD_MS))
    }

    fn output(&mut self, wall_ms: i64, output: &Output) {
        let partition = output.stamp.partition;
        match &output.body {
            Body::Commit(commit) => {
                self.progress.apply(output);
                self.commit(partition, commit);
            }
            Body::Late { offset, ts_ms, .. } => self.changed.extend(self.table.late(partition, *offset, *ts_ms)),
            Body::Decision { offset, decision } => {
                self.marks.decided(partition, *offset, decision.clone(), wall_ms);
                self.has_news = true;
            }
            Body::Rewind { as_of_offset } => {
                self.table.rewind(partition, *as_of_offset);
                self.marks.rewind(partition, *as_of_offset);
            }
            // `Retried` is a matter of `ad_events_error`.
            Body::Epoch | Body::Inherit { .. } | Body::Retried { .. } => {}
        }
    }

    fn commit(&mut self, partition: PartitionId, commit: &Commit) {
        self.has_news = true;
        self.rates.commit(partition, commit);
        let Some(watermark_ms) = commit.watermark_ms else { return };
        self.marks.reached(partition, commit.as_of_offset, watermark_ms, &self.deployments);
        if commit.watermark_ms > self.newest_watermark_ms {
            self.advance(watermark_ms);
        }
        self.look_at_what_is_final();
    }

    fn advance(&mut self, watermark_ms: i64) {
        let before = self.newest_watermark_ms.replace(watermark_ms);
        self.table.advance(watermark_ms);
        let longest = SPANS_MS.into_iter().map(|(_, span)| span).max().unwrap_or_default();
        self.marks.forget_before(watermark_ms.saturating_sub(longest));
        // Windows that were far ahead, and are not any more.
        let from = before.map_or(i64::MIN, |before| before.saturating_add(AHEAD_MS));
        for (size_ms, _) in SPANS_MS {
            self.changed.extend(self.table.newest(size_ms, from, watermark_ms.saturating_add(AHEAD_MS)));
        }
    }

    fn look_at_what_is_final(&mut self) {
        let before = std::mem::replace(&mut self.final_before_ms, self.progress.final_before_ms(self.partitions));
        if let Some(now) = self.final_before_ms.filter(|now| Some(*now) > before) {
            for (size_ms, _) in SPANS_MS {
                let from = before.map_or(i64::MIN, |before| before.saturating_sub(size_ms));
                self.changed.extend(self.table.newest(size_ms, from, now));
            }
        }
    }

    /// The workers stand still, or go on.
    pub(super) fn set_paused(&mut self, reason: Option<String>, wall_ms: i64) {
        if reason != self.paused {
            let at_ms = self.newest_watermark_ms.unwrap_or(wall_ms);
            self.marks.paused(reason.as_deref(), at_ms, wall_ms);
            self.paused = reason;
            self.has_news = true;
        }
    }

    /// All that is shown.
    pub(super) fn snapshot(&self, now: Now<'_>) -> Event<'_> {
        let near_ms = self.newest_watermark_ms.map_or(i64::MAX, |now| now.saturating_add(AHEAD_MS));
        let of = |(size_ms, shown): (i64, usize)| {
            let all = self.table.newest(size_ms, i64::MIN, near_ms).map(|at| self.window(at));
            let mut newest: Vec<Window> = all.filter(|w| w.impressions > 0 || w.late > 0).take(shown).collect();
            newest.reverse();
            newest
        };
        let [(minute, _), (five, _)] = SPANS_MS;
        let windows = Sizes { minutes: of((minute, SHOWN[0])), fives: of((five, SHOWN[1])) };
        self.event(now, windows, true)
    }

    /// What has changed since [`Store::told`]; none where that is more than a snapshot has.
    pub(super) fn update(&self, now: Now<'_>) -> Option<Event<'_>> {
        if self.changed.len() > SHOWN.iter().sum() {
            return None;
        }
        let near = self
            .changed
            .iter()
            .copied()
            .filter(|(_, start)| self.is_near(*start) || self.newest_watermark_ms.is_none());
        let (minutes, fives): (Vec<At>, Vec<At>) = near.partition(|(size_ms, _)| *size_ms == SPANS_MS[0].0);
        let windows = |all: Vec<At>| all.into_iter().map(|at| self.window(at)).collect();
        Some(self.event(now, Sizes { minutes: windows(minutes), fives: windows(fives) }, false))
    }

    /// Everybody has been told of everything.
    pub(super) fn told(&mut self) {
        self.has_news = false;
        self.changed.clear();
        self.marks.told();
    }

    fn window(&self, at @ (size_ms, start_ms): At) -> Window {
        let total = self.table.total(at);
        Window {
            start_ms,
            impressions: total.sum.impressions,
            clicks: total.sum.clicks,
            conversions: total.sum.conversions,
            cost_micros: total.sum.cost_micros,
            revenue_micros: total.sum.revenue_micros,
            r#final: self.final_before_ms.is_some_and(|before| start_ms.saturating_add(size_ms) <= before),
            corrected: total.corrected,
            late: total.late,
        }
    }

    fn event(&self, now: Now<'_>, windows: Sizes, all_marks: bool) -> Event<'_> {
        let mut ledger = LedgerView { produced: now.ends.iter().sum(), fates: self.progress.ledger(), waiting: 0 };
        let mut processed = 0;
        for (partition, end) in (0..).map(PartitionId).zip(now.ends) {
            let offset = self.progress.processed(partition).0;
            processed += offset;
            ledger.waiting += end.saturating_sub(offset);
        }
        let watermarks = (0..self.partitions).filter_map(|p| self.progress.commit(PartitionId(p))?.watermark_ms);
        Event {
            at_ms: now.wall_ms,
            caught_up: now.caught_up,
            events_per_second: self.rates.events_per_second(now.wall_ms),
            log_end: ledger.produced,
            processed,
            lag: ledger.waiting,
            balanced: ledger.balances(),
            ledger,
            paused: self.paused.as_deref(),
            watermark_ms: watermarks.min(),
            final_before_ms: self.final_before_ms,
            windows,
            marks: if all_marks { self.marks.all() } else { self.marks.untold() },
            modules: self.deployments.modules(),
        }
    }

    /// Start of the newest window of a size that is not far ahead.
    pub(super) fn newest_start(&self, size_ms: i64) -> Option<i64> {
        let near_ms = self.newest_watermark_ms.map_or(i64::MAX, |now| now.saturating_add(AHEAD_MS));
        self.table.newest(size_ms, i64::MIN, near_ms).next().map(|(_, start)| start)
    }

    /// The windows of a dimension that start in `from..to`; none where some of them are not here.
    pub(super) fn slices(&self, size_ms: i64, dimension: &str, from: i64, to: i64) -> Option<Vec<Slice>> {
        let all = self.caught_up && self.table.has_all(size_ms, dimension, from, to);
        all.then(|| self.table.slices(size_ms, dimension, from, to))
    }
}
