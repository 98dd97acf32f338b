//! `clickmill connector verify`: whether a connector's server holds what `clickmill windows` shows.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use clickmill_connectors::set::Connector;
use clickmill_connectors::verify::{Difference, Figures, HOUR_MS, Value, Values, Verified, hours as hours_of, verify};
use clickmill_connectors::{Endpoint, Servers, SinkError};
use clickmill_pipeline::views::WindowQuery;
use clickmill_pipeline::views::time::iso8601;
use clickmill_pipeline::views::windows::{SIZES_MS, size_name};
use clickmill_schemas::RunId;
use serde::Serialize;

use super::control;
use crate::TextOrJson;
use crate::config::Config;
use crate::context::Place;
use crate::exit::{Ended, mistake};
use crate::output::{counted, print, printable, unless_gone, write_json};
use crate::stack;

/// Between two looks at how far a connector is.
const LOOK: Duration = Duration::from_millis(100);
/// Comparisons while records flow: what changed meanwhile is no difference.
const ATTEMPTS: usize = 5;
/// Time that the private servers have to end, where no host runs.
const STOP_TIME: Duration = Duration::from_secs(5);

/// Compares a connector's server with the windows of the topic, value by value
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  clickmill connector verify postgres
  clickmill connector verify redis --output json | jq .different
  clickmill connector verify warehouse.yaml      one that runs by `clickmill connector run`

Waits until the connector has everything: where the host runs it, by its offset, else until nothing differs. Redis holds each
window for some minutes only: what has expired is passed over.
Exit codes: 0 the same, 1 a value differs, or the connector does not catch up.")]
pub struct Args {
    /// Its name, as in `clickmill connector list`, or its file
    #[arg(value_name = "NAME|FILE")]
    name: String,
    /// Longest wait for the connector to have everything
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    timeout: u64,
    #[arg(long, value_enum, default_value = "text")]
    output: TextOrJson,
}

#[derive(Serialize)]
struct Answer<'a> {
    connector: &'a str,
    #[serde(flatten)]
    verified: &'a Verified,
}

pub fn run(args: &Args, config: &Config) -> Result<()> {
    let connector = &named(&args.name, config)?;
    let name = connector.name();
    let place = Place::of(config)?;
    let running = match &place {
        Place::Folder(_) => false,
        Place::Host(host) => match control::all(host)?.iter().find(|c| c.name == name) {
            Some(connector) => connector.wanted,
            None if is_file(&args.name) => false,
            None => {
                return Err(mistake(format!(
                    "the host runs no connector {name}: `clickmill connector apply` starts what is new"
                )));
            }
        },
    };
    let status = place.status()?;
    let Some(run) = status.run else {
        return Err(mistake("there is nothing to compare with yet: nothing has been counted in this data directory"));
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let servers = Servers::new(&config.data_dir);
    let endpoint = match connector.url() {
        Some(url) => Endpoint::Named(url.clone()),
        None => Endpoint::Private(servers.clone()),
    };
    let verified = verified((args, running), (connector, &endpoint), run, &runtime, &place);
    let verified = verified.map_err(|e| anyhow!(connector.hidden().redact(&format!("{e:#}"))));
    if let (Endpoint::Private(_), Place::Folder(_)) = (&endpoint, &place) {
        // They were started for this.
        runtime.block_on(servers.stop(STOP_TIME))?;
    }
    let verified = verified?;
    match args.output {
        TextOrJson::Json => {
            unless_gone(write_json(&mut io::stdout().lock(), &Answer { connector: name, verified: &verified }))?;
        }
        TextOrJson::Text => print(text(name, &verified))?,
    }
    if verified.different == 0 { Ok(()) } else { Err(Ended(1).into()) }
}

/// The connector of that name, or of that file.
fn named(name: &str, config: &Config) -> Result<Connector> {
    if is_file(name) {
        return stack::connectors::of_file(Path::new(name), config);
    }
    let connectors = stack::connectors::wanted(config)?;
    let known = connectors.iter().map(Connector::name).collect::<Vec<_>>().join(", ");
    let unknown = || mistake(format!("there is no connector {name}; there are: {known}"));
    connectors.into_iter().find(|connector| connector.name() == name).ok_or_else(unknown)
}

fn is_file(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension == "yaml" || extension == "yml")
}

/// `running`: the host runs it, and says how far it is.
fn verified(
    (args, running): (&Args, bool),
    (connector, endpoint): (&Connector, &Endpoint),
    run: RunId,
    runtime: &tokio::runtime::Runtime,
    place: &Place,
) -> Result<Verified> {
    let begun = Instant::now();
    let waits = !running && matches!(place, Place::Host(_));
    let name = running.then(|| connector.name());
    let mut attempts = 0;
    loop {
        attempts += 1;
        let before = caught_up(args, name, place)?;
        let mut all = Verified::default();
        // Only PostgreSQL holds hours.
        let hours = matches!(connector, Connector::Postgres(_)).then_some(HOUR_MS);
        for size_ms in SIZES_MS.into_iter().chain(hours) {
            let query = WindowQuery { size_ms: size_ms.min(SIZES_MS[1]), ..WindowQuery::default() };
            let rows = place.windows(&query)?.map(|row| {
                let row = row.map_err(|e| SinkError::unavailable("read the windows", format!("{e:#}")))?;
                let (start_ms, dimension) = (row.window.start_ms, row.window.dimension);
                Ok(Value { start_ms, dimension, key: row.key, metrics: row.metrics, lower_bound: row.lower_bound })
            });
            let rows: Values<'_> = if size_ms == HOUR_MS { hours_of(rows) } else { Box::new(rows) };
            let of_size = verify(connector, endpoint, runtime.handle(), (run, size_ms), rows)?;
            all.compared += of_size.compared;
            all.different += of_size.different;
            all.differences.extend(of_size.differences);
        }
        if all.different == 0 {
            return Ok(all);
        }
        if waits && begun.elapsed() < Duration::from_secs(args.timeout) {
            std::thread::sleep(LOOK);
            continue;
        }
        if caught_up(args, name, place)? == before {
            return Ok(all);
        }
        anyhow::ensure!(
            attempts < ATTEMPTS,
            "the windows change faster than they can be compared: try when less comes in"
        );
    }
}

/// Waits until everything has its fate and the connector of that name has it; records that have their fate by then.
fn caught_up(args: &Args, name: Option<&str>, place: &Place) -> Result<u64> {
    let begun = Instant::now();
    loop {
        let status = place.status()?;
        let sinks: Vec<_> = status.sinks.iter().filter(|sink| name.is_some_and(|name| sink["name"] == name)).collect();
        let level = sinks.iter().all(|sink| sink["lag"] == 0 && sink["state"] == "running");
        if level && status.ledger.waiting == 0 || matches!(place, Place::Folder(_)) {
            return Ok(status.ledger.fates.accounted());
        }
        if begun.elapsed() > Duration::from_secs(args.timeout) {
            let why = sinks.iter().find_map(|sink| sink["last_error"].as_str()).map(printable);
            let why = why.map(|why| format!(": {why}")).unwrap_or_default();
            let waited = format!("{} does not have everything after {} s{why}", args.name, args.timeout);
            anyhow::bail!("{waited}; `clickmill connector status` shows how far it is");
        }
        std::thread::sleep(LOOK);
    }
}

fn text(name: &str, verified: &Verified) -> String {
    let Verified { compared, different, differences } = verified;
    let mut text = format!("{name}: {} compared, {different} differ\n", counted(*compared, "value"));
    for Difference { size_ms, start_ms, dimension, key, topic, server } in differences {
        let (size, start) = (size_name(*size_ms), iso8601(*start_ms));
        let (dimension, key) = (printable(dimension), printable(key));
        text.push_str(&format!(
            "  {size} {start} {dimension} {key}: the topic has {}, the server {}\n",
            figures(topic.as_ref()),
            figures(server.as_ref())
        ));
    }
    text
}

fn figures(of: Option<&Figures>) -> String {
    let Some(Figures { impressions, clicks, conversions, cost_micros, revenue_micros, lower_bound }) = of else {
        return "nothing".to_owned();
    };
    let bound = if *lower_bound { ", a lower bound" } else { "" };
    format!(
        "{impressions} impressions, {clicks} clicks, {conversions} conversions, {cost_micros} cost and {revenue_micros} revenue \
         in micros{bound}"
    )
}
