//! Reads a partition ahead of a sink: a thread that blocks on the broker and hands over what it has fetched by a bounded channel.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use clickmill_broker::{Broker, BrokerError, StoredBatch, TopicPartition};
use clickmill_schemas::Offset;
use clickmill_schemas::record::{Malformed, Record, RecordSetBuilder, Records};
use tokio::sync::mpsc;

use crate::sink::{Refused, SinkError};
use crate::transform::Transform;

/// Stored bytes asked for in one fetch.
const FETCH_BYTES: usize = 256 * 1024;
/// How long a fetch waits at the log's end, and so how soon the thread sees that nobody listens any more.
const FETCH_WAIT: Duration = Duration::from_millis(50);
/// Fetches between the thread and the sink. However small the batches in the log are, a sink that is behind finds a whole
/// transaction of them when it comes back from its server.
const QUEUE: usize = 2;

/// The records of one stored batch from an offset on.
#[derive(Clone, Debug)]
pub struct Chunk {
    /// Records below are not asked for.
    pub from: Offset,
    pub base_offset: Offset,
    /// The offset after the batch.
    pub next_offset: Offset,
    pub base_timestamp_ms: i64,
    /// The whole record set; behind modules, what they have made of it.
    pub set: Vec<u8>,
    /// Records that a module has failed on or rejected: they are not in the set.
    pub failed: Vec<Refused>,
}

impl Chunk {
    /// The records of a batch from an offset on.
    ///
    /// # Errors
    /// [`BrokerError::Undecodable`].
    pub fn of(batch: &StoredBatch, from: Offset) -> Result<Self, BrokerError> {
        Ok(Self {
            from,
            base_offset: batch.base_offset,
            next_offset: batch.next_offset(),
            base_timestamp_ms: batch.base_timestamp_ms,
            set: batch.records()?,
            failed: Vec::new(),
        })
    }

    /// The records asked for, with their offsets.
    ///
    /// # Errors
    /// [`Malformed`] where not even a count is there; items are errors where the set breaks off.
    pub fn records(&self) -> Result<impl Iterator<Item = Result<(Offset, Record<'_>), Malformed>>, Malformed> {
        Ok(Records::new(&self.set)?.filter_map(|record| match record {
            Ok(record) => {
                let offset = Offset(self.base_offset.0.wrapping_add_signed(record.offset_delta));
                (offset >= self.from).then_some(Ok((offset, record)))
            }
            Err(e) => Some(Err(e)),
        }))
    }
}

/// Reads single records: calls `found` with the index of each of `offsets` (in ascending order) whose record is there still,
/// the record, and its timestamp.
///
/// # Errors
/// Those of the broker.
pub fn read_at(
    broker: &dyn Broker,
    at: &TopicPartition,
    offsets: &[Offset],
    mut found: impl FnMut(usize, &Record<'_>, i64),
) -> Result<(), BrokerError> {
    let mut next = 0;
    while let Some(from) = offsets.get(next).copied() {
        let batches = match broker.fetch(at, from, FETCH_BYTES, Duration::ZERO) {
            Ok(batches) => batches,
            // Retention has taken it.
            Err(BrokerError::OffsetOutOfRange { .. }) => {
                next += 1;
                continue;
            }
            Err(e) => return Err(e),
        };
        let Some(end) = batches.last().map(StoredBatch::next_offset) else { return Ok(()) };
        for chunk in batches.iter().map(|batch| Chunk::of(batch, from)) {
            let chunk = chunk?;
            // What cannot be read any further is told by who reads the partition in order.
            for (offset, record) in chunk.records().into_iter().flatten().flatten() {
                while offsets.get(next).is_some_and(|wanted| *wanted < offset) {
                    next += 1;
                }
                while offsets.get(next) == Some(&offset) {
                    found(next, &record, chunk.base_timestamp_ms.saturating_add(record.timestamp_delta_ms));
                    next += 1;
                }
            }
        }
        while offsets.get(next).is_some_and(|wanted| *wanted < end) {
            next += 1;
        }
    }
    Ok(())
}

/// A chunk of one record; none where it is gone.
///
/// # Errors
/// Those of the broker.
pub fn single(broker: &dyn Broker, at: &TopicPartition, offset: Offset) -> Result<Option<Chunk>, BrokerError> {
    let mut single = None;
    read_at(broker, at, &[offset], |_, record, timestamp_ms| {
        let mut set = RecordSetBuilder::default();
        set.push(record.key, record.value, timestamp_ms);
        single = Some(Chunk {
            from: offset,
            base_offset: offset,
            next_offset: offset.plus(1),
            base_timestamp_ms: timestamp_ms,
            set: set.bytes().to_vec(),
            failed: Vec::new(),
        });
    })?;
    Ok(single)
}

/// The receiving end; dropping it ends the thread.
#[derive(Debug)]
pub struct Reader {
    fetches: mpsc::Receiver<Result<Vec<Chunk>, SinkError>>,
    /// Of the last fetch.
    ready: VecDeque<Chunk>,
    /// An error that came behind chunks which are to be handed out first.
    failed: Option<SinkError>,
}

impl Reader {
    /// Starts the thread. Modules run in it, where there are some: they may take their time.
    ///
    /// # Errors
    /// [`SinkError::Unavailable`] where the system gives no thread.
    pub fn start(
        broker: Arc<dyn Broker>,
        at: TopicPartition,
        from: Offset,
        mut transform: Option<Box<dyn Transform>>,
    ) -> Result<Self, SinkError> {
        let (sender, fetches) = mpsc::channel(QUEUE);
        std::thread::Builder::new()
            .name(format!("read {at}"))
            .spawn(move || read_on(&*broker, (&at, from), transform.as_deref_mut(), &sender))
            .map_err(|e| SinkError::unavailable("cannot start a reader", e))?;
        Ok(Self { fetches, ready: VecDeque::new(), failed: None })
    }

    /// The next chunk. Cancel safe.
    ///
    /// # Errors
    /// [`SinkError::Broker`]
    pub async fn next(&mut self) -> Result<Chunk, SinkError> {
        loop {
            if let Some(chunk) = self.ready.pop_front() {
                return Ok(chunk);
            }
            if let Some(e) = self.failed.take() {
                return Err(e);
            }
            self.ready.extend(self.fetches.recv().await.unwrap_or(Err(BrokerError::Closed.into()))?);
        }
    }

    /// `first` and what else is there already or comes within `linger`, up to about `max_bytes`; whether there is
    /// likely more at once.
    pub async fn more(&mut self, first: Chunk, max_bytes: usize, linger: Duration) -> (Vec<Chunk>, bool) {
        let mut bytes = first.set.len();
        let mut chunks = vec![first];
        let deadline = tokio::time::Instant::now() + linger;
        while bytes < max_bytes {
            if let Some(chunk) = self.ready.pop_front() {
                bytes += chunk.set.len();
                chunks.push(chunk);
                continue;
            }
            match tokio::time::timeout_at(deadline, self.fetches.recv()).await {
                Ok(Some(Ok(fetch))) => self.ready.extend(fetch),
                Ok(Some(Err(e))) => {
                    self.failed = Some(e);
                    break;
                }
                Ok(None) | Err(_) => break,
            }
        }
        (chunks, bytes >= max_bytes)
    }
}

fn read_on(
    broker: &dyn Broker,
    (at, mut from): (&TopicPartition, Offset),
    mut transform: Option<&mut (dyn Transform + 'static)>,
    sender: &mpsc::Sender<Result<Vec<Chunk>, SinkError>>,
) {
    while !sender.is_closed() {
        let fetched = broker
            .fetch(at, from, FETCH_BYTES, FETCH_WAIT)
            .and_then(|batches| batches.iter().map(|b| Chunk::of(b, from)).collect::<Result<Vec<_>, _>>());
        let (mut fetch, mut failed) = (Vec::new(), None);
        match fetched {
            Ok(chunks) => {
                for chunk in chunks {
                    from = from.max(chunk.next_offset);
                    let chunk = match &mut transform {
                        Some(transform) => transformed(&mut **transform, &chunk),
                        None => Ok(chunk),
                    };
                    match chunk {
                        Ok(chunk) => fetch.push(chunk),
                        Err(e) => {
                            failed = Some(e);
                            break;
                        }
                    }
                }
            }
            Err(e) => failed = Some(e.into()),
        }
        // The receiver gone: nobody to tell.
        if !fetch.is_empty() && sender.blocking_send(Ok(fetch)).is_err() {
            return;
        }
        if let Some(e) = failed {
            let _ = sender.blocking_send(Err(e));
            return;
        }
    }
}

/// What modules make of a chunk.
///
/// # Errors
/// [`SinkError::Unavailable`] where they cannot go on: new ones are made.
pub fn transformed(transform: &mut dyn Transform, chunk: &Chunk) -> Result<Chunk, SinkError> {
    match transform.apply(chunk) {
        Ok(transformed) => Ok(transformed.chunk(chunk)),
        Err(e) => Err(SinkError::unavailable("run the connector's transforms", e)),
    }
}

#[cfg(test)]
mod tests {
    use clickmill_broker::{EmbeddedLog, LogOptions, TopicSpec};
    use clickmill_schemas::PartitionId;

    use super::*;

    #[tokio::test]
    async fn a_sink_that_is_behind_finds_a_whole_transaction_of_small_batches() {
        let folder = tempfile::tempdir().unwrap();
        let log = EmbeddedLog::open(folder.path(), LogOptions::default()).unwrap();
        log.create_topic(&TopicSpec::new("t", 1)).unwrap();
        let at = TopicPartition::new("t", PartitionId(0));
        for _ in 0..200 {
            let mut set = RecordSetBuilder::default();
            set.push(None, &[7; 1_000], 0);
            log.append(&at, &set).unwrap().wait().unwrap();
        }
        let mut reader = Reader::start(Arc::new(log), at, Offset(0), None).unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let first = reader.next().await.unwrap();
        let hundred = first.set.len() * 100;
        let (chunks, behind) = reader.more(first, hundred, Duration::ZERO).await;
        assert!(behind && chunks.len() == 100, "{}", chunks.len());
        let first = reader.next().await.unwrap();
        assert_eq!(first.base_offset, Offset(100));
        let (chunks, behind) = reader.more(first, 1_000_000, Duration::from_millis(1)).await;
        assert!(!behind && chunks.len() == 100, "{}", chunks.len());
    }
}
