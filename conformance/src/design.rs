//! What differs by design: asserted, so that README.md stays true.

use anyhow::{Context, Result, ensure};
use clickmill_engine::Engine;
use clickmill_engine::EngineOptions;
use fluvio_smartengine::SmartEngine;

use crate::cases::Modules;
use crate::input::{Batch, Record};
use crate::run::{Outcome, Run, Stage};
use crate::{ours, theirs, unless_it_panics};

type Assertion = (&'static str, fn(&Modules<'_>) -> Result<()>);

const ALL: [Assertion; 5] = [
    ("Fluvio's engine loses the rest of a batch after an Err", lost_rest),
    ("Fluvio's engine hands nothing on from a stage with an Err", handed_on),
    ("Fluvio's engine loses a batch in which a module panics", lost_batch),
    ("Fluvio's engine loses a batch in endless recursion", recursion),
    ("array_map: offsets and times of Fluvio's are the batch's", anew),
];

/// Each by its name.
pub fn all<'a>(modules: &'a Modules<'a>) -> impl Iterator<Item = (&'static str, Result<()>)> + 'a {
    ALL.into_iter().map(move |(name, holds)| (name, holds(modules)))
}

fn batch(values: &[&str]) -> Batch {
    let record = |(i, value): (usize, &&str)| Record {
        key: None,
        value: value.as_bytes().to_vec(),
        timestamp_ms: 1_413_849_600_000 + i as i64,
    };
    Batch::new(1_000, values.iter().enumerate().map(record).collect())
}

/// What ours makes of it: values, and offsets of the records at fault.
fn ours_of(stage: &Stage, batch: Batch) -> Result<(Vec<String>, Vec<u64>)> {
    let run = Run { stages: std::slice::from_ref(stage), before: None, batches: &[batch] };
    let Outcome::Ran { records, failed, .. } = ours::run(&run)? else { anyhow::bail!("it does not start") };
    let values = records.concat().into_iter().map(|record| String::from_utf8_lossy(&record.value).into_owned());
    Ok((values.collect(), failed.into_iter().map(|failed| failed.offset).collect()))
}

fn lost_rest(modules: &Modules<'_>) -> Result<()> {
    let stage = modules.stage("filter-map-number", &[])?;
    let numbers = batch(&["2", "4", "no", "6", "8"]);
    let mut chain = theirs::start(&SmartEngine::new(), std::slice::from_ref(&stage))?;
    let output = chain.process(theirs::input(&numbers, 0..5)?)?;
    ensure!(output.successes.len() == 2 && output.error.is_some_and(|error| error.offset == 1_002), "it goes on");
    let (values, failed) = ours_of(&stage, numbers)?;
    ensure!(values == ["4", "8", "12", "16"] && failed == [1_002], "ours made {values:?}, {failed:?}");
    Ok(())
}

fn handed_on(modules: &Modules<'_>) -> Result<()> {
    let stages = [modules.stage("filter-map-number", &[])?, modules.stage("map-stamp", &[])?];
    let numbers = batch(&["2", "no", "6"]);
    let output = theirs::start(&SmartEngine::new(), &stages)?.process(theirs::input(&numbers, 0..3)?)?;
    let values: Vec<_> = output.successes.iter().map(|record| record.value.to_string()).collect();
    ensure!(values == ["4"] && output.error.is_some(), "it made {values:?}");
    let run = Run { stages: &stages, before: None, batches: &[numbers] };
    let Outcome::Ran { records, .. } = ours::run(&run)? else { anyhow::bail!("it does not start") };
    let values: Vec<_> = records.concat().into_iter().map(|r| String::from_utf8_lossy(&r.value).into_owned()).collect();
    ensure!(values == ["1000 1413849600000 None 1", "1002 1413849600002 None 2"], "ours made {values:?}");
    Ok(())
}

fn lost_batch(modules: &Modules<'_>) -> Result<()> {
    let stage = modules.stage("map-panics", &[])?;
    let words = batch(&["a", "panic", "b"]);
    let mut chain = theirs::start(&SmartEngine::new(), std::slice::from_ref(&stage))?;
    ensure!(chain.process(theirs::input(&words, 0..3)?).is_err(), "it goes on");
    let (values, failed) = ours_of(&stage, words)?;
    ensure!(values == ["a", "b"] && failed == [1_001], "ours made {values:?}, {failed:?}");
    Ok(())
}

fn recursion(modules: &Modules<'_>) -> Result<()> {
    let stage = modules.stage("recursion", &[])?;
    let words = batch(&["a", "deep", "b"]);
    let input = theirs::input(&words, 0..3)?;
    let mut chain = theirs::start(&SmartEngine::new(), std::slice::from_ref(&stage))?;
    // With other wasmtimes it has been seen to panic itself; both lose the batch.
    let lost = unless_it_panics(|| chain.process(input)).is_none_or(|ended| ended.is_err());
    let (values, failed) = ours_of(&stage, words)?;
    ensure!(values == ["0", "0"] && failed == [1_001], "ours made {values:?}, {failed:?}");
    ensure!(lost, "it goes on");
    Ok(())
}

fn anew(modules: &Modules<'_>) -> Result<()> {
    let stage = modules.stage("array-map-split", &[])?;
    let words = batch(&["a b", "c"]);
    let mut chain = theirs::start(&SmartEngine::new(), std::slice::from_ref(&stage))?;
    let output = chain.process(theirs::input(&words, 0..2)?)?;
    let headers = output.successes.iter().map(|r| (r.preamble.offset_delta(), r.preamble.get_timestamp_delta()));
    ensure!(headers.collect::<Vec<_>>() == [(0, 0); 3], "they are of the record");
    let engine = Engine::new(&EngineOptions::default())?;
    let mut passed = Vec::new();
    ours::start(&engine, &[stage])?
        .process_collecting(&words, &Default::default(), &mut Default::default(), &mut passed)
        .context("ours")?;
    let origins: Vec<_> =
        passed.iter().map(|record| (record.offset.0, record.timestamp_ms - 1_413_849_600_000)).collect();
    ensure!(origins == [(1_000, 0), (1_000, 0), (1_001, 1)], "ours are {origins:?}");
    Ok(())
}
