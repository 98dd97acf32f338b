//! `clickmill connector run`: one connector as a process of its own.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use clickmill_broker::{Broker, BrokerError, EmbeddedLog, TopicPartition};
use clickmill_connectors::set::ConnectorStatus;
use clickmill_connectors::{Connector, Connectors, Servers, SinkHandle, SinkSource, SinkState, SinkStatus};
use clickmill_pipeline::topics::{AD_EVENTS_DLQ, AD_EVENTS_ERROR, AD_EVENTS_RAW, CTR_WINDOWS};
use clickmill_schemas::{Offset, PartitionId};
use indicatif::{HumanCount, ProgressBar, ProgressFinish, ProgressStyle};
use tokio::runtime::{Handle, Runtime};
use tokio::time::Instant;

use super::control;
use super::followed::{Followed, runs};
use crate::TextOrJson;
use crate::config::Config;
use crate::context::{Place, existing_log_dir};
use crate::exit::mistake;
use crate::output::{counted, printable, say, unless_gone, write_json};
use crate::signals::{Asked, Interrupted, StopSignals};
use crate::stack;

/// Between two looks at how far it is.
const LOOK: Duration = Duration::from_millis(100);
/// Looks between two lines of a status on a terminal.
const LOOKS_A_LINE: u64 = 10;
/// Longest wait for a transaction in flight at a stop: it is taken back.
const STOP_TIME: Duration = Duration::from_secs(1);
/// Time that a private server has to end, where no host runs.
const SERVERS_TIME: Duration = Duration::from_secs(5);

/// Runs one connector as a process of its own, beside a host or without one
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  clickmill connector run warehouse.yaml
  clickmill connector run warehouse.yaml --until-end --output json | jq '.sinks[0].offset'
  clickmill connector stop postgres && clickmill connector run connectors/postgres-sink.yaml

Reads its topic from the host that runs on the data directory, over HTTP, and waits for one that is started anew; where none
runs, from the files, until a host is there. Goes on from the offset in its server, however it was ended. A connector that the
host runs under the same name has to be stopped first.
Exit codes: 0 stopped by Ctrl-C or SIGTERM, or at the end; 1 it cannot go on; 2 the file is wrong.")]
pub struct Args {
    file: PathBuf,
    /// End when everything has been applied that was in the topic at the start
    #[arg(long)]
    until_end: bool,
    /// `json`: the summary on stdout as well
    #[arg(long, value_enum, default_value = "text")]
    output: TextOrJson,
}

pub fn run(args: &Args, config: &Config) -> Result<()> {
    let connector = stack::connectors::of_file(&args.file, config)?;
    if let Some(why) = connector.off() {
        return Err(mistake(format!("connector {} is off: it has {why}", connector.name())));
    }
    let place = Place::of(config)?;
    if let Place::Host(host) = &place {
        let name = connector.name();
        if control::all(host)?.iter().any(|known| known.name == name && known.wanted) {
            bail!(
                "the host runs the connector {name}, and two that write at once get into each other's way: `clickmill \
                 connector stop {name}` first"
            );
        }
    }
    let runtime = Runtime::new()?;
    let result = runtime.block_on(copy(args, connector, place, config));
    // What still hangs after its time is not waited for.
    runtime.shutdown_background();
    result
}

async fn copy(args: &Args, connector: Connector, place: Place, config: &Config) -> Result<()> {
    let mut signals = StopSignals::new()?;
    let name = connector.name().to_owned();
    let is_private = connector.url().is_none();
    say(match &place {
        Place::Host(_) => format!("{name} copies from the host (data in {})", config.data_dir.display()),
        Place::Folder(_) => format!("{name} copies from the files in {}: no host runs", config.data_dir.display()),
    });
    let followed = Arc::new(Followed::new(place, config));
    let source = {
        let broker = followed.clone();
        tokio::task::spawn_blocking(move || source(broker)).await??
    };
    let servers = Servers::new(&config.data_dir);
    let transforms = stack::transforms::maker(stack::engine(config, &config.data_dir)?, config.limits());
    // Who runs it by hand wants it to run, whatever was stopped in a host.
    let connectors = Connectors::new(source, servers.clone(), Handle::current()).with_transforms(transforms);
    let connectors = Arc::new(connectors);
    let Ok(_) = connectors.apply(|| Ok::<_, Infallible>(vec![connector])).await;
    let goal = match args.until_end {
        true => Some(ends(followed.clone(), connectors.handles()).await?),
        false => None,
    };
    let ended = tokio::select! {
        () = stop_asked(&mut signals) => match args.until_end {
            false => Ok(()),
            true => Err(Interrupted("interrupted before everything was applied; the next run goes on from there").into()),
        },
        ended = until(goal, &connectors) => ended,
    };
    let status = status(&connectors).await?;
    connectors.close(Instant::now() + STOP_TIME).await;
    if is_private && EmbeddedLog::holder(&existing_log_dir(config)?)?.is_none() {
        // Nobody else is there to stop it.
        servers.stop(SERVERS_TIME).await?;
    }
    summarize(args, &status)?;
    ended
}

fn source(broker: Arc<Followed>) -> Result<SinkSource, BrokerError> {
    let unknown = || BrokerError::UnknownTopic { topic: AD_EVENTS_RAW.to_owned() };
    let partitions = broker.topic(AD_EVENTS_RAW)?.ok_or_else(unknown)?.spec.partitions;
    let run = stack::run_info(&*broker, partitions)?;
    let windows = TopicPartition::new(CTR_WINDOWS, PartitionId(0));
    let errors = TopicPartition::new(AD_EVENTS_ERROR, PartitionId(0));
    let letters = TopicPartition::new(AD_EVENTS_DLQ, PartitionId(0));
    Ok(SinkSource { runs: runs(broker.clone(), run.clone()), broker, run, windows, errors, letters })
}

async fn stop_asked(signals: &mut StopSignals) {
    while signals.asked().await != Asked::Stop {
        say("the connector's file is read at the start alone: start it anew");
    }
}

/// Where the sinks' topics end now.
async fn ends(broker: Arc<Followed>, sinks: Vec<SinkHandle>) -> Result<BTreeMap<TopicPartition, Offset>> {
    let ends = tokio::task::spawn_blocking(move || {
        sinks.iter().map(|sink| Ok((sink.source().clone(), broker.ends(sink.source())?.end))).collect()
    });
    ends.await?
}

/// Returns when everything below the goal is applied, or a sink cannot go on.
async fn until(goal: Option<BTreeMap<TopicPartition, Offset>>, connectors: &Arc<Connectors>) -> Result<()> {
    let line = line();
    let mut looks = 0u64;
    loop {
        let sinks = connectors.handles();
        if sinks.iter().any(SinkHandle::has_ended) {
            let all = status(connectors).await?.sinks;
            let ended = all.iter().find(|sink| matches!(sink.state, SinkState::Refused | SinkState::Failed));
            let why = ended.and_then(|sink| sink.last_error.clone()).unwrap_or_default();
            bail!("{} cannot go on: {why}", ended.map_or("the connector", |sink| &sink.name));
        }
        let applied = |goal: &BTreeMap<TopicPartition, Offset>| {
            sinks.iter().all(|sink| goal.get(sink.source()).is_some_and(|end| sink.confirmed() >= *end))
        };
        if goal.as_ref().is_some_and(applied) {
            return Ok(());
        }
        if looks.is_multiple_of(LOOKS_A_LINE) && !line.is_hidden() {
            line.set_message(text(&status(connectors).await?));
        }
        looks += 1;
        tokio::time::sleep(LOOK).await;
    }
}

/// What is drawn over again on a terminal, and nowhere else; it goes with this.
fn line() -> ProgressBar {
    let line = match io::stderr().is_terminal() {
        true => ProgressBar::new_spinner().with_finish(ProgressFinish::AndClear),
        false => ProgressBar::hidden(),
    };
    match ProgressStyle::with_template("{msg}") {
        Ok(style) => line.with_style(style),
        Err(_) => line,
    }
}

fn text(status: &ConnectorStatus) -> String {
    let sink = |sink: &SinkStatus| {
        let (name, state) = (&sink.name, control::word(sink.state));
        let (offset, end) = (HumanCount(sink.offset.0), HumanCount(sink.offset.0 + sink.lag));
        let mut text = format!("{name}: {state}, offset {offset} of {end}, {}", counted(sink.rows_written, "row"));
        for (count, what) in [(sink.skipped, "skipped"), (sink.retries, "retried")] {
            if count > 0 {
                text.push_str(&format!(", {} {what}", HumanCount(count)));
            }
        }
        if let (Some(why), true) = (&sink.last_error, sink.state != SinkState::Running) {
            text.push_str(&format!(" ({})", printable(why)));
        }
        text
    };
    status.sinks.iter().map(sink).collect::<Vec<_>>().join("; ")
}

/// How the only one is. The log's end is asked for, which takes a request.
async fn status(connectors: &Arc<Connectors>) -> Result<ConnectorStatus> {
    let connectors = connectors.clone();
    let status = tokio::task::spawn_blocking(move || connectors.status()).await?;
    status.into_iter().next().ok_or_else(|| anyhow!("the connector is gone"))
}

fn summarize(args: &Args, status: &ConnectorStatus) -> Result<()> {
    say(text(status));
    match args.output {
        TextOrJson::Json => unless_gone(write_json(&mut io::stdout().lock(), status)),
        TextOrJson::Text => Ok(()),
    }
}
