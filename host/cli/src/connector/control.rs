//! `clickmill connector list|status|start|stop|restart|apply`: the connectors of a running host.

use std::io;

use anyhow::Result;
use clickmill_connectors::set::{Applied, ConnectorStatus};
use clickmill_connectors::{Connector, SinkState, Stopped, percent_encoded};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::TextOrJson;
use crate::config::Config;
use crate::context::{Host, Place};
use crate::exit::{Ended, mistake};
use crate::output::{Output, Rows, print, printable, unless_gone, write_json};
use crate::stack;

/// Lists the connectors: those of the running host, else those that a start would run
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  clickmill connector list
  clickmill connector list --output json | jq '.[].name'")]
pub struct ListArgs {
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Shows how each connector is: offset, lag, rows, retries and its last error
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  clickmill connector status
  clickmill connector status postgres --output json

Exit code 1 where one that nobody has stopped is not running.")]
pub struct StatusArgs {
    /// Only this one
    name: Option<String>,
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Which one.
#[derive(Debug, clap::Args)]
pub struct NameArgs {
    /// Its name, as in `clickmill connector list`
    name: String,
}

/// Applies the connector files as they are now, without touching connectors that are described as before
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  clickmill connector apply
  kill -HUP <the host>          the same

All files are checked first; where one is wrong nothing is changed. Exit codes: 0 applied, 1 a file is wrong.")]
pub struct ApplyArgs {
    #[arg(long, value_enum, default_value = "text")]
    output: TextOrJson,
}

const COLUMNS: &[&str] =
    &["connector", "sink", "state", "offset>", "lag>", "rows>", "skipped>", "retries>", "server", "problem"];

/// The state of one that somebody has stopped.
pub const STOPPED: &str = "stopped by hand";

/// What `/api/connectors` answers.
#[derive(Deserialize)]
struct Answer {
    connectors: Vec<ConnectorStatus>,
}

/// One that is listed.
#[derive(Serialize)]
struct Listed {
    name: String,
    r#type: String,
    state: String,
}

pub fn list(args: &ListArgs, config: &Config) -> Result<()> {
    let listed: Vec<Listed> = match Place::of(config) {
        Ok(Place::Host(host)) => all(&host)?.iter().map(listed).collect(),
        // A data directory is not needed to say what would run.
        Ok(Place::Folder(_)) | Err(_) => {
            let stopped = Stopped::of(&config.data_dir)?;
            let state = |connector: &Connector| match connector.off() {
                _ if stopped.contains(connector.name()) => STOPPED,
                Some(_) => "off",
                None => "no host runs",
            };
            stack::connectors::wanted(config)?
                .iter()
                .map(|connector| Listed {
                    name: connector.name().to_owned(),
                    r#type: connector.r#type().name().to_owned(),
                    state: state(connector).to_owned(),
                })
                .collect()
        }
    };
    let mut rows = Rows::new(&["name", "type", "state"]);
    for one in &listed {
        rows.push(vec![one.name.clone(), one.r#type.clone(), one.state.clone()]);
    }
    write(args.output, &rows, &listed)
}

fn listed(connector: &ConnectorStatus) -> Listed {
    let worst = connector.sinks.iter().find(|sink| sink.state != SinkState::Running).or(connector.sinks.first());
    let state = match (connector.wanted, worst) {
        (false, _) => STOPPED.to_owned(),
        (true, None) if connector.off.is_some() => "off".to_owned(),
        (true, worst) => word(worst.map_or(SinkState::Stopped, |sink| sink.state)).to_owned(),
    };
    Listed { name: connector.name.clone(), r#type: connector.r#type.name().to_owned(), state }
}

pub const fn word(state: SinkState) -> &'static str {
    match state {
        SinkState::Starting => "starting",
        SinkState::Running => "running",
        SinkState::Retrying => "retrying",
        SinkState::Refused => "refused",
        SinkState::Failed => "failed",
        SinkState::Stopped => "stopped",
    }
}

pub fn status(args: &StatusArgs, config: &Config) -> Result<()> {
    let mut connectors = all(&host(config)?)?;
    if let Some(name) = &args.name {
        let unknown = unknown(name, &connectors);
        connectors.retain(|connector| connector.name == *name);
        if connectors.is_empty() {
            return Err(unknown);
        }
    }
    let mut rows = Rows::new(COLUMNS);
    for connector in &connectors {
        if connector.sinks.is_empty() {
            let mut row = vec![String::new(); COLUMNS.len()];
            row[0].clone_from(&connector.name);
            row[2] = listed(connector).state;
            if let (Some(last), Some(why)) = (row.last_mut(), &connector.off) {
                last.clone_from(why);
            }
            rows.push(row);
        }
        for sink in &connector.sinks {
            rows.push(vec![
                connector.name.clone(),
                sink.name.clone(),
                if connector.wanted { word(sink.state) } else { STOPPED }.to_owned(),
                sink.offset.to_string(),
                sink.lag.to_string(),
                sink.rows_written.to_string(),
                sink.skipped.to_string(),
                sink.retries.to_string(),
                sink.server.clone().unwrap_or_default(),
                sink.last_error.as_deref().map(printable).unwrap_or_default(),
            ]);
        }
    }
    write(args.output, &rows, &connectors)?;
    let runs = |connector: &ConnectorStatus| connector.sinks.iter().all(|sink| sink.state == SinkState::Running);
    match connectors.iter().all(|connector| !connector.wanted || runs(connector)) {
        true => Ok(()),
        false => Err(Ended(1).into()),
    }
}

/// Tells one of them to `verb`.
pub fn change(args: &NameArgs, verb: &str, done: &str, config: &Config) -> Result<()> {
    let path = format!("/api/connectors/{}/{verb}", percent_encoded(&args.name));
    let _: Answer = host(config)?.ask("POST", &path, &json!({}))?;
    print(format_args!("{} is {done}\n", printable(&args.name)))
}

pub fn apply(args: &ApplyArgs, config: &Config) -> Result<()> {
    let applied: Applied = host(config)?.ask("POST", "/api/connectors/apply", &json!({}))?;
    if args.output == TextOrJson::Json {
        return unless_gone(write_json(&mut io::stdout().lock(), &applied));
    }
    let Applied { started, restarted, removed, unchanged, stopped } = applied;
    for (what, names) in [
        ("started", started),
        ("restarted", restarted),
        ("removed", removed),
        ("as before", unchanged),
        ("stays stopped", stopped),
    ] {
        if !names.is_empty() {
            print(format_args!("{what}: {}\n", printable(&names.join(", "))))?;
        }
    }
    Ok(())
}

/// A mistake that names those that there are.
pub fn unknown(name: &str, connectors: &[ConnectorStatus]) -> anyhow::Error {
    let known = connectors.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(", ");
    mistake(format!("there is no connector {name}; there are: {known}"))
}

pub fn all(host: &Host) -> Result<Vec<ConnectorStatus>> {
    Ok(host.get::<Answer>("/api/connectors")?.connectors)
}

fn host(config: &Config) -> Result<Host> {
    match Place::of(config)? {
        Place::Host(host) => Ok(host),
        Place::Folder(_) => Err(mistake("connectors run in a host: start one with `clickmill run`")),
    }
}

fn write(output: Output, rows: &Rows, value: &impl Serialize) -> Result<()> {
    let mut out = io::stdout().lock();
    unless_gone(match output {
        Output::Text => rows.write_text(&mut out),
        Output::Csv => rows.write_csv(&mut out),
        Output::Json => write_json(&mut out, value),
    })
}
