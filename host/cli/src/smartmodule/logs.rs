//! `clickmill smartmodule logs`: what modules have said and why they failed, from a running host.

use std::io::{self, Write};
use std::time::Duration;

use anyhow::Result;
use clickmill_connectors::percent_encoded;
use clickmill_pipeline::module_log::{LineKind, ModuleLine};
use clickmill_pipeline::views::time::iso8601;

use crate::TextOrJson;
use crate::config::Config;
use crate::context::Place;
use crate::exit::mistake;
use crate::output::{printable, unless_gone};

/// Between two questions for new lines.
const FOLLOW: Duration = Duration::from_millis(500);

/// Shows what modules log, and the messages with which they failed
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  clickmill smartmodule logs
  clickmill smartmodule logs validate --follow

The host holds its newest 2,000 lines. A message of a panic is in the line of the failure.")]
pub struct Args {
    /// Only of this stage
    stage: Option<String>,
    /// Go on with new lines until Ctrl-C
    #[arg(long)]
    follow: bool,
    /// `json`: one object a line
    #[arg(long, value_enum, default_value = "text")]
    output: TextOrJson,
}

pub fn run(args: &Args, config: &Config) -> Result<()> {
    let Place::Host(host) = Place::of(config)? else {
        return Err(mistake("modules' lines are held by a running host, and none runs on this data directory"));
    };
    let stage = args.stage.as_deref().map(|stage| format!("&stage={}", percent_encoded(stage))).unwrap_or_default();
    let mut since = 0;
    loop {
        let lines: Vec<ModuleLine> = host.get(&format!("/api/logs?since={since}{stage}"))?;
        let mut out = io::BufWriter::new(io::stdout().lock());
        for line in &lines {
            since = line.number + 1;
            if let Err(gone) = write(line, args.output, &mut out) {
                return unless_gone(Err(gone));
            }
        }
        if let Err(gone) = out.flush() {
            return unless_gone(Err(gone));
        }
        if !args.follow {
            return Ok(());
        }
        std::thread::sleep(FOLLOW);
    }
}

fn write(line: &ModuleLine, output: TextOrJson, out: &mut dyn Write) -> io::Result<()> {
    if output == TextOrJson::Json {
        serde_json::to_writer(&mut *out, line)?;
        return writeln!(out);
    }
    let kind = match line.kind {
        LineKind::Log => "",
        LineKind::Fault => "failed: ",
    };
    let (stage, text) = (printable(&line.stage), printable(&line.text));
    write!(out, "{}  {stage}  {}@{}  {kind}{text}", iso8601(line.at_ms), line.partition, line.offset)?;
    match line.left_out {
        0 => writeln!(out),
        n => writeln!(out, "  ({n} more lines were left out)"),
    }
}
