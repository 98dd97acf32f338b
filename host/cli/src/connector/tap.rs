//! `clickmill connector tap`: the records that flow to a connector, as it takes them.

use std::io::{self, Write};
use std::time::Duration;

use anyhow::{Result, anyhow};
use clickmill_broker::TopicPartition;
use clickmill_connectors::reader::Chunk;
use clickmill_connectors::sink::Refused;
use clickmill_connectors::transform::{Transform, Transformed};
use clickmill_connectors::{Hidden, SinkStatus};
use clickmill_pipeline::views::records::{Content, RecordView};
use clickmill_schemas::Offset;
use serde::Serialize;

use super::{control, followed};
use crate::TextOrJson;
use crate::config::Config;
use crate::context::{Host, Place};
use crate::exit::mistake;
use crate::output::{Output, printable, say, unless_gone};
use crate::signals;
use crate::stack;
use crate::topic::write_record;

/// Longest wait for new records, over all that the connector copies.
const WAIT: Duration = Duration::from_secs(1);
/// Records asked for at once.
const PAGE_RECORDS: u64 = 1_000;

/// Shows the records that flow to a connector of the running host, as they come
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  clickmill connector tap postgres
  clickmill connector tap warehouse --from-beginning --limit 10 --output json

Begins at the connector's own offset: what it has not applied yet comes first. Records are shown behind the connector's
transforms. The connector is not disturbed. With --output
json, one object a line. Exit codes: 0 at the limit and after Ctrl-C, 2 where no host runs the connector.")]
pub struct Args {
    /// Its name, as in `clickmill connector list`
    name: String,
    /// Begin at the first record that is still there
    #[arg(long)]
    from_beginning: bool,
    /// End after N records of the topic
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    #[arg(long, value_enum, default_value = "text")]
    output: TextOrJson,
}

/// A record on its way to a sink.
#[derive(Serialize)]
struct Tapped<'a> {
    sink: &'a str,
    topic: &'a str,
    #[serde(flatten)]
    record: &'a RecordView,
}

/// One sink's partition, and where it is read next.
struct Cursor {
    sink: String,
    at: TopicPartition,
    next: Offset,
    /// What its records go through first.
    transform: Option<Box<dyn Transform>>,
    /// What its modules may say and nobody is to read.
    hidden: Hidden,
}

impl Cursor {
    /// The next records that come within `wait`, as the sink gets them; how many were read.
    fn read(&mut self, place: &Place, limit: usize, wait: Duration) -> Result<(Vec<RecordView>, u64)> {
        let page = place.page(&self.at, self.next, limit, wait, self.transform.is_some())?;
        let read = page.records.len() as u64;
        let records = match &mut self.transform {
            None => page.records,
            Some(transform) => {
                let mut records = Vec::new();
                for batch in followed::batches(&self.at, self.next.max(page.log_start_offset), &page)? {
                    let transformed = transform.apply(&Chunk::of(&batch, self.next)?);
                    let Transformed { records: made, failed } =
                        transformed.map_err(|e| anyhow!(self.hidden.redact(&e)))?;
                    for Refused { offset, rule, message } in failed {
                        say(format_args!(
                            "{}: {}@{offset} is left out: {rule}: {}",
                            self.sink,
                            self.at,
                            printable(&self.hidden.redact(&message))
                        ));
                    }
                    records.extend(made.into_iter().map(|record| RecordView {
                        partition: self.at.partition,
                        offset: record.offset,
                        timestamp_ms: record.timestamp_ms,
                        key: record.key.as_deref().map(Content::of_key),
                        value: Content::of(&record.value),
                    }));
                }
                records
            }
        };
        self.next = page.next_offset;
        Ok((records, read))
    }
}

pub fn run(args: &Args, config: &Config) -> Result<()> {
    let place = Place::of(config)?;
    let Place::Host(host) = &place else {
        return Err(mistake("nothing flows: no host runs on this data directory; start one with `clickmill run`"));
    };
    let mut cursors = cursors(args, host, config)?;
    // Lines are written whole, and nothing is left to be done.
    signals::end_well()?;
    for Cursor { sink, at, next, .. } in &cursors {
        say(format_args!("{sink}: {at} from offset {next} on"));
    }
    unless_gone(tap(args, &place, &mut cursors, &mut io::stdout().lock())?)
}

fn cursors(args: &Args, host: &Host, config: &Config) -> Result<Vec<Cursor>> {
    let connectors = control::all(host)?;
    let Some(connector) = connectors.iter().find(|connector| connector.name == args.name) else {
        return Err(control::unknown(&args.name, &connectors));
    };
    if connector.sinks.is_empty() {
        let name = &args.name;
        return Err(mistake(match &connector.off {
            Some(why) if connector.wanted => format!("{name} is off: {why}"),
            _ => format!("{name} is {}: `clickmill connector start {name}` first", control::STOPPED),
        }));
    }
    let file = stack::connectors::of_name(&args.name, config)?;
    let hidden = file.as_ref().map(|file| file.hidden().clone()).unwrap_or_default();
    let cursor = |SinkStatus { name, topic, partition, offset, .. }: &SinkStatus| {
        let specs = file.as_ref().map(|file| file.transforms(topic)).unwrap_or_default();
        let transform = match specs {
            [] => None,
            specs => {
                let make = stack::transforms::maker(stack::engine(config, &config.data_dir)?, config.limits());
                Some(make(specs).map_err(|e| anyhow!(hidden.redact(&e)))?)
            }
        };
        let next = if args.from_beginning { Offset(0) } else { *offset };
        let at = TopicPartition::new(topic.as_str(), *partition);
        Ok(Cursor { sink: name.clone(), at, next, transform, hidden: hidden.clone() })
    };
    connector.sinks.iter().map(cursor).collect()
}

/// Returns at the limit, or with the failure of `out`.
fn tap(args: &Args, place: &Place, cursors: &mut [Cursor], out: &mut dyn Write) -> Result<io::Result<()>> {
    let mut left = args.limit.unwrap_or(u64::MAX);
    let wait = WAIT / u32::try_from(cursors.len().max(1))?;
    loop {
        for cursor in cursors.iter_mut() {
            let limit = usize::try_from(left.min(PAGE_RECORDS))?;
            let (records, read) = cursor.read(place, limit, wait)?;
            let Cursor { sink, at, .. } = cursor;
            let mut lines = Vec::new();
            for record in &records {
                match args.output {
                    TextOrJson::Text => write_record(record, Output::Text, &mut lines)?,
                    TextOrJson::Json => {
                        serde_json::to_writer(&mut lines, &Tapped { sink, topic: &at.topic, record })?;
                        lines.push(b'\n');
                    }
                }
            }
            left -= read.min(left);
            // At once: whoever ends it meanwhile cuts no line.
            let written = out.write_all(&lines).and_then(|()| out.flush());
            if left == 0 || written.is_err() {
                return Ok(written);
            }
        }
    }
}
