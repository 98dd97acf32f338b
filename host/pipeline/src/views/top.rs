//! The keys of a dimension that have most of something over a range of windows, each with its numbers window by window.
//!
//! Pure: it is given the windows' partials, wherever they were read. Memory is that of the distinct keys of the range.

use std::cmp::Ordering;
use std::collections::HashMap;

use clickmill_schemas::partial::{Metrics, NotAPartial, visit_entries};
use serde::{Deserialize, Serialize};

use super::windows::Slice;

/// The 0.975 quantile of the normal distribution: for two-sided intervals of 95 %.
const Z: f64 = 1.959_963_984_540_054;

/// By what keys are ordered, most first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    #[default]
    Impressions,
    Clicks,
    /// By the lower end of the 95 % interval: one click of one impression is not above 300 of 1,000.
    Ctr,
    Cost,
}

/// Which keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Question {
    pub order: Order,
    pub limit: usize,
    /// Only keys that contain this, whatever the case.
    pub search: Option<String>,
}

/// Sums as answers have them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sums {
    pub impressions: i64,
    pub clicks: i64,
    pub conversions: i64,
    pub cost_micros: i64,
    pub revenue_micros: i64,
}

impl From<Metrics> for Sums {
    fn from(m: Metrics) -> Self {
        let Metrics { impressions, clicks, conversions, cost_micros, revenue_micros } = m;
        Self { impressions, clicks, conversions, cost_micros, revenue_micros }
    }
}

/// A key, with its sums over the range.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TopKey {
    pub key: String,
    #[serde(flatten)]
    pub sums: Sums,
    /// Impressions, clicks, conversions, cost and revenue in each of the windows.
    pub series: Vec<[i64; 5]>,
}

/// The answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Top {
    /// Some events of a key may be in the overflow bucket.
    pub lower_bound: bool,
    /// Keys of the range that the search finds.
    pub keys_total: usize,
    /// Starts of the windows that there are in the range.
    pub starts_ms: Vec<i64>,
    pub keys: Vec<TopKey>,
    /// Everything of the dimension in the range that is not in `keys`.
    pub rest: Sums,
}

/// Finds the keys; `windows` are those of one dimension, by start.
///
/// # Errors
/// [`NotAPartial`] where one cannot be read.
pub fn top(windows: &[Slice], question: &Question) -> Result<Top, NotAPartial> {
    let mut sums = HashMap::<&str, Metrics>::new();
    for partial in windows.iter().flat_map(|w| &w.partials) {
        visit_entries(partial, |key, metrics| sums.entry(key).or_default().add(&metrics))?;
    }
    sums.retain(|_, metrics| metrics.impressions > 0);
    let mut found: Vec<(&str, Metrics)> = sums.iter().map(|(key, metrics)| (*key, *metrics)).collect();
    if let Some(search) = question.search.as_ref().map(|search| search.to_lowercase()) {
        found.retain(|(key, _)| key.to_lowercase().contains(&search));
    }
    let keys_total = found.len();
    let by_order = |a: &(&str, Metrics), b: &(&str, Metrics)| compare(question.order, a, b);
    if question.limit < found.len() {
        found.select_nth_unstable_by(question.limit, by_order);
        found.truncate(question.limit);
    }
    found.sort_unstable_by(by_order);
    for (key, _) in &found {
        sums.remove(key);
    }
    let mut rest = Metrics::default();
    sums.values().for_each(|metrics| rest.add(metrics));
    Ok(Top {
        lower_bound: windows.iter().any(|w| w.lower_bound),
        keys_total,
        starts_ms: windows.iter().map(|w| w.start_ms).collect(),
        keys: with_series(windows, &found)?,
        rest: rest.into(),
    })
}

fn with_series(windows: &[Slice], found: &[(&str, Metrics)]) -> Result<Vec<TopKey>, NotAPartial> {
    let place: HashMap<&str, usize> = found.iter().enumerate().map(|(at, (key, _))| (*key, at)).collect();
    let key = |(key, metrics): &(&str, Metrics)| TopKey {
        key: (*key).to_owned(),
        sums: Sums::from(*metrics),
        series: vec![[0; 5]; windows.len()],
    };
    let mut keys: Vec<TopKey> = found.iter().map(key).collect();
    for (window, slice) in windows.iter().enumerate() {
        for partial in &slice.partials {
            visit_entries(partial, |key, m| {
                let known = place.get(key).and_then(|at| keys.get_mut(*at));
                if let Some(cell) = known.and_then(|key| key.series.get_mut(window)) {
                    let more = [m.impressions, m.clicks, m.conversions, m.cost_micros, m.revenue_micros];
                    cell.iter_mut().zip(more).for_each(|(sum, more)| *sum = sum.wrapping_add(more));
                }
            })?;
        }
    }
    Ok(keys)
}

/// Most first; of what is equal, more impressions first, then the key.
fn compare(order: Order, (a_key, a): &(&str, Metrics), (b_key, b): &(&str, Metrics)) -> Ordering {
    let by_order = match order {
        Order::Impressions => Ordering::Equal,
        Order::Clicks => b.clicks.cmp(&a.clicks),
        Order::Ctr => lower_end(b.clicks, b.impressions).total_cmp(&lower_end(a.clicks, a.impressions)),
        Order::Cost => b.cost_micros.cmp(&a.cost_micros),
    };
    by_order.then(b.impressions.cmp(&a.impressions)).then(a_key.cmp(b_key))
}

/// Lower end of Wilson's interval of a ratio.
#[allow(clippy::cast_precision_loss, reason = "a bound of an estimate")]
fn lower_end(clicks: i64, impressions: i64) -> f64 {
    if clicks == 0 {
        return 0.0;
    }
    let (n, p) = (impressions as f64, clicks as f64 / impressions as f64);
    let (center, spread) = (p + Z * Z / (2.0 * n), Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt());
    (center - spread) / (1.0 + Z * Z / n)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use clickmill_schemas::partial::{put_end, put_entry};
    use clickmill_schemas::record::put_varint;

    use super::*;

    fn partial(entries: &[(&str, i64, i64)]) -> Arc<[u8]> {
        let mut out = Vec::new();
        put_varint(&mut out, entries.len() as i64);
        for (key, impressions, clicks) in entries {
            let metrics = Metrics { impressions: *impressions, clicks: *clicks, ..Metrics::default() };
            put_entry(&mut out, key.as_bytes(), &metrics);
        }
        put_end(&mut out);
        out.into()
    }

    fn windows() -> Vec<Slice> {
        let slice = |start_ms, lower_bound, partials| Slice { start_ms, lower_bound, partials };
        vec![
            slice(
                0,
                false,
                vec![partial(&[("a", 1, 1), ("b", 500, 150)]), partial(&[("b", 500, 150), ("Über", 7, 0)])],
            ),
            slice(60_000, true, vec![partial(&[("c", 90, 0), ("a", 0, 0)])]),
        ]
    }

    fn keys(top: &Top) -> Vec<&str> {
        top.keys.iter().map(|k| k.key.as_str()).collect()
    }

    #[test]
    fn keys_are_summed_over_partitions_and_windows_and_what_is_left_out_is_the_rest() {
        let top = top(&windows(), &Question { limit: 2, ..Question::default() }).unwrap();
        assert_eq!((keys(&top), top.keys_total, top.lower_bound), (vec!["b", "c"], 4, true));
        assert_eq!(top.starts_ms, [0, 60_000]);
        assert_eq!((top.keys[0].sums.impressions, top.keys[0].sums.clicks), (1_000, 300));
        assert_eq!(top.keys[0].series, [[1_000, 300, 0, 0, 0], [0; 5]]);
        assert_eq!((top.rest.impressions, top.rest.clicks), (8, 1));
    }

    #[test]
    fn by_ctr_one_click_of_one_does_not_stand_above_three_hundred_of_a_thousand() {
        let by = |order| top(&windows(), &Question { limit: 9, order, search: None }).unwrap();
        assert_eq!(keys(&by(Order::Ctr)), ["b", "a", "c", "Über"]);
        assert_eq!(keys(&by(Order::Clicks)), ["b", "a", "c", "Über"]);
        assert_eq!(keys(&by(Order::Impressions)), ["b", "c", "Über", "a"]);
    }

    #[test]
    fn a_search_finds_whatever_the_case_and_the_rest_is_still_everything_else() {
        let question = Question { limit: 5, search: Some("ÜB".into()), ..Question::default() };
        let top = top(&windows(), &question).unwrap();
        assert_eq!((keys(&top), top.keys_total), (vec!["Über"], 1));
        assert_eq!(top.rest.impressions, 1_091);
    }

    #[test]
    fn what_is_no_partial_is_an_error_and_no_windows_are_an_empty_answer() {
        let broken = Slice { start_ms: 0, lower_bound: false, partials: vec![Arc::from(&b"\x04junk"[..])] };
        assert!(top(&[broken], &Question::default()).is_err());
        assert_eq!(top(&[], &Question { limit: 3, ..Question::default() }).unwrap(), Top::default());
    }
}
