//! Reports: sums over hours, days, hours of the day or weekdays, and the keys of a dimension in order.
//!
//! Pure but for [`from_windows`]. What is summed comes as [`Cells`], whoever has them: a database that keeps hours, or the
//! windows of the topic. What a report makes of them is here alone, so that both give the same rows.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use clickmill_broker::Broker;
use clickmill_schemas::partial::Metrics;

use super::derived::{Decimal6, Derived};
use super::time::iso8601;
use super::windows::{WindowQuery, windows};
use super::{ViewError, wilson};

/// The windows that reports are made of.
const PANE_MS: i64 = 300_000;
const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
const WEEKDAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
/// Most sums that a report holds.
const MOST_SUMS: usize = 100_000;

/// What a report is about: whole hours of a dimension.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    pub dimension: String,
    /// All keys where none is named.
    pub key: Option<String>,
    /// First hour.
    pub from_ms: Option<i64>,
    /// The hour after the last one.
    pub to_ms: Option<i64>,
}

impl Scope {
    /// All hours that the time from `from_ms` to `to_ms` touches.
    #[must_use]
    pub fn new(dimension: String, key: Option<String>, from_ms: Option<i64>, to_ms: Option<i64>) -> Self {
        let down = |ms: i64| ms.div_euclid(HOUR_MS) * HOUR_MS;
        let (from_ms, to_ms) = (from_ms.map(down), to_ms.map(|ms| down(ms + HOUR_MS - 1)));
        Self { dimension, key, from_ms, to_ms }
    }
}

/// What the rows of a trend stand for; times are UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    Hour,
    Day,
    HourOfDay,
    Weekday,
}

impl By {
    const fn bucket(self, start_ms: i64) -> i64 {
        match self {
            Self::Hour => start_ms.div_euclid(HOUR_MS),
            Self::Day => start_ms.div_euclid(DAY_MS),
            Self::HourOfDay => start_ms.div_euclid(HOUR_MS).rem_euclid(24),
            // 1970 began on a Thursday.
            Self::Weekday => (start_ms.div_euclid(DAY_MS) + 3).rem_euclid(7),
        }
    }

    const fn start_ms(self, bucket: i64) -> Option<i64> {
        match self {
            Self::Hour => Some(bucket.saturating_mul(HOUR_MS)),
            Self::Day => Some(bucket.saturating_mul(DAY_MS)),
            Self::HourOfDay | Self::Weekday => None,
        }
    }

    fn label(self, bucket: i64) -> String {
        match self {
            Self::Hour => iso8601(bucket.saturating_mul(HOUR_MS)),
            Self::Day => iso8601(bucket.saturating_mul(DAY_MS)).trim_end_matches("T00:00:00Z").to_owned(),
            Self::HourOfDay => format!("{bucket:02}:00"),
            Self::Weekday => {
                usize::try_from(bucket).ok().and_then(|day| WEEKDAYS.get(day)).map_or("", |d| d).to_owned()
            }
        }
    }
}

/// What the keys of a breakdown are ordered by, the greatest first; where that is the same, by impressions, and then by the key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    #[default]
    Impressions,
    Clicks,
    /// As it is shown, with six digits.
    Ctr,
    Cost,
}

/// What is made of the cells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A row for each time and key, in order of time and key.
    Trend { by: By },
    /// A row for each of the first keys that contain `search`, whatever the case of ASCII letters.
    Breakdown { limit: usize, search: Option<String>, order: Order },
}

/// A report, as it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub scope: Scope,
    pub kind: Kind,
}

/// Sums of the scope's dimension over an hour, or a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cells {
    pub start_ms: i64,
    pub keys: Vec<(String, Metrics)>,
    /// Some of a key's events may be in the overflow bucket.
    pub lower_bound: bool,
}

/// A row of a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportRow {
    pub label: String,
    /// Where the row stands for one hour or day.
    pub start_ms: Option<i64>,
    /// Empty for the dimension `total`.
    pub key: String,
    pub metrics: Metrics,
    pub lower_bound: bool,
}

impl ReportRow {
    /// CTR, CPC, CPA, ROAS.
    #[must_use]
    pub fn derived(&self) -> Derived {
        Derived::from(&self.metrics)
    }

    /// Bounds of the CTR, 95 %.
    #[must_use]
    pub fn ctr_interval(&self) -> Option<(f64, f64)> {
        wilson::interval(self.metrics.clicks, self.metrics.impressions)
    }
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    #[error(transparent)]
    View(#[from] ViewError),
    #[error("the report has more than {MOST_SUMS} sums; name a key, a shorter time or a coarser `by`")]
    TooLarge,
}

/// Sums cells into a report.
#[derive(Debug)]
struct Tally<'a> {
    report: &'a Report,
    key: Option<String>,
    search: Option<String>,
    sums: BTreeMap<i64, HashMap<String, Metrics>>,
    /// Of which some key is a lower bound, and so any may be.
    bounded: BTreeSet<i64>,
    len: usize,
}

/// Databases hold no U+0000: for every source a key is taken as they have it.
fn stored(key: &str) -> String {
    key.replace('\0', "\u{fffd}")
}

impl<'a> Tally<'a> {
    fn new(report: &'a Report) -> Self {
        let search = match &report.kind {
            Kind::Breakdown { search, .. } => search.as_deref().map(|text| stored(text).to_ascii_lowercase()),
            Kind::Trend { .. } => None,
        };
        let key = report.scope.key.as_deref().map(stored);
        Self { report, key, search, sums: BTreeMap::new(), bounded: BTreeSet::new(), len: 0 }
    }

    fn bucket(&self, start_ms: i64) -> i64 {
        match self.report.kind {
            Kind::Trend { by } => by.bucket(start_ms),
            Kind::Breakdown { .. } => 0,
        }
    }

    fn bound(&mut self, start_ms: i64) {
        self.bounded.insert(self.bucket(start_ms));
    }

    fn add(&mut self, start_ms: i64, key: &str, metrics: &Metrics) -> Result<(), ReportError> {
        let key = stored(key);
        let wanted = self.key.as_ref().is_none_or(|wanted| *wanted == key)
            && self.search.as_ref().is_none_or(|text| key.to_ascii_lowercase().contains(text.as_str()));
        if !wanted {
            return Ok(());
        }
        let sums = self.sums.entry(self.bucket(start_ms)).or_default();
        if let Some(sum) = sums.get_mut(&key) {
            sum.add(metrics);
            return Ok(());
        }
        sums.insert(key, *metrics);
        self.len += 1;
        if self.len > MOST_SUMS { Err(ReportError::TooLarge) } else { Ok(()) }
    }

    fn rows(self) -> Vec<ReportRow> {
        let Self { report, sums, bounded, .. } = self;
        let sums = sums.into_iter().flat_map(|(bucket, keys)| keys.into_iter().map(move |(key, m)| (bucket, key, m)));
        let mut rows: Vec<_> = sums
            .map(|(bucket, key, metrics)| {
                let (label, start_ms) = match report.kind {
                    Kind::Trend { by } => (by.label(bucket), by.start_ms(bucket)),
                    Kind::Breakdown { .. } if key.is_empty() => (report.scope.dimension.clone(), None),
                    Kind::Breakdown { .. } => (key.clone(), None),
                };
                let lower_bound = bounded.contains(&bucket);
                (bucket, ReportRow { label, start_ms, key, metrics, lower_bound })
            })
            .collect();
        match report.kind {
            Kind::Trend { .. } => rows.sort_unstable_by(|(a, x), (b, y)| (a, &x.key).cmp(&(b, &y.key))),
            Kind::Breakdown { limit, order, .. } => {
                rows.sort_unstable_by(|(_, x), (_, y)| {
                    let (by_y, by_x) = (rank(order, &y.metrics), rank(order, &x.metrics));
                    (by_y, y.metrics.impressions).cmp(&(by_x, x.metrics.impressions)).then_with(|| x.key.cmp(&y.key))
                });
                rows.truncate(limit);
            }
        }
        rows.into_iter().map(|(_, row)| row).collect()
    }
}

fn rank(order: Order, m: &Metrics) -> Option<Decimal6> {
    match order {
        Order::Impressions => Decimal6::ratio(m.impressions, 1),
        Order::Clicks => Decimal6::ratio(m.clicks, 1),
        Order::Ctr => Decimal6::ratio(m.clicks, m.impressions),
        Order::Cost => Decimal6::units_per(m.cost_micros, 1),
    }
}

/// The rows of a report, of cells in any order that are all within its scope.
///
/// # Errors
/// [`ReportError::TooLarge`].
pub fn rows(report: &Report, cells: impl IntoIterator<Item = Cells>) -> Result<Vec<ReportRow>, ReportError> {
    let mut tally = Tally::new(report);
    for Cells { start_ms, keys, lower_bound } in cells {
        if lower_bound {
            tally.bound(start_ms);
        }
        for (key, metrics) in &keys {
            tally.add(start_ms, key, metrics)?;
        }
    }
    Ok(tally.rows())
}

/// The rows of a report, from the windows of the topic.
///
/// # Errors
/// [`ReportError`].
pub fn from_windows(broker: &dyn Broker, report: &Report) -> Result<Vec<ReportRow>, ReportError> {
    let Scope { dimension, from_ms, to_ms, .. } = &report.scope;
    let query = WindowQuery { size_ms: PANE_MS, dimension: Some(dimension.clone()), from_ms: *from_ms, to_ms: *to_ms };
    let mut tally = Tally::new(report);
    for row in windows(broker, &query)?.into_rows() {
        let row = row?;
        if row.lower_bound {
            tally.bound(row.window.start_ms);
        }
        tally.add(row.window.start_ms, &row.key, &row.metrics)?;
    }
    Ok(tally.rows())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2014-10-21, a Tuesday.
    const T0: i64 = 1_413_849_600_000;

    fn m(impressions: i64, clicks: i64) -> Metrics {
        Metrics { impressions, clicks, ..Metrics::default() }
    }

    fn cells(start_ms: i64, keys: &[(&str, Metrics)], lower_bound: bool) -> Cells {
        Cells { start_ms, keys: keys.iter().map(|(key, m)| ((*key).to_owned(), *m)).collect(), lower_bound }
    }

    fn report(kind: Kind) -> Report {
        Report { scope: Scope { dimension: "site_category".into(), ..Scope::default() }, kind }
    }

    fn told(rows: &[ReportRow]) -> Vec<(&str, &str, i64, bool)> {
        rows.iter().map(|r| (&*r.label, &*r.key, r.metrics.impressions, r.lower_bound)).collect()
    }

    #[test]
    fn trends_sum_by_hour_day_hour_of_day_and_weekday() {
        let of = |by| {
            let all = [
                cells(T0 + DAY_MS + HOUR_MS, &[("a", m(4, 0))], false),
                cells(T0 + HOUR_MS, &[("b", m(1, 1)), ("a", m(2, 0))], false),
                cells(T0 + HOUR_MS + PANE_MS, &[("a", m(8, 0))], true),
                cells(-PANE_MS, &[("a", m(16, 0))], false),
            ];
            rows(&report(Kind::Trend { by }), all).unwrap()
        };
        let hours = of(By::Hour);
        assert_eq!(
            told(&hours),
            [
                ("1969-12-31T23:00:00Z", "a", 16, false),
                ("2014-10-21T01:00:00Z", "a", 10, true),
                ("2014-10-21T01:00:00Z", "b", 1, true),
                ("2014-10-22T01:00:00Z", "a", 4, false),
            ]
        );
        assert_eq!((hours[0].start_ms, hours[1].start_ms), (Some(-HOUR_MS), Some(T0 + HOUR_MS)));
        let days = of(By::Day);
        assert_eq!((&*days[0].label, days[0].start_ms), ("1969-12-31", Some(-DAY_MS)));
        assert_eq!(told(&days)[1..3], [("2014-10-21", "a", 10, true), ("2014-10-21", "b", 1, true)]);
        assert_eq!(
            told(&of(By::HourOfDay)),
            [("01:00", "a", 14, true), ("01:00", "b", 1, true), ("23:00", "a", 16, false)]
        );
        assert_eq!(
            told(&of(By::Weekday)),
            [("Tuesday", "a", 10, true), ("Tuesday", "b", 1, true), ("Wednesday", "a", 20, false)]
        );
    }

    #[test]
    fn one_key_knows_that_another_ones_overflow_may_be_its_own() {
        let mut one = report(Kind::Trend { by: By::Day });
        one.scope.key = Some("a\0".into());
        let all = [cells(T0, &[("a\u{fffd}", m(1, 0)), ("b", m(2, 0))], false), cells(T0, &[("b", m(2, 0))], true)];
        assert_eq!(told(&rows(&one, all).unwrap()), [("2014-10-21", "a\u{fffd}", 1, true)]);
    }

    #[test]
    fn breakdowns_are_searched_ordered_and_cut() {
        let of = |search: &str, order, limit| {
            let search = (!search.is_empty()).then(|| search.to_owned());
            let keys = [("Xa", m(10, 1)), ("xb", m(5, 2)), ("xc", m(10, 1)), ("y", m(100, 0))];
            let rows = rows(&report(Kind::Breakdown { limit, search, order }), [cells(T0, &keys, false)]).unwrap();
            rows.into_iter().map(|row| row.label).collect::<Vec<_>>()
        };
        assert_eq!(of("", Order::Impressions, 9), ["y", "Xa", "xc", "xb"]);
        assert_eq!(of("", Order::Clicks, 9), ["xb", "Xa", "xc", "y"]);
        assert_eq!(of("X", Order::Ctr, 2), ["xb", "Xa"]);
        assert_eq!(of("z", Order::Cost, 2), Vec::<String>::new());
    }

    #[test]
    fn a_scope_is_widened_to_whole_hours() {
        let scope = |from, to| {
            let scope = Scope::new("total".into(), None, Some(from), Some(to));
            (scope.from_ms.unwrap(), scope.to_ms.unwrap())
        };
        assert_eq!(scope(T0, T0 + HOUR_MS), (T0, T0 + HOUR_MS));
        assert_eq!(scope(T0 + 1, T0 + HOUR_MS + 1), (T0, T0 + 2 * HOUR_MS));
        assert_eq!(scope(-1, 0), (-HOUR_MS, 0));
    }

    #[test]
    fn too_many_sums_are_refused() {
        let keys: Vec<_> = (0..=MOST_SUMS).map(|key| (key.to_string(), m(1, 0))).collect();
        let all = Cells { start_ms: T0, keys, lower_bound: false };
        assert!(matches!(rows(&report(Kind::Trend { by: By::Day }), [all]), Err(ReportError::TooLarge)));
    }
}
