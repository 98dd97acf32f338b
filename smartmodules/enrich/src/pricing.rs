//! The pricing table and the formula: `schemas/pricing.md` in Rust.

use std::collections::BTreeMap;

use clickmill_ad_event::AdEventView;
use md5::{Digest, Md5};
use serde::Deserialize;

/// Greatest price and revenue of the table, in micros of the currency unit. An impression and its click together cost
/// at most twice that, a million units, which is what the windows add up.
const MAX_MICROS: i64 = 500_000_000_000;
/// A rate of one, in basis points.
const ALL_BP: i64 = 10_000;

/// What the table says of an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Modelled {
    /// 0 or 1.
    pub conversion: i64,
    pub cost_micros: i64,
    pub revenue_micros: i64,
}

/// The pricing table, checked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pricing {
    impression_cost_micros: Table<i64>,
    click_cost_micros: Table<i64>,
    conversion_rate_bp: Table<i64>,
    revenue_micros_min: i64,
    revenue_micros_max: i64,
    device_class: Table<String>,
}

impl Pricing {
    /// Reads a table.
    ///
    /// # Errors
    /// Says what is wrong with it, and where.
    pub fn parse(json: &str) -> Result<Self, String> {
        let table: Self = serde_json::from_str(json).map_err(|e| e.to_string())?;
        table.impression_cost_micros.within("impression_cost_micros", MAX_MICROS)?;
        table.click_cost_micros.within("click_cost_micros", MAX_MICROS)?;
        table.conversion_rate_bp.within("conversion_rate_bp", ALL_BP)?;
        let (min, max) = (table.revenue_micros_min, table.revenue_micros_max);
        if !(0 <= min && min <= max && max <= MAX_MICROS) {
            return Err(format!(
                "revenue_micros_min {min} and revenue_micros_max {max} must be ordered, 0 to {MAX_MICROS}"
            ));
        }
        Ok(table)
    }

    /// What an event costs and brings.
    #[inline]
    #[must_use]
    pub fn model(&self, event: &AdEventView<'_>) -> Modelled {
        let cost_micros = *self.impression_cost_micros.get(event.banner_pos);
        if event.click != 1 {
            return Modelled { conversion: 0, cost_micros, revenue_micros: 0 };
        }
        let cost_micros = cost_micros + self.click_cost_micros.get(event.device_type);
        let (first, second) = hash(event.id);
        let conversion = i64::from(first % ALL_BP < *self.conversion_rate_bp.get(event.device_type));
        let span = self.revenue_micros_max - self.revenue_micros_min + 1;
        let revenue_micros = conversion * (self.revenue_micros_min + second % span);
        Modelled { conversion, cost_micros, revenue_micros }
    }

    /// The class of a device type.
    #[inline]
    #[must_use]
    pub fn device_class(&self, device_type: i64) -> &[u8] {
        self.device_class.get(device_type).as_bytes()
    }
}

/// The first and the second four bytes of the MD5 of an id, as big-endian numbers. Only for clicks: it is the one thing
/// here that costs.
#[inline(never)]
fn hash(id: &[u8]) -> (i64, i64) {
    let digest: [u8; 16] = Md5::digest(id).into();
    let [a, b, c, d, e, f, g, h, ..] = digest;
    (i64::from(u32::from_be_bytes([a, b, c, d])), i64::from(u32::from_be_bytes([e, f, g, h])))
}

/// Entries at hand by their number; the others are looked for.
const AT_HAND: usize = 16;

/// A value for each number that a field may have: an object of numbers as text, and `default` for all others.
#[derive(Debug, Deserialize)]
#[serde(try_from = "BTreeMap<String, T>", bound = "T: Deserialize<'de> + Clone")]
struct Table<T> {
    at_hand: Vec<T>,
    others: BTreeMap<i64, T>,
    default: T,
}

impl<T: Clone> TryFrom<BTreeMap<String, T>> for Table<T> {
    type Error = String;

    fn try_from(mut entries: BTreeMap<String, T>) -> Result<Self, String> {
        let default = entries.remove("default").ok_or("`default` is missing")?;
        let parse = |(key, value): (String, T)| match key.parse::<i64>() {
            Ok(number) if number.to_string() == key => Ok((number, value)),
            _ => Err(format!("`{key}` is neither an integer nor `default`")),
        };
        let mut others = entries.into_iter().map(parse).collect::<Result<BTreeMap<_, _>, _>>()?;
        let at_hand = (0..AT_HAND as i64).map(|n| others.remove(&n).unwrap_or_else(|| default.clone())).collect();
        Ok(Self { at_hand, others, default })
    }
}

impl<T> Table<T> {
    #[inline]
    fn get(&self, number: i64) -> &T {
        let at_hand = usize::try_from(number).ok().and_then(|n| self.at_hand.get(n));
        at_hand.or_else(|| self.others.get(&number)).unwrap_or(&self.default)
    }
}

impl Table<i64> {
    fn within(&self, name: &str, limit: i64) -> Result<(), String> {
        let mut values = self.at_hand.iter().chain(self.others.values()).chain([&self.default]);
        match values.find(|value| !(0..=limit).contains(*value)) {
            None => Ok(()),
            Some(value) => Err(format!("{name}: {value} is not from 0 to {limit}")),
        }
    }
}
