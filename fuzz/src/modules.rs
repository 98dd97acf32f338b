//! The three modules, natively: what a producer sends, and what a deployment sets.

use clickmill_ad_event::{AdEventView, Parser, avro};
use clickmill_ctr_window::CtrWindow;
use clickmill_enrich::{Enrich, Modelled, Pricing};
use clickmill_schemas::partial::{Metrics, take_entries};
use clickmill_schemas::record::Records;
use clickmill_sdk::harness::{Harness, OutputRecord, decode};
use clickmill_sdk::params::FIRST;
use clickmill_sdk::record::Input;
use clickmill_sdk::{Guest, Module, Params};
use clickmill_validate::Validate;

use crate::SEPARATOR;
use crate::windows::assert_partials;

const PRICING: &str = include_str!("../../schemas/pricing.json");
/// As the pricing table allows: an impression and its click.
const MOST_COST_MICROS: i64 = 1_000_000_000_000;
const EVENT: &str = r#"{"id":"ID","click":1,"hour":"14102100","C1":1005,"banner_pos":7,"site_id":"s","site_domain":"d","site_category":"28905ebd","app_id":"a","app_domain":"b","app_category":"07d7df22","device_id":"i","device_ip":"p","device_model":"m","device_type":1,"device_conn_type":0,"C14":1,"C15":320,"C16":50,"C17":2253,"C18":2,"C19":303,"C20":-1,"C21":52,"ts":1413849600000}"#;

/// Bytes as the input of a call; and as values, from the first module to the last: every record has one fate, and the
/// windows hold those that were counted, however the values came in batches.
pub fn module_input(data: &[u8]) {
    call::<Validate>(&[(FIRST, "true")], data);
    call::<Enrich>(&[("pricing", PRICING)], data);
    call::<CtrWindow>(&[], data);

    let values: Vec<&[u8]> = data.split(|byte| *byte == SEPARATOR).collect();
    let (whole, counted) = windows_of(&[&values]);
    let batches: Vec<_> = values.chunks(1).collect();
    assert_eq!(windows_of(&batches), (whole, counted), "the windows depend on the batches");
}

fn call<M: Module>(params: &[(&str, &str)], input: &[u8]) {
    let mut guest = Guest::<M>::new(&Params::new(params)).expect("the parameters are sound");
    let sound = Input::new(input).is_some_and(|mut records| records.all(|record| record.is_ok()));
    match guest.array_map(input) {
        (count @ 0.., Some(output)) => {
            let (flag, set) = output.split_last().expect("an output has an error flag");
            assert!(sound && *flag == 0 && decode(set).is_some_and(|records| records.len() == count as usize));
        }
        (..0, None) => assert!(!sound),
        other => panic!("a count without an output, or a refusal with one: {other:?}"),
    }
}

/// What the chain hands out when everything is closed, and how many records it counted.
fn windows_of(batches: &[&[&[u8]]]) -> (Vec<u8>, i64) {
    let mut validate = Harness::<Validate>::new(&[(FIRST, "true")]).expect("no parameters are needed");
    let mut enrich = Harness::<Enrich>::new(&[("pricing", PRICING)]).expect("the table is sound");
    let mut window = Harness::<CtrWindow>::new(&[("max_keys", "2")]).expect("the parameters are sound");
    let mut counted = 0;
    for values in batches {
        let judged = validate.batch(values).expect("a batch of values is an input");
        assert_eq!(judged.len(), values.len(), "validate forwards or routes each record");
        let passed: Vec<&[u8]> = passed(&judged);
        for value in &passed {
            AdEventView::checked(value).expect("what validate forwards is an event");
        }
        let enriched = enrich.batch(&passed).expect("a batch of events is an input");
        let values: Vec<&[u8]> = enriched.iter().map(|record| record.value.as_slice()).collect();
        assert!(enriched.len() == passed.len() && enriched.iter().all(|record| record.route().is_none()));
        for value in &values {
            assert!(AdEventView::checked(value).expect("what enrich forwards is an event").is_enriched());
        }
        let routed = window.batch(&values).expect("a batch of events is an input");
        assert!(routed.iter().all(|record| record.route().is_some()), "ctr-window hands nothing on");
        counted += (values.len() - routed.len()) as i64;
    }
    let saved = window.guest.save().to_vec();
    window.guest.advance(i64::MAX);
    let emitted = window.guest.emit().to_vec();
    assert_eq!(impressions(&emitted), counted, "the windows hold what was counted");
    let mut restored = Harness::<CtrWindow>::new(&[("max_keys", "2")]).expect("the parameters are sound");
    restored.guest.load(&saved).expect("what was saved loads");
    restored.guest.advance(i64::MAX);
    assert_eq!(restored.guest.emit(), emitted, "a restored module goes on alike");
    assert_partials(&emitted);
    (emitted, counted)
}

/// The values that are not routed.
fn passed(records: &[OutputRecord]) -> Vec<&[u8]> {
    records.iter().filter(|record| record.route().is_none()).map(|record| record.value.as_slice()).collect()
}

/// Impressions of the dimension `total`, in windows of one minute.
fn impressions(emitted: &[u8]) -> i64 {
    let mut sum = Metrics::default();
    for record in Records::new(emitted).expect("what is handed out is a record set") {
        let record = record.expect("what is handed out is a record set");
        let key = record.key.unwrap_or_default();
        if key.starts_with(b"60000|") && key.ends_with(b"|total") {
            // Behind the flag of a lower bound.
            let entries = take_entries(&record.value[1..]).expect("entries");
            entries.iter().for_each(|(_, metrics)| sum.add(metrics));
        }
    }
    sum.impressions
}

/// Bytes as the parameters of `init`, and as a pricing table.
pub fn module_params(data: &[u8]) {
    if let Some(params) = Params::decode(data) {
        let mut encoded = Vec::new();
        params.encode(&mut encoded);
        assert_eq!(Params::decode(&encoded).as_ref(), Some(&params));
        let _ = Guest::<Validate>::new(&params).map(drop);
        let _ = Guest::<Enrich>::new(&params).map(drop);
        let _ = Guest::<CtrWindow>::new(&params).map(drop);
    }
    let Some(pricing) = std::str::from_utf8(data).ok().and_then(|text| Pricing::parse(text).ok()) else { return };
    for (click, device_type) in [(0, 1), (1, 1), (1, -9), (1, i32::MAX)] {
        let json = EVENT.replace("\"click\":1", &format!("\"click\":{click}"));
        let json = json.replace("\"device_type\":1", &format!("\"device_type\":{device_type}"));
        let mut parser = Parser::default();
        let event = parser.parse(json.as_bytes()).expect("the event is sound");
        let mut value = Vec::new();
        avro::put_event(&mut value, &event);
        let view = AdEventView::new(&value).expect("the event is sound");
        let Modelled { conversion, cost_micros, revenue_micros } = pricing.model(&view);
        assert!((0..=click).contains(&conversion) && (0..=MOST_COST_MICROS).contains(&cost_micros));
        assert!((0..=MOST_COST_MICROS).contains(&revenue_micros) && (conversion == 1 || revenue_micros == 0));
        let _ = pricing.device_class(view.device_type);
    }
}
