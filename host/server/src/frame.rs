//! [`Frame`]: what one event of the live stream says. Plain data for JSON; [`crate::feed`] makes it.

use clickmill_pipeline::views::derived::{Decimal6, Derived};
use clickmill_pipeline::views::status::{LedgerView, ModuleView};
use clickmill_pipeline::views::time::iso8601;
use clickmill_schemas::merge::MergedWindow;
use clickmill_schemas::partial::{Metrics, WindowKey};
use serde::Serialize;

/// Categories of a frame.
const SHOWN_CATEGORIES: usize = 8;

/// What one event of the live stream says.
#[derive(Debug, Serialize)]
pub(crate) struct Frame {
    /// Wall clock.
    pub(crate) at_ms: i64,
    /// False while the topic is still being read from its start.
    pub(crate) caught_up: bool,
    pub(crate) events_per_second: f64,
    pub(crate) log_end: u64,
    pub(crate) processed: u64,
    pub(crate) lag: u64,
    pub(crate) ledger: LedgerView,
    pub(crate) balanced: bool,
    /// The least of the partitions.
    pub(crate) watermark: Option<String>,
    /// One-minute windows, oldest first.
    pub(crate) windows: Vec<FrameWindow>,
    pub(crate) categories: Option<Categories>,
    pub(crate) modules: Vec<ModuleView>,
}

#[derive(Debug, Serialize)]
pub(crate) struct FrameWindow {
    pub(crate) start: String,
    pub(crate) impressions: i64,
    pub(crate) clicks: i64,
    pub(crate) ctr: Option<Decimal6>,
    pub(crate) conversions: i64,
    pub(crate) cost_micros: i64,
    pub(crate) revenue_micros: i64,
    pub(crate) r#final: bool,
}

impl FrameWindow {
    pub(crate) fn new(window: &WindowKey, merged: &MergedWindow, final_before_ms: Option<i64>) -> Self {
        let mut sum = Metrics::default();
        merged.sums().values().for_each(|m| sum.add(m));
        Self {
            start: iso8601(window.start_ms),
            impressions: sum.impressions,
            clicks: sum.clicks,
            ctr: Derived::from(&sum).ctr,
            conversions: sum.conversions,
            cost_micros: sum.cost_micros,
            revenue_micros: sum.revenue_micros,
            r#final: final_before_ms.is_some_and(|before| window.end_ms() <= before),
        }
    }
}

/// The site categories with most impressions in the newest window.
#[derive(Debug, Serialize)]
pub(crate) struct Categories {
    start: String,
    lower_bound: bool,
    top: Vec<Category>,
}

#[derive(Debug, Serialize)]
struct Category {
    key: String,
    impressions: i64,
    clicks: i64,
    ctr: Option<Decimal6>,
}

impl Categories {
    pub(crate) fn new(window: &WindowKey, merged: &MergedWindow) -> Self {
        let mut sums: Vec<_> = merged.sums().into_iter().collect();
        sums.sort_by_key(|(_, m)| std::cmp::Reverse(m.impressions));
        sums.truncate(SHOWN_CATEGORIES);
        let category = |(key, m): (String, Metrics)| Category {
            key,
            impressions: m.impressions,
            clicks: m.clicks,
            ctr: Derived::from(&m).ctr,
        };
        Self {
            start: iso8601(window.start_ms),
            lower_bound: merged.lower_bound(),
            top: sums.into_iter().map(category).collect(),
        }
    }
}
