//! `clickmill demo`: the main job on generated rows, in a fresh data directory.
//!
//! Generates, produces, runs; with `--exit` it then holds windows, ledger, PostgreSQL and Redis against a recount that
//! shares no code with the SmartModules, and its exit code says whether all agree.

mod check;
mod folder;
mod recount;

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use clickmill_server::Server;
use tokio::process::Command;
use tokio::time::Instant;

use crate::config::Config;
use crate::exit::mistake;
use crate::output::{counted, print};
use crate::signals::{Interrupted, StopSignals};
use crate::stack::Stack;
use crate::stack::chain::PRICING;
use folder::Folder;

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

const INTERRUPTED: Interrupted = Interrupted("interrupted before the check was done");

pub fn run(args: &DemoArgs, config: &Config) -> Result<()> {
    if !args.exit {
        check_address(config)?;
    }
    let runtime = tokio::runtime::Runtime::new()?;
    let result = runtime.block_on(demo(args, config));
    // What still hangs after its time is not waited for.
    runtime.shutdown_background();
    result
}

/// Whether the demo will be able to serve: said before anything is generated.
fn check_address(config: &Config) -> Result<()> {
    if !config.server.enabled {
        return Err(mistake(
            "the demo is there to be watched, and server.enabled is false: switch it on, or use --exit",
        ));
    }
    Server::bind(config.server_options())?;
    Ok(())
}

async fn demo(args: &DemoArgs, config: &Config) -> Result<()> {
    let mut signals = StopSignals::new()?;
    folder::sweep(&config.data_dir).await;
    let mut folder = Folder::new(&config.data_dir, args.keep)?;
    let mut config = config.clone();
    config.data_dir = folder.data_dir();
    // The program's own connectors, to private servers.
    config.connectors = PathBuf::new();
    config.sinks.postgres.url = None;
    config.sinks.redis.url = None;
    let file = folder.path().join("events.csv.gz");
    let generated = until(&mut signals, generate(args, &file)).await;
    let result = match (generated, args.exit) {
        (Err(error), _) => Err(error),
        (Ok(()), true) => check_all(&config, &file, &mut signals).await,
        (Ok(()), false) => serve(&config, &file, &mut signals).await,
    };
    // What failed is kept for a look; what was interrupted is not.
    if result.as_ref().is_err_and(|error| !error.is::<Interrupted>()) {
        folder.keep();
    }
    match folder.is_kept() {
        true => say(&format!("the demo's folder stays: {}", folder.path().display())),
        false => folder.remove().await?,
    }
    // To be watched until somebody has seen enough is all that it is for without --exit.
    if args.exit { result } else { result.or_else(|error| if error.is::<Interrupted>() { Ok(()) } else { Err(error) }) }
}

/// The work's result, or that it was interrupted.
async fn until<T>(signals: &mut StopSignals, work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::select! {
        biased;
        // First: the terminal's Ctrl-C also ends the program that the work waits for, which is no failure then.
        () = signals.recv() => Err(INTERRUPTED.into()),
        done = work => done,
    }
}

/// Events flow at a human pace until Ctrl-C.
async fn serve(config: &Config, file: &Path, signals: &mut StopSignals) -> Result<()> {
    let stack = Stack::start(config).await?;
    let watched = async {
        // Ends when it is dropped.
        let _produce = ourselves(config)?
            .args(["produce", "--speed", SPEED])
            .arg(file)
            .stdout(Stdio::null())
            .spawn()
            .context("starting produce")?;
        let address = stack.address.context("the demo needs the server")?;
        say(&format!("watch it at http://{address}  (events flow at {SPEED} real time; Ctrl-C ends the demo)"));
        say(&format!("in another terminal: CLICKMILL_DATA_DIR={} clickmill status", config.data_dir.display()));
        signals.recv().await;
        Ok(())
    };
    let watched = watched.await;
    stack.stop(Instant::now()).await.and(watched)
}

/// Everything at full speed, then the recount.
async fn check_all(config: &Config, file: &Path, signals: &mut StopSignals) -> Result<()> {
    // Nobody watches, so no port is needed.
    let mut config = config.clone();
    config.server.enabled = false;
    say("producing into ad_events_raw");
    let mut produce = ourselves(&config)?;
    produce.arg("produce").arg(file).stdout(Stdio::null());
    let status = until(signals, async { produce.status().await.context("starting produce") }).await?;
    ensure!(status.success(), "produce failed: {status}");
    say("running validate → enrich → ctr-window (WebAssembly) into PostgreSQL and Redis");
    let begun = Instant::now();
    let stack = Stack::start(&config).await?;
    let checking = async {
        let drained = stack.until_end().await?;
        let (events, seconds) = (counted(drained.events, "event"), begun.elapsed().as_secs_f64());
        say(&format!("{events} processed and confirmed by every sink in {seconds:.1} s"));
        say("recounting the file natively");
        let file = file.to_path_buf();
        let (rows, reference) = tokio::task::spawn_blocking(move || recount::recount(&file, PRICING)).await??;
        check::all(&stack, rows, &reference).await
    };
    let checked = until(signals, checking).await;
    stack.stop(Instant::now()).await?;
    let report = checked?;
    print(format_args!("{report}\n"))?;
    if !report.agrees() {
        bail!("the recount does not agree");
    }
    Ok(())
}

async fn generate(args: &DemoArgs, file: &Path) -> Result<()> {
    say(&format!("generating {} of {HOURS} hours into {}", counted(args.rows, "row"), file.display()));
    let status = child()?
        .args(["generate", "--rows", &args.rows.to_string(), "--seed", &args.seed.to_string()])
        .args(["--hours", &HOURS.to_string(), "--out"])
        .arg(file)
        .status()
        .await
        .context("starting generate")?;
    ensure!(status.success(), "generate failed: {status}");
    Ok(())
}

/// This program, on the demo's data directory.
fn ourselves(config: &Config) -> Result<Command> {
    let mut command = child()?;
    command.env("CLICKMILL_DATA_DIR", &config.data_dir);
    Ok(command)
}

/// This program, for no longer than this process lives.
fn child() -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--end-with", &std::process::id().to_string()]).kill_on_drop(true);
    Ok(command)
}

fn say(line: &str) {
    crate::output::say(format_args!("==> {line}"));
}
