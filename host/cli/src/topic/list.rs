//! `clickmill topic list`.

use std::io::{self, Write as _};

use anyhow::Result;
use clickmill_pipeline::views::status::TopicView;

use crate::config::Config;
use crate::context::Place;
use crate::output::{Output, Rows, counted, unless_gone, write_json};

/// Lists the topics with the offsets that they hold
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  clickmill topic list
  clickmill topic list --output json")]
pub struct Args {
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// # Errors
/// Where the place cannot be read.
pub fn run(args: &Args, config: &Config) -> Result<()> {
    let place = Place::of(config)?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    let topics = place.topics()?;
    let mut rows = Rows::new(&["topic", "partition>", "log_start_offset>", "log_end_offset>", "records_kept"]);
    for topic in &topics {
        for p in &topic.partitions {
            rows.push(vec![
                topic.topic.clone(),
                p.partition.to_string(),
                p.log_start_offset.to_string(),
                p.log_end_offset.to_string(),
                kept(topic),
            ]);
        }
    }
    let written = match args.output {
        Output::Text => rows.write_text(&mut out),
        Output::Csv => rows.write_csv(&mut out),
        Output::Json => write_json(&mut out, &topics),
    };
    unless_gone(written.and_then(|()| out.flush()))
}

/// Which records stay, in words.
pub fn kept(topic: &TopicView) -> String {
    let age = topic.retention_max_age_hours.map(|hours| counted(hours, "hour"));
    let bytes = topic.retention_max_bytes.map(|bytes| counted(bytes, "byte"));
    let limits: Vec<String> = age.into_iter().chain(bytes).collect();
    let mut kept = if topic.compacted { "newest of each key" } else { "all" }.to_owned();
    if !limits.is_empty() {
        kept.push_str(&format!(", up to {}", limits.join(" or ")));
    }
    kept
}
