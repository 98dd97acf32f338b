//! From a record's value to what the windows need of it: timestamp, metrics, keys.
//!
//! Owns which column is read from where, and the checks that keep a malformed event out of the sums: past this file keys
//! are UTF-8 and numbers in range. It must not know windows.

use clickmill_ad_event::{AdEventView, Fault, Field, FieldValue, Reader};
use clickmill_schemas::partial::Metrics;

use crate::column::Column;
use crate::table::Key;
use crate::windows::MAX_MICROS;

/// The rule of an event that cannot be read or is out of range.
pub const WINDOW_INPUT: &str = "window_input";

/// An event, checked, for the columns that were asked for.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    pub ts_ms: i64,
    pub metrics: Metrics,
    view: AdEventView<'a>,
}

/// Reads the events of a stream.
#[derive(Debug)]
pub struct Events {
    reader: Reader,
    /// The columns whose keys need more than the view has at hand.
    far_columns: Vec<Column>,
}

impl Events {
    /// For these keyed dimensions; `first` where no module of ours has judged the events before.
    #[must_use]
    pub fn new(columns: &[Column], first: bool) -> Self {
        let at_hand = [
            Column::SiteCategory,
            Column::AppCategory,
            Column::DeviceType,
            Column::BannerPos,
        ];
        let far_columns = columns
            .iter()
            .copied()
            .filter(|column| !at_hand.contains(column))
            .collect();
        Self {
            reader: Reader::new(first),
            far_columns,
        }
    }

    /// Reads an event, JSON or Avro. Without `enrich` before it, conversion, cost and revenue are 0.
    ///
    /// # Errors
    /// The rule [`WINDOW_INPUT`]; its message names the inner rule and the field.
    #[inline]
    pub fn read<'a>(&'a mut self, value: &'a [u8]) -> Result<Event<'a>, Fault> {
        let view = self.reader.read(value).map_err(within)?;
        let money = view.money();
        let metrics = Metrics {
            impressions: 1,
            clicks: view.click,
            conversions: money.conversion,
            cost_micros: money.cost_micros,
            revenue_micros: money.revenue_micros,
        };
        let event = Event {
            ts_ms: view.ts_ms,
            metrics,
            view,
        };
        // As unsigned numbers negative ones are large.
        let in_range = (metrics.clicks | metrics.conversions) as u64 <= 1
            && metrics.cost_micros as u64 <= MAX_MICROS as u64
            && metrics.revenue_micros as u64 <= MAX_MICROS as u64;
        if !(in_range && is_utf8(view.site_category) && is_utf8(view.app_category)) {
            return Err(out_of_range(&event));
        }
        for column in &self.far_columns {
            if event.far_key(*column).is_none() {
                return Err(no_key(*column, view.is_enriched()));
            }
        }
        Ok(event)
    }
}

impl<'a> Event<'a> {
    /// Its key in a dimension that it was read for.
    #[inline]
    #[must_use]
    pub fn key(&self, column: Column) -> Key<'a> {
        match column {
            Column::SiteCategory => Key::Text(self.view.site_category),
            Column::AppCategory => Key::Text(self.view.app_category),
            Column::DeviceType => Key::Integer(self.view.device_type),
            Column::BannerPos => Key::Integer(self.view.banner_pos),
            // `Events::read` saw that there is one.
            _ => self.far_key(column).unwrap_or(Key::Text(b"")),
        }
    }

    #[inline(never)]
    fn far_key(&self, column: Column) -> Option<Key<'a>> {
        let key = match column {
            Column::DeviceClass => Key::Text(self.view.enriched()?.device_class),
            Column::HourOfDay => Key::Integer(self.view.enriched()?.hour_of_day),
            Column::Weekday => Key::Integer(self.view.enriched()?.weekday),
            _ => match self.view.field(Field::named(column.name())?)? {
                FieldValue::Text(text) => Key::Text(text),
                FieldValue::Int(value) => Key::Integer(value),
            },
        };
        match key {
            Key::Text(text) if !is_utf8(text) => None,
            key => Some(key),
        }
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

#[cold]
fn within(fault: Fault) -> Fault {
    Fault {
        error_type: fault.error_type,
        rule: WINDOW_INPUT,
        message: format!("{}: {}", fault.rule, fault.message),
    }
}

#[cold]
fn out_of_range(event: &Event<'_>) -> Fault {
    let Metrics {
        clicks,
        conversions,
        cost_micros,
        revenue_micros,
        ..
    } = event.metrics;
    let message = if !(is_utf8(event.view.site_category) && is_utf8(event.view.app_category)) {
        "`site_category` or `app_category` is not UTF-8".to_owned()
    } else {
        format!(
            "`click` {clicks} and `conversion` {conversions} must be 0 or 1, `cost_micros` {cost_micros} and \
             `revenue_micros` {revenue_micros} from 0 to {MAX_MICROS}"
        )
    };
    Fault::schema(WINDOW_INPUT, message)
}

#[cold]
fn no_key(column: Column, enriched: bool) -> Fault {
    let hint = if enriched {
        ""
    } else {
        " (the columns of enrich need that module before this one)"
    };
    Fault::schema(
        WINDOW_INPUT,
        format!("`{}` cannot be read{hint}", column.name()),
    )
}
