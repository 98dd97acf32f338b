//! `clickmill run`: broker, workers, sinks and server until a signal asks for the end, or until everything is processed.

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use tokio::time::Instant;

use crate::config::Config;
use crate::output::{counted, say};
use crate::signals::{Asked, Interrupted, StopSignals};
use crate::stack::Stack;

/// How long a start may go on after a signal, so that it can be ended in order.
const START_GRACE: Duration = Duration::from_secs(2);

/// Runs the broker, the workers, the sinks and the server.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  clickmill run                    run until Ctrl-C; http://127.0.0.1:8088 shows what happens
  clickmill run --until-end        process what is in the topic, wait for the sinks, and stop
  clickmill run --from before-rules    judge everything after that savepoint again
  DATABASE_URL=postgres://me@db/ads clickmill run    write to your own PostgreSQL

A clean stop commits and checkpoints first; so does a kill, a moment earlier: no count changes. SIGHUP applies changed
connector files, as `clickmill connector apply` does; where the terminal is gone it is a stop.

--from NAME goes back to a savepoint (`clickmill checkpoint save NAME`): every event after it is judged again by the modules
that are deployed now, and windows, sinks and ledger become what they would be had these judged from there on.")]
pub struct RunArgs {
    /// Stop when everything in the topic is processed and every sink has confirmed it.
    #[arg(long)]
    pub until_end: bool,
    /// Go back to this savepoint first.
    #[arg(long, value_name = "NAME")]
    pub from: Option<String>,
}

pub fn run(args: &RunArgs, config: &Config) -> Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let result = runtime.block_on(host(args, config));
    // What still hangs after its time is not waited for.
    runtime.shutdown_background();
    result
}

async fn host(args: &RunArgs, config: &Config) -> Result<()> {
    let begun = Instant::now();
    let mut signals = StopSignals::new()?;
    let mut starting = {
        let (config, from) = (config.clone(), args.from.clone());
        tokio::spawn(async move { Stack::start_from(&config, from).await })
    };
    let mut reload = false;
    let stack = tokio::select! {
        stack = &mut starting => stack??,
        () = stop_asked(&mut signals, &mut reload) => {
            let asked = Instant::now();
            match tokio::time::timeout(START_GRACE, starting).await {
                Ok(stack) => stack??.stop(asked).await?,
                Err(_) => say("stopped while it was still starting"),
            }
            return interrupted(args);
        }
    };
    match stack.address {
        Some(address) => say(format_args!("clickmill runs: http://{address} (data in {})", config.data_dir.display())),
        None => say(format_args!("clickmill runs (data in {})", config.data_dir.display())),
    }
    if reload {
        stack.reload().await;
    }
    let ended = {
        let mut drained = std::pin::pin!(stack.until_end());
        loop {
            tokio::select! {
                asked = signals.asked() => match asked {
                    Asked::Stop => break interrupted(args),
                    Asked::Reload => stack.reload().await,
                },
                drained = &mut drained, if args.until_end => break drained.map(|drained| {
                    let (events, seconds) = (counted(drained.events, "event"), begun.elapsed().as_secs_f64());
                    say(format_args!("everything is processed and confirmed: {events} in {seconds:.1} s"));
                }),
            }
        }
    };
    let stopped = stack.stop(Instant::now()).await;
    ended.and(stopped)
}

/// Waits for a stop; whether files were to be read again meanwhile is in `reload`.
async fn stop_asked(signals: &mut StopSignals, reload: &mut bool) {
    while signals.asked().await != Asked::Stop {
        *reload = true;
    }
}

/// A signal ends a host well, but not work that was to be done first.
fn interrupted(args: &RunArgs) -> Result<()> {
    match args.until_end {
        false => Ok(()),
        true => Err(Interrupted(
            "interrupted before everything was processed and confirmed by the sinks; the next run goes on from there",
        )
        .into()),
    }
}
