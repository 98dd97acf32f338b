//! What a sink is: the trait, its errors, what it tells about itself.
//!
//! A sink copies one partition of a topic into a server, idempotently, and keeps its offset in that server together
//! with what it wrote. How it is driven is in `runner.rs`.

use std::collections::BTreeMap;
use std::error::Error;
use std::future::Future;

use clickmill_broker::{BrokerError, Ends, TopicPartition};
use clickmill_schemas::{Offset, PartitionId, RunId};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::hidden::Hidden;
use crate::progress::Progress;
use crate::reader::Chunk;
use crate::servers::ServerError;

/// One kind of sink.
pub trait Sink: Send + 'static {
    /// `postgres`, `redis`, …
    const KIND: &'static str;
    /// How somebody empties its side of the server, for errors that leave nothing else.
    const RESET: &'static str;

    /// Connects, makes what is missing, and says from where to read on. Called again after every failure.
    fn open(&mut self, ends: Ends) -> impl Future<Output = Result<Opened, SinkError>> + Send;

    /// Applies chunks and remembers their end, all or nothing. While it is `behind`, with more to come at once, a sink may
    /// hold them back to join them with the next; it is called without chunks when it should not any longer.
    fn write(&mut self, chunks: &[Chunk], behind: bool) -> impl Future<Output = Result<Written, SinkError>> + Send;

    /// Asked when there is nothing to write: fails where the server is gone or forgot us. What is wrong there and keeps nothing
    /// from being written is returned.
    fn check(&mut self) -> impl Future<Output = Result<Option<String>, SinkError>> + Send;

    /// Tries the one record of a chunk again, which was refused, in a transaction of its own; the offset does not move, and
    /// no letter is written. A failure that passes is no end of the session: [`check`](Self::check) is asked whether it is.
    fn retry(&mut self, chunk: &Chunk) -> impl Future<Output = Result<RetryOutcome, SinkError>> + Send;

    /// Where it tells that its server answers. Of one that does not, a whole call has the time of one answer.
    fn progress(&self) -> Progress {
        Progress::default()
    }

    /// When it may be opened, where its server has asked for peace.
    fn not_before(&self) -> Option<Instant> {
        None
    }
}

/// Where a sink stands after [`Sink::open`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Everything below is in the server.
    pub applied: Offset,
    /// First offset that it must be given: `applied`, or less where it rebuilds what it holds in memory.
    pub read_from: Offset,
    /// The server, without secrets.
    pub server: String,
}

/// What one [`Sink::write`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Everything below is in the server; none where it is held back.
    pub applied: Option<Offset>,
    /// Rows or hashes sent.
    pub rows: u64,
    /// Records or rows that cannot be stored, left out.
    pub skipped: u64,
    /// Why, for the last one of them.
    pub problem: Option<String>,
    /// Those of them that get a dead letter.
    pub refused: Vec<Refused>,
}

/// A record that is refused for its own sake: by the server, or because nothing there can stand for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub offset: Offset,
    /// `sqlstate_23514`, `unreadable`, …
    pub rule: String,
    pub message: String,
}

/// What became of a record that was tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RetryOutcome {
    /// It is in the server now.
    Accepted,
    /// There is nothing to do any more: the server holds it or a newer version, or compaction has taken it since.
    Superseded,
    /// Refused once more.
    Refused { rule: String, message: String },
    /// It says nothing of the record: the server is away or slow, or the sink is not so far. May be tried again later.
    NotNow(String),
}

impl RetryOutcome {
    /// The same without secrets.
    #[must_use]
    pub(crate) fn redacted(self, hidden: &Hidden) -> Self {
        match self {
            Self::Refused { rule, message } => Self::Refused { rule, message: hidden.redact(&message) },
            Self::NotNow(why) => Self::NotNow(hidden.redact(&why)),
            Self::Accepted | Self::Superseded => self,
        }
    }
}

impl Written {
    /// What became of the only record that was written.
    pub(crate) fn outcome(self) -> RetryOutcome {
        match self.refused.into_iter().next() {
            Some(Refused { rule, message, .. }) => RetryOutcome::Refused { rule, message },
            None if self.rows > 0 => RetryOutcome::Accepted,
            None => RetryOutcome::Superseded,
        }
    }

    /// Begins anew, for a batch that did not get to its end: the records that were found to be refused by then. They are left out
    /// without being tried, so that each attempt at a batch of many such records gets further than the one before.
    pub(crate) fn begin_anew(&mut self) -> BTreeMap<Offset, Refused> {
        std::mem::take(self).refused.into_iter().map(|refused| (refused.offset, refused)).collect()
    }

    /// Leaves out a record that gets a dead letter.
    pub fn refuse(&mut self, offset: Offset, rule: impl Into<String>, message: String) {
        self.skip(format!("record at offset {offset}: {message}"));
        self.refused.push(Refused { offset, rule: rule.into(), message });
    }

    /// Counts one that is left out.
    pub fn skip(&mut self, problem: String) {
        self.skipped += 1;
        self.problem = Some(problem);
    }
}

/// What to do where the server holds another run's rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnOtherRun {
    /// Write nothing and say so.
    #[default]
    Refuse,
    /// Delete them.
    Replace,
    /// Leave them where they are, beside ours.
    Keep,
}

/// Why somebody has to decide something before a sink goes on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error(
        "{server} holds the rows of run {held}, and this data directory's run is {ours}; set on_other_run to `replace` to \
         delete them or to `keep` to leave them beside the new ones, or name another server"
    )]
    OtherRun { server: String, held: RunId, ours: RunId },

    #[error(
        "{server} has applied {at} up to offset {applied}, but that log ends at {end}: it has lost records, or it is another \
         log; restore the log, or empty the server's side to fill it anew ({reset})"
    )]
    AheadOfLog { server: String, at: TopicPartition, applied: Offset, end: Offset, reset: &'static str },

    #[error(
        "{server} needs {at} from offset {needed} on, but that log begins at {start}: what lies between would be missing; \
         raise the log's retention, and empty the server's side to begin anew ({reset})"
    )]
    BehindLog { server: String, at: TopicPartition, needed: Offset, start: Offset, reset: &'static str },

    #[error(
        "{server} has schema version {found}, this program knows up to {known}: use the newer clickmill, or another database"
    )]
    NewerSchema { server: String, found: i64, known: i64 },
}

/// Any failure of a sink.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// Passes when somebody decides; nothing is written until then.
    #[error(transparent)]
    Refused(#[from] Refusal),

    /// Passes when the configuration is another.
    #[error("{0}")]
    Config(String),

    /// Passes by itself: tried again with growing waits.
    #[error("{doing}: {source}")]
    Unavailable { doing: &'static str, source: Box<dyn Error + Send + Sync> },

    #[error(transparent)]
    Broker(#[from] BrokerError),

    #[error(transparent)]
    Server(#[from] ServerError),
}

impl SinkError {
    /// Wraps what a driver says, with its causes.
    pub fn unavailable(doing: &'static str, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Unavailable { doing, source: source.into() }
    }

    /// What becomes of the sink.
    #[must_use]
    pub const fn fate(&self) -> Fate {
        match self {
            Self::Refused(_) => Fate::Refused,
            Self::Config(_) => Fate::Failed,
            Self::Unavailable { .. } => Fate::Retry,
            Self::Broker(BrokerError::Closed) => Fate::Failed,
            Self::Broker(_) => Fate::Retry,
            Self::Server(e) if e.is_passing() => Fate::Retry,
            Self::Server(_) => Fate::Failed,
        }
    }

    /// The message with all its causes on one line.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(e) = cause {
            let more = e.to_string();
            if !text.ends_with(&more) {
                text = format!("{text}: {more}");
            }
            cause = e.source();
        }
        text
    }
}

/// See [`SinkError::fate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Retry,
    Refused,
    Failed,
}

/// What a sink is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SinkState {
    /// Connecting for the first time.
    Starting,
    Running,
    /// The server is away; it is tried again.
    Retrying,
    /// Somebody has to decide something; see the last error.
    Refused,
    /// The configuration has to change; see the last error.
    Failed,
    Stopped,
}

/// What a sink tells about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinkStatus {
    pub name: String,
    pub kind: String,
    /// What it copies.
    pub topic: String,
    pub partition: PartitionId,
    pub state: SinkState,
    /// Everything below this offset is in the server.
    pub offset: Offset,
    /// Records that are not, as of now.
    pub lag: u64,
    pub rows_written: u64,
    /// Records or rows that the server refused or cannot hold. Each is a dead letter, but for windows that Redis gave up, batches
    /// that nobody can read, and what is refused of the dead letters themselves.
    pub skipped: u64,
    pub retries: u64,
    /// Why it is not running; of one that runs, why it skipped something.
    pub last_error: Option<String>,
    /// Without secrets.
    pub server: Option<String>,
}
