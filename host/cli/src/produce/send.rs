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
use super::input::files::{Print, Source};
use super::input::rows::{Fault, Place, Row, RowReader};
use super::notes::{FileNote, Note, Notes, Turn};
use super::order::{self, CHANGED, Limits, Outlet};
use super::pace::{Pace, Speed};
use super::progress::Progress;
use super::rounds::{Counts, Positions, Round, Rounds, wall_clock_ms};
use super::summary::Summary;
use super::survey::{Cut, Survey, survey};
use super::{Args, Input, Produced, SORT_MEMORY_BYTES, Scratch, dead, lines};
use crate::exit::mistake;
use crate::output::counted;

/// Rounds that wait for the destination.
const QUEUED_ROUNDS: usize = 4;
/// Bytes that the destination is given at a time, where that many wait.
const GATHER_BYTES: usize = 2 << 20;

/// Input of which everything is known that has to be.
pub struct Prepared {
    input: Input,
    max_line_bytes: usize,
    /// None for a stream, which is not known again.
    identity: Option<u64>,
    survey: Survey,
}

impl Prepared {
    /// Where a file is damaged and nothing else is left to send, in words.
    pub fn hopeless(&self) -> Option<String> {
        let cut = self.survey.cut.as_ref().filter(|_| self.survey.prints.is_empty())?;
        Some(cut_text(cut, self.input.sources(), 0))
    }

    /// The files whose rows are sent.
    fn sound(&self) -> &[Source] {
        &self.input.sources()[..self.survey.prints.len()]
    }

    fn note(&self, source: u64, partitions: u32) -> Note {
        let file = |(file, print): (&Source, &Print)| FileNote { path: file.full_path(), print: *print };
        Note {
            source,
            max_line_bytes: self.max_line_bytes,
            partitions: Some(partitions),
            files: self.sound().iter().zip(&self.survey.prints).map(file).collect(),
            cut: self.survey.cut.as_ref().is_some_and(|cut| !cut.damage.corrupt),
        }
    }
}

/// Looks through files once, before anything is sent.
///
/// # Errors
/// A mistake where a file is missing or has other columns.
pub fn prepare(input: Input, max_line_bytes: usize) -> anyhow::Result<Prepared> {
    let read = Arc::default();
    let survey = match &input {
        Input::Csv(sources) => {
            let _shown = byte_progress("counting", sources, &read)?;
            survey(sources, max_line_bytes, &read)?
        }
        Input::Jsonl(sources) => {
            let _shown = byte_progress("looking", sources, &read)?;
            let (mut prints, found) = chunks::look(sources, &read)?;
            let cut = found.map(|(place, damage)| Cut { place, damage });
            prints.truncate(cut.as_ref().filter(|cut| cut.damage.corrupt).map_or(prints.len(), |cut| cut.place.file));
            Survey { prints, cut, ..Survey::default() }
        }
        Input::Stream => Survey::default(),
    };
    // Besides the contents, what decides the rows' numbers: the version of their order, and what is a row.
    let kind = match input {
        Input::Csv(_) => Some(0),
        Input::Jsonl(_) => Some(1),
        Input::Stream => None,
    };
    let identity = kind.map(|kind| {
        let mut decisive = vec![2, kind];
        decisive.extend_from_slice(&Print::of_all(&survey.prints).to_be_bytes());
        twox_hash::XxHash3_64::oneshot(&decisive)
    });
    Ok(Prepared { input, max_line_bytes, identity, survey })
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
/// A mistake where some of it was sent before and `args` do not say what to do about it.
pub fn send(
    prepared: Prepared,
    args: &Args,
    scratch: &Scratch,
    notes: &Notes,
    destination: &mut dyn Destination,
) -> anyhow::Result<Produced> {
    let Begin { source, positions, turn: _held_to_the_end } = begin_at(&prepared, args, notes, destination)?;
    let (round_sender, rounds) = sync_channel(QUEUED_ROUNDS);
    let (spare_sender, spare) = sync_channel(QUEUED_ROUNDS * 64);
    let pace = Pace::new(args.speed, args.rate.map(f64::from), Instant::now());
    let mut maker = Rounds::new(source, positions, pace, round_sender, spare);

    let total = prepared.identity.and(Some(prepared.survey.rows())).filter(|rows| *rows > 0);
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
struct Begin {
    source: u64,
    positions: Positions,
    /// Nobody else sends it as long as this is held.
    turn: Option<Turn>,
}

fn begin_at(prepared: &Prepared, args: &Args, notes: &Notes, to: &mut dyn Destination) -> anyhow::Result<Begin> {
    let none = Positions { events: vec![None; to.partitions() as usize], dead_letters: vec![None] };
    let Some(identity) = prepared.identity.filter(|_| !args.again) else {
        // Another source each time.
        let mut unique = prepared.identity.unwrap_or_default().to_be_bytes().to_vec();
        unique.extend_from_slice(&wall_clock_ms().to_be_bytes());
        unique.extend_from_slice(&std::process::id().to_be_bytes());
        let source = twox_hash::XxHash3_64::oneshot(&unique);
        if prepared.identity.is_some() {
            notes.write(&prepared.note(source, to.partitions()))?;
        }
        return Ok(Begin { source, positions: none, turn: None });
    };
    let _deciding = notes.decide()?;
    let Some(turn) = notes.turn(identity)? else {
        return Err(mistake("these files are being produced by another process: wait for its end"));
    };
    let mut positions = to.positions(identity)?;
    if positions.events.len() != none.events.len() {
        bail!(
            "the topic has got partitions just now, {} and then {}: start again",
            none.events.len(),
            positions.events.len()
        );
    }
    if positions == none {
        for (other, relation, name) in notes.overlap(identity, prepared.sound(), &prepared.survey.prints)? {
            // A note is written before the first row is sent, and perhaps none was, and none will be.
            if notes.turn(other)?.is_none() || to.positions(other)? != none {
                return Err(mistake(relation.refusal(&name)));
            }
        }
        if args.resume {
            eprintln!("nothing of these files was sent before: all of it is sent now");
        }
    } else if !args.resume {
        return Err(mistake(
            "these files were produced before, wholly or in part: --resume sends what is missing, --again everything \
             once more",
        ));
    } else if let Some(begun) = notes.of(identity)?.map(|note| note.max_line_bytes)
        && begun != prepared.max_line_bytes
    {
        return Err(mistake(format!(
            "these files were begun with --max-line-bytes {begun}, which decides which lines are rows: go on with the same"
        )));
    }
    if positions != none
        && let Some(begun) = notes.of(identity)?.and_then(|note| note.partitions)
    {
        // Spread over others, rows that are there would not be found, and be sent once more.
        positions.events.truncate(begun as usize);
    }
    notes.write(&prepared.note(identity, positions.events.len() as u32))?;
    Ok(Begin { source: identity, positions, turn: Some(turn) })
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
            let sound = prepared.sound();
            let (chunks, reader) = chunks::read(scope, sound.to_vec(), prepared.max_line_bytes, Arc::default());
            let mut read = lines::send_all(&chunks, sound, prepared.max_line_bytes, needs_ts, rounds);
            drop(chunks);
            reader.join().map_err(|_| anyhow::anyhow!("the reading thread panicked"))??;
            read.cut = read.cut.or_else(|| prepared.survey.cut.clone());
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
        sources: prepared.sound(),
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
    let mut flow = reread(prepared, |rows| order::dated(rows, survey, &limits, &mut dater))?;
    if flow.is_continue() && survey.undated > 0 {
        flow = reread(prepared, |rows| order::undated(rows, &mut dater))?;
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
    prepared: &Prepared,
    with: impl FnOnce(&mut RowReader<'_>) -> anyhow::Result<ControlFlow<()>>,
) -> anyhow::Result<ControlFlow<()>> {
    std::thread::scope(|scope| {
        let sources = prepared.sound();
        let (chunks, reader) = chunks::read(scope, sources.to_vec(), prepared.max_line_bytes, Arc::default());
        let mut rows = RowReader::new(chunks, sources, prepared.max_line_bytes);
        let flow = with(&mut rows);
        drop(rows);
        let prints = reader.join().map_err(|_| anyhow::anyhow!("the reading thread panicked"))?;
        let flow = flow?;
        if flow.is_continue() && prints?.as_ref() != Some(&prepared.survey.prints) {
            bail!(CHANGED);
        }
        Ok(flow)
    })
}

fn cut_text(cut: &Cut, sources: &[Source], before: u64) -> String {
    let Place { file, line, byte } = cut.place;
    let (name, why) = (&sources[file].name, &cut.damage.why);
    let before = counted(before, "line");
    if cut.damage.corrupt {
        return format!(
            "{name} is damaged, which shows at line {line}, byte {byte} of its contents: {why}. What was read of it up to \
             there need not be what was written, so nothing of it was sent ({before} of the files before it were): restore \
             it from a copy"
        );
    }
    format!("{name} cannot be read past line {line}, byte {byte} of its contents: {why}; {before} before it were sent")
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
        // With all its fields there, a row whose hour cannot be read is rejected for that.
        self.writer.write(row, ts_ms.unwrap_or(0), &mut self.value);
        Ok(self.rounds.push(partition, ts_ms, &mut self.value))
    }

    fn bad(&mut self, place: Place, raw: &[u8], fault: Fault) -> anyhow::Result<ControlFlow<()>> {
        let (rule, bytes) = match fault {
            Fault::TooLong(bytes) => (dead::LINE_TOO_LONG, bytes),
            _ => (dead::CSV_COLUMNS, raw.len() as u64),
        };
        let (file, line) = (&self.sources[place.file].name, place.line);
        Ok(self.rounds.push_dead_letter(|from| dead::letter((file, line, from), raw, bytes, rule, fault.to_string())))
    }
}
