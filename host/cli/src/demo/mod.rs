//! `clickmill demo`: the main job on generated rows, in a fresh data directory.
//!
//! Generates, produces, runs; with `--exit` it then holds windows, ledger, PostgreSQL and Redis against a recount that
//! shares no code with the SmartModules, and its exit code says whether all agree.

mod check;
mod recount;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use crate::config::Config;
use crate::stack::Stack;
use crate::stack::chain::PRICING;

/// Shows the main job on generated rows.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  clickmill demo                   serve http://127.0.0.1:8088 with events flowing at 60 times real time
  clickmill demo --rows 1000000 --exit    everything at full speed, checked against a recount; exit code 0 if all agree

The demo works in a new folder under the data directory and removes it when it ends; --keep leaves it there.
It uses private PostgreSQL and Redis servers, whatever the configuration names.")]
pub struct DemoArgs {
    /// Rows to generate.
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1..))]
    rows: u64,
    /// Seed of the generator.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Process everything at full speed, check it against a recount, and exit.
    #[arg(long)]
    exit: bool,
    /// Leave the demo's folder where it is.
    #[arg(long)]
    keep: bool,
}

/// Hours of event time that the demo's rows span.
const HOURS: u32 = 24;
/// Event time against real time while the demo serves.
const SPEED: &str = "60x";

pub fn run(args: &DemoArgs, config: &Config) -> Result<()> {
    let folder = fresh_folder(&config.data_dir)?;
    let mut config = config.clone();
    config.data_dir = folder.join("data");
    config.sinks.postgres.url = None;
    config.sinks.redis.url = None;
    let file = folder.join("events.csv.gz");
    say(&format!("generating {} rows of {HOURS} hours into {}", args.rows, file.display()));
    generate(args, &file)?;
    let runtime = tokio::runtime::Runtime::new()?;
    let result = match args.exit {
        true => runtime.block_on(check_all(&config, &file)),
        false => runtime.block_on(serve(&config, &file)),
    };
    match (&result, args.keep) {
        (Ok(()), false) => {
            std::fs::remove_dir_all(&folder).with_context(|| format!("removing {}", folder.display()))?
        }
        _ => say(&format!("the demo's folder stays: {}", folder.display())),
    }
    result
}

/// Events flow at a human pace until Ctrl-C.
async fn serve(config: &Config, file: &Path) -> Result<()> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let stack = Stack::start(config).await?;
    let address = stack.address.context("the demo needs the server: server.enabled is false")?;
    let mut produce = ourselves(config)?
        .args(["produce", "--speed", SPEED])
        .arg(file)
        .stdout(Stdio::null())
        .spawn()
        .context("starting produce")?;
    say(&format!("watch it at http://{address}  (events flow at {SPEED} real time; Ctrl-C ends the demo)"));
    say(&format!("in another terminal: CLICKMILL_DATA_DIR={} clickmill status", config.data_dir.display()));
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    // The terminal's Ctrl-C has ended it already; a SIGTERM to us has not.
    let _ = produce.kill();
    let _ = produce.wait();
    stack.stop().await
}

/// Everything at full speed, then the recount.
async fn check_all(config: &Config, file: &Path) -> Result<()> {
    say("producing into ad_events_raw");
    let status =
        ourselves(config)?.arg("produce").arg(file).stdout(Stdio::null()).status().context("starting produce")?;
    ensure!(status.success(), "produce failed: {status}");
    say("running validate → enrich → ctr-window (WebAssembly) into PostgreSQL and Redis");
    let begun = Instant::now();
    let stack = Stack::start(config).await?;
    let checked = async {
        let drained = stack.until_end().await?;
        let seconds = begun.elapsed().as_secs_f64();
        say(&format!("{} events processed and confirmed by every sink in {seconds:.1} s", drained.events));
        say("recounting the file natively");
        let (rows, reference) = recount::recount(file, PRICING)?;
        check::all(&stack, rows, &reference).await
    };
    let checked = checked.await;
    stack.stop().await?;
    let report = checked?;
    println!("{report}");
    if !report.agrees() {
        bail!("the recount does not agree");
    }
    Ok(())
}

fn fresh_folder(data_dir: &Path) -> Result<PathBuf> {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let folder = data_dir.join(format!("demo-{seconds}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    std::path::absolute(&folder).context("the current directory")
}

fn generate(args: &DemoArgs, file: &Path) -> Result<()> {
    let status = Command::new(std::env::current_exe()?)
        .args(["generate", "--rows", &args.rows.to_string(), "--seed", &args.seed.to_string()])
        .args(["--hours", &HOURS.to_string(), "--out"])
        .arg(file)
        .status()
        .context("starting generate")?;
    ensure!(status.success(), "generate failed: {status}");
    Ok(())
}

/// This program, on the demo's data directory.
fn ourselves(config: &Config) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.env("CLICKMILL_DATA_DIR", &config.data_dir);
    Ok(command)
}

fn say(line: &str) {
    eprintln!("==> {line}");
}
