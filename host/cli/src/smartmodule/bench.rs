//! `clickmill smartmodule bench`: how fast a module is here, and how many instructions it takes anywhere.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clickmill_engine::{
    BatchOutcome, Chain, Engine, EngineOptions, Limits, MemoryBatch, ProcessError, StageSpec, Verdicts,
};
use clickmill_schemas::Offset;
use serde::Serialize;

use super::module_file::pair;
use super::project::Local;
use crate::TextOrJson;
use crate::config::Config;
use crate::exit::mistake;
use crate::output::{print, write_json};

/// Records of a batch, about what `produce` makes.
const BATCH: usize = 600;
/// Rounds of which the median is reported.
const ROUNDS: usize = 7;

/// Measures records per second and fuel per record
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  clickmill smartmodule bench
  clickmill smartmodule bench mask.wasm --input events.jsonl --param salt=x
  clickmill smartmodule bench --max-fuel 12000 --output json     in CI: no quiet machine is needed

Fuel counts instructions, by another compilation of the module: it is the same on every machine for the same records. Speed is
the median of seven rounds on one core, with the slowest and the fastest.

Exit codes: 0 measured, 1 over --max-fuel, or the module failed, 2 a mistake in the call.")]
pub struct Args {
    /// The module, or the folder of a project that was built
    #[arg(value_name = "FILE.wasm|DIR", default_value = ".")]
    module: PathBuf,
    /// Records of a round; those of --input again and again
    #[arg(long, value_name = "N", default_value_t = 60_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    records: u64,
    /// A record on each line [default: ad events as `produce` writes them]
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Fail where a record takes more than N on average
    #[arg(long, value_name = "N")]
    max_fuel: Option<f64>,
    /// Set a parameter
    #[arg(long = "param", value_name = "NAME=VALUE", value_parser = pair)]
    params: Vec<(String, String)>,
    #[arg(long, value_enum, default_value = "text")]
    output: TextOrJson,
}

#[derive(Debug, Serialize)]
struct Measured {
    records: u64,
    fuel_per_record: f64,
    records_per_second: f64,
    records_per_second_min: f64,
    records_per_second_max: f64,
}

pub fn run(args: &Args, config: &Config) -> Result<()> {
    let local = Local::open(&args.module)?;
    let params: BTreeMap<_, _> = args.params.iter().cloned().collect();
    local.check_params(&params)?;
    let values = match &args.input {
        Some(path) => lines(path)?,
        None => events(),
    };
    let batches = batches(&values, args.records);
    // The limit of the config is for one call; what is measured here is not to end at it.
    let limits = Limits { call_fuel: None, ..config.limits() };
    let chain = |fuel| {
        let engine = Engine::new(&EngineOptions { fuel, ..EngineOptions::default() })?;
        let module = engine.compile(&local.wasm)?;
        let (name, params, limits) = (local.name.clone(), params.clone(), limits.clone());
        anyhow::Ok(Chain::new(&engine, &[StageSpec { name, module, params, limits, lookback: None }])?)
    };
    let mut metered = chain(true)?;
    let burnt = |chain: &Chain| chain.fuel().map(|(_, fuel)| fuel).sum::<u64>();
    let started = burnt(&metered);
    process(&mut metered, &batches)?;
    let fuel_per_record = (burnt(&metered) - started) as f64 / args.records as f64;

    let mut plain = chain(false)?;
    let mut rates = Vec::new();
    for _ in 0..ROUNDS {
        plain.restore(&Default::default())?;
        let begun = Instant::now();
        process(&mut plain, &batches)?;
        rates.push(args.records as f64 / begun.elapsed().max(Duration::from_nanos(1)).as_secs_f64());
    }
    rates.sort_by(f64::total_cmp);
    let measured = Measured {
        records: args.records,
        fuel_per_record,
        records_per_second: rates[ROUNDS / 2],
        records_per_second_min: rates[0],
        records_per_second_max: rates[ROUNDS - 1],
    };
    show(&measured, args.output)?;
    match args.max_fuel {
        Some(limit) if fuel_per_record > limit => {
            bail!("a record takes {fuel_per_record:.1} fuel on average, over the limit of {limit}")
        }
        _ => Ok(()),
    }
}

fn show(measured: &Measured, output: TextOrJson) -> Result<()> {
    if output == TextOrJson::Json {
        let mut out = Vec::new();
        write_json(&mut out, measured)?;
        return print(String::from_utf8_lossy(&out));
    }
    let rate = |rate: f64| indicatif::HumanCount(rate as u64);
    print(format_args!(
        "fuel per record     {:.1}\nrecords per second  {} ({} to {})\n",
        measured.fuel_per_record,
        rate(measured.records_per_second),
        rate(measured.records_per_second_min),
        rate(measured.records_per_second_max)
    ))
}

fn lines(path: &Path) -> Result<Vec<Vec<u8>>> {
    let text = fs::read(path).map_err(|e| mistake(format!("{}: {e}", path.display())))?;
    let lines: Vec<Vec<u8>> =
        text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(<[u8]>::to_vec).collect();
    if lines.is_empty() {
        return Err(mistake(format!("{}: there is no line in it", path.display())));
    }
    Ok(lines)
}

/// Ad events in the form that `produce` gives them, 700 an hour of the first two.
fn events() -> Vec<Vec<u8>> {
    const HOUR_MS: u64 = 1_413_849_600_000;
    const EVENTS: u64 = 1_400;
    let event = |i: u64| {
        format!(
            "{{\"id\":\"{}\",\"click\":{},\"hour\":\"141021{:02}\",\"C1\":1005,\"banner_pos\":{},\"site_id\":\"{:08x}\",\
             \"site_domain\":\"{:08x}\",\"site_category\":\"{:08x}\",\"app_id\":\"ecad2386\",\"app_domain\":\"7801e8d9\",\
             \"app_category\":\"07d7df22\",\"device_id\":\"a99f214a\",\"device_ip\":\"{:08x}\",\"device_model\":\"{:08x}\",\
             \"device_type\":{},\"device_conn_type\":{},\"C14\":{},\"C15\":320,\"C16\":50,\"C17\":1722,\"C18\":{},\"C19\":35,\
             \"C20\":-1,\"C21\":79,\"ts\":{}}}",
            10_000_000_000_000_000_000 + i * 7_919,
            u64::from(i.is_multiple_of(6)),
            i / 700,
            i % 2,
            i % 40 * 2_654_435_761 % 0xffff_ffff,
            i % 41 * 2_246_822_519 % 0xffff_ffff,
            i % 12 * 3_266_489_917 % 0xffff_ffff,
            i * 668_265_263 % 0xffff_ffff,
            i % 90 * 374_761_393 % 0xffff_ffff,
            i % 2,
            i % 3,
            15_700 + i % 50,
            i % 4,
            HOUR_MS + i * 3_600_000 / 700,
        )
    };
    (0..EVENTS).map(|i| event(i).into_bytes()).collect()
}

fn batches(values: &[Vec<u8>], records: u64) -> Vec<MemoryBatch> {
    let mut values = values.iter().cycle();
    let mut batches = Vec::new();
    for base in (0..records).step_by(BATCH) {
        let count = (records - base).min(BATCH as u64) as usize;
        batches
            .push(MemoryBatch::of(Offset(base), values.by_ref().take(count).map(|value| (None, value.as_slice(), 0))));
    }
    batches
}

fn process(chain: &mut Chain, batches: &[MemoryBatch]) -> Result<()> {
    let (verdicts, mut out) = (Verdicts::default(), BatchOutcome::default());
    for batch in batches {
        chain.process(batch, &verdicts, &mut out).map_err(|error| match error {
            ProcessError::Fault(fault) => anyhow::Error::new(fault),
            ProcessError::Source(e) => anyhow::anyhow!(e),
        })?;
    }
    chain.emit().map(drop).context("giving out its windows")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_are_filled_from_the_values_again_and_again() {
        use clickmill_engine::BatchSource;
        let batches = batches(&[b"a".to_vec(), b"b".to_vec()], 1_201);
        let counts: Vec<_> = batches.iter().map(|batch| (batch.base_offset().0, batch.count())).collect();
        assert_eq!(counts, [(0, 600), (600, 600), (1_200, 1)]);
    }

    #[test]
    fn the_events_are_ad_events() {
        for event in events() {
            let event: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&event).unwrap();
            assert_eq!(event.len(), 25);
        }
    }
}
