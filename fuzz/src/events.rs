//! The ad event: JSON against serde_json, Avro against a plain encoder.

use clickmill_ad_event::fields::FIELDS;
use clickmill_ad_event::{AdEvent, AdEventView, Field, FieldValue, Int, Money, Parser, Reader, Slots, Text, avro};
use clickmill_schemas::avro::{header, schema_id};
use clickmill_schemas::record::put_varint;
use serde::Deserialize;

use crate::SEPARATOR;

macro_rules! oracle {
    ($($text:ident = $text_field:ident),*; $($int:ident: $of:ty = $int_field:ident),*) => {
        /// What an ad event is, said the obvious way.
        #[derive(Debug, Deserialize)]
        #[allow(non_snake_case, reason = "the fields' names")]
        struct Oracle { $($text: String,)* $($int: $of,)* }

        impl Oracle {
            fn assert_same(&self, event: &AdEvent<'_>) {
                $(assert_eq!(event.text(Text::$text_field), self.$text.as_bytes(), stringify!($text));)*
                $(assert_eq!(event.int(Int::$int_field), i64::from(self.$int), stringify!($int));)*
            }
        }
    };
}

oracle! {
    id = Id, hour = Hour, site_id = SiteId, site_domain = SiteDomain, site_category = SiteCategory, app_id = AppId,
    app_domain = AppDomain, app_category = AppCategory, device_id = DeviceId, device_ip = DeviceIp,
    device_model = DeviceModel;
    click: i32 = Click, C1: i32 = C1, banner_pos: i32 = BannerPos, device_type: i32 = DeviceType,
    device_conn_type: i32 = DeviceConnType, C14: i32 = C14, C15: i32 = C15, C16: i32 = C16, C17: i32 = C17,
    C18: i32 = C18, C19: i32 = C19, C20: i32 = C20, C21: i32 = C21, ts: i64 = Ts
}

impl Oracle {
    fn read(json: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(json).ok()?;
        // A derived struct would take an array as well.
        let object = text.trim_start_matches([' ', '\t', '\n', '\r']).starts_with('{');
        serde_json::from_str(text).ok().filter(|_| object)
    }
}

/// Records of a stream, one after the other: serde_json's verdict and values for each, whatever the parser has learnt.
pub fn ad_event_json(data: &[u8]) {
    let mut taught = Parser::default();
    for json in data.split(|byte| *byte == SEPARATOR) {
        let oracle = Oracle::read(json);
        let mut fresh = Parser::default();
        let expected = fresh.parse(json);
        // The second time with what it learnt by the first.
        for _ in 0..2 {
            let event = taught.parse(json);
            assert_eq!(event, expected, "what was learnt changes the outcome");
            match (&event, &oracle) {
                (Ok(event), Some(oracle)) => oracle.assert_same(event),
                (Err(_), None) => {}
                _ => panic!("the parser says {event:?}, serde_json {oracle:?}"),
            }
        }
        let Ok(event) = expected else { continue };
        assert_eq!(event.has_nul(), Text::ALL.iter().any(|field| event.text(*field).contains(&0)));
        let mut carried = Vec::new();
        avro::put_event(&mut carried, &event);
        assert!(carried.len() <= avro::max_event_len(&event));
        assert_eq!(avro::decode(&carried, &mut Slots::default()), Ok(event), "through Avro");
        let (mut from_json, mut from_avro) = (Reader::new(true), Reader::new(true));
        let (json, avro) = (from_json.read(json), from_avro.read(&carried));
        assert_eq!(json, avro, "a reader of either form");
    }
}

/// A value with an Avro header: an error, or an event that every way of reading gives alike and that encodes to the
/// same bytes (to fewer, where a varint was longer than it need be).
pub fn ad_event_avro(data: &[u8]) {
    if let Ok(view) = AdEventView::new(data) {
        // Believed, so it may be wrong; it may not panic.
        let _ = (view.money(), view.enriched(), FIELDS.map(|(_, field)| view.field(field)));
    }
    let mut slots = Slots::default();
    let (decoded, checked) = (avro::decode(data, &mut slots), AdEventView::checked(data));
    match (decoded, checked) {
        (Ok(event), Ok(view)) => {
            assert!(!view.is_enriched() && view.money() == Money::default());
            for (name, field) in FIELDS {
                let value = match field {
                    Field::Text(text) => FieldValue::Text(event.text(text)),
                    Field::Int(int) => FieldValue::Int(event.int(int)),
                };
                assert_eq!(view.field(field), Some(value), "{name}");
            }
            let (mut ours, plain) = (Vec::new(), encoded(&view));
            avro::put_event(&mut ours, &event);
            assert_eq!(ours, plain, "the encoder against a plain one");
            assert_same_or_shorter(&ours, data);
            assert_eq!(avro::decode(&ours, &mut Slots::default()), Ok(event));
        }
        (Err(_), Ok(view)) => {
            let enriched = view.enriched().expect("a checked view that is no plain event is enriched");
            let money = Money {
                conversion: enriched.conversion,
                cost_micros: enriched.cost_micros,
                revenue_micros: enriched.revenue_micros,
            };
            assert_eq!(view.money(), money, "read backwards");
            let plain = encoded(&view);
            assert_same_or_shorter(&plain, data);
            let again = AdEventView::checked(&plain).expect("what was encoded reads");
            assert_eq!(again.enriched(), Some(enriched));
        }
        (Ok(event), Err(fault)) => panic!("{event:?} and {fault}"),
        (Err(_), Err(_)) => {}
    }
}

/// The event of a view that was checked, encoded the obvious way.
fn encoded(view: &AdEventView<'_>) -> Vec<u8> {
    let id = if view.is_enriched() { schema_id::AD_EVENT_ENRICHED } else { schema_id::AD_EVENT };
    let mut out = header(id).to_vec();
    for (name, field) in FIELDS {
        match view.field(field).unwrap_or_else(|| panic!("a checked view has {name}")) {
            FieldValue::Text(text) => {
                put_varint(&mut out, text.len() as i64);
                out.extend_from_slice(text);
            }
            FieldValue::Int(value) => put_varint(&mut out, value),
        }
    }
    if let Some(enriched) = view.enriched() {
        enriched.put(&mut out);
    }
    out
}

fn assert_same_or_shorter(encoded: &[u8], data: &[u8]) {
    assert!(encoded.len() < data.len() || encoded == data, "{encoded:?}\nis not\n{data:?}");
}
