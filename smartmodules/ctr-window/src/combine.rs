//! Adds records to a pane by the combination of their keys: one look-up a record instead of one a dimension.
//!
//! Few combinations of keys make up most of a stream. Each of these is summed apart, and goes to its rows in the pane's
//! tables when another takes its place or somebody wants to read the pane ([`Combiner::settle`]). It must not know time.
//! The law: once settled, the pane is as if every record had been added to it alone; keys get their rows at once.

use clickmill_schemas::partial::Metrics;

use crate::column::Column;
use crate::metrics::Accumulate;
use crate::pane::Pane;
use crate::probe::{Key, MULTIPLIER, Probe};
use crate::table::KeyBudget;

/// So many dimensions are combined; those beyond are added to one by one.
const COMBINED: usize = 4;
const PLACES: usize = 256;

/// Sums of the pane that is in hand, on their way to it.
#[derive(Clone, Debug)]
pub struct Combiner {
    places: Box<[Combination; PLACES]>,
    /// Places that hold something.
    used: Vec<u8>,
}

/// The sums of one combination of keys.
#[derive(Clone, Copy, Debug)]
struct Combination {
    keys: Keys,
    /// Where they go.
    rows: [u32; COMBINED],
    sums: Metrics,
}

/// The keys of a combination, compared without their text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Keys {
    words: [u64; COMBINED],
    /// The probes' kinds, a byte each, or [`Keys::NONE`].
    kinds: u64,
}

impl Keys {
    const NONE: u64 = u64::MAX;

    /// Its place. The top bits of a product depend on all bits of its factors.
    #[inline]
    fn place(&self) -> u8 {
        let mut factor = MULTIPLIER;
        let mut hash = 0;
        for word in self.words {
            hash ^= word.wrapping_mul(factor);
            factor = factor.wrapping_add(MULTIPLIER << 1);
        }
        (hash >> 56) as u8
    }
}

impl Default for Combiner {
    fn default() -> Self {
        let keys = Keys { words: [0; COMBINED], kinds: Keys::NONE };
        let nothing = Combination { keys, rows: [0; COMBINED], sums: Metrics::default() };
        Self { places: Box::new([nothing; PLACES]), used: Vec::with_capacity(PLACES) }
    }
}

impl Combiner {
    /// Adds a record to `pane`, which must be the same one from settling to settling.
    ///
    /// Always inlined, so that the loops over `columns` vanish for a caller that knows them.
    #[inline(always)]
    pub fn add<'a>(
        &mut self,
        pane: &mut Pane,
        columns: &[Column],
        metrics: &Metrics,
        key: impl Fn(Column) -> Key<'a>,
        budget: &mut KeyBudget,
    ) {
        let mut keys = Keys { words: [0; COMBINED], kinds: 0 };
        let mut exact = !columns.is_empty();
        for (i, column) in columns.iter().take(COMBINED).enumerate() {
            let probe = Probe::new(key(*column));
            keys.words[i] = probe.word;
            keys.kinds |= u64::from(probe.kind as u8) << (8 * i);
            exact &= probe.is_exact();
        }
        if !exact {
            return pane.add(columns, metrics, key, budget);
        }
        let place = keys.place();
        let combination = &mut self.places[usize::from(place)];
        if combination.keys == keys {
            combination.sums.accumulate(metrics);
        } else {
            self.replace(place, keys, pane, columns, metrics, &key, budget);
        }
        if columns.len() > COMBINED {
            for (table, column) in pane.tables.iter_mut().zip(columns).skip(COMBINED) {
                table.add(key(*column), metrics, budget);
            }
        }
    }

    #[inline(never)]
    #[expect(clippy::too_many_arguments, reason = "the cold half of `add`, split off for its size alone")]
    fn replace<'a>(
        &mut self,
        place: u8,
        keys: Keys,
        pane: &mut Pane,
        columns: &[Column],
        metrics: &Metrics,
        key: &impl Fn(Column) -> Key<'a>,
        budget: &mut KeyBudget,
    ) {
        let mut found = [None; COMBINED];
        let combined = pane.tables.iter_mut().zip(columns).take(COMBINED);
        for ((table, column), row) in combined.zip(&mut found) {
            *row = table.row(key(*column), budget);
        }
        pane.changed = true;
        let combined = pane.tables.iter_mut().take(COMBINED);
        if combined.len() > found.iter().flatten().count() {
            // Whether a key has room may change: it is asked for every record.
            for (table, row) in combined.zip(found) {
                match row {
                    Some(row) => table.add_at(row, metrics),
                    None => table.add_overflow(metrics),
                }
            }
            return;
        }
        let combination = &mut self.places[usize::from(place)];
        if combination.keys.kinds == Keys::NONE {
            self.used.push(place);
        } else {
            combination.put_into(pane);
        }
        let rows = found.map(|row| row.unwrap_or(0) as u32);
        *combination = Combination { keys, rows, sums: *metrics };
    }

    /// Puts everything into `pane`.
    pub fn settle(&mut self, pane: &mut Pane) {
        for place in self.used.drain(..) {
            let combination = &mut self.places[usize::from(place)];
            combination.put_into(pane);
            combination.keys.kinds = Keys::NONE;
        }
    }

    /// A copy of `pane` with everything put into it.
    #[must_use]
    pub fn settled(&self, pane: &Pane) -> Pane {
        let mut settled = pane.clone();
        for place in &self.used {
            self.places[usize::from(*place)].put_into(&mut settled);
        }
        settled
    }
}

impl Combination {
    fn put_into(&self, pane: &mut Pane) {
        pane.changed = true;
        for (table, row) in pane.tables.iter_mut().zip(self.rows) {
            table.add_at(row as usize, &self.sums);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const COLUMNS: [Column; 5] =
        [Column::SiteCategory, Column::DeviceType, Column::AppCategory, Column::BannerPos, Column::SiteId];

    type Rows = (Vec<(Vec<u8>, Metrics)>, Option<Metrics>);

    fn rows(pane: &Pane) -> Vec<Rows> {
        let of = |table: &crate::table::Table| table.rows().map(|(key, sums)| (key.to_vec(), *sums)).collect();
        pane.tables.iter().map(|table| (of(table), table.overflow().copied())).collect()
    }

    proptest! {
        #[test]
        fn a_settled_pane_is_as_if_every_record_had_been_added_to_it_alone(
            records in prop::collection::vec(("[a-d]{0,2}|[ab]{8,10}", 0i64..4, "[ab]{8}", -1i64..9, "[a-z]"), 1..600),
            dimensions in 0usize..=5,
            settle_every in 1usize..700,
            max_keys in 1usize..40,
        ) {
            let columns = &COLUMNS[..dimensions];
            let mut budget = KeyBudget { max_keys, max_table_bytes: 1_500, left_bytes: 6_000 };
            let mut budget_alone = budget;
            let (mut pane, mut alone) = (Pane::new(0, dimensions), Pane::new(0, dimensions));
            let mut combiner = Combiner::default();
            for (i, (site, device, app, banner, id)) in records.iter().enumerate() {
                let metrics = Metrics { impressions: 1, clicks: i as i64 % 2, cost_micros: i as i64, ..Metrics::default() };
                let key = |column| match column {
                    Column::SiteCategory => Key::Text(site.as_bytes()),
                    Column::DeviceType => Key::Integer(*device),
                    Column::AppCategory => Key::Text(app.as_bytes()),
                    Column::BannerPos => Key::Integer(*banner),
                    _ => Key::Text(id.as_bytes()),
                };
                combiner.add(&mut pane, columns, &metrics, key, &mut budget);
                alone.add(columns, &metrics, key, &mut budget_alone);
                prop_assert_eq!(budget, budget_alone);
                if i % settle_every == 0 {
                    prop_assert_eq!(rows(&combiner.settled(&pane)), rows(&alone));
                    combiner.settle(&mut pane);
                    prop_assert_eq!(rows(&pane), rows(&alone));
                }
            }
            combiner.settle(&mut pane);
            prop_assert_eq!(rows(&pane), rows(&alone));
            prop_assert_eq!(pane.total(), alone.total());
            prop_assert!(pane.changed);
        }
    }
}
