//! `clickmill topic read`: records as they are, or what a module makes of them.

use std::io::{self, Write};
use std::str::FromStr;
use std::time::Duration;

use anyhow::Result;
use clickmill_broker::TopicPartition;
use clickmill_pipeline::views::records::{Content, RecordView};
use clickmill_pipeline::views::status::TopicView;
use clickmill_pipeline::views::time::iso8601;
use clickmill_schemas::{Offset, PartitionId};

use super::through::{Reader, ThroughArgs};
use crate::config::Config;
use crate::context::Place;
use crate::exit::mistake;
use crate::output::{Output, counted, printable, unless_gone};

/// Records asked for at once.
const PAGE_RECORDS: usize = 1_000;
/// How long a page waits for a record where they are followed, shared by the partitions.
const FOLLOW_WAIT: Duration = Duration::from_millis(500);

/// Prints records: text as it is, window partials decoded, other bytes in base64
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  clickmill topic read ad_events_error --limit 5
  clickmill topic read ctr_windows --offset end --follow
  clickmill topic read ad_events_raw --partition 0 --offset 1000 --limit 1 --output json
  clickmill topic read ad_events_raw --through mask.wasm --limit 1000
  clickmill topic read ad_events_raw --through only.wasm --param site_category=f028772b | head

JSON is one object a line: partition, offset, timestamp_ms, key and value, each of these two with its encoding.

--through puts the records through a SmartModule of any kind, each partition through an instance of its own, and prints
what passes under the offset that it was made of. Nothing is written. A record that the module fails on is told and left
out; at the end stderr says how many were read, passed, rejected by which rule, dropped, failed.")]
pub struct Args {
    /// Name of the topic
    topic: String,
    /// Only this partition [default: all, one after the other]
    #[arg(long, value_name = "P")]
    partition: Option<PartitionId>,
    /// Where to begin: an offset, start or end
    #[arg(long, value_name = "OFFSET", default_value = "start")]
    offset: From,
    /// Read at most N records in all
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Go on with new records until Ctrl-C
    #[arg(long)]
    follow: bool,
    #[command(flatten)]
    through: ThroughArgs,
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    Start,
    End,
    At(Offset),
}

impl FromStr for From {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "start" => Ok(Self::Start),
            "end" => Ok(Self::End),
            number => number.parse().map(Self::At).map_err(|_| "an offset is a number, `start` or `end`".to_owned()),
        }
    }
}

/// # Errors
/// A mistake for a topic, partition or offset that does not exist; otherwise where the place cannot be read, or the module
/// is not fit.
pub fn run(args: &Args, config: &Config) -> Result<()> {
    let place = Place::of(config)?;
    let mut through = args.through.reader(config)?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    let read = read(&place, args, through.as_mut(), &mut out);
    if let (Ok(()), Some(through)) = (&read, &through) {
        through.summarize();
    }
    read
}

fn read(place: &Place, args: &Args, mut through: Option<&mut Reader>, out: &mut dyn Write) -> Result<()> {
    if args.follow && matches!(place, Place::Folder(_)) {
        return Err(mistake("--follow needs a running host: no new records come into a stopped data directory"));
    }
    let mut cursors = cursors(&place.topics()?, args)?;
    let mut left = args.limit.unwrap_or(u64::MAX);
    let wait = FOLLOW_WAIT / u32::try_from(cursors.len().max(1))?;
    if args.output == Output::Csv {
        unless_gone(writeln!(out, "partition,offset,timestamp_ms,key,value"))?;
    }
    loop {
        for cursor in &mut cursors {
            while left > 0 {
                let limit = usize::try_from(left).unwrap_or(PAGE_RECORDS).min(PAGE_RECORDS);
                let page_wait = if args.follow { wait } else { Duration::ZERO };
                let at = TopicPartition::new(args.topic.as_str(), cursor.partition);
                let page = place.page(&at, cursor.next, limit, page_wait, through.is_some())?;
                let shown = match &mut through {
                    Some(module) => &module.put(cursor.partition, &page.records)?,
                    None => &page.records,
                };
                for record in shown {
                    if let Err(gone) = write_record(record, args.output, out) {
                        return unless_gone(Err(gone));
                    }
                }
                left -= (page.records.len() as u64).min(left);
                let at_end = page.next_offset == cursor.next;
                cursor.next = page.next_offset;
                if at_end || (args.follow && cursor.next >= page.log_end_offset) {
                    break;
                }
            }
        }
        if let Err(gone) = out.flush() {
            return unless_gone(Err(gone));
        }
        if left == 0 || !args.follow {
            return Ok(());
        }
    }
}

/// Where a partition is read next.
#[derive(Debug, PartialEq, Eq)]
struct Cursor {
    partition: PartitionId,
    next: Offset,
}

fn cursors(topics: &[TopicView], args: &Args) -> Result<Vec<Cursor>> {
    let Some(topic) = topics.iter().find(|t| t.topic == args.topic) else {
        let names: Vec<_> = topics.iter().map(|t| t.topic.as_str()).collect();
        return Err(mistake(format!("there is no topic {:?}; there are {}", args.topic, names.join(", "))));
    };
    let wanted = topic.partitions.iter().filter(|p| args.partition.is_none_or(|wanted| wanted == p.partition));
    let cursors: Vec<Cursor> = wanted
        .map(|p| {
            let next = match args.offset {
                From::Start => p.log_start_offset,
                From::End => p.log_end_offset,
                From::At(offset) => offset,
            };
            Cursor { partition: p.partition, next }
        })
        .collect();
    match args.partition {
        Some(wanted) if cursors.is_empty() => {
            let partitions = counted(topic.partitions.len() as u64, "partition");
            Err(mistake(format!("{} has {partitions}, none of number {wanted}", args.topic)))
        }
        _ => Ok(cursors),
    }
}

/// A record on one line.
pub fn write_record(record: &RecordView, output: Output, out: &mut dyn Write) -> io::Result<()> {
    let key = record.key.as_ref().map(shown).unwrap_or_default();
    match output {
        Output::Json => {
            serde_json::to_writer(&mut *out, record)?;
            writeln!(out)
        }
        Output::Csv => {
            let mut csv = csv::Writer::from_writer(out);
            csv.write_record([
                &record.partition.to_string(),
                &record.offset.to_string(),
                &record.timestamp_ms.to_string(),
                &key,
                &shown(&record.value),
            ])?;
            csv.flush()
        }
        Output::Text => {
            let (partition, offset, time) = (record.partition, record.offset, iso8601(record.timestamp_ms));
            let key = if key.is_empty() { String::new() } else { format!("{}  ", printable(&key)) };
            writeln!(out, "{partition}/{offset}  {time}  {key}{}", printable(&shown(&record.value)))
        }
    }
}

fn shown(content: &Content) -> String {
    match content {
        Content::Utf8(text) => text.clone(),
        Content::Base64(text) => format!("base64:{text}"),
        // Plain fields: serialization has no failing case.
        Content::Partial(partial) => serde_json::to_string(partial).unwrap_or_default(),
        Content::SourcePosition { source, row } => format!("source {source} row {row}"),
    }
}

#[cfg(test)]
mod tests {
    use clickmill_pipeline::views::status::TopicPartitionView;
    use clickmill_schemas::RunId;

    use super::*;

    fn args(partition: Option<u32>, offset: From) -> Args {
        Args {
            topic: "t".into(),
            partition: partition.map(PartitionId),
            offset,
            limit: None,
            follow: false,
            through: ThroughArgs::default(),
            output: Output::Text,
        }
    }

    fn topics() -> Vec<TopicView> {
        let partition = |p: u32| TopicPartitionView {
            partition: PartitionId(p),
            log_start_offset: Offset(u64::from(p)),
            log_end_offset: Offset(10),
        };
        vec![TopicView {
            topic: "t".into(),
            id: RunId([0; 16]),
            compacted: false,
            retention_max_age_hours: None,
            retention_max_bytes: None,
            partitions: vec![partition(0), partition(1)],
        }]
    }

    #[test]
    fn reading_begins_where_it_was_told_to_in_the_partitions_that_there_are() {
        let next = |a: &Args| cursors(&topics(), a).map(|c| c.iter().map(|c| c.next.0).collect::<Vec<_>>());
        assert_eq!(next(&args(None, From::Start)).unwrap(), [0, 1]);
        assert_eq!(next(&args(Some(1), From::End)).unwrap(), [10]);
        assert_eq!(next(&args(None, From::At(Offset(5)))).unwrap(), [5, 5]);
        let error = next(&args(Some(2), From::Start)).unwrap_err();
        assert_eq!(
            (error.to_string().as_str(), crate::exit::code_of(&error)),
            ("t has 2 partitions, none of number 2", 2)
        );
        let other = Args { topic: "u".into(), ..args(None, From::Start) };
        assert_eq!(next(&other).unwrap_err().to_string(), "there is no topic \"u\"; there are t");
        assert!("-1".parse::<From>().is_err());
    }

    #[test]
    fn a_record_is_one_line_whatever_it_holds() {
        let record = RecordView {
            partition: PartitionId(1),
            offset: Offset(7),
            timestamp_ms: 0,
            key: Some(Content::Base64("/w==".into())),
            value: Content::Utf8("a\n\u{1b}[2J\"b\",".into()),
        };
        let line = |output| {
            let mut out = Vec::new();
            write_record(&record, output, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(line(Output::Text), "1/7  1970-01-01T00:00:00Z  base64:/w==  a\\n\\u{1b}[2J\"b\",\n");
        assert_eq!(line(Output::Csv), "1,7,0,base64:/w==,\"a\n\u{1b}[2J\"\"b\"\",\"\n");
        assert_eq!(serde_json::from_str::<RecordView>(&line(Output::Json)).unwrap(), record);
    }
}
