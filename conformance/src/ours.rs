//! A run in Clickmill's engine.

use anyhow::{Context, Result, bail};
use clickmill_engine::{
    BatchOutcome, Chain, Engine, EngineError, EngineOptions, Isolated, Limits, ProcessError, StageSpec, Verdicts,
    isolate,
};

use crate::run::{Failed, Out, Outcome, Run, Stage};

const INIT: &str = "init refused (-2): ";
const LOOK_BACK: &str = "look_back refused (-99): record at offset ";
const REPORTED: &str = "it reports an error: ";

/// Runs it; records on which a module fails are found, and left out.
pub fn run(run: &Run<'_>) -> Result<Outcome> {
    let engine = Engine::new(&EngineOptions::default())?;
    let mut chain = match start(&engine, run.stages) {
        Ok(chain) => chain,
        Err(EngineError::Fault(fault)) => {
            return Ok(Outcome::Refused(fault.message.strip_prefix(INIT).map(str::to_owned)));
        }
        Err(error) => return Err(error.into()),
    };
    if let Some(before) = run.before {
        match chain.look_back(&[before]) {
            Ok(()) => {}
            Err(ProcessError::Fault(fault)) => {
                let said = fault.message.strip_prefix(LOOK_BACK).and_then(|said| said.split_once(": "));
                let (offset, hint) = said.with_context(|| format!("not an error of look_back: {fault}"))?;
                let index =
                    offset.parse::<u64>()?.checked_sub(shown_from(run, before)).context("an offset of those shown")?;
                return Ok(Outcome::LookbackFailed { index, hint: hint.to_owned() });
            }
            Err(error) => return Err(error.into()),
        }
    }
    let (mut records, mut failed, mut verdicts) = (Vec::new(), Vec::new(), Verdicts::default());
    let anew = run.makes_anew();
    for batch in run.batches {
        let before = chain.save()?;
        let (mut out, mut passed) = (BatchOutcome::default(), Vec::new());
        while let Err(error) = chain.process_collecting(batch, &verdicts, &mut out, &mut passed) {
            let ProcessError::Fault(_) = error else { return Err(error.into()) };
            let culprit = match isolate(&mut chain, &before, batch, &verdicts, &|| false, &mut out)? {
                Isolated::Culprit(culprit) => culprit,
                other => bail!("a batch failed and then {other:?}"),
            };
            let hint = culprit.message.strip_prefix(REPORTED).map(str::to_owned);
            failed.push(Failed { offset: culprit.offset.0, hint });
            verdicts.insert(culprit.offset, culprit.stage, culprit.message);
            chain.restore(&before)?;
        }
        anyhow::ensure!(out.is_balanced() && out.records == batch.records.len() as u64, "fates: {out:?}");
        records.push(
            passed
                .into_iter()
                .map(|record| Out {
                    key: record.key,
                    value: record.value,
                    offset: (!anew).then_some(record.offset.0),
                    timestamp_ms: (!anew).then_some(record.timestamp_ms),
                })
                .collect(),
        );
    }
    let accumulates = run.stages.len() == 1 && run.stages[0].exports("aggregate");
    let accumulator = if accumulates { Some(accumulator(&mut chain)?) } else { None };
    Ok(Outcome::Ran { records, failed, accumulator })
}

pub fn start(engine: &Engine, stages: &[Stage]) -> Result<Chain, EngineError> {
    let mut specs = Vec::new();
    for (i, stage) in stages.iter().enumerate() {
        specs.push(StageSpec {
            name: format!("s{i}"),
            module: engine.compile(&stage.wasm)?,
            params: stage.params.clone(),
            limits: Limits::default(),
            lookback: stage.lookback,
        });
    }
    Chain::new(engine, &specs)
}

/// Offset of the first record that the only stage is shown.
fn shown_from(run: &Run<'_>, before: &crate::input::Batch) -> u64 {
    let last = run.stages[0].lookback.map_or(0, |lookback| lookback.last);
    before.base + (before.records.len() as u64).saturating_sub(last)
}

/// What the saved state of the only stage holds: behind its head, `1, u32 length`, the accumulator.
fn accumulator(chain: &mut Chain) -> Result<Vec<u8>> {
    let bytes = chain.save()?.to_bytes();
    let head = 4 + 2 + 2 + "s0".len() + 4 + 4;
    let (flag, rest) = bytes.get(head..).and_then(<[u8]>::split_first).context("a saved state")?;
    let (len, rest) = rest.split_first_chunk::<4>().context("a saved accumulator")?;
    anyhow::ensure!(*flag == 1, "no accumulator in the saved state");
    Ok(rest[..u32::from_be_bytes(*len) as usize].to_vec())
}
