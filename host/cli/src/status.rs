//! `clickmill status`: the ledger, where each partition is, what judges, where it goes.

use std::io::{self, Write};

use anyhow::Result;
use clickmill_pipeline::deployment::paused_in;
use clickmill_pipeline::views::status::{RunState, Status};
use clickmill_pipeline::views::time::iso8601;
use serde_json::Value;

use crate::config::Config;
use crate::context::Place;
use crate::output::{Output, Rows, printable, unless_gone, write_json};

/// Shows what was produced and what became of it, offsets and watermarks, modules and sinks
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  clickmill status
  clickmill status --output json | jq .ledger
  clickmill status --output csv          the partitions of ad_events_raw

Answers from a running host, or from the data directory of a stopped one (without sinks, then).")]
pub struct Args {
    #[arg(long, value_enum, default_value_t)]
    pub output: Output,
}

/// # Errors
/// A mistake for a data directory that is not one; otherwise where it, or the host, cannot be read.
pub fn run(args: &Args, config: &Config) -> Result<()> {
    let place = Place::of(config)?;
    let mut status = place.status()?;
    if matches!(place, Place::Folder(_)) {
        status.paused = paused_in(&config.data_dir)?;
    }
    let mut out = io::BufWriter::new(io::stdout().lock());
    let written = match args.output {
        Output::Text => text(&status, &mut out),
        Output::Json => write_json(&mut out, &status),
        Output::Csv => partitions(&status).write_csv(&mut out),
    };
    unless_gone(written.and_then(|()| out.flush()))
}

fn text(status: &Status, out: &mut dyn Write) -> io::Result<()> {
    let state = match status.state {
        RunState::Running => "running",
        RunState::Stopped => "stopped",
    };
    let state = match &status.paused {
        None => state.to_owned(),
        Some(reason) => format!("{state}, PAUSED ({})", printable(reason)),
    };
    let run = status.run.map_or_else(|| "none yet".to_owned(), |run| run.to_string());
    writeln!(out, "{state}, run {run}\n")?;
    let (ledger, fates) = (&status.ledger, &status.ledger.fates);
    let verdict = if ledger.balances() { "it balances" } else { "IT DOES NOT BALANCE" };
    writeln!(
        out,
        "ledger: {} produced = {} counted + {} rejected + {} late + {} dropped + {} waiting ({verdict})",
        ledger.produced, fates.counted, fates.rejected, fates.late, fates.dropped, ledger.waiting
    )?;
    for (what, by) in [("rejected", &fates.rejected_by_rule), ("dropped", &fates.dropped_by_reason)] {
        for (why, n) in by {
            writeln!(out, "  {what}, {}: {n}", printable(why))?;
        }
    }
    writeln!(out)?;
    partitions(status).write_text(out)?;
    writeln!(out)?;
    let mut modules = Rows::new(&["stage", "module", "version", "sha256"]);
    for m in &status.modules {
        modules.push(vec![m.stage.clone(), m.name.clone(), m.version.clone(), m.sha256.to_string()]);
    }
    modules.write_text(out)?;
    if !status.sinks.is_empty() {
        writeln!(out)?;
        sinks(&status.sinks).write_text(out)?;
    }
    Ok(())
}

fn partitions(status: &Status) -> Rows {
    let mut rows = Rows::new(&[
        "topic",
        "partition>",
        "log_start_offset>",
        "log_end_offset>",
        "processed_offset>",
        "lag>",
        "watermark",
        "epoch>",
    ]);
    for p in &status.partitions {
        rows.push(vec![
            p.topic.clone(),
            p.partition.to_string(),
            p.log_start_offset.to_string(),
            p.log_end_offset.to_string(),
            p.processed_offset.to_string(),
            p.lag.to_string(),
            p.watermark_ms.map(iso8601).unwrap_or_default(),
            p.epoch.map(|e| e.to_string()).unwrap_or_default(),
        ]);
    }
    rows
}

/// Sinks describe themselves; these of their fields are for a table.
fn sinks(sinks: &[Value]) -> Rows {
    let mut rows =
        Rows::new(&["name", "state", "offset>", "lag>", "rows_written>", "retries>", "server", "last_error"]);
    for sink in sinks {
        let field = |name: &str| match sink.get(name) {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        let names = ["name", "state", "offset", "lag", "rows_written", "retries", "server", "last_error"];
        rows.push(names.map(field).to_vec());
    }
    rows
}
