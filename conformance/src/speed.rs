//! Records a second of the same unchanged module in both engines, and of its logic on Clickmill's SDK.
//!
//! Rounds of all of them one after the other, so that whatever else the machine does hits them alike; CPU time of this
//! thread, medians.

use std::time::Duration;

use anyhow::{Result, ensure};
use clickmill_engine::{BatchOutcome, Engine, EngineOptions, Verdicts};
use fluvio_smartengine::SmartEngine;
use fluvio_smartmodule::dataplane::smartmodule::SmartModuleInput;

use crate::cases::Modules;
use crate::input::{Batch, Random, Record, event};
use crate::run::Stage;
use crate::{ours, theirs};

const ROUNDS: usize = 5;
const BATCHES: u64 = 60;
const BATCH: u64 = 600;

struct Line {
    name: &'static str,
    goal: f64,
}

/// Ratios to Fluvio's engine, in the order of `Contender`.
const LINES: [Line; 3] = [
    Line { name: "stock module, sandbox and time limit on", goal: 1.0 },
    Line { name: "stock module, without the time limit", goal: 1.1 },
    Line { name: "the same logic on Clickmill's SDK, all limits on", goal: 5.0 },
];

/// Prints the lines; whether all goals are reached.
pub fn measure(modules: &Modules<'_>) -> Result<bool> {
    let mut ok = true;
    let events = batches();
    println!(
        "\nrecords a second of CPU time, medians of {ROUNDS} rounds of {} ad events in batches of {BATCH}",
        BATCHES * BATCH
    );
    for (kind, stock, sdk, goals) in [
        ("filter", "speed-stock", Some("speed-sdk"), [LINES[0].goal, LINES[1].goal, LINES[2].goal]),
        ("map", "mask-device-ids", None, [1.0, 1.1, 0.0]),
        ("array_map", "fan-out", None, [0.0; 3]),
    ] {
        let params: &[(&str, &str)] = if stock == "mask-device-ids" { &[("salt", "s")] } else { &[] };
        let stock = modules.stage(stock, params)?;
        let sdk = sdk.map(|sdk| modules.stage(sdk, &[])).transpose()?;
        ok &= measure_one(kind, &stock, sdk.as_ref(), goals, &events)?;
    }
    Ok(ok)
}

fn measure_one(kind: &str, stock: &Stage, sdk: Option<&Stage>, goals: [f64; 3], events: &[Batch]) -> Result<bool> {
    let limited = Engine::new(&EngineOptions::default())?;
    let unlimited = Engine::new(&EngineOptions { without_time_limit: true, ..Default::default() })?;
    let (mut fluvio, mut ours) = (Vec::new(), [Vec::new(), Vec::new(), Vec::new()]);
    for _ in 0..ROUNDS {
        let (took, passed) = run_theirs(stock, events)?;
        fluvio.push(took);
        for (times, (engine, stage)) in
            ours.iter_mut().zip([(&limited, Some(stock)), (&unlimited, Some(stock)), (&limited, sdk)])
        {
            let Some(stage) = stage else { continue };
            let (took, counted) = run_ours(engine, stage, events)?;
            ensure!(counted == passed, "{kind}: {counted} records of {passed}");
            times.push(took);
        }
    }
    let rate = |times: &mut Vec<Duration>| {
        times.sort_unstable();
        (BATCHES * BATCH) as f64 / times[ROUNDS / 2].as_secs_f64()
    };
    let base = rate(&mut fluvio);
    println!("{kind:<11} {:<58} {base:>11.0}", "Fluvio's engine");
    let mut ok = true;
    for ((times, line), goal) in ours.iter_mut().zip(&LINES).zip(goals).filter(|((times, _), _)| !times.is_empty()) {
        let rate = rate(times);
        let ratio = rate / base;
        let verdict = match goal {
            0.0 => String::new(),
            goal if ratio >= goal => format!("≥ {goal:.1}  ok"),
            goal => format!("≥ {goal:.1}  MISSED"),
        };
        ok &= ratio >= goal;
        println!("{:<11} {:<58} {rate:>11.0}  {ratio:>5.2} ×  {verdict}", "", line.name);
    }
    Ok(ok)
}

/// Time, and records that came out.
fn run_theirs(stage: &Stage, events: &[Batch]) -> Result<(Duration, u64)> {
    let mut chain = theirs::start(&SmartEngine::new(), std::slice::from_ref(stage))?;
    // As an SPU has them: the encoded records of a batch.
    let inputs = events.iter().map(|batch| {
        SmartModuleInput::new(batch.set.bytes().to_vec(), batch.base as i64, batch.set.base_timestamp_ms())
    });
    let inputs: Vec<_> = inputs.collect();
    let begun = cpu_now();
    let mut passed = 0;
    for input in inputs {
        let output = chain.process(input)?;
        ensure!(output.error.is_none(), "an error: {:?}", output.error);
        passed += output.successes.len() as u64;
    }
    Ok((cpu_now() - begun, passed))
}

fn run_ours(engine: &Engine, stage: &Stage, events: &[Batch]) -> Result<(Duration, u64)> {
    let mut chain = ours::start(engine, std::slice::from_ref(stage))?;
    let (verdicts, mut out, mut counted) = (Verdicts::default(), BatchOutcome::default(), 0);
    let begun = cpu_now();
    for batch in events {
        chain.process(batch, &verdicts, &mut out)?;
        counted += out.counted;
    }
    Ok((cpu_now() - begun, counted))
}

fn batches() -> Vec<Batch> {
    let mut random = Random(99);
    let mut batch = |n| {
        let records = (0..BATCH).map(|i| Record {
            key: None,
            value: event(&mut random).into_bytes(),
            timestamp_ms: 1_413_849_600_000 + (n * BATCH + i) as i64,
        });
        Batch::new(n * BATCH, records.collect())
    };
    (0..BATCHES).map(&mut batch).collect()
}

fn cpu_now() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32)
}
