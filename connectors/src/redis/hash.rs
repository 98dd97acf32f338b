//! The hash of a window: its key, how long it lives, its fields. Pure.

use clickmill_schemas::merge::WindowTable;
use clickmill_schemas::partial::Metrics;

/// The dimension whose metrics are the hash's own fields.
pub const TOTAL: &str = "total";

/// A window, whatever the dimension. Ordered by start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    pub start_ms: i64,
    pub size_ms: i64,
}

impl Span {
    #[must_use]
    pub const fn end_ms(self) -> i64 {
        self.start_ms.saturating_add(self.size_ms)
    }

    /// `metrics:1min:2014-10-21T00:00:00Z`; none beyond the years that ISO 8601 writes with four digits.
    #[must_use]
    pub fn key(self) -> Option<String> {
        let start = jiff::Timestamp::from_millisecond(self.start_ms).ok()?;
        if self.start_ms < -62_167_219_200_000 {
            return None;
        }
        Some(format!("metrics:{}min:{}", self.size_ms / 60_000, start.strftime("%Y-%m-%dT%H:%M:%SZ")))
    }

    /// Seconds from the last write: five windows.
    #[must_use]
    pub const fn ttl_s(self) -> i64 {
        self.size_ms / 1_000 * 5
    }
}

/// Where the version of a hash is kept: the same slot of a cluster, the same time to live.
#[must_use]
pub fn version_key(key: &str) -> String {
    format!("clickmill:version:{{{key}}}")
}

/// What the script writes into one hash.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    /// Field prefix, and metrics separated by spaces.
    pub pairs: Vec<(String, String)>,
    /// Dimensions whose keys are lower bounds, separated by commas.
    pub lower_bound: String,
}

impl Fields {
    /// The sums of a window over all partitions; `table` holds that window alone.
    #[must_use]
    pub fn of(table: &WindowTable) -> Self {
        let mut fields = Self::default();
        for (window, merged) in table.iter() {
            let dimension = &window.dimension;
            for (key, metrics) in merged.sums() {
                let prefix = if dimension == TOTAL { String::new() } else { format!("{dimension}|{key}|") };
                fields.pairs.push((prefix, values(&metrics)));
            }
            if merged.lower_bound() {
                if !fields.lower_bound.is_empty() {
                    fields.lower_bound.push(',');
                }
                fields.lower_bound.push_str(dimension);
            }
        }
        fields
    }
}

fn values(m: &Metrics) -> String {
    let Metrics { impressions, clicks, conversions, cost_micros, revenue_micros } = m;
    let counters = format!("{impressions} {clicks} {conversions} {cost_micros} {revenue_micros}");
    match ratio(*clicks, *impressions) {
        Some(ctr) => format!("{counters} {ctr}"),
        None => counters,
    }
}

/// Six decimals, rounded half up; none where there is nothing to divide by.
fn ratio(part: i64, whole: i64) -> Option<String> {
    if part < 0 || whole <= 0 {
        return None;
    }
    let (part, whole) = (i128::from(part), i128::from(whole));
    let millionths = (part * 2_000_000 + whole) / (whole * 2);
    Some(format!("{}.{:06}", millionths / 1_000_000, millionths % 1_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clickmill_schemas::partial::{Owner, Partial, Version, WindowKey};
    use clickmill_schemas::{Epoch, Generation, Offset, PartitionId, RunId};

    #[test]
    fn keys_and_times_to_live_are_those_of_the_contract() {
        let minute = Span { start_ms: 1_413_849_600_000, size_ms: 60_000 };
        assert_eq!(minute.key().unwrap(), "metrics:1min:2014-10-21T00:00:00Z");
        assert_eq!(minute.ttl_s(), 300);
        let five = Span { size_ms: 300_000, ..minute };
        assert_eq!(five.key().unwrap(), "metrics:5min:2014-10-21T00:00:00Z");
        assert_eq!(five.ttl_s(), 1_500);
        for start_ms in [i64::MIN, i64::MAX, -62_167_219_260_000] {
            assert_eq!(Span { start_ms, size_ms: 60_000 }.key(), None);
        }
    }

    #[test]
    fn fields_are_sums_over_partitions() {
        let mut table = WindowTable::default();
        for partition in 0..2 {
            for (dimension, key) in [("total", ""), ("site_category", "a|b")] {
                table.apply(Partial {
                    owner: Owner { run: RunId([0; 16]), partition: PartitionId(partition), generation: Generation(0) },
                    window: WindowKey { size_ms: 60_000, start_ms: 0, dimension: dimension.into() },
                    version: Version { epoch: Epoch(1), as_of: Offset(1) },
                    lower_bound: partition == 1 && dimension != "total",
                    entries: vec![(
                        key.into(),
                        Metrics { impressions: 3, clicks: 1, conversions: 0, cost_micros: 7, revenue_micros: 0 },
                    )],
                });
            }
        }
        let fields = Fields::of(&table);
        assert_eq!(
            fields.pairs,
            [
                ("site_category|a|b|".to_owned(), "6 2 0 14 0 0.333333".to_owned()),
                (String::new(), "6 2 0 14 0 0.333333".to_owned()),
            ]
        );
        assert_eq!(fields.lower_bound, "site_category");
    }

    #[test]
    fn ratios_have_six_decimals_and_no_divisor_of_zero() {
        assert_eq!(ratio(1, 6).unwrap(), "0.166667");
        assert_eq!(ratio(7, 7).unwrap(), "1.000000");
        assert_eq!(ratio(0, 5).unwrap(), "0.000000");
        assert_eq!(ratio(i64::MAX, 1).unwrap(), format!("{}.000000", i64::MAX));
        assert_eq!(ratio(0, 0), None);
    }
}
