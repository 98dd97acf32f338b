//! Reading, formatting and appending, side by side: a thread reads and decompresses, one makes rounds, this one hands
//! them to the destination.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Instant;

use anyhow::{Context as _, bail};
use clickmill_broker::partitioner::partition_for;
use clickmill_schemas::record::RecordSetBuilder;

use super::destination::Destination;
use super::event::{EventWriter, Value};
use super::hour::EpochHour;
use super::input::chunks;
use super::input::columns::ID;
use super::input::files::Source;
use super::input::rows::{Fault, Place, Row, RowReader};
use super::order::{self, CHANGED, Limits, Outlet};
use super::pace::{Pace, Speed};
use super::progress::Progress;
use super::rounds::{Counts, Positions, Round, Rounds, wall_clock_ms};
use super::summary::Summary;
use super::survey::{Cut, Survey, survey};
use super::{Args, Input, Produced, SORT_MEMORY_BYTES, Scratch, dead, lines};
use crate::exit::mistake;

/// Rounds that wait for the destination.
const QUEUED_ROUNDS: usize = 4;
/// Bytes that the destination is given at a time, where that many wait.
const GATHER_BYTES: usize = 2 << 20;

/// Input of which everything is known that has to be.
pub struct Prepared {
    input: Input,
    max_line_bytes: usize,
    /// Of the contents and of what decides the rows' numbers; none for a stream.
    fingerprint: Option<u64>,
    survey: Survey,
}

/// Looks through files once, before anything is sent.
///
/// # Errors
/// A mistake where a file is missing or has other columns.
pub fn prepare(input: Input, max_line_bytes: usize) -> anyhow::Result<Prepared> {
    let read = Arc::default();
    let (survey, contents) = match &input {
        Input::Csv(sources) => {
            let _shown = byte_progress("counting", sources, &read)?;
            let survey = survey(sources, max_line_bytes, &read)?;
            let contents = survey.fingerprint;
            (survey, Some(contents))
        }
        Input::Jsonl(sources) => {
            let _shown = byte_progress("looking", sources, &read)?;
            (Survey::default(), Some(chunks::fingerprint(sources, &read)?))
        }
        Input::Stream => (Survey::default(), None),
    };
    // The limit decides which lines are rows, so it decides their numbers. The first byte is the version of the order.
    let fingerprint = contents.map(|contents| {
        let mut decisive = vec![1];
        decisive.extend_from_slice(&contents.to_be_bytes());
        decisive.extend_from_slice(&(max_line_bytes as u64).to_be_bytes());
        twox_hash::XxHash3_64::oneshot(&decisive)
    });
    Ok(Prepared { input, max_line_bytes, fingerprint, survey })
}

fn byte_progress(what: &str, sources: &[Source], read: &Arc<AtomicU64>) -> anyhow::Result<Progress> {
    let mut bytes = 0;
    for source in sources {
        bytes += source.bytes()?;
    }
    let read = Arc::clone(read);
    Ok(Progress::new(what, "bytes", Some(bytes), move || read.load(Ordering::Relaxed)))
}

/// Sends what `prepared` has.
///
/// # Errors
/// A mistake where the same contents were sent before and `args` do not say what to do about it.
pub fn send(
    prepared: Prepared,
    args: &Args,
    scratch: &Scratch,
    destination: &mut dyn Destination,
) -> anyhow::Result<Produced> {
    let (source, positions) = begin_at(prepared.fingerprint, args, destination)?;
    let (round_sender, rounds) = sync_channel(QUEUED_ROUNDS);
    let (spare_sender, spare) = sync_channel(QUEUED_ROUNDS * 64);
    let pace = Pace::new(args.speed, args.rate.map(f64::from), Instant::now());
    let mut maker = Rounds::new(source, positions, pace, round_sender, spare);

    let total = prepared.fingerprint.and(Some(prepared.survey.rows())).filter(|rows| *rows > 0);
    let sent = Arc::new(AtomicU64::new(0));
    let shown = Arc::clone(&sent);
    let shown = Progress::new("producing", "rows", total, move || shown.load(Ordering::Relaxed));
    let needs_ts = args.speed != Speed::Max;

    std::thread::scope(|scope| {
        let maker = scope.spawn(move || -> anyhow::Result<(Summary, Counts, Option<String>)> {
            let (summary, cut) = make_rounds(&prepared, needs_ts, scratch, &mut maker)?;
            Ok((summary, std::mem::take(&mut maker.counts), cut))
        });
        let delivered = deliver(source, rounds, destination, &sent, |set| {
            // With enough spare buffers it is simply freed.
            let _ = spare_sender.try_send(set);
        });
        let made = maker.join().map_err(|_| anyhow::anyhow!("the formatting thread panicked"))?;
        drop(shown);
        // Where the destination failed, the maker was stopped by that.
        delivered.context("not everything was sent; after putting it right, go on with --resume")?;
        let (mut summary, counts, cut) = made?;
        summary.rows_sent = counts.sent.iter().sum();
        summary.rows_already_there = counts.already_there;
        summary.sent_by_partition = counts.sent;
        summary.source = format!("{source:016x}");
        Ok(Produced { summary, cut })
    })
}

/// The source that the rows are from, and what of it is there.
fn begin_at(fingerprint: Option<u64>, args: &Args, to: &mut dyn Destination) -> anyhow::Result<(u64, Positions)> {
    let none = Positions { events: vec![None; to.partitions() as usize], dead_letters: vec![None] };
    let Some(fingerprint) = fingerprint.filter(|_| !args.again) else {
        // Another source each time.
        let mut unique = fingerprint.unwrap_or_default().to_be_bytes().to_vec();
        unique.extend_from_slice(&wall_clock_ms().to_be_bytes());
        unique.extend_from_slice(&std::process::id().to_be_bytes());
        return Ok((twox_hash::XxHash3_64::oneshot(&unique), none));
    };
    let positions = to.positions(fingerprint)?;
    if positions.events.len() != none.events.len() {
        bail!("the topic has {} partitions and positions for {}", none.events.len(), positions.events.len());
    }
    if !args.resume && positions != none {
        return Err(mistake(
            "these files were produced before, wholly or in part: --resume sends what is missing, --again everything \
             once more",
        ));
    }
    Ok((fingerprint, positions))
}

/// Hands rounds to the destination until there are no more.
fn deliver(
    source: u64,
    rounds: Receiver<Round>,
    destination: &mut dyn Destination,
    sent: &AtomicU64,
    recycle: impl Fn(RecordSetBuilder),
) -> anyhow::Result<()> {
    let mut spare = Vec::new();
    while let Ok(first) = rounds.recv() {
        let (mut rows, mut bytes) = (0, 0);
        let mut gathered = vec![first];
        loop {
            if let Some(round) = gathered.last() {
                rows += round.events.iter().map(|b| u64::from(b.set.count())).sum::<u64>();
                bytes += round.events.iter().map(|b| b.set.bytes().len()).sum::<usize>();
            }
            match rounds.try_recv() {
                Ok(round) if bytes < GATHER_BYTES => gathered.push(round),
                Ok(round) => {
                    destination.send(source, std::mem::replace(&mut gathered, vec![round]), &mut spare)?;
                    bytes = 0;
                }
                Err(_) => break,
            }
        }
        destination.send(source, gathered, &mut spare)?;
        sent.fetch_add(rows, Ordering::Relaxed);
        spare.drain(..).for_each(&recycle);
    }
    destination.finish()
}

/// Reads the input and makes its rounds; stops early where the destination does.
fn make_rounds(
    prepared: &Prepared,
    needs_ts: bool,
    scratch: &Scratch,
    rounds: &mut Rounds,
) -> anyhow::Result<(Summary, Option<String>)> {
    match &prepared.input {
        Input::Csv(sources) => csv_rounds(sources, prepared, scratch, rounds),
        Input::Jsonl(sources) => std::thread::scope(|scope| {
            let (chunks, reader) = chunks::read(scope, sources.clone(), prepared.max_line_bytes, Arc::default());
            let read = lines::send_all(&chunks, sources, prepared.max_line_bytes, needs_ts, rounds);
            drop(chunks);
            reader.join().map_err(|_| anyhow::anyhow!("the reading thread panicked"))??;
            Ok(finish_lines(read, sources, rounds))
        }),
        Input::Stream => {
            let sources = [Source::file("standard input".as_ref())];
            let chunks = chunks::stream(Box::new(std::io::stdin()), prepared.max_line_bytes);
            let read = lines::send_all(&chunks, &sources, prepared.max_line_bytes, needs_ts, rounds);
            Ok(finish_lines(read, &sources, rounds))
        }
    }
}

fn finish_lines(read: lines::LinesRead, sources: &[Source], rounds: &mut Rounds) -> (Summary, Option<String>) {
    // Nobody takes rounds any more where this breaks, which the destination reports.
    let _ = rounds.flush();
    let summary = Summary {
        rows_read: read.rows,
        error_lines: read.bad_lines,
        blank_lines: read.blank_lines,
        ..Summary::default()
    };
    let sent = read.rows + read.bad_lines;
    (summary, read.cut.map(|cut| cut_text(&cut, sources, sent)))
}

fn csv_rounds(
    sources: &[Source],
    prepared: &Prepared,
    scratch: &Scratch,
    rounds: &mut Rounds,
) -> anyhow::Result<(Summary, Option<String>)> {
    let survey = &prepared.survey;
    let mut dater = Dater {
        survey,
        sources,
        writer: EventWriter::default(),
        value: Value::default(),
        rounds,
        hour: None,
        index: 0,
        rows_of_hour: 0,
        rows: 0,
    };
    let spill_dir = || if survey.in_order { Ok(std::path::Path::new("")) } else { scratch.dir() };
    let limits = Limits { memory_bytes: SORT_MEMORY_BYTES, spill_dir: spill_dir()? };
    let mut flow = reread(sources, prepared, |rows| order::dated(rows, survey, &limits, &mut dater))?;
    if flow.is_continue() && survey.undated > 0 {
        flow = reread(sources, prepared, |rows| order::undated(rows, &mut dater))?;
    }
    let rows = dater.rows;
    if rounds.flush().is_continue() && flow.is_continue() && rows != survey.rows() {
        bail!(CHANGED);
    }
    let summary = Summary {
        rows_read: survey.rows(),
        rows_without_hour: survey.undated,
        error_lines: survey.bad_lines,
        blank_lines: survey.blank_lines,
        ..Summary::default()
    };
    Ok((summary, survey.cut.as_ref().map(|cut| cut_text(cut, sources, survey.rows() + survey.bad_lines))))
}

/// Reads the files once more, and checks that they are what they were.
fn reread(
    sources: &[Source],
    prepared: &Prepared,
    with: impl FnOnce(&mut RowReader<'_>) -> anyhow::Result<ControlFlow<()>>,
) -> anyhow::Result<ControlFlow<()>> {
    std::thread::scope(|scope| {
        let (chunks, reader) = chunks::read(scope, sources.to_vec(), prepared.max_line_bytes, Arc::default());
        let mut rows = RowReader::new(chunks, sources, prepared.max_line_bytes);
        let flow = with(&mut rows);
        drop(rows);
        let fingerprint = reader.join().map_err(|_| anyhow::anyhow!("the reading thread panicked"))?;
        let flow = flow?;
        if flow.is_continue() && fingerprint? != Some(prepared.survey.fingerprint) {
            bail!(CHANGED);
        }
        Ok(flow)
    })
}

fn cut_text(cut: &Cut, sources: &[Source], before: u64) -> String {
    let Place { file, line, byte } = cut.place;
    format!(
        "{} cannot be read past line {line}, byte {byte} of its contents: {}; all {before} lines before it were sent",
        sources[file].name, cut.why
    )
}

/// Gives rows their event time and sends them.
struct Dater<'a> {
    survey: &'a Survey,
    sources: &'a [Source],
    writer: EventWriter,
    value: Value,
    rounds: &'a mut Rounds,
    hour: Option<EpochHour>,
    /// Rows of this hour that came before.
    index: u64,
    rows_of_hour: u64,
    rows: u64,
}

impl Outlet for Dater<'_> {
    fn row(&mut self, row: &Row<'_>, hour: Option<EpochHour>) -> anyhow::Result<ControlFlow<()>> {
        let mut ts_ms = None;
        if let Some(hour) = hour {
            if self.hour != Some(hour) {
                (self.hour, self.index) = (Some(hour), 0);
                self.rows_of_hour = self.survey.hours.get(&hour).context(CHANGED)?.rows;
            }
            if self.index >= self.rows_of_hour {
                bail!(CHANGED);
            }
            ts_ms = Some(hour.event_time_ms(self.index, self.rows_of_hour));
            self.index += 1;
        }
        self.rows += 1;
        let partition = partition_for(row.field(ID), self.rounds.partitions());
        if !self.rounds.next_row(partition) {
            return Ok(ControlFlow::Continue(()));
        }
        self.writer.write(row, ts_ms, &mut self.value);
        Ok(self.rounds.push(partition, ts_ms, &mut self.value))
    }

    fn bad(&mut self, place: Place, raw: &[u8], fault: Fault) -> anyhow::Result<ControlFlow<()>> {
        let rule = if matches!(fault, Fault::TooLong(_)) { dead::LINE_TOO_LONG } else { dead::CSV_COLUMNS };
        let file = &self.sources[place.file].name;
        Ok(self.rounds.push_dead_letter(|| dead::letter(file, place.line, raw, rule, fault.to_string())))
    }
}
