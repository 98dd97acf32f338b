//! The windows of one partition: which record counts where, what closes when, what is given out.
//!
//! Ties the watermark, the panes and the emission together. It must not know the ABI, the event's encoding, batches or
//! the clock. The law: every fate and every sum is a function of the calls of [`Windows::observe`] and
//! [`Windows::advance`] so far; emitting, saving and loading in between change none.

use std::borrow::Cow;

use clickmill_schemas::partial::Metrics;

use crate::column::Column;
use crate::combine::Combiner;
use crate::config::{Config, PANE_MS, SPAN_MS, USUAL_COLUMNS};
use crate::emission::Partials;
use crate::pane::{END_MS, FIRST_MS, Pane, pane_start};
use crate::probe::Key;
use crate::table::KeyBudget;
use crate::watermark::Watermark;

/// What becomes of a record. A watermark is the one that the record was judged against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Counted,
    /// Its pane is closed.
    Late {
        watermark_ms: i64,
    },
    /// No room for a pane so far ahead.
    TooFarAhead {
        watermark_ms: Option<i64>,
    },
    /// Before the first window that there can be.
    BeforeTime,
}

/// See the head of this file.
#[derive(Clone, Debug)]
pub struct Windows {
    pub(crate) config: Config,
    /// Whether the columns are [`USUAL_COLUMNS`], for which there is code of their own.
    usual: bool,
    pub(crate) watermark: Watermark,
    /// In order of time. Those before `first_open` are closed and wait for their span to close.
    panes: Vec<Pane>,
    first_open: usize,
    /// The least end of an open pane or a held span: nothing closes before.
    next_close_ms: i64,
    /// The newest open pane in range, which takes nearly all records, and its start; [`NO_PANE`] where there is none.
    hand: usize,
    hand_start_ms: i64,
    /// What was counted in it and is not in its tables yet.
    combiner: Combiner,
    budget: KeyBudget,
    /// Closed since the last emission.
    pub(crate) closed_panes: Partials,
    pub(crate) closed_spans: Partials,
    /// Cleared panes, for their memory.
    spare: Vec<Pane>,
}

const NO_PANE: usize = usize::MAX;
const SPARE_PANES: usize = 8;

impl Windows {
    /// Before the first record.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let watermark = Watermark::new(config.watermark);
        Self::resume(config, watermark, Vec::new(), [Partials::default(), Partials::default()])
    }

    /// From a state's parts; `panes` in order of time. Everything open counts as changed.
    pub(crate) fn resume(config: Config, watermark: Watermark, mut panes: Vec<Pane>, closed: [Partials; 2]) -> Self {
        let held: u64 = panes.iter().map(Pane::key_bytes).sum();
        panes.iter_mut().for_each(|pane| pane.changed = true);
        let first_open = panes.partition_point(|pane| pane.end_ms() <= watermark.closed_before());
        let [closed_panes, closed_spans] = closed;
        let budget = KeyBudget {
            max_keys: config.max_keys,
            max_table_bytes: config.max_pane_key_bytes,
            left_bytes: config.max_held_key_bytes.saturating_sub(held),
        };
        let mut resumed = Self {
            usual: config.columns == USUAL_COLUMNS,
            config,
            watermark,
            panes,
            first_open,
            next_close_ms: i64::MAX,
            hand: NO_PANE,
            hand_start_ms: 0,
            combiner: Combiner::default(),
            budget,
            closed_panes,
            closed_spans,
            spare: Vec::new(),
        };
        resumed.plan_close();
        resumed
    }

    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Epoch milliseconds.
    #[must_use]
    pub fn watermark_ms(&self) -> Option<i64> {
        self.watermark.get()
    }

    /// Windows that end at or before this are closed, epoch milliseconds.
    #[must_use]
    pub fn closed_before_ms(&self) -> Option<i64> {
        self.watermark.get().map(|_| self.watermark.closed_before())
    }

    /// Bytes of closed windows that wait to be emitted.
    #[must_use]
    pub const fn pending_bytes(&self) -> usize {
        self.closed_panes.len() + self.closed_spans.len()
    }

    /// The next record of the partition: judges it by what came before it, counts it where it belongs, moves the
    /// watermark by it, closes what that closes. `key` gives its keys.
    #[inline]
    pub fn observe<'a>(&mut self, ts_ms: i64, metrics: &Metrics, key: impl Fn(Column) -> Key<'a>) -> Fate {
        let in_hand = (ts_ms.wrapping_sub(self.hand_start_ms) as u64) < PANE_MS as u64;
        let at = if in_hand && self.hand < self.panes.len() && ts_ms <= self.watermark.far_after() {
            self.hand
        } else {
            match self.admit(ts_ms) {
                Ok(at) => at,
                Err(fate) => return fate,
            }
        };
        let (pane, columns, budget) = (&mut self.panes[at], &self.config.columns, &mut self.budget);
        if at != self.hand {
            pane.add(columns, metrics, key, budget);
        } else if self.usual {
            self.combiner.add(pane, &USUAL_COLUMNS, metrics, key, budget);
        } else {
            self.combiner.add(pane, columns, metrics, key, budget);
        }
        if self.watermark.observe(ts_ms) && self.watermark.closed_before() >= self.next_close_ms {
            self.close();
        }
        Fate::Counted
    }

    /// The place of the pane of a record that is not in hand, made where it is new; or the fate of a record that has
    /// none, which is over with that.
    #[inline(never)]
    fn admit(&mut self, ts_ms: i64) -> Result<usize, Fate> {
        let watermark_ms = self.watermark.get();
        if ts_ms >= END_MS {
            return Err(Fate::TooFarAhead { watermark_ms });
        }
        if ts_ms < FIRST_MS {
            return Err(match watermark_ms {
                Some(watermark_ms) if self.watermark.closed_before() >= FIRST_MS => Fate::Late { watermark_ms },
                _ => Fate::BeforeTime,
            });
        }
        let start_ms = pane_start(ts_ms);
        if let Some(watermark_ms) = watermark_ms
            && start_ms + PANE_MS <= self.watermark.closed_before()
        {
            // It cannot move the watermark, which is past it.
            self.watermark.observe(ts_ms);
            return Err(Fate::Late { watermark_ms });
        }
        let at = self.panes.partition_point(|pane| pane.start_ms < start_ms);
        if self.panes.get(at).is_none_or(|pane| pane.start_ms != start_ms) {
            if !self.has_room(start_ms) {
                if self.watermark.observe(ts_ms) {
                    self.close();
                }
                return Err(Fate::TooFarAhead { watermark_ms });
            }
            let pane = self.new_pane(start_ms);
            self.panes.insert(at, pane);
            if self.hand != NO_PANE && self.hand >= at {
                self.hand += 1;
            }
            self.next_close_ms = self.next_close_ms.min(start_ms + PANE_MS);
        }
        let newest = self.hand == NO_PANE || start_ms > self.hand_start_ms;
        if newest && ts_ms <= self.watermark.far_after() {
            self.settle();
            self.hand = at;
            self.hand_start_ms = start_ms;
        }
        Ok(at)
    }

    /// Puts what is combined into the pane in hand.
    fn settle(&mut self) {
        if let Some(pane) = self.panes.get_mut(self.hand) {
            self.combiner.settle(pane);
        }
    }

    /// The panes that are held, in order of time, with everything that was counted in them.
    pub(crate) fn held(&self) -> impl ExactSizeIterator<Item = Cow<'_, Pane>> {
        let settled = move |(i, pane)| {
            if i == self.hand { Cow::Owned(self.combiner.settled(pane)) } else { Cow::Borrowed(pane) }
        };
        self.panes.iter().enumerate().map(settled)
    }

    /// Panes that begin in range always have room; those beyond share what is left.
    fn has_room(&self, start_ms: i64) -> bool {
        let far_after_ms = self.watermark.far_after();
        let far = self.panes.len() - self.panes.partition_point(|pane| pane.start_ms <= far_after_ms);
        start_ms <= far_after_ms || far + self.config.panes_in_range() < self.config.max_open_panes
    }

    fn new_pane(&mut self, start_ms: i64) -> Pane {
        match self.spare.pop() {
            Some(mut pane) => {
                pane.reset(start_ms);
                pane
            }
            None => Pane::new(start_ms, self.config.columns.len()),
        }
    }

    /// From now on the watermark is at least this; closes what that closes.
    pub fn advance(&mut self, watermark_ms: i64) {
        if self.watermark.advance(watermark_ms) {
            self.close();
        }
    }

    /// Closes what the watermark has passed: encodes it where it changed since the last emission, and forgets panes
    /// whose span is closed.
    #[inline(never)]
    fn close(&mut self) {
        self.settle();
        self.hand = NO_PANE;
        let closed_before_ms = self.watermark.closed_before();
        while let Some(pane) = self.panes.get(self.first_open)
            && pane.end_ms() <= closed_before_ms
        {
            if pane.changed {
                self.closed_panes.push_window(&self.config, PANE_MS, pane.start_ms, pane);
            }
            self.first_open += 1;
        }
        let done = self.panes[..self.first_open].partition_point(|pane| pane.span_end_ms() <= closed_before_ms);
        push_changed_spans(&mut self.closed_spans, &self.config, &self.panes[..done], &mut self.spare);
        for pane in self.panes.drain(..done) {
            self.budget.left_bytes += pane.key_bytes();
            if self.spare.len() < SPARE_PANES {
                self.spare.push(pane);
            }
        }
        self.first_open -= done;
        self.plan_close();
    }

    fn plan_close(&mut self) {
        let pane = self.panes.get(self.first_open).map_or(i64::MAX, Pane::end_ms);
        let span = self.panes.first().map_or(i64::MAX, Pane::span_end_ms);
        self.next_close_ms = pane.min(span);
    }

    /// Gives out every window that changed since the last emission, in order of size, start and dimension: the guest's
    /// part of a partial's key and value.
    pub fn emit(&mut self, mut put: impl FnMut(&[u8], &[u8])) {
        self.settle();
        let mut open_panes = Partials::default();
        for pane in self.panes[self.first_open..].iter().filter(|pane| pane.changed) {
            open_panes.push_window(&self.config, PANE_MS, pane.start_ms, pane);
        }
        let mut open_spans = Partials::default();
        push_changed_spans(&mut open_spans, &self.config, &self.panes, &mut self.spare);
        self.panes.iter_mut().for_each(|pane| pane.changed = false);

        for part in [&self.closed_panes, &open_panes, &self.closed_spans, &open_spans] {
            part.iter().for_each(|(key, value)| put(key, value));
        }
        self.closed_panes.clear();
        self.closed_spans.clear();
    }
}

/// Appends the spans of these panes that have a changed one. All panes that are held of a span must be among them.
fn push_changed_spans(out: &mut Partials, config: &Config, panes: &[Pane], spare: &mut Vec<Pane>) {
    let mut merged: Option<Pane> = None;
    for span in panes.chunk_by(|a, b| a.span_start_ms() == b.span_start_ms()) {
        if !span.iter().any(|pane| pane.changed) {
            continue;
        }
        let start_ms = span[0].span_start_ms();
        if let [pane] = span {
            out.push_window(config, SPAN_MS, start_ms, pane);
            continue;
        }
        let merged = merged.get_or_insert_with(|| spare.pop().unwrap_or_else(|| Pane::new(0, config.columns.len())));
        merged.reset(start_ms);
        span.iter().for_each(|pane| merged.merge(pane));
        out.push_window(config, SPAN_MS, start_ms, merged);
    }
    spare.extend(merged);
}
