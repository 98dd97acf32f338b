//! Adding metrics up: what a record may add, and how sums are kept from panicking.

use clickmill_schemas::partial::Metrics;

/// The most that a record may cost or yield, in micros of the currency unit.
pub const MAX_MICROS: i64 = 1_000_000_000_000;

/// Adding that cannot panic.
pub trait Accumulate {
    /// Adds. A record's money is limited ([`MAX_MICROS`]), so that nine million of the dearest records of
    /// one key in one window are needed to wrap a sum.
    fn accumulate(&mut self, other: &Self);
}

impl Accumulate for Metrics {
    #[inline]
    fn accumulate(&mut self, other: &Self) {
        self.impressions = self.impressions.wrapping_add(other.impressions);
        self.cost_micros = self.cost_micros.wrapping_add(other.cost_micros);
        // No shortcut for the many records without a click: the branch costs more than it saves.
        self.clicks = self.clicks.wrapping_add(other.clicks);
        self.conversions = self.conversions.wrapping_add(other.conversions);
        self.revenue_micros = self.revenue_micros.wrapping_add(other.revenue_micros);
    }
}
