//! `clickmill dlq show`: all that is known of a letter, and how it would fare now.

use std::io;

use anyhow::Result;
use clickmill_pipeline::dlq::{Fate, Listed, Objection, Shown};
use clickmill_pipeline::views::time::iso8601;
use clickmill_schemas::dlq::LetterId;

use super::source::Source;
use crate::TextOrJson;
use crate::config::Config;
use crate::output::{print, printable, unless_gone, write_json};

/// Bytes of a line of the hex view.
const HEX_WIDTH: usize = 16;
/// Bytes that are shown in hex.
const HEX_BYTES: usize = 512;
/// Characters of a payload that are shown as text.
const TEXT_CHARS: usize = 2_000;

/// Shows one dead letter: its payload, the verdict, its attempts, and how it would fare now
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  clickmill dlq show 0-1234
  clickmill dlq show data/raw/train.csv.gz:17 --output json | jq .now")]
pub struct Args {
    /// As `clickmill dlq list` names it
    id: String,
    #[arg(long, value_enum, default_value = "text")]
    output: TextOrJson,
}

pub fn run(args: &Args, config: &Config) -> Result<()> {
    let shown = Source::to_read(config)?.show(&LetterId(args.id.clone()))?;
    match args.output {
        TextOrJson::Json => unless_gone(write_json(&mut io::stdout().lock(), &shown)),
        TextOrJson::Text => print(text(&shown)),
    }
}

fn text(shown: &Shown) -> String {
    let Shown { letter: Listed { id, state, reason, attempts, edited, error_timestamp, letter, .. }, now } = shown;
    let mut out = format!("{}: {}, {}\n", printable(&id.0), state.name(), printable(reason));
    out.push_str(&format!("  origin     {}\n", printable(&letter.origin.to_string())));
    let (kind, rule, message) = (letter.error_type.name(), printable(&letter.rule), printable(&letter.message));
    out.push_str(&format!("  rejected   {error_timestamp} by {kind}:{rule}\n             {message}\n"));
    if let Some(judged) = &letter.judged {
        let (digest, stage) = (judged.sha256.to_string(), printable(&judged.stage));
        out.push_str(&format!(
            "  judged by  stage {stage}, module {}, deployment {}\n",
            &digest[..12],
            judged.deployment
        ));
    }
    if let Some(connector) = &letter.connector {
        out.push_str(&format!("  refused by the server of connector {}\n", printable(connector)));
    }
    if let Some(trace) = &letter.stacktrace {
        out.push_str("  stack\n");
        trace.lines().for_each(|line| out.push_str(&format!("    {}\n", printable(line))));
    }
    for attempt in attempts {
        let (n, at, outcome) = (attempt.attempt, iso8601(attempt.at_ms), attempt.outcome.name());
        let deployment = attempt.deployment.map_or_else(String::new, |id| format!(" (deployment {id})"));
        let why = match attempt.rule.is_empty() {
            true => String::new(),
            false => format!(": {}: {}", printable(&attempt.rule), printable(&attempt.message)),
        };
        out.push_str(&format!("  attempt {n}  {at} {outcome}{deployment}{why}\n"));
    }
    out.push_str(&format!(
        "  now        {}\n",
        match now {
            Fate::Passes => "the modules in force take it: `clickmill dlq retry` sends it".to_owned(),
            Fate::Rejected(Objection { rule, message }) =>
                format!("it would be rejected by {}: {}", printable(rule), printable(message)),
            Fate::Unknown { why } => printable(why),
        }
    ));
    payload(&mut out, "payload", &letter.payload);
    if let Some(edited) = edited {
        payload(&mut out, "edited", edited);
    }
    out
}

fn payload(out: &mut String, name: &str, payload: &clickmill_schemas::dead_letter::RawPayload) {
    let bytes = payload.bytes().unwrap_or_default();
    let whole = payload.raw_payload_bytes.map_or_else(String::new, |whole| format!(", the beginning of {whole}"));
    out.push_str(&format!("  {name} ({} bytes{whole})\n", bytes.len()));
    if let Ok(text) = std::str::from_utf8(&bytes) {
        let shown: String = printable(text).chars().take(TEXT_CHARS).collect();
        out.push_str(&format!("    {shown}\n"));
    }
    for (index, line) in bytes.chunks(HEX_WIDTH).enumerate().take(HEX_BYTES / HEX_WIDTH) {
        let hex: String = line.iter().map(|byte| format!("{byte:02x} ")).collect();
        let text: String = line.iter().map(|b| if (0x20..0x7f).contains(b) { char::from(*b) } else { '.' }).collect();
        out.push_str(&format!("    {:08x}  {hex:<48} {text}\n", index * HEX_WIDTH));
    }
    if bytes.len() > HEX_BYTES {
        out.push_str(&format!("    … ({} bytes more)\n", bytes.len() - HEX_BYTES));
    }
}
