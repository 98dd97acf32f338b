//! Records in memory as a batch that a chain takes.

use clickmill_engine::BatchSource;
use clickmill_schemas::Offset;
use clickmill_schemas::record::RecordSetBuilder;

/// A batch at an offset.
pub struct Batch {
    base: Offset,
    set: RecordSetBuilder,
}

impl Batch {
    pub fn new<'a>(base: u64, records: impl IntoIterator<Item = (Option<&'a [u8]>, &'a [u8], i64)>) -> Self {
        let mut set = RecordSetBuilder::default();
        records.into_iter().for_each(|(key, value, ts_ms)| set.push(key, value, ts_ms));
        Self { base: Offset(base), set }
    }
}

impl BatchSource for Batch {
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
