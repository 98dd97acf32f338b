//! The wasm chain on one core against the reference on one core, on three forms of the same events.

use anyhow::{Context, Result, ensure};
use clickmill_engine::{BatchOutcome, Chain, Engine, EngineOptions, MemoryBatch, ProcessError, StageSpec, Verdicts};
use clickmill_schemas::record::Records;

use super::events;
use super::reference::Reference;
use super::{Bench, Goal, ROUNDS, Report, cpu_timed, median};
use crate::config::Config;
use crate::stack::chain::{PRICING, stages};

pub fn measure(bench: &Bench, rows: u64, report: &mut Report) -> Result<()> {
    let fuel = bench.config.engine.call_fuel_limit.is_some();
    let engine = Engine::new(&EngineOptions { fuel, ..EngineOptions::default() })?;
    let lines = events::produced(bench, rows.min(400_000), 24)?;
    for (name, lines, goal) in [
        ("as produce writes it", lines.clone(), 2.5),
        ("any key order and white space", events::any_order(&lines)?, 1.5),
        ("escapes and non-ASCII text", events::escaped(&lines)?, 0.5),
    ] {
        let batches = events::batches(&lines);
        let (mut native, mut wasm) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let (took, expected) = cpu_timed(|| reference(&lines))?;
            native.push(took);
            let mut chain = build(&engine, &bench.config)?;
            let (took, counted) = cpu_timed(|| run(&mut chain, &batches))?;
            wasm.push(took);
            ensure!(counted == lines.len() as u64, "{name}: the chain counted {counted} of {} events", lines.len());
            ensure!(expected > 0, "{name}: the reference has no windows");
        }
        let (native, wasm) = (median(native), median(wasm));
        let per_event = |seconds: f64| seconds * 1e9 / lines.len() as f64;
        report.add(format!("chain, {name}: reference"), per_event(native), "ns/event", Goal::None);
        report.add(format!("chain, {name}: wasm"), per_event(wasm), "ns/event", Goal::None);
        report.add(format!("chain, {name}: against the reference"), native / wasm, "×", Goal::AtLeast(goal));
    }
    Ok(())
}

/// Windows of the reference.
pub fn reference(lines: &[Vec<u8>]) -> Result<usize> {
    let mut reference = Reference::new(PRICING)?;
    lines.iter().try_for_each(|line| reference.line(line))?;
    Ok(reference.windows.len())
}

fn build(engine: &Engine, config: &Config) -> Result<Chain> {
    let mut specs = Vec::new();
    for stage in stages(config)? {
        let module = engine.compile(&stage.wasm)?;
        specs.push(StageSpec {
            name: stage.stage,
            module,
            params: stage.params,
            limits: config.limits(),
            lookback: None,
        });
    }
    Ok(Chain::new(engine, &specs)?)
}

/// Events counted; the windows are emitted too, as a commit would.
fn run(chain: &mut Chain, batches: &[MemoryBatch]) -> Result<u64> {
    let (verdicts, mut outcome, mut counted) = (Verdicts::default(), BatchOutcome::default(), 0);
    for batch in batches {
        outcome.clear();
        chain.process(batch, &verdicts, &mut outcome).map_err(|e| match e {
            ProcessError::Fault(fault) => anyhow::anyhow!("stage {}: {}", fault.stage, fault.message),
            ProcessError::Source(e) => anyhow::anyhow!(e),
        })?;
        counted += outcome.counted;
    }
    let emitted = chain.emit().map_err(|f| anyhow::anyhow!("emit: {}", f.message))?;
    Records::new(&emitted).context("what the chain emitted")?;
    Ok(counted)
}
