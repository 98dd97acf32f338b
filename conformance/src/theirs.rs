//! A run in Fluvio's engine.

use anyhow::{Context, Result, ensure};
use fluvio_protocol::link::smartmodule::{SmartModuleInitRuntimeError, SmartModuleLookbackRuntimeError};
use fluvio_smartengine::{SmartEngine, SmartModuleChainBuilder, SmartModuleChainInstance, SmartModuleConfig};
use fluvio_smartmodule::Record;
use fluvio_smartmodule::dataplane::smartmodule::{Lookback, SmartModuleExtraParams, SmartModuleInput};

use crate::input::Batch;
use crate::run::{Failed, Out, Outcome, Run, Stage, shown};

/// Runs it. Fluvio's engine loses what stands behind a record at fault in its batch: that is asserted, and then the rest
/// is given to it as a batch of its own, so that all of it can be compared.
pub fn run(run: &Run<'_>) -> Result<Outcome> {
    let engine = SmartEngine::new();
    let mut chain = match start(&engine, run.stages) {
        Ok(chain) => chain,
        Err(error) => {
            let hint = error.downcast_ref::<SmartModuleInitRuntimeError>().map(|error| shown(&error.hint));
            return Ok(Outcome::Refused(hint));
        }
    };
    if let Some(before) = run.before
        && let Err(error) = look_back(&mut chain, before)
    {
        let error = error.downcast::<SmartModuleLookbackRuntimeError>().context("an error of look_back")?;
        return Ok(Outcome::LookbackFailed { index: error.offset as u64, hint: shown(&error.hint) });
    }
    let (mut records, mut failed) = (Vec::new(), Vec::new());
    let accumulates = run.stages.len() == 1 && run.stages[0].exports("aggregate");
    let mut accumulator = None;
    for batch in run.batches {
        let (mut out, mut rest) = (Vec::new(), 0);
        while rest < batch.records.len() {
            let output = match chain.process(input(batch, rest..batch.records.len())?) {
                Ok(output) => output,
                Err(_) => {
                    // It trapped, and nothing tells on which record: ask one by one, in chains of their own.
                    let (at, made) = trapped(&engine, run, batch, rest)?;
                    out.extend(made);
                    failed.push(Failed { offset: batch.base + at as u64, hint: None });
                    rest = at + 1;
                    chain = start(&engine, run.stages)?;
                    continue;
                }
            };
            let anew = run.makes_anew();
            let made = output.successes.iter().map(|record| out_of(batch, record, anew));
            match &output.error {
                // Of several stages it gives what the failing one made, and hands it on to none: ask again without.
                Some(error) if run.stages.len() > 1 => {
                    let good = rest..(error.offset as u64 - batch.base) as usize;
                    let output = chain.process(input(batch, good)?)?;
                    ensure!(output.error.is_none(), "an error at a record before the first");
                    out.extend(output.successes.iter().map(|record| out_of(batch, record, anew)));
                }
                _ => out.extend(made),
            }
            accumulator = output.successes.last().map(|record| record.value.as_ref().to_vec()).or(accumulator);
            let Some(error) = output.error else { break };
            let at = error.offset as u64 - batch.base;
            ensure!(at >= rest as u64, "an error at a record that was not given to it");
            if !anew && run.stages.len() == 1 {
                let behind = output.successes.iter().any(|record| record.preamble.offset_delta() >= at as i64);
                ensure!(!behind, "Fluvio's engine goes on behind an error");
            }
            failed.push(Failed { offset: error.offset as u64, hint: Some(shown(&error.hint)) });
            rest = at as usize + 1;
        }
        records.push(out);
    }
    Ok(Outcome::Ran { records, failed, accumulator: accumulator.filter(|_| accumulates) })
}

pub fn start(engine: &SmartEngine, stages: &[Stage]) -> Result<SmartModuleChainInstance> {
    let mut builder = SmartModuleChainBuilder::default();
    for stage in stages {
        let mut config = SmartModuleConfig::builder();
        let lookback = stage.lookback.map(|lookback| Lookback { last: lookback.last, age: lookback.age });
        let params = SmartModuleExtraParams::new(stage.params.clone(), lookback.clone());
        config.smartmodule_names(vec!["module".to_owned()]).params(params);
        let mut config = config.build()?;
        config.set_lookback(lookback.as_ref().map(Into::into));
        builder.add_smart_module(config, stage.wasm.clone());
    }
    builder.initialize(engine)
}

fn look_back(chain: &mut SmartModuleChainInstance, before: &Batch) -> Result<()> {
    futures_executor::block_on(chain.look_back(|lookback| {
        // What an SPU reads of the topic: the newest, and of those what is not too old.
        let (last, age) = match lookback {
            fluvio_smartengine::Lookback::Last(last) => (last, None),
            fluvio_smartengine::Lookback::Age { age, last } => (last, Some(age)),
        };
        let newest = before.records.last().map_or(0, |record| record.timestamp_ms);
        let skip = if last == 0 { 0 } else { before.records.len().saturating_sub(last as usize) };
        let young = before.records[skip..]
            .iter()
            .filter(|record| age.is_none_or(|age| record.timestamp_ms >= newest - age.as_millis() as i64));
        let records = young.enumerate().map(|(index, record)| {
            let mut out = Record::new(record.value.clone());
            out.key = record.key.clone().map(Into::into);
            out.preamble.set_offset_delta(index as i64);
            out
        });
        let records: Vec<_> = records.collect();
        async move { Ok(records) }
    }))
}

/// Some records of a batch, with the deltas that they have in it.
pub fn input(batch: &Batch, range: std::ops::Range<usize>) -> Result<SmartModuleInput> {
    let records = batch.records[range.clone()].iter().zip(range).map(|(record, index)| {
        let mut out = Record::new(record.value.clone());
        out.key = record.key.clone().map(Into::into);
        out.preamble.set_offset_delta(index as i64);
        out.preamble.set_timestamp_delta(record.timestamp_ms - batch.set.base_timestamp_ms());
        out
    });
    let mut input =
        SmartModuleInput::try_from_records(records.collect(), fluvio_smartengine::DEFAULT_SMARTENGINE_VERSION)?;
    input.set_base_offset(batch.base as i64);
    input.set_base_timestamp(batch.set.base_timestamp_ms());
    Ok(input)
}

/// The first record from `rest` on which the chain traps, and what it makes of those before it.
fn trapped(engine: &SmartEngine, run: &Run<'_>, batch: &Batch, rest: usize) -> Result<(usize, Vec<Out>)> {
    let mut chain = start(engine, run.stages)?;
    let mut out = Vec::new();
    for at in rest..batch.records.len() {
        match chain.process(input(batch, at..at + 1)?) {
            Ok(output) => out.extend(output.successes.iter().map(|record| out_of(batch, record, run.makes_anew()))),
            Err(_) => return Ok((at, out)),
        }
    }
    anyhow::bail!("Fluvio's engine traps on a batch and on none of its records");
}

/// Records that `array_map` makes anew have neither offset nor time.
fn out_of(batch: &Batch, record: &Record, anew: bool) -> Out {
    Out {
        key: record.key.as_ref().map(|key| key.as_ref().to_vec()),
        value: record.value.as_ref().to_vec(),
        offset: (!anew).then(|| batch.base + record.preamble.offset_delta() as u64),
        timestamp_ms: (!anew).then(|| batch.set.base_timestamp_ms() + record.preamble.get_timestamp_delta()),
    }
}
