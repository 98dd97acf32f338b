//! [`Table`]: the newest partials of windows, as they lie in the topic, within a span of event time and a number of bytes.
//!
//! It knows what it does not have: [`Table::has_all`] tells which questions it can answer. It must not know fences, runs
//! or commits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use clickmill_pipeline::views::windows::Slice;
use clickmill_schemas::partial::{Head, Metrics, NotAPartial, Version, WindowKey, visit_entries};
use clickmill_schemas::{Generation, Offset, PartitionId};

const MINUTE_MS: i64 = 60_000;
/// Sizes of windows that are kept, each with the event time that is kept behind the watermark.
pub(super) const SPANS_MS: [(i64, i64); 2] = [(MINUTE_MS, 120 * MINUTE_MS), (5 * MINUTE_MS, 24 * 60 * MINUTE_MS)];
/// What lies further ahead of the watermark is kept, but goes first.
pub(super) const AHEAD_MS: i64 = 60 * MINUTE_MS;
/// The dimension without keys, which goes last.
pub(super) const TOTAL: &str = "total";
/// What a part, a dimension or a window takes beside its bytes, about.
const OVERHEAD_BYTES: usize = 192;

/// Whether the watermark of a window's partition had passed its end before this part of it was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counted {
    InTime,
    /// The part before this one is known, or there was none.
    After,
    /// Parts before it may have been missed, since compaction takes them.
    AfterUnknown,
}

#[derive(Debug)]
struct Part {
    partition: PartitionId,
    generation: Generation,
    version: Version,
    lower_bound: bool,
    entries: Arc<[u8]>,
    /// Of [`TOTAL`] only.
    sum: Metrics,
    corrected: i64,
}

/// Late events of one partition for one window. Their offsets rise.
#[derive(Clone, Copy, Debug)]
struct Late {
    partition: PartitionId,
    first: Offset,
    last: Offset,
    count: u64,
}

#[derive(Debug, Default)]
struct Window {
    dimensions: BTreeMap<Arc<str>, Vec<Part>>,
    late: Vec<Late>,
}

impl Window {
    fn bytes(&self) -> usize {
        let parts = |(name, parts): (&Arc<str>, &Vec<Part>)| name.len() + OVERHEAD_BYTES + bytes_of(parts);
        OVERHEAD_BYTES + self.dimensions.iter().map(parts).sum::<usize>()
    }
}

fn bytes_of(parts: &[Part]) -> usize {
    parts.iter().map(|part| part.entries.len() + OVERHEAD_BYTES).sum()
}

/// The dimension [`TOTAL`] of a window, over partitions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Total {
    pub(super) sum: Metrics,
    pub(super) corrected: i64,
    pub(super) late: u64,
}

/// The least interval of starts that has in it all that was given up.
#[derive(Clone, Copy, Debug, Default)]
struct GivenUp(Option<(i64, i64)>);

impl GivenUp {
    fn add(&mut self, first: i64, last: i64) {
        self.0 = Some(self.0.map_or((first, last), |(from, to)| (from.min(first), to.max(last))));
    }

    /// Whether it has a start in `from..to`.
    fn meets(&self, from: i64, to: i64) -> bool {
        self.0.is_some_and(|(first, last)| from <= last && first < to)
    }

    fn has(&self, start: i64) -> bool {
        self.meets(start, start.saturating_add(1))
    }

    /// What lies before this is not asked for any more.
    fn forget_before(&mut self, ms: i64) {
        self.0 = self.0.filter(|(_, last)| *last >= ms);
    }
}

/// Size and start of a window.
pub(super) type At = (i64, i64);

#[derive(Debug)]
pub(super) struct Table {
    windows: BTreeMap<At, Window>,
    /// Start and size of those that have other dimensions than [`TOTAL`].
    wide: BTreeSet<(i64, i64)>,
    held_bytes: usize,
    limit_bytes: usize,
    watermark_ms: Option<i64>,
    /// Of other dimensions than [`TOTAL`]: the oldest, what was far ahead; and of all.
    old: GivenUp,
    far: GivenUp,
    all: GivenUp,
}

impl Table {
    pub(super) fn new(limit_bytes: usize) -> Self {
        let (windows, wide) = (BTreeMap::new(), BTreeSet::new());
        let (old, far, all) = (GivenUp::default(), GivenUp::default(), GivenUp::default());
        Self { windows, wide, held_bytes: 0, limit_bytes, watermark_ms: None, old, far, all }
    }

    #[cfg(test)]
    pub(super) const fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Whether a window is of a size and a time that is kept.
    fn keeps(&self, window: &WindowKey) -> bool {
        let span = SPANS_MS.into_iter().find(|(size_ms, _)| *size_ms == window.size_ms).map(|(_, span)| span);
        span.is_some_and(|span| self.watermark_ms.is_none_or(|now| window.end_ms() > now.saturating_sub(span)))
    }

    fn wants(&self, window: &WindowKey) -> bool {
        let start = window.start_ms;
        let given_up = self.all.has(start) || window.dimension != TOTAL && (self.old.has(start) || self.far.has(start));
        self.keeps(window) && !given_up
    }

    /// Takes a partial in, whose entries lie in `value`; whether that has changed the window's total.
    ///
    /// # Errors
    /// [`NotAPartial`] where the entries of a total cannot be read; those of other dimensions are read when asked for.
    pub(super) fn apply(&mut self, head: Head, value: &[u8], counted: Counted) -> Result<bool, NotAPartial> {
        if !self.wants(&head.window) {
            return Ok(false);
        }
        let Head { owner, window: WindowKey { size_ms, start_ms, dimension }, version, lower_bound, entries_at } = head;
        let entries: Arc<[u8]> = value.get(entries_at..).unwrap_or_default().into();
        let is_total = dimension == TOTAL;
        let mut sum = Metrics::default();
        if is_total {
            visit_entries(&entries, |_, metrics| sum.add(&metrics))?;
        }
        let window = self.windows.entry((size_ms, start_ms)).or_insert_with(|| {
            self.held_bytes += OVERHEAD_BYTES;
            Window::default()
        });
        let parts = match window.dimensions.get_mut(dimension.as_str()) {
            Some(parts) => parts,
            None => {
                self.held_bytes += dimension.len() + OVERHEAD_BYTES;
                window.dimensions.entry(dimension.into()).or_default()
            }
        };
        let place = parts.iter().position(|p| (p.partition, p.generation) == (owner.partition, owner.generation));
        let old = place.and_then(|at| parts.get(at));
        if old.is_some_and(|old| old.version >= version) {
            return Ok(false);
        }
        let known = old.map_or(Metrics::default(), |old| old.sum);
        let more = match (counted, old) {
            (Counted::InTime, _) | (Counted::AfterUnknown, None) => 0,
            // After going back to a savepoint there may be less.
            (Counted::After | Counted::AfterUnknown, _) => sum.impressions.saturating_sub(known.impressions).max(0),
        };
        let corrected = old.map_or(0, |old| old.corrected).saturating_add(more);
        let changed = is_total && (known != sum || more > 0);
        self.held_bytes -= old.map_or(0, |old| old.entries.len() + OVERHEAD_BYTES);
        self.held_bytes += entries.len() + OVERHEAD_BYTES;
        let (partition, generation) = (owner.partition, owner.generation);
        let part = Part { partition, generation, version, lower_bound, entries, sum, corrected };
        match place.and_then(|at| parts.get_mut(at)) {
            Some(old) => *old = part,
            None => parts.push(part),
        }
        if !is_total {
            self.wide.insert((start_ms, size_ms));
        }
        self.make_room();
        Ok(changed)
    }

    /// Counts an event that was too late for its windows; returns those.
    pub(super) fn late(&mut self, partition: PartitionId, offset: Offset, ts_ms: i64) -> Vec<At> {
        let mut found = Vec::new();
        for (size_ms, _) in SPANS_MS {
            let start_ms = ts_ms.div_euclid(size_ms).saturating_mul(size_ms);
            let window = WindowKey { size_ms, start_ms, dimension: TOTAL.to_owned() };
            if !self.wants(&window) {
                continue;
            }
            let late = match self.windows.get_mut(&(size_ms, start_ms)) {
                Some(window) => &mut window.late,
                None => {
                    self.held_bytes += OVERHEAD_BYTES;
                    &mut self.windows.entry((size_ms, start_ms)).or_default().late
                }
            };
            match late.iter_mut().find(|late| late.partition == partition) {
                // It was read before the partition went back to before it.
                Some(known) if offset <= known.last => continue,
                Some(known) => (known.last, known.count) = (offset, known.count + 1),
                None => late.push(Late { partition, first: offset, last: offset, count: 1 }),
            }
            found.push((size_ms, start_ms));
        }
        self.make_room();
        found
    }

    /// A partition has gone back: what came at or behind the offset is void, and comes again.
    pub(super) fn rewind(&mut self, partition: PartitionId, to: Offset) {
        for window in self.windows.values_mut() {
            window.late.retain(|late| late.partition != partition || late.first < to);
            let parts = window.dimensions.values_mut().flatten();
            parts.filter(|part| part.partition == partition).for_each(|part| part.corrected = 0);
        }
    }

    /// Event time has come as far as this: what is too old goes.
    pub(super) fn advance(&mut self, watermark_ms: i64) {
        self.watermark_ms = self.watermark_ms.max(Some(watermark_ms));
        for (size_ms, span_ms) in SPANS_MS {
            let oldest = watermark_ms.saturating_sub(span_ms).saturating_sub(size_ms).saturating_add(1);
            while let Some((at, _)) = self.windows.range((size_ms, i64::MIN)..(size_ms, oldest)).next() {
                self.remove(*at);
            }
        }
        let longest = SPANS_MS.map(|(size, span)| size + span).into_iter().max().unwrap_or_default();
        for given_up in [&mut self.old, &mut self.far, &mut self.all] {
            given_up.forget_before(watermark_ms.saturating_sub(longest));
        }
    }

    fn remove(&mut self, at @ (size_ms, start_ms): At) {
        if let Some(window) = self.windows.remove(&at) {
            self.held_bytes -= window.bytes();
        }
        self.wide.remove(&(start_ms, size_ms));
    }

    /// What goes first: other dimensions than [`TOTAL`] of what is far ahead, then the oldest of them, then whole windows,
    /// which only a module can bring about that makes them at random.
    fn make_room(&mut self) {
        while self.held_bytes > self.limit_bytes {
            let far_ms = self.watermark_ms.map_or(i64::MAX, |now| now.saturating_add(AHEAD_MS));
            if let Some((start, size)) = self.wide.last().copied().filter(|(start, _)| *start >= far_ms) {
                self.far.add(start, start);
                self.narrow((size, start));
            } else if let Some((start, size)) = self.wide.first().copied() {
                self.old.add(i64::MIN, start);
                self.narrow((size, start));
            } else if let Some(at) = self.furthest() {
                self.all.add(at.1, at.1);
                self.remove(at);
            } else {
                return;
            }
        }
    }

    /// Leaves a window with its total alone.
    fn narrow(&mut self, at @ (size_ms, start_ms): At) {
        self.wide.remove(&(start_ms, size_ms));
        if let Some(window) = self.windows.get_mut(&at) {
            self.held_bytes -= window.bytes();
            window.dimensions.retain(|dimension, _| **dimension == *TOTAL);
            self.held_bytes += window.bytes();
        }
    }

    /// The window that is furthest from the watermark.
    fn furthest(&self) -> Option<At> {
        let now = self.watermark_ms.unwrap_or_default();
        self.windows.keys().copied().max_by_key(|(_, start)| start.abs_diff(now))
    }

    /// Whether every window of a dimension that starts in `from..to`, and was ever read, is here.
    pub(super) fn has_all(&self, size_ms: i64, dimension: &str, from: i64, to: i64) -> bool {
        let oldest = WindowKey { size_ms, start_ms: from, dimension: dimension.to_owned() };
        let given_up = dimension != TOTAL && (self.old.meets(from, to) || self.far.meets(from, to));
        self.keeps(&oldest) && !given_up && !self.all.meets(from, to)
    }

    /// The windows of a dimension that start in `from..to`.
    pub(super) fn slices(&self, size_ms: i64, dimension: &str, from: i64, to: i64) -> Vec<Slice> {
        let slice = |((_, start_ms), window): (&At, &Window)| {
            let parts = window.dimensions.get(dimension)?;
            Some(Slice {
                start_ms: *start_ms,
                lower_bound: parts.iter().any(|part| part.lower_bound),
                partials: parts.iter().map(|part| Arc::clone(&part.entries)).collect(),
            })
        };
        self.windows.range((size_ms, from)..(size_ms, to)).filter_map(slice).collect()
    }

    pub(super) fn total(&self, at: At) -> Total {
        let Some(window) = self.windows.get(&at) else { return Total::default() };
        let mut total = Total { late: window.late.iter().map(|late| late.count).sum(), ..Total::default() };
        for part in window.dimensions.get(TOTAL).into_iter().flatten() {
            total.sum.add(&part.sum);
            total.corrected = total.corrected.saturating_add(part.corrected);
        }
        total
    }

    /// Windows of a size that start in `from..to`, newest first.
    pub(super) fn newest(&self, size_ms: i64, from: i64, to: i64) -> impl Iterator<Item = At> {
        let to = to.max(from);
        self.windows.range((size_ms, from)..(size_ms, to)).rev().map(|(at, _)| *at)
    }
}
