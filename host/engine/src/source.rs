//! Where a chain's batches come from.

use std::ops::Range;

use clickmill_schemas::Offset;
use clickmill_schemas::record::{RecordSetBuilder, Records};

/// A batch of records in the encoding that modules take (`clickmill_schemas::record`).
///
/// Its records have the offset deltas 0, 1, … `count() - 1`, in this order.
pub trait BatchSource {
    /// Offset of the first record.
    fn base_offset(&self) -> Offset;
    /// Timestamp that the records' timestamp deltas count from, epoch milliseconds.
    fn base_timestamp_ms(&self) -> i64;
    /// Number of records.
    fn count(&self) -> u32;
    /// Bytes of the record set, its count included.
    fn records_len(&self) -> usize;
    /// Writes the record set into `dst`, which is [`records_len`](Self::records_len) bytes of a module's memory: a
    /// compressed batch is decompressed straight to where it is read.
    ///
    /// # Errors
    /// Whatever keeps the batch from being read. `dst` may hold anything then.
    fn write_records(&self, dst: &mut [u8]) -> Result<(), Box<dyn std::error::Error + Send + Sync>>;
}

/// Records in memory as a batch: for whoever has them from elsewhere than a log.
#[derive(Clone, Debug)]
pub struct MemoryBatch {
    base: Offset,
    set: RecordSetBuilder,
}

impl MemoryBatch {
    /// The records of `set`, the first of them at `base`.
    #[must_use]
    pub const fn new(base: Offset, set: RecordSetBuilder) -> Self {
        Self { base, set }
    }

    /// Records by key, value and timestamp (epoch milliseconds).
    pub fn of<'a>(base: Offset, records: impl IntoIterator<Item = (Option<&'a [u8]>, &'a [u8], i64)>) -> Self {
        let mut set = RecordSetBuilder::default();
        records.into_iter().for_each(|(key, value, timestamp_ms)| set.push(key, value, timestamp_ms));
        Self { base, set }
    }
}

impl BatchSource for MemoryBatch {
    fn base_offset(&self) -> Offset {
        self.base
    }

    fn base_timestamp_ms(&self) -> i64 {
        self.set.base_timestamp_ms()
    }

    fn count(&self) -> u32 {
        self.set.count()
    }

    fn records_len(&self) -> usize {
        self.set.bytes().len()
    }

    fn write_records(&self, dst: &mut [u8]) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        dst.copy_from_slice(self.set.bytes());
        Ok(())
    }
}

/// A batch read into the host's own memory, record by record: for the few batches that are not passed on whole.
pub(crate) struct Unpacked {
    bytes: Vec<u8>,
    pub records: Vec<Entry>,
}

/// A record of an [`Unpacked`] batch.
pub(crate) struct Entry {
    pub delta: u32,
    bytes: Range<usize>,
    value: Range<usize>,
}

impl Unpacked {
    pub(crate) fn read(source: &dyn BatchSource) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let mut bytes = vec![0; source.records_len()];
        write_checked(source, &mut bytes)?;
        let mut walk = Records::new(&bytes)?;
        let mut records = Vec::with_capacity(source.count() as usize);
        loop {
            let start = walk.position();
            let Some(record) = walk.next() else { break };
            let (record, end) = (record?, walk.position());
            let delta = records.len() as u32;
            if record.offset_delta != i64::from(delta) {
                return Err(format!("record {delta} of the batch has the offset delta {}", record.offset_delta).into());
            }
            // Behind the value stands the count of headers, one byte.
            let value = end - 1 - record.value.len()..end - 1;
            records.push(Entry { delta, bytes: start..end, value });
        }
        Ok(Self { bytes, records })
    }

    pub(crate) fn value(&self, entry: &Entry) -> &[u8] {
        &self.bytes[entry.value.clone()]
    }

    /// These records as a record set.
    pub(crate) fn pack(&self, entries: &[Entry]) -> Vec<u8> {
        let mut set = (entries.len() as u32).to_be_bytes().to_vec();
        entries.iter().for_each(|entry| set.extend_from_slice(&self.bytes[entry.bytes.clone()]));
        set
    }
}

/// Writes a batch and compares its count with what it says.
#[inline]
pub(crate) fn write_checked(
    source: &dyn BatchSource,
    dst: &mut [u8],
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    source.write_records(dst)?;
    // In full: the iterator of the same name would count the records one by one.
    let (said, found) = (source.count(), Records::count(&Records::new(dst)?));
    if said == found {
        return Ok(());
    }
    Err(format!("the batch at offset {} says {said} records and holds {found}", source.base_offset()).into())
}
