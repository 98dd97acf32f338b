//! Writes files: one for each range of offsets when it is whole, and parts of the last range before, so that readers need
//! not wait for it. A part takes in those before it that are not longer: there are never many.

use std::time::{Duration, Instant};

use clickmill_broker::{Ends, TopicPartition};
use clickmill_schemas::Offset;

use super::ParquetOptions;
use super::held::{Partials, take};
use super::name::{Span, covered};
use super::store::{Folder, Store};
use super::table::{self, Encoded};
use crate::endpoint::Endpoint;
use crate::letters::{Letters, UNREADABLE};
use crate::reader::Chunk;
use crate::sink::{Opened, RetryOutcome, Sink, SinkError, Written};
use crate::windows::{Epochs, Terms, WindowBatch};
use crate::{RunInfo, Runs, SinkSource};

/// Least time between two parts.
const PART_INTERVAL: Duration = Duration::from_secs(1);

/// Writes windows into files.
pub struct ParquetSink {
    options: ParquetOptions,
    endpoint: Endpoint,
    run: RunInfo,
    runs: Runs,
    at: TopicPartition,
    letters: Letters,
    session: Option<Session>,
}

struct Session {
    folder: Folder,
    terms: Terms,
    /// The range that is not whole yet.
    range: Span,
    /// What was read of it.
    held: Partials,
    /// Everything below is in `held`, or in files.
    read: Offset,
    /// Everything below is in files.
    applied: Offset,
    /// Those of `range`, in order.
    parts: Vec<Span>,
    last: Option<Span>,
    wrote: Option<Instant>,
}

impl ParquetSink {
    pub(super) fn new(options: ParquetOptions, endpoint: Endpoint, source: &SinkSource, letters: Letters) -> Self {
        let (run, runs, at) = (source.run.clone(), source.runs.clone(), source.windows.clone());
        Self { options, endpoint, run, runs, at, letters, session: None }
    }

    /// The range that an offset is in.
    const fn range(&self, offset: Offset) -> Span {
        let length = if self.options.offsets_per_file == 0 { 1 } else { self.options.offsets_per_file };
        let from = Offset(offset.0 - offset.0 % length);
        Span { from, to: from.plus(length) }
    }
}

impl Session {
    /// Writes what is held of a span, and removes the parts that it takes the place of.
    async fn put(&mut self, span: Span, written: &mut Written) -> Result<(), SinkError> {
        let (held, epochs) = (std::mem::take(&mut self.held), self.terms.as_of(span.to).clone());
        // Compression takes its time, and the others of this thread theirs.
        let encoding = tokio::task::spawn_blocking(move || {
            let encoded = table::encode(&held, span.from, &epochs);
            (held, encoded)
        });
        const DOING: &str = "encode a file";
        let (held, encoded) = encoding.await.map_err(|e| SinkError::unavailable(DOING, e))?;
        let Encoded { bytes, rows } = encoded.map_err(|e| SinkError::unavailable(DOING, e))?;
        self.held = held;
        self.folder.put(span, bytes).await?;
        // Readers that see both have each row's newest version all the same.
        for part in self.parts.extract_if(.., |part| part.is_within(span)).collect::<Vec<_>>() {
            self.folder.remove(part).await?;
        }
        self.parts.push(span);
        (self.last, self.applied, self.wrote) = (Some(span), span.to, Some(Instant::now()));
        written.rows += rows;
        Ok(())
    }

    /// The part that is to be written, with those before it that are not longer.
    fn part(&self) -> Span {
        let mut part = Span { from: self.applied, to: self.read };
        for before in self.parts.iter().rev().take_while(|before| before.from >= self.range.from) {
            if before.to == part.from && before.len() <= part.len() {
                part.from = before.from;
            }
        }
        part
    }
}

impl Sink for ParquetSink {
    const KIND: &'static str = "parquet";
    const RESET: &'static str = "remove the files of the folder run=… of this run";

    async fn open(&mut self, _: Ends) -> Result<Opened, SinkError> {
        self.session = None;
        self.run = (self.runs)()?;
        let url = self.endpoint.windows_folder();
        let folder = Store::open(&self.options, &url)?.of(self.run.id, &self.at);
        let mut spans = folder.list().await?;
        // What a crash left between a file and the removal of what it has taken in.
        let all = spans.clone();
        for span in spans.extract_if(.., |span| all.iter().any(|other| span.is_within(*other))).collect::<Vec<_>>() {
            folder.remove(span).await?;
        }
        let applied = covered(&spans);
        let range = self.range(applied);
        // Which epochs are known at the range's begin: from what ends there, else from what is before it.
        let base = spans.iter().filter(|span| span.to <= range.from).max_by_key(|span| span.to);
        let epochs = match base {
            Some(base) => {
                let said = table::epochs(folder.get(*base).await?);
                said.map_err(|e| SinkError::unavailable("read a file's epochs (remove it, and it is written anew)", e))?
            }
            None => Epochs::new(),
        };
        let read_from = base.map_or(Offset(0), |base| base.to);
        self.session = Some(Session {
            terms: Terms::new(self.run.id, epochs),
            range,
            held: Partials::default(),
            read: read_from,
            applied,
            parts: spans.iter().copied().filter(|span| range.from <= span.from && span.to <= applied).collect(),
            last: spans.into_iter().filter(|span| span.to == applied).max(),
            wrote: None,
            folder,
        });
        Ok(Opened { applied, read_from, server: url.masked() })
    }

    async fn write(&mut self, chunks: &[Chunk], behind: bool) -> Result<Written, SinkError> {
        self.run.check(&self.runs)?;
        // Taken out, so that after a failure or a dropped future nothing goes on with half a range in memory.
        let mut session = self.session.take().ok_or_else(|| SinkError::unavailable("write", "not connected"))?;
        let mut written = Written::default();
        let end = chunks.last().map_or(session.read, |chunk| chunk.next_offset);
        while session.read < end {
            let range = session.range;
            // What lies before the range only tells epochs.
            let piece = session.read..end.min(if session.read < range.from { range.from } else { range.to });
            let batch = WindowBatch::read_within(chunks, piece.clone(), &mut session.terms, &mut written);
            if piece.start >= range.from {
                take(&mut session.held, batch, &mut written);
            }
            // What lies before `applied` got its letters when that was written.
            written.refused.retain(|one| one.offset >= session.applied);
            self.letters.write(&std::mem::take(&mut written.refused)).await?;
            session.read = piece.end;
            if session.read == range.to {
                if session.applied < range.to {
                    session.put(range, &mut written).await?;
                }
                session.range = self.range(range.to);
                session.held.clear();
                session.parts.clear();
            }
        }
        let waits = session.wrote.is_some_and(|wrote| wrote.elapsed() < PART_INTERVAL);
        if session.applied < session.read && !behind && !waits {
            let part = session.part();
            session.put(part, &mut written).await?;
        }
        written.applied = (session.read <= session.applied).then_some(session.applied);
        self.session = Some(session);
        Ok(written)
    }

    /// What was refused cannot be read, and no file is written for one record.
    async fn retry(&mut self, chunk: &Chunk) -> Result<RetryOutcome, SinkError> {
        let (mut written, mut held) = (Written::default(), Partials::default());
        take(&mut held, WindowBatch::single(chunk, self.run.id, &mut written), &mut written);
        if !held.is_empty() {
            let message = "it can be read now: `clickmill connector rebuild` writes the files anew".to_owned();
            return Ok(RetryOutcome::Refused { rule: UNREADABLE.to_owned(), message });
        }
        Ok(written.outcome())
    }

    async fn check(&mut self) -> Result<Option<String>, SinkError> {
        self.run.check(&self.runs)?;
        match &self.session {
            None => Err(SinkError::unavailable("check", "not connected")),
            Some(Session { last: None, .. }) => Ok(None),
            Some(Session { folder, last: Some(last), .. }) => folder.look(*last).await.map(|()| None),
        }
    }
}
