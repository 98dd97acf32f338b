//! Reads a partition ahead of a sink: a thread that blocks on the broker and hands chunks over a bounded channel.

use std::sync::Arc;
use std::time::Duration;

use clickmill_broker::{Broker, BrokerError, StoredBatch, TopicPartition};
use clickmill_schemas::Offset;
use clickmill_schemas::record::{Malformed, Record, RecordSetBuilder, Records};
use tokio::sync::mpsc;

use crate::sink::SinkError;

/// Stored bytes asked for in one fetch.
const FETCH_BYTES: usize = 256 * 1024;
/// How long a fetch waits at the log's end, and so how soon the thread sees that nobody listens any more.
const FETCH_WAIT: Duration = Duration::from_millis(50);
/// Chunks between the thread and the sink: up to a MiB each, and a sink that is behind has them all.
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
    /// The whole record set.
    pub set: Vec<u8>,
}

impl Chunk {
    fn read(batch: &StoredBatch, from: Offset) -> Result<Self, BrokerError> {
        Ok(Self {
            from,
            base_offset: batch.base_offset,
            next_offset: batch.next_offset(),
            base_timestamp_ms: batch.base_timestamp_ms,
            set: batch.records()?,
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
        for chunk in batches.iter().map(|batch| Chunk::read(batch, from)) {
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
        });
    })?;
    Ok(single)
}

/// The receiving end; dropping it ends the thread.
#[derive(Debug)]
pub struct Reader {
    chunks: mpsc::Receiver<Result<Chunk, BrokerError>>,
    /// An error that came behind chunks which are to be handed out first.
    failed: Option<BrokerError>,
}

impl Reader {
    /// Starts the thread.
    ///
    /// # Errors
    /// [`SinkError::Unavailable`] where the system gives no thread.
    pub fn start(broker: Arc<dyn Broker>, at: TopicPartition, from: Offset) -> Result<Self, SinkError> {
        let (sender, chunks) = mpsc::channel(QUEUE);
        std::thread::Builder::new()
            .name(format!("read {at}"))
            .spawn(move || read_on(&*broker, &at, from, &sender))
            .map_err(|e| SinkError::unavailable("cannot start a reader", e))?;
        Ok(Self { chunks, failed: None })
    }

    /// The next chunk. Cancel safe.
    ///
    /// # Errors
    /// [`SinkError::Broker`]
    pub async fn next(&mut self) -> Result<Chunk, SinkError> {
        if let Some(e) = self.failed.take() {
            return Err(e.into());
        }
        Ok(self.chunks.recv().await.unwrap_or(Err(BrokerError::Closed))?)
    }

    /// `first` and what else is there already or comes within `linger`, up to about `max_bytes`; whether there is
    /// likely more at once.
    pub async fn more(&mut self, first: Chunk, max_bytes: usize, linger: Duration) -> (Vec<Chunk>, bool) {
        let mut bytes = first.set.len();
        let mut chunks = vec![first];
        let deadline = tokio::time::Instant::now() + linger;
        while bytes < max_bytes {
            match tokio::time::timeout_at(deadline, self.chunks.recv()).await {
                Ok(Some(Ok(chunk))) => {
                    bytes += chunk.set.len();
                    chunks.push(chunk);
                }
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
    at: &TopicPartition,
    mut from: Offset,
    sender: &mpsc::Sender<Result<Chunk, BrokerError>>,
) {
    while !sender.is_closed() {
        let chunks = broker
            .fetch(at, from, FETCH_BYTES, FETCH_WAIT)
            .and_then(|batches| batches.iter().map(|b| Chunk::read(b, from)).collect::<Result<Vec<_>, _>>());
        match chunks {
            Ok(chunks) => {
                for chunk in chunks {
                    from = from.max(chunk.next_offset);
                    if sender.blocking_send(Ok(chunk)).is_err() {
                        return;
                    }
                }
            }
            Err(e) => {
                // The receiver gone as well: nobody to tell.
                let _ = sender.blocking_send(Err(e));
                return;
            }
        }
    }
}
