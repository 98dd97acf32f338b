//! The windows' rules written a second time, the obvious way: everything kept for ever, nothing incremental.
//!
//! Shares only the parameters with the module. Times are `i128` here, so that nothing can overflow or saturate.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::Config;
use crate::pane::{END_MS, FIRST_MS};
use crate::table::KEY_OVERHEAD_BYTES;
use crate::windows::Fate;
use clickmill_schemas::partial::{Metrics, OVERFLOW_KEY};

/// (size, start, dimension), as `WindowKey` orders them.
pub type WindowId = (i64, i64, String);
/// Lower bound, and the entries by key.
pub type Sums = (bool, BTreeMap<String, Metrics>);

#[derive(Clone, Debug)]
pub struct Event {
    pub ts_ms: i64,
    pub site_category: String,
    pub device_type: i64,
    pub metrics: Metrics,
}

pub struct Model {
    config: Config,
    watermark: Option<i128>,
    /// Timestamps of all records from the first window on and before the last one's end.
    seen: Vec<i128>,
    /// By pane start and dimension.
    cells: BTreeMap<(i128, &'static str), Sums>,
    /// Panes counted in since [`Model::take_changed`].
    touched: BTreeSet<i128>,
}

const MINUTE: i128 = 60_000;
const FIVE: i128 = 300_000;

fn floor(ts: i128, size: i128) -> i128 {
    ts.div_euclid(size) * size
}

impl Model {
    pub fn new(config: Config) -> Self {
        Self { config, watermark: None, seen: Vec::new(), cells: BTreeMap::new(), touched: BTreeSet::new() }
    }

    pub fn watermark_ms(&self) -> Option<i64> {
        self.watermark.map(|w| w as i64)
    }

    fn closed(&self, end: i128) -> bool {
        self.watermark.is_some_and(|w| end + i128::from(self.config.watermark.allowed_lateness_ms) <= w)
    }

    fn far(&self, ts: i128) -> bool {
        self.watermark.is_none_or(|w| ts > w + i128::from(self.config.watermark.future_limit_ms))
    }

    pub fn observe(&mut self, event: &Event) -> Fate {
        let ts = i128::from(event.ts_ms);
        let watermark_ms = self.watermark_ms();
        if event.ts_ms >= END_MS {
            return Fate::TooFarAhead { watermark_ms };
        }
        let start = floor(ts, MINUTE);
        if event.ts_ms < FIRST_MS {
            return match watermark_ms {
                Some(watermark_ms) if self.closed(i128::from(FIRST_MS)) => Fate::Late { watermark_ms },
                _ => Fate::BeforeTime,
            };
        }
        let fate = match watermark_ms {
            Some(watermark_ms) if self.closed(start + MINUTE) => Fate::Late { watermark_ms },
            _ if !self.has_room(start) => Fate::TooFarAhead { watermark_ms },
            _ => {
                self.count(start, event);
                Fate::Counted
            }
        };
        self.seen.push(ts);
        self.move_watermark(ts);
        fate
    }

    fn has_room(&self, start: i128) -> bool {
        let panes: BTreeSet<i128> = self.cells.keys().map(|(start, _)| *start).collect();
        let rule = self.config.watermark;
        let range = i128::from(rule.allowed_lateness_ms + rule.future_limit_ms) + MINUTE;
        let reserved = range.unsigned_abs().div_ceil(MINUTE.unsigned_abs()) as usize;
        let far = panes.iter().filter(|start| self.far(**start)).count();
        panes.contains(&start) || !self.far(start) || far + reserved < self.config.max_open_panes
    }

    fn held_bytes(&self) -> u64 {
        let held = self.cells.iter().filter(|((start, _), _)| !self.closed(floor(*start, FIVE) + FIVE));
        held.map(|(_, cell)| cell_bytes(cell)).sum()
    }

    fn count(&mut self, start: i128, event: &Event) {
        self.touched.insert(start);
        let total = self.cells.entry((start, "total")).or_default();
        total.1.entry(String::new()).or_default().add(&event.metrics);
        let device_type = event.device_type.to_string();
        for (dimension, key) in [("device_type", &device_type), ("site_category", &event.site_category)] {
            // `total` has no key to pay for.
            let totals = self.cells.keys().filter(|(_, dimension)| *dimension == "total");
            let free = totals.filter(|(start, _)| !self.closed(floor(*start, FIVE) + FIVE)).count() as u64;
            let held = self.held_bytes() - free * KEY_OVERHEAD_BYTES;
            let bytes = key.len() as u64 + KEY_OVERHEAD_BYTES;
            let config = self.config.clone();
            let cell = self.cells.entry((start, dimension)).or_default();
            let rows = cell.1.keys().filter(|key| *key != OVERFLOW_KEY).count();
            let fits = key != OVERFLOW_KEY
                && (cell.1.contains_key(key)
                    || (rows < config.max_keys
                        && cell_bytes(cell) + bytes <= config.max_pane_key_bytes
                        && held + bytes <= config.max_held_key_bytes));
            let key = if fits { key.as_str() } else { OVERFLOW_KEY };
            cell.0 |= !fits;
            cell.1.entry(key.to_owned()).or_default().add(&event.metrics);
        }
    }

    fn move_watermark(&mut self, ts: i128) {
        let rule = self.config.watermark;
        let limit = i128::from(rule.future_limit_ms);
        let behind = |ts: i128| ts - i128::from(rule.out_of_orderness_ms);
        if !self.far(ts) {
            self.watermark = self.watermark.max(Some(behind(ts)));
            return;
        }
        let last = |n: usize| self.seen[self.seen.len().saturating_sub(n)..].to_vec();
        let recent = last(rule.future_window);
        let near: Vec<_> = recent.iter().filter(|r| (**r - ts).abs() <= limit).collect();
        let first_pair = self.watermark.is_none() && near.iter().any(|r| **r != ts);
        let thin: Vec<_> =
            last(rule.future_window.min(2 * rule.future_quorum)).into_iter().filter(|r| self.far(*r)).collect();
        let target = if near.len() >= rule.future_quorum || first_pair {
            ts
        } else if thin.len() >= rule.future_quorum {
            *thin.iter().min().unwrap()
        } else {
            return;
        };
        self.watermark = self.watermark.max(Some(behind(target)));
        let mut ascending = recent;
        ascending.sort_unstable();
        for r in ascending {
            if !self.far(r) {
                self.watermark = self.watermark.max(Some(behind(r)));
            }
        }
    }

    pub fn advance(&mut self, watermark_ms: i64) {
        if watermark_ms >= FIRST_MS {
            self.watermark = self.watermark.max(Some(i128::from(watermark_ms.min(END_MS))));
        }
    }

    /// Every window so far.
    pub fn windows(&self) -> BTreeMap<WindowId, Sums> {
        let mut windows = BTreeMap::<WindowId, Sums>::new();
        for ((start, dimension), (lower_bound, rows)) in &self.cells {
            for size in [MINUTE, FIVE] {
                let id = (size as i64, floor(*start, size) as i64, (*dimension).to_owned());
                let window = windows.entry(id).or_default();
                window.0 |= lower_bound;
                for (key, metrics) in rows {
                    window.1.entry(key.clone()).or_default().add(metrics);
                }
            }
        }
        windows
    }

    /// The windows that changed since the last call.
    pub fn take_changed(&mut self) -> BTreeSet<WindowId> {
        let touched = std::mem::take(&mut self.touched);
        let of = |start: i128, size: i128| (size as i64, floor(start, size) as i64);
        let windows = touched.into_iter().flat_map(|start| [of(start, MINUTE), of(start, FIVE)]);
        with_dimensions(windows)
    }

    /// The windows that are open.
    pub fn open(&self) -> BTreeSet<WindowId> {
        let all = self.windows().into_keys().map(|(size, start, _)| (size, start));
        with_dimensions(all.filter(|(size, start)| !self.closed(i128::from(*start) + i128::from(*size))))
    }
}

fn with_dimensions(windows: impl Iterator<Item = (i64, i64)>) -> BTreeSet<WindowId> {
    let dimensions = ["device_type", "site_category", "total"];
    windows.flat_map(|(size, start)| dimensions.map(|d| (size, start, d.to_owned()))).collect()
}

fn cell_bytes((_, rows): &Sums) -> u64 {
    let keys = rows.keys().filter(|key| *key != OVERFLOW_KEY);
    keys.map(|key| key.len() as u64 + KEY_OVERHEAD_BYTES).sum()
}
