//! `clickmill produce`: files of rows or lines into the topic `ad_events_raw`, each row once, in order of event time.
//!
//! [`input`] reads, [`survey`] counts, [`order`] orders, [`event`] writes JSON, [`rounds`] makes batches, and a
//! [`destination`] takes them; [`send`] runs these side by side. Knows nothing of what modules do with an event.

mod dead;
pub mod destination;
mod event;
mod hour;
pub mod input;
mod lines;
mod mended;
mod notes;
mod order;
mod pace;
mod progress;
mod rounds;
mod scratch;
mod send;
mod summary;
mod survey;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clickmill_broker::log::MAX_SYNC_INTERVAL;
use clickmill_broker::{BrokerError, EmbeddedLog, LogOptions};
use clickmill_pipeline::topics::TopicsOptions;

use crate::exit::mistake;
use crate::output::print;
use destination::{Destination, Embedded, Remote};
use input::files::{Kind, Source};
pub use mended::event_of_line;
use notes::Notes;
pub use pace::Speed;
pub use progress::Progress;
use scratch::Scratch;
pub use summary::Summary;

/// A CSV row may become this much longer as JSON, where every byte needs an escape.
const MOST_GROWTH: usize = 6;
/// The names of the columns, and what goes around a record.
const EVENT_OVERHEAD_BYTES: usize = 4 << 10;
/// Bytes of rows that are sorted in memory at a time.
const SORT_MEMORY_BYTES: u64 = 64 << 20;
/// How long a process that has the data directory may take to say where it listens.
const ADDRESS_PATIENCE: Duration = Duration::from_secs(10);

/// Sends files of rows or events into the topic, each once, in order of event time
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  clickmill produce data/raw/train.gz              as fast as it goes
  clickmill produce day1.csv day2.csv --speed 60x  an hour of events a minute
  clickmill produce events.jsonl --rate 20000
  tail -f events.jsonl | clickmill produce - --format jsonl
  clickmill produce data/raw/train.gz --resume     go on after an interruption, without duplicates

CSV rows get their event time from their place in their hour and are sent in its order, whatever their order in the
file. JSON lines are sent as they are. With a host running, the rows go to it; else into the log in the data directory.")]
pub struct Args {
    /// Files of Avazu's 24 columns (.csv) or of events (.jsonl), also compressed (.gz); `-` is standard input
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// What the files are, where their names do not tell
    #[arg(long, value_enum)]
    pub format: Option<Kind>,
    /// Pace by event time: `60x` sends an hour in a minute; `max` does not wait
    #[arg(long, value_name = "FACTOR", default_value = "max")]
    pub speed: Speed,
    /// Send at most N events a second
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub rate: Option<u32>,
    /// Send only what an earlier run with the same files did not
    #[arg(long)]
    pub resume: bool,
    /// Send everything once more, though the same files were sent before (cannot be resumed)
    #[arg(long, conflicts_with = "resume")]
    pub again: bool,
    /// Longer lines go to ad_events_error, with their first bytes [default: as for HTTP, server.max_record_bytes]
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(1024..=1 << 30))]
    pub max_line_bytes: Option<u64>,
}

impl Args {
    /// What to say to someone who ends it before its end.
    #[must_use]
    pub fn interrupted(&self) -> String {
        let stream = self.format == Some(Kind::Jsonl) && self.files.iter().any(|f| f.as_os_str() == "-");
        let words = match stream || self.again {
            true => "what was sent so far stays in the topic",
            false => "what was sent so far stays in the topic; the same command with --resume sends the rest",
        };
        format!("interrupted: {words}")
    }
}

/// Where the topics are.
#[derive(Clone, Debug)]
pub struct Place {
    /// Files for sorting and for standard input go here too.
    pub data_dir: PathBuf,
    pub log_dir: PathBuf,
    pub log: LogOptions,
    pub topics: TopicsOptions,
    /// For a host that asks for one.
    pub token: Option<String>,
    /// Longest line that goes into the topic, unless told otherwise.
    pub max_line_bytes: usize,
}

impl Place {
    /// The longest line of this input that the log can take.
    fn line_limit(&self, asked: Option<u64>, input: &Input) -> anyhow::Result<usize> {
        let growth = if matches!(input, Input::Csv(_)) { MOST_GROWTH } else { 1 };
        let most = self.log.max_batch_bytes.saturating_sub(EVENT_OVERHEAD_BYTES) / growth;
        match asked.map(|asked| asked as usize) {
            Some(asked) if asked > most => Err(mistake(format!(
                "--max-line-bytes {asked}: a line of more than {most} bytes may not fit into the log, whose batches have at \
                 most broker.max_batch_bytes, {}",
                self.log.max_batch_bytes
            ))),
            Some(asked) => Ok(asked),
            None => Ok(self.max_line_bytes.min(most)),
        }
    }
}

/// Sends the files and tells on standard error what it did. `as_json`: and on standard output, for programs.
///
/// # Errors
/// A mistake where a file is missing or is not what it should be, before anything is sent; otherwise where the topics
/// cannot be written, or a file is cut short, after everything before the cut was sent.
pub fn run(args: &Args, place: &Place, as_json: bool) -> anyhow::Result<()> {
    let produced = produce(args, place)?;
    eprintln!("{}", produced.summary.text());
    if as_json {
        print(format_args!("{}\n", serde_json::to_string(&produced.summary)?))?;
    }
    produced.cut.map_or(Ok(()), |cut| Err(anyhow::anyhow!(cut)))
}

/// What was done.
#[derive(Debug)]
pub struct Produced {
    pub summary: Summary,
    /// Where a file could not be read any further, in words.
    pub cut: Option<String>,
}

/// Sends the files.
///
/// # Errors
/// As [`run`], but a cut is no error here.
pub fn produce(args: &Args, place: &Place) -> anyhow::Result<Produced> {
    let begun = Instant::now();
    // Its files have no names outside, or go with it.
    let scratch = Scratch::new(&place.data_dir);
    let input = Input::open(args, &scratch)?;
    let max_line_bytes = place.line_limit(args.max_line_bytes, &input)?;
    let prepared = send::prepare(input, max_line_bytes)?;
    if let Some(cut) = prepared.hopeless() {
        return Ok(Produced { summary: Summary::default(), cut: Some(cut) });
    }
    let mut destination = destination(place)?;
    let notes = Notes::new(&place.data_dir);
    let mut produced = send::send(prepared, args, &scratch, &notes, destination.as_mut())?;
    produced.summary.took(begun.elapsed());
    Ok(produced)
}

/// What to read.
enum Input {
    Csv(Vec<Source>),
    Jsonl(Vec<Source>),
    /// Lines as they come from standard input.
    Stream,
}

impl Input {
    fn sources(&self) -> &[Source] {
        match self {
            Self::Csv(sources) | Self::Jsonl(sources) => sources,
            Self::Stream => &[],
        }
    }

    fn open(args: &Args, scratch: &Scratch) -> anyhow::Result<Self> {
        if args.files.iter().any(|f| f.as_os_str() == "-") {
            return Self::standard_input(args, scratch);
        }
        let sources: Vec<Source> = args.files.iter().map(|f| Source::file(f)).collect();
        let mut kinds = Vec::new();
        for source in &sources {
            source.bytes()?;
            let kind = args.format.or_else(|| source.kind());
            kinds.push(kind.map_or_else(|| source.sniff(), Ok)?);
        }
        if kinds.iter().all(|kind| *kind == Kind::Csv) {
            Ok(Self::Csv(sources))
        } else if kinds.iter().all(|kind| *kind == Kind::Jsonl) {
            Ok(Self::Jsonl(sources))
        } else {
            Err(mistake("some files are CSV, some JSON lines: produce them one after the other"))
        }
    }

    fn standard_input(args: &Args, scratch: &Scratch) -> anyhow::Result<Self> {
        if args.files.len() > 1 {
            return Err(mistake("standard input (`-`) cannot be read together with files"));
        }
        if args.format == Some(Kind::Jsonl) {
            if args.resume {
                return Err(mistake("a stream cannot be resumed: give its lines in a file"));
            }
            return Ok(Self::Stream);
        }
        let spool = scratch.dir()?.join("stdin");
        let source = Source::spooled(&mut std::io::stdin().lock(), &spool)?;
        match args.format.map_or_else(|| source.sniff(), Ok)? {
            Kind::Csv => Ok(Self::Csv(vec![source])),
            Kind::Jsonl => Ok(Self::Jsonl(vec![source])),
        }
    }
}

/// The log itself, or the host that has it open.
fn destination(place: &Place) -> anyhow::Result<Box<dyn Destination>> {
    // Nobody waits for a single row here: fewer syncs leave more time for the rest.
    let options = LogOptions { sync_interval: MAX_SYNC_INTERVAL, ..place.log.clone() };
    match EmbeddedLog::open(&place.log_dir, options) {
        Ok(log) => {
            log.set_holder("clickmill produce")?;
            Ok(Box::new(Embedded::new(Arc::new(log), &place.topics)?))
        }
        Err(BrokerError::Locked { dir, holder }) => {
            let begun = Instant::now();
            let address = loop {
                match host_address(&place.log_dir) {
                    Some(address) => break address,
                    None if begun.elapsed() > ADDRESS_PATIENCE => {
                        return Err(mistake(format!(
                            "{} is in use by {holder}, which does not say where it serves HTTP: stop it, or run it \
                             with server.enabled",
                            dir.display()
                        )));
                    }
                    None => std::thread::sleep(Duration::from_millis(50)),
                }
            };
            let log_dir = place.log_dir.clone();
            let discover = Box::new(move || host_address(&log_dir));
            let remote = Remote::new(address, place.token.clone(), discover, |text| eprintln!("{text}"))?;
            Ok(Box::new(remote))
        }
        Err(e) => Err(e.into()),
    }
}

/// Where the process that has the log open serves HTTP, if it says so.
fn host_address(log_dir: &Path) -> Option<String> {
    let holder = EmbeddedLog::holder(log_dir).ok()??;
    let address = &holder.text[holder.text.find("http://")?..];
    address.split_whitespace().next().map(|a| a.trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests;
