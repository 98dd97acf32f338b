//! `clickmill bench`: what the project claims about speed and memory, measured in one run.
//!
//! Speeds are ratios against `reference`, frozen, or against gunzip + csv, taken in turn with ours: medians of five.
//! [`chain`] is one core and no broker, [`end_to_end`] the topic to PostgreSQL, [`produce`] a file to the topic,
//! [`process`] what needs a host of its own: memory, latency, restart; [`swap`] a change of the chain under load, [`shadow`]
//! what a shadow takes from it, [`sinks`] what PostgreSQL and Redis take and give,
//! [`reports`] how long a report over ten days takes.

mod chain;
mod end_to_end;
mod events;
mod process;
mod produce;
pub mod reference;
mod report;
mod reports;
mod shadow;
mod sinks;
mod stream;
mod swap;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;

use crate::config::Config;
use crate::output::{print, say};
use crate::{TextOrJson, generate};
pub use report::{Goal, Report};

/// Rounds of each pair; the medians are reported.
const ROUNDS: usize = 5;

/// Measures speed and memory against a native reference, in one run
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  clickmill bench                          all of it, some minutes on two cores
  clickmill bench --only chain --rows 200000
  clickmill bench --output json > bench.json

Works in a folder of its own under the data directory. Take the ratios: seconds depend on what else runs.")]
pub struct BenchArgs {
    /// Measure only these
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// Rows of the chain, the end-to-end and the produce measurements
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(10_000..))]
    rows: u64,
    /// Rows of the memory and the restart measurements
    #[arg(long, default_value_t = 10_000_000, value_parser = clap::value_parser!(u64).range(100_000..))]
    large_rows: u64,
    /// `json`: for programs
    #[arg(long, value_enum, default_value = "text")]
    output: TextOrJson,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// The wasm chain on one core, on three forms of JSON.
    Chain,
    /// A filled topic to rows in PostgreSQL, on all cores.
    EndToEnd,
    /// A .csv.gz into the topic.
    Produce,
    /// Memory of a host after 1/10 and all of the large rows.
    Memory,
    /// Time from an append to its row in PostgreSQL at 20,000 events/s.
    Latency,
    /// A host after kill -9.
    Restart,
    /// 200 changes of the chain under 100,000 events/s.
    Swap,
    /// The live chain with a shadow beside it.
    Shadow,
    /// Rows into PostgreSQL and reads from Redis.
    Sinks,
    /// Reports over ten days.
    Reports,
}

const ALL: [Part; 10] = [
    Part::Chain,
    Part::EndToEnd,
    Part::Produce,
    Part::Sinks,
    Part::Reports,
    Part::Latency,
    Part::Memory,
    Part::Restart,
    Part::Swap,
    Part::Shadow,
];

pub fn run(args: &BenchArgs, config: &Config) -> Result<()> {
    let parts = if args.only.is_empty() { &ALL[..] } else { &args.only };
    let bench = Bench::new(config)?;
    let mut report = Report::default();
    for part in parts {
        say(format_args!("==> {part:?}"));
        match part {
            Part::Chain => chain::measure(&bench, args.rows, &mut report)?,
            Part::EndToEnd => end_to_end::measure(&bench, args.rows, &mut report)?,
            Part::Produce => produce::measure(&bench, args.rows, &mut report)?,
            Part::Latency => process::latency(&bench, &mut report)?,
            Part::Memory => process::memory(&bench, args.large_rows, &mut report)?,
            Part::Restart => process::restart(&bench, args.large_rows, &mut report)?,
            Part::Swap => swap::measure(&bench, &mut report)?,
            Part::Shadow => shadow::measure(&bench, &mut report)?,
            Part::Sinks => sinks::measure(&bench, &mut report)?,
            Part::Reports => reports::measure(&bench, &mut report)?,
        }
    }
    match args.output {
        TextOrJson::Text => print(format_args!("{report}\n"))?,
        TextOrJson::Json => print(format_args!("{}\n", serde_json::to_string_pretty(&report)?))?,
    }
    Ok(())
}

/// A folder for the measurements, gone with this value.
struct Bench {
    folder: tempfile::TempDir,
    config: Config,
}

impl Bench {
    fn new(config: &Config) -> Result<Self> {
        std::fs::create_dir_all(&config.data_dir).with_context(|| config.data_dir.display().to_string())?;
        let parent = std::path::absolute(&config.data_dir)?;
        let folder = tempfile::Builder::new().prefix("bench-").tempdir_in(parent)?;
        let mut config = config.clone();
        // The program's own connectors, to private servers.
        config.connectors = PathBuf::new();
        config.sinks.postgres.url = None;
        config.sinks.redis.enabled = false;
        config.server.enabled = false;
        Ok(Self { folder, config })
    }

    /// The config with a data directory of its own.
    fn config(&self, name: &str) -> Config {
        let mut config = self.config.clone();
        config.data_dir = self.folder.path().join(name);
        config
    }

    /// A file of generated rows, made once.
    fn rows(&self, rows: u64, hours: u16) -> Result<PathBuf> {
        let out = self.folder.path().join(format!("rows-{rows}-{hours}.csv.gz"));
        if !out.exists() {
            generate::run(&generate::Args { rows, seed: 1, out: out.clone(), hours, force: false })?;
        }
        Ok(out)
    }
}

/// Removes a data directory, and says which one where that fails.
fn forget(folder: &Path) -> Result<()> {
    std::fs::remove_dir_all(folder).with_context(|| format!("removing {}", folder.display()))
}

fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(Duration, T)> {
    let begun = Instant::now();
    let out = work()?;
    Ok((begun.elapsed(), out))
}

/// The same in this thread's CPU time: what has one thread is not blamed for what else the machine does.
fn cpu_timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(Duration, T)> {
    let now = || {
        let t = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::new(t.tv_sec.unsigned_abs(), u32::try_from(t.tv_nsec).unwrap_or_default())
    };
    let begun = now();
    let out = work()?;
    Ok((now() - begun, out))
}

/// The middle of the values, in seconds.
fn median(mut values: Vec<Duration>) -> f64 {
    values.sort_unstable();
    values.get(values.len() / 2).map_or(f64::NAN, Duration::as_secs_f64)
}
