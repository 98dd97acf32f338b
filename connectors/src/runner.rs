//! Drives a sink: open, read, write, and after a failure wait and open again, until told to stop.
//!
//! Knows neither PostgreSQL nor Redis. A sink that is down costs nobody anything: its reader stops when the queue is
//! full, and starts again from the sink's own offset.

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use clickmill_broker::{Broker, BrokerError, Ends, TopicPartition};
use clickmill_schemas::Offset;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use crate::backoff::{Backoff, random_byte};
use crate::before::Before;
use crate::hidden::Hidden;
use crate::latency::{SinkFigures, Unconfirmed};
use crate::reader::{Chunk, Reader};
use crate::sink::{Fate, Opened, Refusal, Refused, RetryOutcome, Sink, SinkError, SinkState, SinkStatus, Written};

/// How often an idle sink looks whether its server is still there.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Longest wait for what becomes of a record that is tried again: the sink may be busy with a batch.
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// How a sink is driven.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BatchOptions {
    /// Most bytes of records in one transaction, about. Default 2 MiB. Since 0.1.
    pub max_bytes: usize,
    /// How long a transaction waits for more records, milliseconds. Default 5. Since 0.1.
    pub linger_ms: u64,
    /// Time that a server may take for one answer, milliseconds, before what is under way is given up and tried again. Default
    /// 60000. Since 0.1.
    pub timeout_ms: u64,
}

impl Default for BatchOptions {
    fn default() -> Self {
        Self { max_bytes: 2 << 20, linger_ms: 5, timeout_ms: 60_000 }
    }
}

/// A sink with what drives it.
pub struct SinkService<S> {
    sink: S,
    options: BatchOptions,
    /// What the records go through first.
    before: Option<Before>,
    shared: Arc<Shared>,
    asked: mpsc::Receiver<Ask>,
}

/// A record to be tried again between two batches. Dropped where the sink cannot: then there is no answer.
struct Ask {
    chunk: Chunk,
    answer: oneshot::Sender<RetryOutcome>,
}

/// Tells how a sink is. Cheap to clone.
#[derive(Clone)]
pub struct SinkHandle {
    shared: Arc<Shared>,
    ask: mpsc::Sender<Ask>,
}

struct Shared {
    name: String,
    kind: &'static str,
    broker: Arc<dyn Broker>,
    at: TopicPartition,
    hidden: Hidden,
    made_ms: i64,
    facts: Mutex<Facts>,
}

struct Facts {
    state: SinkState,
    applied: Offset,
    written: Written,
    figures: SinkFigures,
    retries: u64,
    last_error: Option<String>,
    server: Option<String>,
}

impl Shared {
    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SinkHandle {
    /// How it is now. Asks the broker for the log's end, which may block for a moment.
    #[must_use]
    pub fn status(&self) -> SinkStatus {
        let end = self.shared.broker.ends(&self.shared.at).map(|e| e.end);
        let facts = self.shared.facts();
        SinkStatus {
            name: self.shared.name.clone(),
            kind: self.shared.kind.to_owned(),
            topic: self.shared.at.topic.to_string(),
            partition: self.shared.at.partition,
            state: facts.state,
            offset: facts.applied,
            lag: end.map_or(0, |end| end.0.saturating_sub(facts.applied.0)),
            rows_written: facts.written.rows,
            skipped: facts.written.skipped,
            retries: facts.retries,
            last_error: facts.last_error.clone(),
            server: facts.server.clone(),
        }
    }

    /// Counts on where the sink of this name before it ended.
    pub(crate) fn count_on(&self, before: &Self) {
        if before.shared.name != self.shared.name {
            return;
        }
        let (rows, skipped, retries, figures) = {
            let facts = before.shared.facts();
            (facts.written.rows, facts.written.skipped, facts.retries, facts.figures.clone())
        };
        let mut facts = self.shared.facts();
        facts.written.rows += rows;
        facts.written.skipped += skipped;
        facts.retries += retries;
        facts.figures.add(&figures);
    }

    /// What it counts for metrics.
    #[must_use]
    pub fn figures(&self) -> SinkFigures {
        self.shared.facts().figures.clone()
    }

    /// Everything below this offset of the topic is in the server.
    #[must_use]
    pub fn confirmed(&self) -> Offset {
        self.shared.facts().applied
    }

    /// True where it will not write any more: refused, failed or stopped.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        matches!(self.shared.facts().state, SinkState::Refused | SinkState::Failed | SinkState::Stopped)
    }

    /// Tries the one record of `chunk` again, between two batches; none where the sink is not running, or ends meanwhile.
    pub(crate) async fn retry(&self, chunk: Chunk) -> Option<RetryOutcome> {
        if self.shared.facts().state != SinkState::Running {
            return None;
        }
        let asked = async {
            let (answer, answered) = oneshot::channel();
            self.ask.send(Ask { chunk, answer }).await.ok()?;
            answered.await.ok()
        };
        let late = |_| Some(RetryOutcome::NotNow(format!("it is busy: no answer within {ANSWER_TIME:?}")));
        tokio::time::timeout(ANSWER_TIME, asked).await.unwrap_or_else(late)
    }

    /// What it reads.
    #[must_use]
    pub fn source(&self) -> &TopicPartition {
        &self.shared.at
    }
}

impl<S: Sink> SinkService<S> {
    /// A sink that copies `at`; nothing happens before [`run`](Self::run).
    pub fn new(
        name: String,
        sink: S,
        broker: Arc<dyn Broker>,
        at: TopicPartition,
        (options, hidden): (BatchOptions, Hidden),
    ) -> (Self, SinkHandle) {
        let facts = Mutex::new(Facts {
            state: SinkState::Starting,
            applied: Offset(0),
            written: Written::default(),
            figures: SinkFigures::of(&at),
            retries: 0,
            last_error: None,
            server: None,
        });
        let made_ms = Timestamp::now().as_millisecond();
        let shared = Arc::new(Shared { name, kind: S::KIND, broker, at, hidden, made_ms, facts });
        let (ask, asked) = mpsc::channel(1);
        (Self { sink, options, before: None, shared: Arc::clone(&shared), asked }, SinkHandle { shared, ask })
    }

    /// The same behind modules.
    #[must_use]
    pub fn behind(mut self, before: Option<Before>) -> Self {
        self.before = before;
        self
    }

    /// Runs until `shutdown` is done. A transaction in flight is dropped then, which takes it back.
    pub async fn run(mut self, shutdown: impl Future<Output = ()> + Send) {
        let mut shutdown = pin!(shutdown);
        let shared = Arc::clone(&self.shared);
        tokio::select! {
            () = &mut shutdown => {}
            () = async { self.keep_going().await; self.turn_away().await } => {}
        }
        let mut facts = shared.facts();
        if !matches!(facts.state, SinkState::Refused | SinkState::Failed) {
            facts.state = SinkState::Stopped;
        }
    }

    /// Returns when there is nothing to try any more.
    async fn keep_going(&mut self) {
        let mut backoff = Backoff::default();
        loop {
            let Err(error) = self.session(&mut backoff).await;
            let message = self.shared.hidden.redact(&error.chain());
            let state = match error.fate() {
                Fate::Retry => SinkState::Retrying,
                Fate::Refused => SinkState::Refused,
                Fate::Failed => SinkState::Failed,
            };
            tracing::warn!(sink = self.shared.name, ?state, "{message}");
            {
                let mut facts = self.shared.facts();
                facts.state = state;
                facts.last_error = Some(message);
                if state != SinkState::Retrying {
                    return;
                }
                facts.retries += 1;
            }
            let waited = tokio::time::sleep(backoff.next(random_byte()));
            tokio::select! {
                () = waited => {}
                () = self.turn_away() => {}
            }
        }
    }

    /// Leaves everybody who asks without an answer.
    async fn turn_away(&mut self) {
        while self.asked.recv().await.is_some() {}
        std::future::pending().await
    }

    async fn session(&mut self, backoff: &mut Backoff) -> Result<Infallible, SinkError> {
        let ends = ends(Arc::clone(&self.shared)).await?;
        if let Some(until) = self.sink.not_before() {
            tokio::time::sleep_until(until).await;
        }
        let opened = self.within("open", |sink| sink.open(ends)).await?;
        check_position::<S>(&self.shared.at, ends, &opened)?;
        let transform = match &self.before {
            Some(before) => Some(before.transform().await?),
            None => None,
        };
        let (broker, at) = (Arc::clone(&self.shared.broker), self.shared.at.clone());
        let mut reader = Reader::start(broker, at, opened.read_from, transform)?;
        {
            let mut facts = self.shared.facts();
            facts.state = SinkState::Running;
            facts.last_error = None;
            facts.server = Some(self.shared.hidden.redact(&opened.server));
            facts.applied = opened.applied;
        }
        let mut unconfirmed = Unconfirmed::of(&opened, self.shared.made_ms);
        let copies_windows = self.shared.facts().figures.latency.is_some();
        let linger = Duration::from_millis(self.options.linger_ms);
        let (mut held_back, mut told) = (false, None);
        loop {
            let patience = if held_back { linger } else { CHECK_INTERVAL };
            let read = tokio::select! {
                Some(ask) = self.asked.recv() => {
                    self.try_again(ask).await?;
                    continue;
                }
                read = tokio::time::timeout(patience, reader.next()) => read,
            };
            let (chunks, behind) = match read {
                Ok(first) => reader.more(first?, self.options.max_bytes, linger).await,
                Err(_) if held_back => (Vec::new(), false),
                Err(_) => {
                    let problem = self.within("check", |sink| sink.check()).await?;
                    if problem != told {
                        self.tell(problem.clone());
                        told = problem;
                    }
                    backoff.reset();
                    continue;
                }
            };
            if let Some(before) = &mut self.before {
                before.tell(&chunks).await?;
            }
            if copies_windows {
                unconfirmed.take(&chunks);
            }
            let mut written = self.within("write", |sink| sink.write(&chunks, behind)).await?;
            for Refused { offset, rule, message } in chunks.iter().flat_map(|chunk| &chunk.failed) {
                written.skip(format!("record at offset {offset}: {rule}: {message}"));
            }
            backoff.reset();
            held_back = written.applied.is_none();
            self.note(written, &mut unconfirmed);
        }
    }

    /// Tries a record again. What fails and passes by itself is said to who asks, and is no end of what goes on meanwhile unless
    /// the sink is not fit for it any more.
    async fn try_again(&mut self, Ask { chunk, answer }: Ask) -> Result<(), SinkError> {
        if answer.is_closed() {
            return Ok(()); // nobody waits for it any more
        }
        let (outcome, has_failed) = match self.outcome(chunk).await {
            Ok(outcome) => (outcome, false),
            Err(e) if e.fate() == Fate::Retry => (RetryOutcome::NotNow(e.chain()), true),
            Err(e) => return Err(e),
        };
        // Who asked may have gone.
        let _ = answer.send(outcome.redacted(&self.shared.hidden));
        if has_failed { self.within("check", |sink| sink.check()).await.map(drop) } else { Ok(()) }
    }

    async fn outcome(&mut self, chunk: Chunk) -> Result<RetryOutcome, SinkError> {
        let chunk = match &self.before {
            Some(before) => before.again(chunk).await?,
            None => chunk,
        };
        match chunk.failed.first().cloned() {
            Some(Refused { rule, message, .. }) => Ok(RetryOutcome::Refused { rule, message }),
            None => self.within("retry", |sink| sink.retry(&chunk)).await,
        }
    }

    /// Tells what is wrong with a server that takes what it is given, or that nothing is any more.
    fn tell(&self, problem: Option<String>) {
        let problem = problem.map(|problem| self.shared.hidden.redact(&problem));
        if let Some(problem) = &problem {
            tracing::warn!(sink = self.shared.name, "{problem}");
        }
        self.shared.facts().last_error = problem;
    }

    fn note(&self, mut written: Written, unconfirmed: &mut Unconfirmed) {
        written.problem = written.problem.map(|problem| self.shared.hidden.redact(&problem));
        if let Some(problem) = &written.problem {
            let skipped = written.skipped;
            tracing::warn!(sink = self.shared.name, skipped, "{problem}");
        }
        let mut facts = self.shared.facts();
        facts.written.rows += written.rows;
        facts.written.skipped += written.skipped;
        facts.last_error = written.problem.or(facts.last_error.take());
        facts.figures.refused += written.refused.len() as u64;
        facts.applied = facts.applied.max(written.applied.unwrap_or_default());
        let confirmed = unconfirmed.confirmed(facts.applied, Timestamp::now().as_millisecond());
        confirmed.for_each(|age| facts.figures.observe(age));
    }

    /// What `call` comes to, unless the server gives no answer for too long.
    async fn within<'a, T, F>(
        &'a mut self,
        doing: &'static str,
        call: impl FnOnce(&'a mut S) -> F,
    ) -> Result<T, SinkError>
    where
        F: Future<Output = Result<T, SinkError>> + 'a,
    {
        let limit = Duration::from_millis(self.options.timeout_ms);
        let progress = self.sink.progress();
        let mut call = pin!(call(&mut self.sink));
        loop {
            tokio::select! {
                result = &mut call => return result,
                () = progress.seen() => {}
                () = tokio::time::sleep(limit) => {
                    return Err(SinkError::unavailable(doing, format!("no answer within {limit:?}")));
                }
            }
        }
    }
}

async fn ends(shared: Arc<Shared>) -> Result<Ends, SinkError> {
    let ends = tokio::task::spawn_blocking(move || shared.broker.ends(&shared.at)).await;
    Ok(ends.unwrap_or(Err(BrokerError::Closed))?)
}

fn check_position<S: Sink>(at: &TopicPartition, ends: Ends, opened: &Opened) -> Result<(), Refusal> {
    let (server, at) = (opened.server.clone(), at.clone());
    if opened.applied > ends.end {
        return Err(Refusal::AheadOfLog { server, at, applied: opened.applied, end: ends.end, reset: S::RESET });
    }
    if opened.read_from < ends.start && opened.applied > Offset(0) {
        return Err(Refusal::BehindLog { server, at, needed: opened.read_from, start: ends.start, reset: S::RESET });
    }
    Ok(())
}
