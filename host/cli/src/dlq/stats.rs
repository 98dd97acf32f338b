//! `clickmill dlq stats`: how many letters there are of each kind.

use std::io;

use anyhow::Result;
use clickmill_pipeline::dlq::Stats;
use clickmill_schemas::dlq::LetterState;

use super::FilterArgs;
use super::source::Source;
use crate::TextOrJson;
use crate::config::Config;
use crate::output::{Rows, counted, print, printable, unless_gone, write_json};

/// Counts dead letters by rule and state
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  clickmill dlq stats
  clickmill dlq stats --since 2026-11-22T00:00:00Z --output json")]
pub struct Args {
    #[command(flatten)]
    filter: FilterArgs,
    #[arg(long, value_enum, default_value = "text")]
    output: TextOrJson,
}

pub fn run(args: &Args, config: &Config) -> Result<()> {
    let stats = Source::to_read(config)?.stats(&args.filter.filter())?;
    match args.output {
        TextOrJson::Json => unless_gone(write_json(&mut io::stdout().lock(), &stats)),
        TextOrJson::Text => print(text(&stats)),
    }
}

fn text(stats: &Stats) -> String {
    let mut rows =
        Rows::new(&["type", "rule", "letters>", "waiting>", "retrying>", "resolved>", "dead>", "oldest", "newest"]);
    for rule in &stats.by_rule {
        let of = |state: LetterState| rule.by_state.get(&state).copied().unwrap_or_default().to_string();
        let [waiting, retrying, resolved, dead] = LetterState::ALL.map(of);
        let (kind, name) = (rule.error_type.name().to_owned(), printable(&rule.rule));
        let (oldest, newest) = (rule.oldest.clone(), rule.newest.clone());
        rows.push(vec![kind, name, rule.letters.to_string(), waiting, retrying, resolved, dead, oldest, newest]);
    }
    format!("{}\n{}", counted(stats.letters, "dead letter"), rows.text())
}
