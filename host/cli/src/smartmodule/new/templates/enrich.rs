//! Appends to ad events what each click costs: a flat price. Stands where `enrich` does.

use clickmill_ad_event::time::{hour_of_day, weekday};
use clickmill_ad_event::{Enriched, Fault, Reader};
use clickmill_schemas::avro::{header, schema_id};
use clickmill_sdk::{ErrorType, Module, Output, Params, Record, Route};

pub struct Enrich {
    reader: Reader,
    click_cost_micros: i64,
    value: Vec<u8>,
}

impl Module for Enrich {
    fn init(params: &Params) -> Result<Self, String> {
        params.only(&["click_cost_micros"])?;
        let click_cost_micros = params.parse("click_cost_micros", 250_000)?;
        Ok(Self { reader: Reader::new(params.is_first()), click_cost_micros, value: Vec::new() })
    }

    fn record(&mut self, record: &Record<'_>, out: &mut Output) {
        let rejected = match self.reader.read(record.value) {
            Ok(event) if !event.is_enriched() => {
                let enriched = Enriched {
                    device_class: b"unknown",
                    hour_of_day: hour_of_day(event.ts_ms),
                    weekday: weekday(event.ts_ms),
                    conversion: 0,
                    cost_micros: if event.click == 1 { self.click_cost_micros } else { 0 },
                    revenue_micros: 0,
                };
                // The event's own fields as they are, the new ones behind them.
                self.value.clear();
                self.value.extend_from_slice(&header(schema_id::AD_EVENT_ENRICHED));
                self.value.extend_from_slice(event.body());
                enriched.put(&mut self.value);
                return out.forward(record, &self.value);
            }
            Ok(_) => "enriched before".to_owned(),
            Err(Fault { rule, message, .. }) => format!("{rule}: {message}"),
        };
        let error_type = ErrorType::Schema;
        out.route(record, &Route::Error { error_type, rule: "enrich_input", message: &rejected });
    }
}

clickmill_sdk::export!(Enrich);

#[cfg(test)]
mod tests {
    use clickmill_ad_event::AdEventView;
    use clickmill_sdk::harness;

    use super::*;

    const EVENT: &[u8] = br#"{"id":"1","click":1,"hour":"14102100","C1":1005,"banner_pos":1,"site_id":"s","site_domain":"d","site_category":"c","app_id":"a","app_domain":"ad","app_category":"ac","device_id":"di","device_ip":"ip","device_model":"m","device_type":1,"device_conn_type":0,"C14":1,"C15":320,"C16":50,"C17":1,"C18":0,"C19":35,"C20":-1,"C21":79,"ts":1413849600000}"#;

    #[test]
    fn a_click_has_its_price_and_an_event_is_enriched_once() {
        let out = harness::run::<Enrich>(&[("click_cost_micros", "7")], &[EVENT]).unwrap();
        assert_eq!(AdEventView::checked(&out[0].value).unwrap().money().cost_micros, 7);
        let again = harness::run::<Enrich>(&[], &[&out[0].value]).unwrap();
        assert!(matches!(again[0].route(), Some(Route::Error { rule: "enrich_input", .. })));
    }
}
