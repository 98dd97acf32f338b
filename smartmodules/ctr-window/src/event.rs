//! From an event to what the windows need of it: metrics and keys.
//!
//! Owns which column is read from where, and the checks that keep a malformed event out of the sums: what meets [`Needs`]
//! has keys in UTF-8 and numbers in range. It must not know windows. The event is never copied: a copy of its size is
//! a call out of wasm, and dearer than everything else that happens to a record.

use clickmill_ad_event::{AdEventView, Fault, Field, FieldValue};
use clickmill_schemas::partial::Metrics;

use crate::column::Column;
use crate::metrics::MAX_MICROS;
use crate::probe::Key;

/// The rule of an event that cannot be read or is out of range.
pub const WINDOW_INPUT: &str = "window_input";

/// Which columns the windows need of an event.
#[derive(Debug)]
pub struct Needs {
    /// The columns whose keys need more than the view has at hand.
    far_columns: Vec<Column>,
}

impl Needs {
    /// For these keyed dimensions.
    #[must_use]
    pub fn new(columns: &[Column]) -> Self {
        let at_hand = [Column::SiteCategory, Column::AppCategory, Column::DeviceType, Column::BannerPos];
        let far_columns = columns.iter().copied().filter(|column| !at_hand.contains(column)).collect();
        Self { far_columns }
    }

    /// Whether an event has sound keys in all of them, and sound metrics.
    #[inline]
    #[must_use]
    pub fn are_met(&self, view: &AdEventView<'_>, metrics: &Metrics) -> bool {
        is_in_range(metrics)
            && is_utf8(view.site_category)
            && is_utf8(view.app_category)
            && self.far_columns.iter().all(|column| far_key(view, *column).is_some())
    }

    /// Why they are not.
    #[cold]
    #[must_use]
    pub fn fault(&self, view: &AdEventView<'_>, metrics: &Metrics) -> Fault {
        let Metrics { clicks, conversions, cost_micros, revenue_micros, .. } = metrics;
        let message = if !is_in_range(metrics) {
            format!(
                "`click` {clicks} and `conversion` {conversions} must be 0 or 1, `cost_micros` {cost_micros} and \
                 `revenue_micros` {revenue_micros} from 0 to {MAX_MICROS}"
            )
        } else if let Some(column) = self.far_columns.iter().find(|column| far_key(view, **column).is_none()) {
            let enriched = view.is_enriched();
            let hint = if enriched { "" } else { " (the columns of enrich need that module before this one)" };
            format!("`{}` cannot be read{hint}", column.name())
        } else {
            "`site_category` or `app_category` is not UTF-8".to_owned()
        };
        Fault::schema(WINDOW_INPUT, message)
    }
}

/// What an event adds to sums. Without `enrich` before it, conversion, cost and revenue are 0.
#[inline]
#[must_use]
pub fn metrics(view: &AdEventView<'_>) -> Metrics {
    let money = view.money();
    Metrics {
        impressions: 1,
        clicks: view.click,
        conversions: money.conversion,
        cost_micros: money.cost_micros,
        revenue_micros: money.revenue_micros,
    }
}

#[inline]
fn is_in_range(metrics: &Metrics) -> bool {
    // As unsigned numbers negative ones are large.
    (metrics.clicks | metrics.conversions) as u64 <= 1
        && metrics.cost_micros as u64 <= MAX_MICROS as u64
        && metrics.revenue_micros as u64 <= MAX_MICROS as u64
}

/// An event's key in a dimension, for which [`Needs`] must be met.
#[inline]
#[must_use]
pub fn key<'a>(view: &AdEventView<'a>, column: Column) -> Key<'a> {
    match column {
        Column::SiteCategory => Key::Text(view.site_category),
        Column::AppCategory => Key::Text(view.app_category),
        Column::DeviceType => Key::Integer(view.device_type),
        Column::BannerPos => Key::Integer(view.banner_pos),
        _ => far_key(view, column).unwrap_or(Key::Text(b"")),
    }
}

#[inline(never)]
fn far_key<'a>(view: &AdEventView<'a>, column: Column) -> Option<Key<'a>> {
    let key = match column {
        Column::DeviceClass => Key::Text(view.enriched()?.device_class),
        Column::HourOfDay => Key::Integer(view.enriched()?.hour_of_day),
        Column::Weekday => Key::Integer(view.enriched()?.weekday),
        _ => match view.field(Field::named(column.name())?)? {
            FieldValue::Text(text) => Key::Text(text),
            FieldValue::Int(value) => Key::Integer(value),
        },
    };
    match key {
        Key::Text(text) if !is_utf8(text) => None,
        key => Some(key),
    }
}

/// Nearly all texts are eight characters of ASCII.
#[inline]
fn is_utf8(text: &[u8]) -> bool {
    const HIGH_BITS: u64 = 0x8080_8080_8080_8080;
    match <[u8; 8]>::try_from(text) {
        Ok(eight) if u64::from_ne_bytes(eight) & HIGH_BITS == 0 => true,
        _ => std::str::from_utf8(text).is_ok(),
    }
}

/// The fault of a value that is no event, as one of this module.
#[cold]
#[must_use]
pub fn unreadable(fault: &Fault) -> Fault {
    Fault { error_type: fault.error_type, rule: WINDOW_INPUT, message: format!("{}: {}", fault.rule, fault.message) }
}
