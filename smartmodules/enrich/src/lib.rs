//! The second SmartModule of the chain: appends modelled cost, conversion and revenue, and what follows from the time.
//!
//! The event's own bytes are copied as they are, and only its first fields are read. [`pricing`] has the table and the
//! formula. The outcome is a function of the event and the table alone.

mod pricing;

use clickmill_ad_event::time::{hour_of_day, weekday};
use clickmill_ad_event::{AdEventView, Enriched, Fault, Reader};
use clickmill_schemas::avro::{HEADER_LEN, header, schema_id};
use clickmill_sdk::{ErrorType, Module, Output, Params, Record, Route};

pub use pricing::{Modelled, Pricing};

/// The rule of an event that this module cannot read. In a chain `validate` stands before it, and no event is.
pub const RULE: &str = "enrich_input";

/// The module.
#[derive(Debug)]
pub struct Enrich {
    reader: Reader,
    pricing: Pricing,
}

impl Module for Enrich {
    fn init(params: &Params) -> Result<Self, String> {
        params.only(&["pricing"])?;
        let table = params.get("pricing").ok_or("parameter `pricing` is missing: the pricing table, as JSON text")?;
        let pricing = Pricing::parse(table).map_err(|e| format!("parameter `pricing`: {e}"))?;
        Ok(Self { reader: Reader::new(params.is_first()), pricing })
    }

    fn record(&mut self, record: &Record<'_>, out: &mut Output) {
        match self.reader.read(record.value) {
            Ok(view) if !view.is_enriched() => forward(&self.pricing, &view, record, out),
            Ok(_) => refuse(ErrorType::Schema, "enriched before", record, out),
            Err(Fault { error_type, rule, message }) => refuse(error_type, &format!("{rule}: {message}"), record, out),
        }
    }
}

fn forward(pricing: &Pricing, view: &AdEventView<'_>, record: &Record<'_>, out: &mut Output) {
    let Modelled { conversion, cost_micros, revenue_micros } = pricing.model(view);
    let enriched = Enriched {
        device_class: pricing.device_class(view.device_type),
        hour_of_day: hour_of_day(view.ts_ms),
        weekday: weekday(view.ts_ms),
        conversion,
        cost_micros,
        revenue_micros,
    };
    let body = view.body();
    let enriched_at = HEADER_LEN + body.len();
    out.forward_into(record, enriched_at + enriched.max_len(), |room| {
        room[..HEADER_LEN].copy_from_slice(&header(schema_id::AD_EVENT_ENRICHED));
        room[HEADER_LEN..enriched_at].copy_from_slice(body);
        enriched_at + enriched.write(&mut room[enriched_at..])
    });
}

#[cold]
fn refuse(error_type: ErrorType, message: &str, record: &Record<'_>, out: &mut Output) {
    out.route(record, &Route::Error { error_type, rule: RULE, message });
}

clickmill_sdk::export!(Enrich);

#[cfg(test)]
mod tests;
