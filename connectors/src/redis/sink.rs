//! Writes windows into Redis: each hash by version, and after them the sink's own state.

use std::time::{Duration, Instant};

use clickmill_broker::Ends;
use clickmill_schemas::Offset;
use futures_util::future::join_all;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, RedisError, Script};

use super::RedisOptions;
use super::hash::{Span, version_key};
use super::link::{connect, unavailable};
use super::live::{Change, LiveWindows};
use super::remove::{Of, remove, remove_windows};
use super::state::{FORMAT, State};
use crate::endpoint::Endpoint;
use crate::letters::Letters;
use crate::reader::Chunk;
use crate::sink::{OnOtherRun, Opened, Refusal, Refused, RetryOutcome, Sink, SinkError, Written};
use crate::windows::{Terms, WindowBatch};
use crate::{RunInfo, Runs, SinkSource};

const DOING: &str = "write windows";
/// Bytes of commands that are on their way at once, about.
const IN_FLIGHT_BYTES: usize = 1 << 20;
/// Fewer than half of the arguments that Redis takes in one call.
const MOST_PAIRS: usize = 250_000;

/// While there is more to read, windows wait this long for what else comes to them (all partitions write to a window).
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// And no more of them than this.
const MOST_WAITING: usize = 1_000;

/// Writes windows into Redis.
pub struct RedisSink {
    options: RedisOptions,
    endpoint: Endpoint,
    run: RunInfo,
    runs: Runs,
    letters: Letters,
    write: Script,
    advance: Script,
    session: Option<Session>,
}

struct Session {
    connection: MultiplexedConnection,
    live: LiveWindows,
    terms: Terms,
    /// None while the state is not there yet.
    stored: Option<Offset>,
    /// Everything below is in `live`.
    read: Offset,
    /// Windows of a run that ours has replaced may be there still.
    others: bool,
    wrote: Instant,
    /// They wait for their letters.
    refused: Vec<Refused>,
}

impl Session {
    /// What is in memory is less than what is in Redis: no sum of it is to be written, or to be taken for a newer one.
    fn is_rebuilding(&self) -> bool {
        self.stored.is_some_and(|stored| self.read < stored)
    }
}

impl RedisSink {
    pub(super) fn new(options: RedisOptions, endpoint: Endpoint, source: &SinkSource, letters: Letters) -> Self {
        let (run, runs) = (source.run.clone(), source.runs.clone());
        let (write, advance) = (Script::new(include_str!("write.lua")), Script::new(include_str!("advance.lua")));
        Self { options, endpoint, run, runs, letters, write, advance, session: None }
    }

    /// The state that belongs to our run, after what the policy asks for.
    async fn claim(&self, connection: &mut MultiplexedConnection, server: &str) -> Result<Option<State>, SinkError> {
        let key = self.options.state_key();
        let Some(state) = State::load(connection, &key, server).await? else {
            return Ok(None);
        };
        if state.run == self.run.id {
            return Ok(Some(state));
        }
        match self.options.on_other_run {
            // Window by window, ours come in the place of its own; what is left expires.
            _ if self.run.replaced.contains(&state.run) => {}
            OnOtherRun::Refuse => {
                let server = server.to_owned();
                return Err(Refusal::OtherRun { server, held: state.run, ours: self.run.id }.into());
            }
            OnOtherRun::Replace => remove_windows(connection).await?,
            OnOtherRun::Keep => {}
        }
        redis::cmd("DEL").arg(key).exec_async(connection).await.map_err(unavailable("take over"))?;
        Ok(None)
    }

    /// Writes all windows that wait, then letters for what was refused, then how far we are. Each window is written for itself,
    /// in one slot of a cluster; what a crash leaves half done is written again by version.
    async fn flush(&self, session: &mut Session, written: &mut Written) -> Result<(), SinkError> {
        self.write_changes(session, written).await?;
        let Session { connection, live, terms, stored, read, others, wrote, refused } = session;
        refused.extend(written.refused.iter().cloned());
        // Read again after a restart, what lies below has its letter.
        refused.retain(|one| stored.is_none_or(|stored| one.offset >= stored));
        self.letters.write(refused).await?;
        refused.clear();
        let end = *read;
        let rebuild_from = live.rebuild_from(end);
        let memory = live.memory(terms.as_of(rebuild_from).clone());
        let memory = serde_json::to_string(&memory).map_err(|e| SinkError::unavailable(DOING, e))?;
        let moved: i64 = redis::cmd("EVALSHA")
            .arg(self.advance.get_hash())
            .arg(1)
            .arg(self.options.state_key())
            .arg(self.run.id.to_string())
            .arg(stored.map_or_else(String::new, |offset| offset.to_string()))
            .arg(&["format", &FORMAT.to_string()])
            .arg(&["run", &self.run.id.to_string()])
            .arg(&["offset", &end.to_string()])
            .arg(&["rebuild_from", &rebuild_from.to_string()])
            .arg(&["memory", &memory])
            .query_async(connection)
            .await
            .map_err(unavailable(DOING))?;
        if moved != 1 {
            let why = "the sink's state is not what it was: Redis was flushed, or another process writes here";
            return Err(SinkError::unavailable(DOING, why));
        }
        *stored = Some(end);
        *wrote = Instant::now();
        if *others && end >= self.run.complete_at {
            remove(connection, Of::OthersThan(self.run.id)).await?;
            *others = false;
        }
        Ok(())
    }

    /// Writes the windows that wait, many at once.
    async fn write_changes(&self, session: &mut Session, written: &mut Written) -> Result<(), SinkError> {
        let mut commands = session
            .live
            .changes(written)
            .into_iter()
            .filter_map(|change| self.command(&change, session.read, written))
            .collect::<Vec<_>>()
            .into_iter()
            .peekable();
        while commands.peek().is_some() {
            let mut bytes = 0;
            let some = std::iter::from_fn(|| {
                bytes += commands.peek()?.bytes;
                if bytes > IN_FLIGHT_BYTES + commands.peek()?.bytes { None } else { commands.next() }
            });
            let sent = some.map(|Sent { command, newest, .. }| {
                let mut connection = session.connection.clone();
                async move { (command.query_async::<i64>(&mut connection).await, newest) }
            });
            for (answer, newest) in join_all(sent).await {
                match (answer, newest) {
                    (Ok(changed), Some(_)) => written.rows += u64::from(changed > 0),
                    (Ok(_), None) => {}
                    (Err(e), Some(newest)) if blames_window(&e) => {
                        let message = SinkError::unavailable(DOING, e).chain();
                        written.refuse(newest, "redis_wrongtype", message);
                    }
                    (Err(e), _) => return Err(unavailable(DOING)(e)),
                }
            }
        }
        Ok(())
    }

    /// The command that makes a change; none where no command can.
    fn command(&self, change: &Change, version: Offset, written: &mut Written) -> Option<Sent> {
        let (Change::Write(span, ..) | Change::Remove(span)) = change;
        let key = span.key()?;
        match change {
            Change::Remove(_) => {
                let mut command = redis::cmd("DEL");
                command.arg(&key).arg(version_key(&key));
                Some(Sent { bytes: key.len(), command, newest: None })
            }
            Change::Write(_, fields, newest) if fields.pairs.len() > MOST_PAIRS => {
                let message = format!("{key} has {} keys, more than one call can carry", fields.pairs.len());
                written.refuse(*newest, "redis_arguments", message);
                None
            }
            Change::Write(span, fields, newest) => {
                let mut command = redis::cmd("EVALSHA");
                command.arg(self.write.get_hash()).arg(2).arg(&key).arg(version_key(&key));
                command.arg(self.run.id.to_string()).arg(version.0).arg(Span::ttl_s(*span)).arg(&fields.lower_bound);
                for (prefix, values) in &fields.pairs {
                    command.arg(prefix).arg(values);
                }
                let bytes = fields.pairs.iter().map(|(prefix, values)| prefix.len() + values.len() + 16).sum();
                Some(Sent { bytes, command, newest: Some(*newest) })
            }
        }
    }
}

/// A command for one window.
struct Sent {
    command: Cmd,
    bytes: usize,
    /// Where the newest of its partials lies; none where it is removed.
    newest: Option<Offset>,
}

/// Somebody has put something else in a window's place. Whatever else the server says is no window's fault.
fn blames_window(error: &RedisError) -> bool {
    error.code() == Some("WRONGTYPE") || error.detail().is_some_and(|detail| detail.contains("WRONGTYPE"))
}

impl Sink for RedisSink {
    const KIND: &'static str = "redis";
    const RESET: &'static str = "FLUSHDB";

    async fn open(&mut self, _: Ends) -> Result<Opened, SinkError> {
        self.session = None;
        self.run = (self.runs)()?;
        let url = self.endpoint.redis().await?;
        let server = url.masked();
        let mut connection = connect(&url, &self.options).await?;
        for script in [include_str!("write.lua"), include_str!("advance.lua")] {
            redis::cmd("SCRIPT")
                .arg("LOAD")
                .arg(script)
                .exec_async(&mut connection)
                .await
                .map_err(unavailable("load a script"))?;
        }
        let state = self.claim(&mut connection, &server).await?;
        let stored = state.as_ref().map(|s| s.offset);
        let (applied, read_from, memory) =
            state.map_or_else(Default::default, |s| (s.offset, s.rebuild_from, s.memory));
        let terms = Terms::new(self.run.id, memory.epochs.clone());
        let others = !self.run.replaced.is_empty();
        let live = LiveWindows::new(self.run.partitions, self.options.max_keys, memory);
        self.session = Some(Session {
            connection,
            live,
            terms,
            stored,
            read: read_from,
            others,
            wrote: Instant::now(),
            refused: Vec::new(),
        });
        Ok(Opened { applied, read_from, server })
    }

    async fn write(&mut self, chunks: &[Chunk], behind: bool) -> Result<Written, SinkError> {
        self.run.check(&self.runs)?;
        // Taken out, so that after a failure or a dropped future nothing goes on with half a batch in memory.
        let mut session = self.session.take().ok_or_else(|| SinkError::unavailable("write", "not connected"))?;
        let mut written = Written::default();
        let batch = WindowBatch::read(chunks, &mut session.terms, &mut written);
        session.live.take(&batch, &mut written);
        session.read = session.read.max(batch.end);
        let waiting = session.live.waiting();
        if session.stored.is_some_and(|stored| session.read <= stored) {
            session.live.rebuilt(&mut written);
            written.applied = session.stored;
        } else if !behind || waiting > MOST_WAITING || session.wrote.elapsed() > LONGEST_WAIT {
            self.flush(&mut session, &mut written).await?;
            written.applied = session.stored;
        } else {
            session.refused.extend(written.refused.iter().cloned());
        }
        self.session = Some(session);
        Ok(written)
    }

    async fn check(&mut self) -> Result<Option<String>, SinkError> {
        self.run.check(&self.runs)?;
        let key = self.options.state_key();
        let session = self.session.as_mut().ok_or_else(|| SinkError::unavailable("check", "not connected"))?;
        let offset: Option<u64> = redis::cmd("HGET")
            .arg(key)
            .arg("offset")
            .query_async(&mut session.connection)
            .await
            .map_err(unavailable("check"))?;
        if offset.map(Offset) == session.stored {
            return Ok(None);
        }
        Err(SinkError::unavailable("check", "the sink's state is gone or not what it was: Redis was flushed?"))
    }

    async fn retry(&mut self, chunk: &Chunk) -> Result<RetryOutcome, SinkError> {
        let not_connected = || SinkError::unavailable(DOING, "not connected");
        if self.session.as_ref().ok_or_else(not_connected)?.is_rebuilding() {
            return Ok(RetryOutcome::NotNow("the sums in memory are being made anew after a start".to_owned()));
        }
        let mut session = self.session.take().ok_or_else(not_connected)?;
        let mut written = Written::default();
        let batch = WindowBatch::single(chunk, self.run.id, &mut written);
        if session.live.waiting() > 0 {
            // What is refused of these is not this record's outcome.
            self.flush(&mut session, &mut Written::default()).await?;
        }
        if session.live.take_again(&batch, &mut written) {
            self.write_changes(&mut session, &mut written).await?;
        }
        self.session = Some(session);
        Ok(written.outcome())
    }
}
