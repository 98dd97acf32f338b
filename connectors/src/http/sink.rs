//! Which batches there are, and that each is accepted before the next is sent.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use clickmill_broker::{Broker, BrokerError, Ends, TopicPartition};
use clickmill_schemas::Offset;
use clickmill_schemas::record::Malformed;
use reqwest::StatusCode;
use tokio::time::Instant;

use super::HttpOptions;
use super::client::{Answer, Client};
use super::halving::{Halving, within};
use super::position::{Position, PositionFile};
use super::records::{Item, body};
use crate::SinkSource;
use crate::endpoint::ServerUrl;
use crate::letters::Letters;
use crate::reader::Chunk;
use crate::sink::{Opened, RetryOutcome, Sink, SinkError, Written};

/// Longest rest of an endpoint that was found to be at fault.
const LONGEST_REST: Duration = Duration::from_secs(60);

/// Sends records to an endpoint.
pub struct HttpSink {
    options: HttpOptions,
    endpoint: ServerUrl,
    broker: Arc<dyn Broker>,
    at: TopicPartition,
    file: PositionFile,
    /// None where the letters are what is sent: one about a letter would be refused too.
    letters: Option<Letters>,
    /// The server has asked for peace until then.
    not_before: Option<Instant>,
    /// Of the batch that is being sent, where the endpoint took nothing any more.
    halving: Option<Halving>,
    /// Records that were refused since one was taken.
    in_a_row: u64,
    /// What was done but not told yet, since something failed after it.
    written: Written,
    session: Option<Session>,
}

struct Session {
    client: Client,
    position: Position,
    /// As the file has it.
    saved: Option<Position>,
    /// Records behind the position, in order.
    waiting: VecDeque<Item>,
    /// Everything below was read.
    read: Offset,
}

impl HttpSink {
    pub(super) fn new(
        options: HttpOptions,
        endpoint: ServerUrl,
        source: &SinkSource,
        at: TopicPartition,
        file: PositionFile,
    ) -> Self {
        let letters = Letters::of_any_topic(source, &options.name, &at, &options.hidden);
        let (broker, written) = (source.broker.clone(), Written::default());
        let (not_before, halving, in_a_row, session) = (None, None, 0, None);
        Self { options, endpoint, broker, at, file, letters, not_before, halving, in_a_row, written, session }
    }

    /// The end of the next batch: as much as is there and fits.
    fn cut(&self, session: &Session) -> Offset {
        let mut bytes = 0;
        for (count, item) in session.waiting.iter().enumerate() {
            bytes += item.json.len();
            if count == self.options.max_records || (count > 0 && bytes > self.options.batch.max_bytes) {
                return item.offset;
            }
        }
        session.read
    }

    /// Writes the position down where it has changed.
    async fn save(&self, session: &mut Session) -> Result<(), SinkError> {
        if session.saved != Some(session.position) {
            self.file.save(session.position).await?;
            session.saved = Some(session.position);
        }
        Ok(())
    }

    /// Sends all that was read. Of a batch that is being sent since before, the rest may be still to come.
    async fn send_all(&mut self, session: &mut Session) -> Result<(), SinkError> {
        while session.position.offset < session.read {
            let to = session.position.sending_to.unwrap_or_else(|| self.cut(session));
            if to > session.read {
                return Ok(());
            }
            let count = session.waiting.iter().take_while(|item| item.offset < to).count();
            let items: Vec<Item> = session.waiting.drain(..count).collect();
            if !items.is_empty() {
                session.position.sending_to = Some(to);
                self.save(session).await?;
                self.send(session, &items, to).await?;
            }
            (session.position.offset, session.position.sending_to) = (to, None);
        }
        self.save(session).await
    }

    /// Sends one batch; records that are refused are found by halving, and are dead letters before the next is sent. Where the
    /// endpoint takes nothing for a while, it goes on from there.
    async fn send(&mut self, session: &Session, items: &[Item], to: Offset) -> Result<(), SinkError> {
        let all = session.position.offset..to;
        let key = self.key(session, &all);
        let begun = self.halving.take().filter(|begun| begun.key == key);
        let mut halving = begun.unwrap_or_else(|| Halving::new(key, all, self.in_a_row));
        while let Some(part) = halving.next_part() {
            let some = within(items, &part);
            if some.is_empty() {
                continue; // compaction has taken them meanwhile
            }
            match self.request(session, some, &part).await? {
                Answer::Accepted => halving.written.rows += some.len() as u64,
                Answer::NotNow(error, wait) => {
                    self.not_before = (wait > Duration::ZERO).then(|| Instant::now() + wait);
                    halving.put_back(part);
                    self.halving = Some(halving);
                    return Err(error);
                }
                Answer::Refused(status, why) if some.len() == 1 => {
                    halving.refused.clone_from(&why);
                    halving.written.refuse(some[0].offset, rule(status), why);
                }
                Answer::Refused(..) => halving.halve(&part, some[some.len() / 2].offset),
            }
        }
        if halving.nothing_is_taken() {
            // Nobody has any of it: cut anew, a batch has records that came meanwhile too, and one that is taken tells that those
            // before it are at fault.
            self.file.save(Position { sending_to: None, ..session.position }).await?;
            // It has as long a rest as it was asked for.
            self.not_before = Some(Instant::now() + halving.begun.elapsed().min(LONGEST_REST));
            let (count, refused) = (halving.in_a_row(), halving.refused);
            let why = format!("{refused}, to each of {count} records: it is held to be at fault, not they");
            return Err(SinkError::unavailable("send a batch", why));
        }
        let (in_a_row, written) = (halving.in_a_row(), halving.written);
        if let Some(letters) = &self.letters {
            letters.write(&written.refused).await?;
        }
        self.in_a_row = in_a_row;
        self.written.rows += written.rows;
        self.written.skipped += written.skipped;
        self.written.problem = written.problem.or(self.written.problem.take());
        Ok(())
    }

    /// What tells a batch from all others.
    fn key(&self, session: &Session, of: &Range<Offset>) -> String {
        let (topic, name, partition) = (&self.at.topic, &self.options.name, self.at.partition);
        format!("{}/{name}/{topic}/{partition}/{}-{}", session.position.topic_id, of.start, of.end)
    }

    async fn request(&self, session: &Session, items: &[Item], of: &Range<Offset>) -> Result<Answer, SinkError> {
        let (topic, name, partition) = (&self.at.topic, &self.options.name, self.at.partition);
        let ends = [items.first(), items.last()].map(|item| item.map_or(of.start, |item| item.offset).to_string());
        let [first, last] = ends;
        let values = [topic.to_string(), partition.to_string(), first, last, items.len().to_string(), name.clone()];
        session.client.send(body(name, &self.at, items), &self.key(session, of), &values).await
    }
}

/// `http_422`
fn rule(status: StatusCode) -> String {
    format!("http_{}", status.as_u16())
}

/// The records of a chunk, and what is wrong with it where there are not all.
fn items(chunk: &Chunk) -> (Vec<Item>, Option<String>) {
    let mut items = Vec::new();
    let bad = |e: Malformed| format!("batch at offset {}: {e}", chunk.base_offset);
    let records = match chunk.records() {
        Ok(records) => records,
        Err(e) => return (items, Some(bad(e))),
    };
    for record in records {
        match record {
            Ok((offset, record)) => {
                let at_ms = chunk.base_timestamp_ms.saturating_add(record.timestamp_delta_ms);
                items.push(Item::new(offset, at_ms, &record));
            }
            Err(e) => return (items, Some(bad(e))),
        }
    }
    (items, None)
}

impl Sink for HttpSink {
    const KIND: &'static str = "http";
    const RESET: &'static str = "remove the connector's folder in `connectors/offsets` of the data directory";

    async fn open(&mut self, ends: Ends) -> Result<Opened, SinkError> {
        (self.session, self.not_before) = (None, None);
        let (broker, at) = (Arc::clone(&self.broker), self.at.clone());
        let topic = tokio::task::spawn_blocking(move || broker.topic(&at.topic)).await;
        let topic = topic.unwrap_or(Err(BrokerError::Closed))?;
        let topic_id = topic.ok_or_else(|| BrokerError::UnknownTopic { topic: self.at.topic.to_string() })?.id;
        let client = Client::new(&self.options, &self.endpoint)?;
        let saved = self.file.load().await?.filter(|saved| saved.topic_id == topic_id);
        // A copy begins with what is there.
        let mut position = saved.unwrap_or(Position { topic_id, offset: ends.start, sending_to: None });
        position.sending_to = position.sending_to.filter(|to| *to <= ends.end);
        let applied = position.offset;
        self.session = Some(Session { client, position, saved, waiting: VecDeque::new(), read: applied });
        Ok(Opened { applied, read_from: applied, server: self.endpoint.masked() })
    }

    async fn write(&mut self, chunks: &[Chunk], _: bool) -> Result<Written, SinkError> {
        let mut session = self.session.take().ok_or_else(|| SinkError::unavailable("write", "not connected"))?;
        for chunk in chunks {
            let (items, problem) = items(chunk);
            session.waiting.extend(items);
            problem.into_iter().for_each(|problem| self.written.skip(problem));
            session.read = session.read.max(chunk.next_offset);
        }
        self.send_all(&mut session).await?;
        let offset = session.position.offset;
        let mut written = std::mem::take(&mut self.written);
        written.applied = (offset >= session.read).then_some(offset);
        self.session = Some(session);
        Ok(written)
    }

    /// An endpoint is only asked to take something. One that has asked for peace has it before the next session.
    async fn check(&mut self) -> Result<Option<String>, SinkError> {
        match self.not_before {
            Some(_) => Err(SinkError::unavailable("go on", "the endpoint has asked for peace")),
            None => Ok(None),
        }
    }

    async fn retry(&mut self, chunk: &Chunk) -> Result<RetryOutcome, SinkError> {
        let session = self.session.as_ref().ok_or_else(|| SinkError::unavailable("retry", "not connected"))?;
        let (items, _) = items(chunk);
        let Some(item) = items.first() else {
            return Ok(RetryOutcome::Superseded);
        };
        match self.request(session, &items[..1], &(item.offset..item.offset.plus(1))).await? {
            Answer::Accepted => {
                self.in_a_row = 0;
                Ok(RetryOutcome::Accepted)
            }
            Answer::Refused(status, message) => Ok(RetryOutcome::Refused { rule: rule(status), message }),
            Answer::NotNow(error, wait) => {
                self.not_before = (wait > Duration::ZERO).then(|| Instant::now() + wait);
                Err(error)
            }
        }
    }

    fn not_before(&self) -> Option<Instant> {
        self.not_before
    }
}
