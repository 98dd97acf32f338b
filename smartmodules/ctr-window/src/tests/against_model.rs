//! The windows against the model of `model.rs`, on random streams.

use std::collections::{BTreeMap, BTreeSet};

use super::model::{Event, Model, Sums, WindowId};
use crate::column::Column;
use crate::config::Config;
use crate::pane::{END_MS, FIRST_MS};
use crate::probe::Key;
use crate::state;
use crate::windows::{Fate, Windows};
use clickmill_schemas::ids::{Epoch, Generation, Offset, PartitionId, RunId};
use clickmill_schemas::partial::{self, Metrics, Owner, Partial, Version};
use proptest::prelude::*;

/// Small limits, so that a short stream meets all of them.
fn config() -> Config {
    let params = BTreeMap::from([
        ("dimensions", "total,site_category,device_type"),
        ("future_limit_ms", "600000"),
        ("future_quorum", "4"),
        ("future_window", "12"),
        ("max_keys", "3"),
        ("max_pane_key_bytes", "270"),
        ("max_held_key_bytes", "4000"),
        ("max_open_panes", "18"),
    ]);
    Config::parse(|name| params.get(name).copied()).unwrap()
}

fn observe(windows: &mut Windows, event: &Event) -> Fate {
    windows.observe(event.ts_ms, &event.metrics, |column| match column {
        Column::SiteCategory => Key::Text(event.site_category.as_bytes()),
        _ => Key::Integer(event.device_type),
    })
}

/// What an emission says, in its order.
fn emit(windows: &mut Windows) -> Vec<(WindowId, Sums)> {
    let mut set = Vec::new();
    windows.emit(|key, value| set.push((key.to_vec(), value.to_vec())));
    let owner = Owner { run: RunId([0; 16]), partition: PartitionId(0), generation: Generation(0) };
    let version = Version { epoch: Epoch(1), as_of: Offset(0) };
    let read = |(guest_key, guest_value): (Vec<u8>, Vec<u8>)| {
        let key = [partial::key_prefix(&owner).into_bytes(), guest_key].concat();
        let mut value = Vec::new();
        partial::put_stamps(&mut value, &version);
        value.extend_from_slice(&guest_value);
        let Partial { window, lower_bound, entries, .. } = Partial::decode(&key, &value).unwrap();
        assert!(entries.is_sorted_by(|a, b| a.0 < b.0), "keys are in order, each once");
        ((window.size_ms, window.start_ms, window.dimension), (lower_bound, entries.into_iter().collect()))
    };
    set.into_iter().map(read).collect()
}

#[derive(Clone, Debug)]
enum Step {
    Event(Event),
    Emit,
    /// Save, load, go on with what was loaded.
    Reload,
    Advance(i64),
}

/// Where a record lies against the stream's own time.
fn offsets() -> impl Strategy<Value = (i64, bool)> {
    prop_oneof![
        // (offset from the stream's time, whether that moves on to it)
        20 => (0i64..20_000).prop_map(|d| (d, true)),
        6 => (-90_000i64..0).prop_map(|d| (d, false)),
        2 => (-900_000i64..-90_000).prop_map(|d| (d, false)),
        3 => (600_000i64..8_000_000).prop_map(|d| (d, false)),
        1 => (600_000i64..90_000_000).prop_map(|d| (d, true)),
        2 => (590_000i64..612_000).prop_map(|d| (d, false)),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = prop_oneof![4 => "[a-c]", 2 => "[a-h]", 1 => "[a-b]{8,60}", 1 => Just("__overflow__".to_owned())];
    let metrics = (0i64..2, 0i64..2, 0i64..1_000, 0i64..9).prop_map(|(clicks, conversions, cost, revenue)| Metrics {
        impressions: 1,
        clicks,
        conversions,
        cost_micros: cost,
        revenue_micros: revenue,
    });
    let event = (offsets(), key, -2i64..4, metrics);
    let extreme = prop_oneof![
        Just(i64::MIN),
        Just(i64::MAX),
        Just(END_MS),
        Just(END_MS - 1),
        Just(FIRST_MS - 1),
        Just(FIRST_MS),
    ];
    let step = prop_oneof![
        300 => event.prop_map(|event| (Some(event), 0)),
        20 => Just((None, 1)),
        20 => Just((None, 2)),
        3 => Just((None, 3)),
        1 => Just((None, 4)),
    ];
    let base =
        prop_oneof![Just(1_413_849_600_000i64), Just(-150_000i64), Just(END_MS - 40_000_000), Just(FIRST_MS - 40_000)];
    (base, extreme, 0i64..400_000, prop::collection::vec(step, 1..160)).prop_map(|(base, extreme, ahead, steps)| {
        let mut now = base;
        let steps = steps.into_iter().map(|step| match step {
            (Some(((offset, moves), site_category, device_type, metrics)), _) => {
                let ts_ms = now.saturating_add(offset);
                if moves {
                    now = ts_ms;
                }
                Step::Event(Event { ts_ms, site_category, device_type, metrics })
            }
            (None, 1) => Step::Emit,
            (None, 2) => Step::Reload,
            (None, 3) => Step::Advance(now.saturating_add(ahead)),
            _ => {
                let metrics = Metrics { impressions: 1, ..Metrics::default() };
                Step::Event(Event { ts_ms: extreme, site_category: "a".to_owned(), device_type: 1, metrics })
            }
        });
        steps.collect()
    })
}

fn reload(windows: &Windows) -> Windows {
    let mut saved = Vec::new();
    state::save(windows, &mut saved);
    let loaded = state::load(windows.config().clone(), &saved).unwrap();
    let mut again = Vec::new();
    state::save(&loaded, &mut again);
    assert_eq!(saved, again, "a loaded state saves as it was");
    loaded
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn fates_watermarks_and_windows_are_the_models_whatever_is_emitted_saved_and_loaded_in_between(steps in steps()) {
        let (mut windows, mut model) = (Windows::new(config()), Model::new(config()));
        let mut known = BTreeMap::<WindowId, Sums>::new();
        let mut reopened = BTreeSet::new();
        for step in steps.into_iter().chain([Step::Emit]) {
            match step {
                Step::Event(event) => prop_assert_eq!(observe(&mut windows, &event), model.observe(&event)),
                Step::Advance(watermark_ms) => {
                    windows.advance(watermark_ms);
                    model.advance(watermark_ms);
                }
                Step::Reload => {
                    windows = reload(&windows);
                    reopened.extend(model.open());
                }
                Step::Emit => {
                    let emitted = emit(&mut windows);
                    prop_assert!(emitted.is_sorted_by(|a, b| a.0 < b.0));
                    let changed = model.take_changed();
                    let ids: BTreeSet<_> = emitted.iter().map(|(id, _)| id.clone()).collect();
                    prop_assert!(ids.is_superset(&changed), "a changed window is missing");
                    let allowed = &changed | &std::mem::take(&mut reopened);
                    prop_assert!(ids.is_subset(&allowed), "an unchanged window was emitted");
                    known.extend(emitted);
                    prop_assert_eq!(&known, &model.windows());
                    prop_assert_eq!(windows.pending_bytes(), 0);
                }
            }
            prop_assert_eq!(windows.watermark_ms(), model.watermark_ms());
        }
    }

    #[test]
    fn a_stream_in_order_of_time_is_never_late_however_thin_it_is(
        gaps in prop::collection::vec(prop_oneof![0i64..10_000, 0i64..900_000, 0i64..90_000_000], 1..300),
    ) {
        let mut windows = Windows::new(config());
        let mut ts_ms = -1_000_000_000;
        for gap in gaps {
            ts_ms += gap;
            let metrics = Metrics { impressions: 1, ..Metrics::default() };
            let event = Event { ts_ms, site_category: "a".to_owned(), device_type: 1, metrics };
            prop_assert_eq!(observe(&mut windows, &event), Fate::Counted);
        }
    }
}
