//! `clickmill run`: broker, workers, sinks and server until Ctrl-C or SIGTERM, or until everything is processed.

use std::time::Instant;

use anyhow::Result;
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use crate::config::Config;
use crate::stack::Stack;

/// Runs the broker, the workers, the sinks and the server.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  clickmill run                    run until Ctrl-C; http://127.0.0.1:8088 shows what happens
  clickmill run --until-end        process what is in the topic, wait for the sinks, and stop
  DATABASE_URL=postgres://me@db/ads clickmill run    write to your own PostgreSQL

A clean stop commits and checkpoints first; so does a kill, a moment earlier: no count changes.")]
pub struct RunArgs {
    /// Stop when everything in the topic is processed and every sink has confirmed it.
    #[arg(long)]
    pub until_end: bool,
}

pub fn run(args: &RunArgs, config: &Config) -> Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(host(args, config))
}

async fn host(args: &RunArgs, config: &Config) -> Result<()> {
    let begun = Instant::now();
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let stack = Stack::start(config).await?;
    match stack.address {
        Some(address) => eprintln!("clickmill runs: http://{address} (data in {})", config.data_dir.display()),
        None => eprintln!("clickmill runs (data in {})", config.data_dir.display()),
    }
    let ended = tokio::select! {
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
        drained = stack.until_end(), if args.until_end => drained.map(|drained| {
            eprintln!("everything is processed and confirmed: {} events in {:.1} s", drained.events, begun.elapsed().as_secs_f64());
        }),
    };
    let stopped = stack.stop().await;
    ended.and(stopped)
}
