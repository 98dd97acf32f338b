//! What may stand between a topic and a sink: the records go through modules first.
//!
//! What a module is, is the program's matter: it hands in what makes a [`Transform`] out of [`TransformSpec`]s. Offsets stay
//! those of the topic, so that a sink's offset means the same with and without modules.

use std::collections::BTreeMap;
use std::sync::Arc;

use clickmill_schemas::Offset;
use clickmill_schemas::record::{COUNT_LEN, Record, put_record};

use crate::reader::Chunk;
use crate::sink::Refused;

/// One entry of a connector's `transforms`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransformSpec {
    /// The module, as the file names it.
    pub uses: String,
    /// Its parameters.
    pub with: BTreeMap<String, String>,
    /// Its bytes: with another module it is another connector.
    pub wasm: Arc<[u8]>,
}

/// Modules, made for the records of one partition in their order.
pub trait Transform: Send {
    /// What becomes of the records of a chunk. May take as long as the modules may.
    ///
    /// # Errors
    /// Where the modules cannot go on at all, whatever the record; told in words.
    fn apply(&mut self, chunk: &Chunk) -> Result<Transformed, String>;
}

/// Makes a [`Transform`], or says in words why these modules are not fit.
pub type MakeTransform = Arc<dyn Fn(&[TransformSpec]) -> Result<Box<dyn Transform>, String> + Send + Sync>;

/// See [`Transform::apply`]. A record that is in neither list was dropped by a module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transformed {
    /// In the order of their offsets; several that were made of one record have its offset.
    pub records: Vec<TransformedRecord>,
    /// Records that a module has failed on (rule `smartmodule`) or rejected, in the order of their offsets.
    pub failed: Vec<Refused>,
}

/// A record that is for the sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransformedRecord {
    /// Of the record that it was made of.
    pub offset: Offset,
    pub timestamp_ms: i64,
    pub key: Option<Vec<u8>>,
    pub value: Vec<u8>,
}

impl Transformed {
    /// The chunk in which these records stand in the place of those of `chunk`.
    #[must_use]
    pub fn chunk(self, chunk: &Chunk) -> Chunk {
        let mut set = u32::try_from(self.records.len()).unwrap_or(u32::MAX).to_be_bytes().to_vec();
        debug_assert_eq!(set.len(), COUNT_LEN);
        for record in &self.records {
            let record = Record {
                offset_delta: record.offset.0.wrapping_sub(chunk.base_offset.0).cast_signed(),
                timestamp_delta_ms: record.timestamp_ms.wrapping_sub(chunk.base_timestamp_ms),
                key: record.key.as_deref(),
                value: &record.value,
            };
            put_record(&mut set, &record);
        }
        let Chunk { from, base_offset, next_offset, base_timestamp_ms, .. } = *chunk;
        Chunk { from, base_offset, next_offset, base_timestamp_ms, set, failed: self.failed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_modules_make_stands_at_the_offsets_of_what_it_was_made_of() {
        let set = 0u32.to_be_bytes().to_vec();
        let (base_offset, next_offset) = (Offset(10), Offset(20));
        let read =
            Chunk { from: Offset(12), base_offset, next_offset, base_timestamp_ms: 1_000, set, failed: Vec::new() };
        let made = |offset, timestamp_ms, value: &[u8]| TransformedRecord {
            offset: Offset(offset),
            timestamp_ms,
            key: None,
            value: value.to_vec(),
        };
        let failed = vec![Refused { offset: Offset(13), rule: "smartmodule".into(), message: "no".into() }];
        let records = vec![made(12, 999, b"a"), made(15, 1_005, b"b"), made(15, 1_006, b"c")];
        let chunk = Transformed { records, failed: failed.clone() }.chunk(&read);
        let seen: Vec<_> = chunk
            .records()
            .unwrap()
            .map(|record| record.map(|(offset, r)| (offset.0, chunk.base_timestamp_ms + r.timestamp_delta_ms, r.value)))
            .map(Result::unwrap)
            .collect();
        assert_eq!(seen, [(12, 999, &b"a"[..]), (15, 1_005, b"b"), (15, 1_006, b"c")]);
        assert_eq!((chunk.next_offset, chunk.failed), (next_offset, failed), "the end is that of what was read");
    }
}
