//! Writes windows into Redis: hashes by version, and the sink's own state in the same transaction.

use std::time::{Duration, Instant};

use clickmill_broker::Ends;
use clickmill_schemas::{Offset, RunId};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Pipeline, RedisError, Script};

use super::RedisOptions;
use super::hash::{Span, version_key};
use super::live::{Change, LiveWindows, Memory};
use crate::endpoint::{Endpoint, ServerUrl};
use crate::reader::Chunk;
use crate::sink::{OnOtherRun, Opened, Refusal, Sink, SinkError, Written};
use crate::windows::{Terms, WindowBatch};
use crate::{RunInfo, Runs};

/// Version of what is in the state's fields.
const FORMAT: i64 = 1;
/// Bytes of arguments in one transaction, about: Redis serves nobody else meanwhile.
const TRANSACTION_BYTES: usize = 1 << 20;
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
}

pub(super) fn unavailable(doing: &'static str) -> impl Fn(RedisError) -> SinkError {
    move |e| SinkError::unavailable(doing, e)
}

impl RedisSink {
    pub(super) fn new(options: RedisOptions, endpoint: Endpoint, run: RunInfo, runs: Runs) -> Self {
        let (write, advance) = (Script::new(include_str!("write.lua")), Script::new(include_str!("advance.lua")));
        Self { options, endpoint, run, runs, write, advance, session: None }
    }

    fn state_key(&self) -> String {
        format!("clickmill:sink:{}", self.options.name)
    }

    /// The state that belongs to our run, after what the policy asks for.
    async fn claim(&self, connection: &mut MultiplexedConnection, server: &str) -> Result<Option<State>, SinkError> {
        let key = self.state_key();
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

    /// Writes all windows that wait, and with the last of them how far we are.
    async fn flush(&self, session: &mut Session, written: &mut Written) -> Result<(), SinkError> {
        const DOING: &str = "write windows";
        let Session { connection, live, terms, stored, read, others, wrote } = session;
        let end = *read;
        let mut pipeline = redis::pipe();
        pipeline.atomic();
        let mut bytes = 0;
        for change in live.changes(written) {
            if bytes > TRANSACTION_BYTES {
                pipeline.exec_async(connection).await.map_err(unavailable(DOING))?;
                pipeline.clear();
                pipeline.atomic();
                bytes = 0;
            }
            bytes += self.add(&mut pipeline, &change, end, written);
        }
        let rebuild_from = live.rebuild_from(end);
        let memory = live.memory(terms.as_of(rebuild_from).clone());
        let memory = serde_json::to_string(&memory).map_err(|e| SinkError::unavailable(DOING, e))?;
        pipeline
            .cmd("EVALSHA")
            .arg(self.advance.get_hash())
            .arg(1)
            .arg(self.state_key())
            .arg(self.run.id.to_string())
            .arg(stored.map_or_else(String::new, |offset| offset.to_string()))
            .arg(&["format", &FORMAT.to_string()])
            .arg(&["run", &self.run.id.to_string()])
            .arg(&["offset", &end.to_string()])
            .arg(&["rebuild_from", &rebuild_from.to_string()])
            .arg(&["memory", &memory]);
        let (moved,): (i64,) = pipeline.query_async(connection).await.map_err(unavailable(DOING))?;
        if moved != 1 {
            let why = "the sink's state is not what it was: Redis was flushed, or another process writes here";
            return Err(SinkError::unavailable(DOING, why));
        }
        *stored = Some(end);
        *wrote = Instant::now();
        if *others && end >= self.run.complete_at {
            remove_others(connection, self.run.id).await?;
            *others = false;
        }
        Ok(())
    }

    /// Adds one change to a transaction; the bytes that it adds.
    fn add(&self, pipeline: &mut Pipeline, change: &Change, version: Offset, written: &mut Written) -> usize {
        let (Change::Write(span, _) | Change::Remove(span)) = change;
        let Some(key) = span.key() else {
            written.skip(format!("the window at {} ms has no four-digit year", span.start_ms));
            return 0;
        };
        match change {
            Change::Remove(_) => {
                pipeline.cmd("DEL").arg(&key).arg(version_key(&key)).ignore();
                key.len()
            }
            Change::Write(_, fields) if fields.pairs.len() > MOST_PAIRS => {
                written.skip(format!("{key} has {} keys, more than one call can carry", fields.pairs.len()));
                0
            }
            Change::Write(span, fields) => {
                let call = pipeline.cmd("EVALSHA").arg(self.write.get_hash()).arg(2).arg(&key).arg(version_key(&key));
                call.arg(self.run.id.to_string()).arg(version.0).arg(Span::ttl_s(*span)).arg(&fields.lower_bound);
                for (prefix, values) in &fields.pairs {
                    call.arg(prefix).arg(values);
                }
                call.ignore();
                written.rows += 1;
                fields.pairs.iter().map(|(prefix, values)| prefix.len() + values.len() + 16).sum()
            }
        }
    }
}

impl Sink for RedisSink {
    const KIND: &'static str = "redis";
    const RESET: &'static str = "FLUSHDB";

    async fn open(&mut self, _: Ends) -> Result<Opened, SinkError> {
        self.session = None;
        self.run = (self.runs)()?;
        let url = self.endpoint.redis().await?;
        let server = url.masked();
        let mut connection = connect(&url).await?;
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
        self.session =
            Some(Session { connection, live, terms, stored, read: read_from, others, wrote: Instant::now() });
        Ok(Opened { applied, read_from, server })
    }

    async fn write(&mut self, chunks: &[Chunk], behind: bool) -> Result<Written, SinkError> {
        if (self.runs)()?.id != self.run.id {
            return Err(SinkError::other_run());
        }
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
        }
        self.session = Some(session);
        Ok(written)
    }

    async fn check(&mut self) -> Result<(), SinkError> {
        if (self.runs)()?.id != self.run.id {
            return Err(SinkError::other_run());
        }
        let key = self.state_key();
        let session = self.session.as_mut().ok_or_else(|| SinkError::unavailable("check", "not connected"))?;
        let offset: Option<u64> = redis::cmd("HGET")
            .arg(key)
            .arg("offset")
            .query_async(&mut session.connection)
            .await
            .map_err(unavailable("check"))?;
        if offset.map(Offset) == session.stored {
            return Ok(());
        }
        Err(SinkError::unavailable("check", "the sink's state is gone or not what it was: Redis was flushed?"))
    }
}

/// What the sink keeps in Redis about itself.
struct State {
    run: RunId,
    offset: Offset,
    rebuild_from: Offset,
    memory: Memory,
}

impl State {
    async fn load(connection: &mut MultiplexedConnection, key: &str, server: &str) -> Result<Option<Self>, SinkError> {
        const DOING: &str = "read the sink's state";
        let fields: [Option<String>; 5] = redis::cmd("HMGET")
            .arg(key)
            .arg(&["format", "run", "offset", "rebuild_from", "memory"])
            .query_async(connection)
            .await
            .map_err(unavailable(DOING))?;
        let [Some(format), Some(run), Some(offset), Some(rebuild_from), Some(memory)] = fields else {
            return Ok(None);
        };
        let found = format.parse().map_err(|e| SinkError::unavailable(DOING, e))?;
        if found > FORMAT {
            return Err(Refusal::NewerSchema { server: server.to_owned(), found, known: FORMAT }.into());
        }
        Ok(Some(Self {
            run: run.parse().map_err(|e| SinkError::unavailable(DOING, e))?,
            offset: offset.parse().map_err(|e| SinkError::unavailable(DOING, e))?,
            rebuild_from: rebuild_from.parse().map_err(|e| SinkError::unavailable(DOING, e))?,
            memory: serde_json::from_str(&memory).map_err(|e| SinkError::unavailable(DOING, e))?,
        }))
    }
}

/// Whether the server takes us in.
///
/// # Errors
/// As a session's.
pub(crate) async fn answers(url: &ServerUrl) -> Result<(), SinkError> {
    let mut connection = connect(url).await?;
    redis::cmd("PING").exec_async(&mut connection).await.map_err(unavailable("ask Redis"))
}

pub(super) async fn connect(url: &ServerUrl) -> Result<MultiplexedConnection, SinkError> {
    let client = Client::open(url.0.as_str())
        .map_err(|e| SinkError::Config(format!("{url} is no address of a Redis server: {e}")))?;
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(Duration::from_secs(10)))
        .set_response_timeout(Some(Duration::from_secs(30)));
    client.get_multiplexed_async_connection_with_config(&config).await.map_err(unavailable("connect to Redis"))
}

/// Removes the windows that `run` has not written: another one had them, and it has not.
async fn remove_others(connection: &mut MultiplexedConnection, run: RunId) -> Result<(), SinkError> {
    const DOING: &str = "remove another run's windows";
    let (ours, mut cursor) = (run.to_string(), 0u64);
    loop {
        let (next, keys): (u64, Vec<String>) = redis::cmd("SCAN")
            .arg(cursor)
            .arg(&["MATCH", &version_key("metrics:*"), "COUNT", "1000"])
            .query_async(connection)
            .await
            .map_err(unavailable(DOING))?;
        for key in keys {
            let version: Option<String> =
                redis::cmd("GET").arg(&key).query_async(connection).await.map_err(unavailable(DOING))?;
            let of_other = version.is_some_and(|version| !version.starts_with(&ours));
            let hash = key.split_once('{').and_then(|(_, rest)| rest.strip_suffix('}'));
            if let (true, Some(hash)) = (of_other, hash) {
                redis::cmd("DEL").arg(&[hash, &key]).exec_async(connection).await.map_err(unavailable(DOING))?;
            }
        }
        cursor = next;
        if cursor == 0 {
            return Ok(());
        }
    }
}

/// Removes the hashes of all windows and their versions.
async fn remove_windows(connection: &mut MultiplexedConnection) -> Result<(), SinkError> {
    for pattern in ["metrics:*min:*", "clickmill:version:{metrics:*"] {
        let mut cursor = 0u64;
        loop {
            let (next, keys): (u64, Vec<Vec<u8>>) = redis::cmd("SCAN")
                .arg(cursor)
                .arg(&["MATCH", pattern, "COUNT", "1000"])
                .query_async(connection)
                .await
                .map_err(unavailable("replace"))?;
            if !keys.is_empty() {
                redis::cmd("DEL").arg(keys).exec_async(connection).await.map_err(unavailable("replace"))?;
            }
            cursor = next;
            if cursor == 0 {
                break;
            }
        }
    }
    Ok(())
}
