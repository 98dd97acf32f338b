//! The module through the ABI: batches of records in, routes and partials out.

use clickmill_ad_event::Enriched;
use clickmill_schemas::avro::{header, schema_id};
use clickmill_schemas::envelope::{ErrorType, Route};
use clickmill_sdk::harness::{Harness, OutputRecord, decode};
use proptest::prelude::*;

use crate::CtrWindow;

const START: i64 = 1_413_849_600_000;

/// As `produce` writes it.
fn json(ts_ms: i64, click: i64, site_category: &str) -> Vec<u8> {
    format!(
        r#"{{"id":"1","click":{click},"hour":"14102100","C1":1005,"banner_pos":-1,"site_id":"1fbe01fe","site_domain":"f3845767","site_category":"{site_category}","app_id":"ecad2386","app_domain":"7801e8d9","app_category":"07d7df22","device_id":"a99f214a","device_ip":"ddd2926e","device_model":"44956a24","device_type":1,"device_conn_type":2,"C14":15706,"C15":320,"C16":50,"C17":1722,"C18":0,"C19":35,"C20":-1,"C21":79,"ts":{ts_ms}}}"#
    )
    .into_bytes()
}

/// As `enrich` writes it.
fn enriched(ts_ms: i64, click: i64, site_category: &str, appended: &Enriched<'_>) -> Vec<u8> {
    let json = json(ts_ms, click, site_category);
    let mut reader = clickmill_ad_event::Reader::new(true);
    let mut value = header(schema_id::AD_EVENT_ENRICHED).to_vec();
    value.extend_from_slice(reader.read(&json).unwrap().body());
    appended.put(&mut value);
    value
}

fn paid() -> Enriched<'static> {
    let (conversion, cost_micros, revenue_micros) = (1, 700, 5_000_000);
    Enriched { device_class: b"mobile", hour_of_day: 3, weekday: 1, conversion, cost_micros, revenue_micros }
}

fn module(params: &[(&str, &str)]) -> Harness<CtrWindow> {
    Harness::new(params).unwrap()
}

fn feed(module: &mut Harness<CtrWindow>, values: &[Vec<u8>]) -> Vec<OutputRecord> {
    let values: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
    module.batch(&values).unwrap()
}

fn emitted(module: &mut Harness<CtrWindow>) -> Vec<(String, Vec<u8>)> {
    let records = decode(module.guest.emit()).unwrap().into_iter();
    records.map(|r| (String::from_utf8(r.key.unwrap()).unwrap(), r.value)).collect()
}

#[test]
fn an_enriched_event_is_counted_with_its_money_in_both_sizes() {
    let mut module = module(&[("dimensions", "total,device_class,C1,weekday")]);
    assert_eq!(feed(&mut module, &[enriched(START + 61_000, 1, "a", &paid())]), []);
    let partials = emitted(&mut module);
    let keys: Vec<_> = partials.iter().map(|(key, _)| key.as_str()).collect();
    let dimensions = ["C1", "device_class", "total", "weekday"];
    let minute = dimensions.map(|d| format!("60000|{}|{d}", START + 60_000));
    let five = dimensions.map(|d| format!("300000|{START}|{d}"));
    assert_eq!(keys, [minute, five].concat());
    // Lower bound: no; one entry: key "1005", impressions 1, clicks 1, conversions 1, cost 700, revenue 5,000,000.
    let value = [0, 2, 8, b'1', b'0', b'0', b'5', 2, 2, 2, 0xf8, 0x0a, 0x80, 0xad, 0xe2, 0x04, 0];
    assert_eq!(partials[0].1, value);
    assert_eq!(emitted(&mut module), [], "nothing changed since");
}

#[test]
fn json_is_counted_too_without_money() {
    let mut module = module(&[("dimensions", "total"), ("clickmill.first", "true")]);
    assert_eq!(feed(&mut module, &[json(START, 1, "a")]), []);
    assert_eq!(emitted(&mut module)[0].1, [0, 2, 0, 2, 2, 0, 0, 0, 0]);
}

#[test]
fn a_record_for_a_closed_pane_is_late_with_both_times_and_its_own_value() {
    let mut module = module(&[]);
    let late = json(START + 59_999, 0, "a");
    let values = [json(START + 129_999, 0, "a"), json(START + 130_000, 0, "a"), late.clone()];
    let out = feed(&mut module, &values);
    assert_eq!(out.len(), 1);
    assert_eq!(out[0].route(), Some(Route::Late { ts_ms: START + 59_999, watermark_ms: START + 120_000 }));
    assert_eq!((out[0].offset_delta, &out[0].value), (2, &late));
    assert_eq!((module.guest.watermark(), module.guest.closed_before()), (START + 120_000, START + 60_000));
}

#[test]
fn a_record_one_millisecond_before_its_pane_closes_is_counted() {
    let mut module = module(&[]);
    let values = [json(START + 129_998, 0, "a"), json(START + 129_999, 0, "a"), json(START, 0, "a")];
    assert_eq!(feed(&mut module, &values), []);
}

#[test]
fn no_room_that_far_ahead_is_an_error_that_says_so() {
    let mut module = module(&[("max_open_panes", "63")]);
    let far = |days: i64| json(START + days * 86_400_000, 0, "a");
    let out = feed(&mut module, &[far(0), far(1), far(2)]);
    let routes: Vec<_> = out.iter().map(|r| r.route().unwrap()).collect();
    assert_eq!(routes.len(), 2);
    let Route::Error { error_type: ErrorType::Schema, rule: "too_far_ahead", message } = routes[0] else {
        panic!("{routes:?}")
    };
    assert_eq!(
        message,
        format!("`ts` {}: no room for a window so far ahead of the watermark (none yet)", START + 86_400_000)
    );
}

#[test]
fn what_cannot_be_read_or_is_out_of_range_goes_to_the_errors_and_counts_nowhere() {
    let mut module = module(&[]);
    let dear = Enriched { cost_micros: crate::metrics::MAX_MICROS + 1, ..paid() };
    let unpaid = Enriched { revenue_micros: -1, ..paid() };
    let twice = Enriched { conversion: 2, ..paid() };
    let mut not_utf8 = enriched(START, 0, "12345678", &paid());
    let at = not_utf8.windows(8).position(|w| w == b"12345678").unwrap();
    not_utf8[at + 3] = 0xff;
    let values = [
        b"{".to_vec(),
        b"".to_vec(),
        vec![0, 0, 0, 0, 9],
        json(START, 2, "a"),
        enriched(START, 0, "a", &dear),
        enriched(START, 0, "a", &unpaid),
        enriched(START, 0, "a", &twice),
        not_utf8,
    ];
    let out = feed(&mut module, &values);
    assert_eq!(out.len(), values.len());
    for (record, value) in out.iter().zip(&values) {
        assert!(matches!(record.route(), Some(Route::Error { rule: "window_input", .. })), "{record:?}");
        assert_eq!(&record.value, value);
    }
    assert_eq!(emitted(&mut module), []);
    assert_eq!(module.guest.watermark(), i64::MIN);
}

#[test]
fn a_dimension_of_enrich_without_enrich_is_an_error_that_says_what_to_do() {
    let mut module = module(&[("dimensions", "device_class")]);
    let out = feed(&mut module, &[json(START, 0, "a")]);
    let Some(Route::Error { message, .. }) = out[0].route() else { panic!("{out:?}") };
    assert!(message.contains("`device_class`") && message.contains("enrich need that module"), "{message}");
}

#[test]
fn parameters_that_cannot_be_are_refused_at_init() {
    let refused = |params: &[(&str, &str)]| Harness::<CtrWindow>::new(params).unwrap_err();
    assert!(refused(&[("dimension", "total")]).contains("unknown parameter `dimension`"));
    assert!(refused(&[("dimensions", "totl")]).contains("\"totl\""));
}

/// Runs a stream in batches that end where `cuts` says, saving and loading into a new module after each where `reload`.
fn outcome(events: &[Vec<u8>], cuts: &[bool], reload: bool) -> (Vec<(usize, OutputRecord)>, Vec<u8>) {
    let mut at = 0;
    let mut routed = Vec::new();
    let mut current = module(&[]);
    for batch in events.iter().zip(cuts).collect::<Vec<_>>().chunk_by(|(_, cut), _| !**cut) {
        let values: Vec<&[u8]> = batch.iter().map(|(event, _)| event.as_slice()).collect();
        for mut record in current.batch(&values).unwrap() {
            let place = at + std::mem::take(&mut record.offset_delta) as usize;
            routed.push((place, record));
        }
        at += batch.len();
        if reload {
            let state = current.guest.save().to_vec();
            current = module(&[]);
            current.guest.load(&state).unwrap();
        }
    }
    (routed, current.guest.save().to_vec())
}

proptest! {
    #[test]
    fn batches_saves_and_loads_change_neither_routes_nor_state(
        steps in prop::collection::vec((-200_000i64..200_000, 0i64..30_000, any::<bool>()), 1..120),
    ) {
        let mut now = START;
        let events: Vec<_> = steps.iter().map(|(jitter, ahead, _)| {
            now += ahead;
            enriched(now + jitter * i64::from(ahead % 3 == 0), ahead & 1, ["a", "b"][(ahead % 2) as usize], &paid())
        }).collect();
        let cuts: Vec<_> = steps.iter().map(|(.., cut)| *cut).collect();
        let whole = outcome(&events, &vec![false; events.len()], false);
        prop_assert_eq!(&outcome(&events, &cuts, false), &whole);
        prop_assert_eq!(&outcome(&events, &cuts, true), &whole);
    }

    #[test]
    fn no_value_makes_it_panic(mut value in prop::collection::vec(any::<u8>(), 0..200), id in 0u32..4) {
        if id > 0 {
            value.splice(..0, header(id));
        }
        for params in [&[][..], &[("dimensions", "device_class,C21,site_category"), ("clickmill.first", "true")]] {
            let mut module = module(params);
            feed(&mut module, &[value.clone(), json(START, 0, "a"), value.clone()]);
            emitted(&mut module);
        }
    }
}
