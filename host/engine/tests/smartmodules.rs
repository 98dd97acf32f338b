//! The three real modules, as xtask builds them, in a real chain.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;

use clickmill_engine::{BatchOutcome, Chain, ChainState, Limits, Module, RouteOwned, StageSpec};
use clickmill_schemas::envelope::Route;
use clickmill_schemas::partial::{self, Owner, Partial, Version};
use clickmill_schemas::record::Records;
use clickmill_schemas::{Generation, PartitionId, RunId};
use common::*;

const HOUR_MS: i64 = 1_413_849_600_000; // 2014-10-21T00:00:00Z

static MODULES: LazyLock<BTreeMap<&str, Module>> = LazyLock::new(|| {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"), Into::into);
    let compile = |name| {
        let path = target.join("smartmodules").join(name).with_extension("wasm");
        let wasm = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}; run cargo xtask build", path.display()));
        (name, ENGINE.compile(&wasm).unwrap())
    };
    ["validate", "enrich", "ctr-window"].map(compile).into()
});

fn spec(name: &str, params: &[(&str, &str)]) -> StageSpec {
    StageSpec {
        name: name.into(),
        module: MODULES[name].clone(),
        params: params.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        limits: Limits::default(),
        lookback: None,
    }
}

fn real_chain() -> Chain {
    let pricing = concat!(env!("CARGO_MANIFEST_DIR"), "/../../schemas/pricing.json");
    let pricing = std::fs::read_to_string(pricing).unwrap();
    let stages = [spec("validate", &[]), spec("enrich", &[("pricing", &pricing)]), spec("ctr-window", &[])];
    Chain::new(&ENGINE, &stages).unwrap()
}

fn event(i: i64, ts_ms: i64) -> String {
    let hour = if ts_ms < HOUR_MS + 3_600_000 { "14102100" } else { "14102101" };
    format!(
        r#"{{"id":"{i}","click":{},"hour":"{hour}","C1":1005,"banner_pos":{},"site_id":"s","site_domain":"d","site_category":"cat{}","app_id":"a","app_domain":"ad","app_category":"ac{}","device_id":"di","device_ip":"ip{i}","device_model":"m","device_type":{},"device_conn_type":0,"C14":1,"C15":320,"C16":50,"C17":1,"C18":0,"C19":35,"C20":-1,"C21":79,"ts":{ts_ms}}}"#,
        i64::from(i % 6 == 0),
        i % 3,
        i % 7,
        i % 4,
        i % 5
    )
}

/// 3,000 records, one in 1.3 s: most good, every 97th no JSON, every 101st late by half an hour.
fn records() -> Vec<String> {
    (0..3_000)
        .map(|i| match (i % 97, i % 101) {
            (1, _) => format!("{{\"id\": {i}, broken"),
            (_, 100) if i > 1_600 => event(i, HOUR_MS + i * 1_300 - 1_800_000),
            _ => event(i, HOUR_MS + i * 1_300),
        })
        .collect()
}

/// Fates summed over batches; routed ones by offset from the first record.
#[derive(Debug, Default, PartialEq, Eq)]
struct Fates {
    counted: u64,
    routed: BTreeMap<usize, (usize, RouteOwned, Vec<u8>)>,
}

fn feed(chain: &mut Chain, first: usize, records: &[String], batch: usize, fates: &mut Fates) {
    for (n, values) in records.chunks(batch).enumerate() {
        let out: BatchOutcome = process(chain, &Batch::new(values)).unwrap();
        assert!(out.is_balanced() && out.dropped.is_empty(), "{out:?}");
        fates.counted += out.counted;
        for r in out.routed {
            let place = first + n * batch + (r.offset.0 - BASE) as usize;
            assert!(fates.routed.insert(place, (r.stage, r.route, r.value)).is_none());
        }
    }
}

fn partials(set: &[u8]) -> Vec<Partial> {
    let owner = Owner { run: RunId([0; 16]), partition: PartitionId(0), generation: Generation(0) };
    Records::new(set)
        .unwrap()
        .map(|record| {
            let record = record.unwrap();
            let mut key = partial::key_prefix(&owner).into_bytes();
            key.extend_from_slice(record.key.unwrap());
            let mut value = Vec::new();
            partial::put_stamps(&mut value, &Version::default());
            value.extend_from_slice(record.value);
            Partial::decode(&key, &value).unwrap()
        })
        .collect()
}

#[test]
fn the_chain_counts_rejects_and_finds_late_what_it_should() {
    let records = records();
    let mut chain = real_chain();
    let mut fates = Fates::default();
    feed(&mut chain, 0, &records, 600, &mut fates);
    let mut clicks = 0;
    for (i, record) in records.iter().enumerate() {
        match fates.routed.get(&i) {
            None => clicks += i64::from(i % 6 == 0),
            Some((0, RouteOwned::Error { .. }, value)) => {
                assert_eq!((i % 97, value.as_slice()), (1, record.as_bytes()));
            }
            Some((2, RouteOwned::Late { ts_ms, watermark_ms }, _)) => {
                assert!(i % 101 == 100 && i > 1_600, "{i}");
                assert!(*ts_ms == HOUR_MS + i as i64 * 1_300 - 1_800_000 && ts_ms < watermark_ms);
            }
            other => panic!("record {i}: {other:?}"),
        }
    }
    assert_eq!(fates.counted + fates.routed.len() as u64, 3_000);
    assert_eq!(fates.routed.len(), 31 + 14);
    assert_eq!(chain.watermark(), Some(HOUR_MS + 2_999 * 1_300 - 10_000));
    assert!(chain.closed_before() < chain.watermark() && chain.pending_bytes() > 0);
    let emitted = partials(&chain.emit().unwrap());
    for size_ms in [60_000, 300_000] {
        for dimension in ["total", "site_category", "app_category", "device_type", "banner_pos"] {
            let of = emitted.iter().filter(|p| p.window.size_ms == size_ms && p.window.dimension == dimension);
            let sums = of
                .flat_map(|p| &p.entries)
                .fold((0, 0, 0), |(n, c, m), (_, e)| (n + e.impressions, c + e.clicks, m + e.cost_micros));
            assert_eq!((sums.0 as u64, sums.1), (fates.counted, clicks), "{dimension} of {size_ms} ms");
            assert!(sums.2 > 0, "enrich came before");
        }
    }
    assert_eq!(chain.pending_bytes(), 0);
    assert!(partials(&chain.emit().unwrap()).is_empty(), "nothing has changed since");
}

#[test]
fn batches_and_restarts_leave_no_trace_in_the_state() {
    let records = records();
    let (mut whole, mut whole_fates) = (real_chain(), Fates::default());
    feed(&mut whole, 0, &records, records.len(), &mut whole_fates);
    let (mut parts, mut fates) = (real_chain(), Fates::default());
    for (i, part) in records.chunks(740).enumerate() {
        let saved = parts.save().unwrap().to_bytes();
        // What an instance does after the save is gone with it.
        feed(&mut parts, 0, part, 100, &mut Fates::default());
        parts = real_chain();
        parts.restore(&ChainState::from_bytes(&saved).unwrap()).unwrap();
        feed(&mut parts, i * 740, part, 37, &mut fates);
    }
    assert_eq!(fates, whole_fates);
    assert_eq!(parts.save().unwrap(), whole.save().unwrap());
    assert_eq!(parts.emit().unwrap(), whole.emit().unwrap());
}

#[test]
fn a_producers_forged_route_is_counted_like_any_record() {
    let mut key = Vec::new();
    Route::Late { ts_ms: 1, watermark_ms: 2 }.encode(&mut key);
    let mut chain = real_chain();
    let out = process(&mut chain, &Batch::keyed([(Some(key), event(0, HOUR_MS)), (None, event(1, HOUR_MS))]));
    assert_eq!((out.as_ref().unwrap().counted, out.unwrap().routed.len()), (2, 0));
}

#[test]
fn no_bytes_of_a_record_make_the_modules_fail() {
    let good = event(1, HOUR_MS);
    let mut values: Vec<Vec<u8>> = (0..good.len()).map(|cut| good.as_bytes()[..cut].to_vec()).collect();
    for i in 0..good.len() {
        let mut value = good.clone().into_bytes();
        value[i] ^= 0x80 | (i as u8 & 7);
        values.push(value);
    }
    values.extend([
        vec![0; 5],
        vec![0, 0, 0, 0, 1],
        vec![0, 0, 0, 0, 2, 0xff, 0xff],
        vec![b' '; 1 << 20],
        vec![0xff; 300],
    ]);
    let count = values.len() as u64;
    let out = process(&mut real_chain(), &Batch::new(values)).unwrap();
    assert_eq!(out.records, count);
    assert!(out.is_balanced() && out.routed.len() as u64 > count / 2);
}
