//! `clickmill blame|why-late|why-open`: what became of a record and what judged it, and what holds a window open.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::str::FromStr;
use std::sync::Arc;

use anyhow::Result;
use clickmill_broker::Broker;
use clickmill_pipeline::blame::{Blame, Fate};
use clickmill_pipeline::clock::SystemClock;
use clickmill_pipeline::deployment::control::Deployer;
use clickmill_pipeline::topics::AD_EVENTS_RAW;
use clickmill_pipeline::views::time::{iso8601, parse_time};
use clickmill_pipeline::views::windows::{parse_size, size_name};
use clickmill_pipeline::why::{WhyLate, WhyOpen};
use clickmill_schemas::{Offset, PartitionId};

use crate::TextOrJson;
use crate::config::Config;
use crate::context::{Host, Place};
use crate::exit::mistake;
use crate::output::{print, printable, unless_gone, write_json};
use crate::stack;

/// Records asked for at once.
const PAGE_RECORDS: u64 = 10_000;

/// Says what became of a record, which modules judged it, and by which rule
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  clickmill blame ad_events_raw/0@1234
  clickmill blame ad_events_raw/0@1200..1300 --output json      one object a line

For a range, text is a line a record. Fates: counted, rejected, late, dropped; waiting where it has none yet.")]
pub struct BlameArgs {
    /// The record, or a range of records, of which the end is not meant
    #[arg(value_name = "TOPIC/PARTITION@OFFSET[..END]")]
    place: RecordPlace,
    #[arg(long, value_enum, default_value = "text")]
    output: TextOrJson,
}

/// Records of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordPlace {
    pub partition: PartitionId,
    pub from: Offset,
    /// Exclusive; none for the one record.
    pub to: Option<Offset>,
}

impl FromStr for RecordPlace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let usage = || format!("a record is {AD_EVENTS_RAW}/PARTITION@OFFSET, as in {AD_EVENTS_RAW}/0@17, or …@17..29");
        let (topic, rest) = text.split_once('/').ok_or_else(usage)?;
        let (partition, offsets) = rest.split_once('@').ok_or_else(usage)?;
        if topic != AD_EVENTS_RAW {
            return Err(format!("only the records of {AD_EVENTS_RAW} are judged, not those of {topic:?}"));
        }
        let (from, to) = match offsets.split_once("..") {
            Some((from, to)) => (from, Some(to.parse().map_err(|_| usage())?)),
            None => (offsets, None),
        };
        let (partition, from) = (partition.parse().map_err(|_| usage())?, from.parse().map_err(|_| usage())?);
        if to.is_some_and(|to| to <= from) {
            return Err(format!("{offsets} is no range: its end is not behind its begin"));
        }
        Ok(Self { partition, from, to })
    }
}

/// Who knows: a running host, or the files of a stopped one.
pub enum Teller {
    Host(Host),
    Folder(Box<Deployer>),
}

impl Teller {
    pub fn of(config: &Config) -> Result<Self> {
        match Place::of(config)? {
            Place::Host(host) => Ok(Self::Host(host)),
            Place::Folder(log) => {
                let broker: Arc<dyn Broker> = Arc::new(log);
                let (engine, data_dir) = (stack::engine(config, &config.data_dir)?, config.data_dir.clone());
                let deployer = Deployer::of_folder(broker, engine, config.limits(), Arc::new(SystemClock), data_dir)?;
                Ok(Self::Folder(Box::new(deployer)))
            }
        }
    }

    fn why_late(&self, partition: PartitionId, offset: Offset) -> Result<Option<WhyLate>> {
        match self {
            Self::Host(host) => host.get(&format!("/api/why-late?partition={partition}&offset={offset}")),
            Self::Folder(deployer) => Ok(deployer.why_late(partition, offset)?),
        }
    }

    fn why_open(&self, window: &WindowPlace) -> Result<WhyOpen> {
        match self {
            Self::Host(host) => {
                let size = size_name(window.size_ms);
                host.get(&format!("/api/why-open?size={size}&start={}", window.start_ms))
            }
            Self::Folder(deployer) => Ok(deployer.why_open(window.size_ms, window.start_ms)?),
        }
    }

    /// Tells what became of each record, in order.
    fn blame(&self, partition: PartitionId, from: Offset, to: Offset, tell: &mut dyn FnMut(Blame)) -> Result<()> {
        let host = match self {
            Self::Host(host) => host,
            Self::Folder(deployer) => return Ok(deployer.blame_each(partition, from, to, tell)?),
        };
        let mut next = from;
        while next < to {
            let end = to.min(next.plus(PAGE_RECORDS));
            let page: Vec<Blame> = host.get(&format!("/api/blame?partition={partition}&offset={next}&to={end}"))?;
            let Some(last) = page.last() else { break };
            let told = last.offset.plus(1);
            page.into_iter().for_each(&mut *tell);
            // The log ends here.
            if told < end {
                break;
            }
            next = end;
        }
        Ok(())
    }
}

/// # Errors
/// A mistake for a record that does not exist.
pub fn blame(args: &BlameArgs, config: &Config) -> Result<()> {
    let RecordPlace { partition, from, to } = args.place;
    let teller = Teller::of(config)?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    let Some(to) = to else {
        let mut one = None;
        teller.blame(partition, from, from.plus(1), &mut |blame| one = Some(blame))?;
        let one = &one.ok_or_else(|| mistake(format!("there is no record at offset {from}")))?;
        let written = match args.output {
            TextOrJson::Json => write_json(&mut out, one),
            TextOrJson::Text => story(one, &mut out),
        };
        return unless_gone(written.and_then(|()| out.flush()));
    };
    let mut written = Ok(());
    teller.blame(partition, from, to, &mut |blame| {
        if written.is_ok() {
            written = match args.output {
                TextOrJson::Json => {
                    serde_json::to_writer(&mut out, &blame).map_err(Into::into).and_then(|()| writeln!(out))
                }
                TextOrJson::Text => line(&blame, &mut out),
            };
        }
    })?;
    unless_gone(written.and_then(|()| out.flush()))
}

/// Says why a record was late: which record held the watermark, and by how much it came too late
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  clickmill why-late ad_events_raw/0@1234")]
pub struct WhyLateArgs {
    #[arg(value_name = "TOPIC/PARTITION@OFFSET")]
    place: RecordPlace,
    #[arg(long, value_enum, default_value = "text")]
    output: TextOrJson,
}

/// Says why a window is not final yet: which partitions hold it open, and how far behind they are
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  clickmill why-open 1m@2014-10-21T00:05:00Z
  clickmill why-open 5m@1413849600000 --output json")]
pub struct WhyOpenArgs {
    /// The window, by its size and a time within it
    #[arg(value_name = "SIZE@TIME")]
    window: WindowPlace,
    #[arg(long, value_enum, default_value = "text")]
    output: TextOrJson,
}

/// A window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WindowPlace {
    size_ms: i64,
    start_ms: i64,
}

impl FromStr for WindowPlace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (size, start) = text.split_once('@').ok_or("a window is SIZE@TIME, as in 1m@2014-10-21T00:05:00Z")?;
        Ok(Self { size_ms: parse_size(size)?, start_ms: parse_time(start)? })
    }
}

/// # Errors
/// A mistake for a record that does not exist.
pub fn why_late(args: &WhyLateArgs, config: &Config) -> Result<()> {
    let RecordPlace { partition, from, .. } = args.place;
    let why = Teller::of(config)?.why_late(partition, from)?;
    if args.output == TextOrJson::Json {
        return unless_gone(write_json(&mut io::stdout().lock(), &why));
    }
    let Some(why) = why else {
        return print(format_args!(
            "{AD_EVENTS_RAW}/{partition}@{from} was not late: `clickmill blame` says what became of it\n"
        ));
    };
    let mut text = format!(
        "{AD_EVENTS_RAW}/{partition}@{from} came {} ms too late\n  its event time {}, its pane ends {}, and closes when the \
         watermark has come to {}\n  the watermark was at {}\n",
        why.late_by_ms,
        iso8601(why.ts_ms),
        iso8601(why.pane_end_ms),
        iso8601(why.closes_at_ms),
        iso8601(why.watermark_ms)
    );
    match why.holder {
        Some(holder) => text.push_str(&format!(
            "  {AD_EVENTS_RAW}/{partition}@{} had moved it there: its event time is {}\n",
            holder.offset,
            iso8601(holder.ts_ms)
        )),
        None => text.push_str("  no record of this partition moved it just there: it followed the other partitions\n"),
    }
    print(text)
}

/// # Errors
/// Where the place cannot be read.
pub fn why_open(args: &WhyOpenArgs, config: &Config) -> Result<()> {
    let why = Teller::of(config)?.why_open(&args.window)?;
    if args.output == TextOrJson::Json {
        return unless_gone(write_json(&mut io::stdout().lock(), &why));
    }
    let window = format!("the {} window of {}", why.size, iso8601(why.start_ms));
    if why.final_ {
        return print(format_args!("{window} is final\n"));
    }
    let mut text = format!("{window} is open: it ends {}\n", iso8601(why.end_ms));
    for held in &why.held_by {
        let (at, missing) = match (held.watermark_ms, held.missing_ms) {
            (Some(watermark), Some(missing)) => (iso8601(watermark), format!("{missing} ms short")),
            (Some(watermark), None) => (iso8601(watermark), "nothing closed yet".to_owned()),
            _ => ("no watermark yet".to_owned(), "no event yet".to_owned()),
        };
        let newest = held.newest_offset.map_or_else(|| "none".to_owned(), |offset| offset.to_string());
        text.push_str(&format!(
            "  held by partition {}: watermark {at}, {missing}; newest record {newest}, {} waiting\n",
            held.partition, held.lag
        ));
    }
    print(text)
}

const fn name(fate: Fate) -> &'static str {
    match fate {
        Fate::Counted => "counted",
        Fate::Rejected => "rejected",
        Fate::Late => "late",
        Fate::Dropped => "dropped",
        Fate::Waiting => "waiting",
    }
}

fn line(blame: &Blame, out: &mut dyn Write) -> io::Result<()> {
    let deployment = blame.deployment.map_or_else(|| "-".to_owned(), |id| id.to_string());
    let reason = blame.reason.as_deref().map(printable).unwrap_or_default();
    writeln!(out, "{}@{}  {}  deployment {deployment}  {reason}", blame.partition, blame.offset, name(blame.fate))
}

fn story(blame: &Blame, out: &mut dyn Write) -> io::Result<()> {
    write!(out, "{}/{}@{}: {}", blame.topic, blame.partition, blame.offset, name(blame.fate))?;
    if let Some(reason) = &blame.reason {
        write!(out, ", {}", printable(reason))?;
    }
    writeln!(out)?;
    if let Some(message) = &blame.message {
        writeln!(out, "  {}", printable(message))?;
    }
    if let Some(ts_ms) = blame.ts_ms {
        writeln!(out, "  event time {}", iso8601(ts_ms))?;
    }
    if let Some(watermark_ms) = blame.watermark_ms {
        writeln!(out, "  the watermark was at {}: `clickmill why-late` says more", iso8601(watermark_ms))?;
    }
    for window in &blame.windows {
        writeln!(out, "  counted in the {} window of {}", window.size, iso8601(window.start_ms))?;
    }
    for stage in &blame.stages {
        let digest = stage.sha256.to_string();
        writeln!(
            out,
            "  stage {}: {} {} ({}), deployment {}: {}",
            printable(&stage.stage),
            printable(&stage.name),
            printable(&stage.version),
            &digest[..12],
            stage.deployment,
            printable(&stage.message)
        )?;
        params(&stage.params, out)?;
        if let Some(rule) = &stage.rule {
            writeln!(out, "    rejected it by the rule {}", printable(rule))?;
        }
    }
    Ok(())
}

/// Longest value that is shown whole.
const SHOWN_CHARS: usize = 60;

fn params(params: &BTreeMap<String, String>, out: &mut dyn Write) -> io::Result<()> {
    for (name, value) in params {
        let shown: String = printable(value).chars().take(SHOWN_CHARS).collect();
        let rest = if value.len() > shown.len() { format!("… ({} bytes)", value.len()) } else { String::new() };
        writeln!(out, "    {} = {shown}{rest}", printable(name))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_record_or_a_range_of_the_input_topic() {
        let one: RecordPlace = "ad_events_raw/2@17".parse().unwrap();
        assert_eq!(one, RecordPlace { partition: PartitionId(2), from: Offset(17), to: None });
        let range: RecordPlace = "ad_events_raw/0@5..9".parse().unwrap();
        assert_eq!((range.from, range.to), (Offset(5), Some(Offset(9))));
        for bad in ["", "ad_events_raw", "ad_events_raw/0", "ad_events_raw/x@1", "ad_events_raw/0@9..9", "other/0@1"] {
            assert!(bad.parse::<RecordPlace>().is_err(), "{bad}");
        }
    }
}
