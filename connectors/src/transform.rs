//! What may stand between a topic and a sink: the records go through modules first.
//!
//! What a module is, is the program's matter: it hands in what makes a [`Transform`] out of [`TransformSpec`]s. Offsets stay
//! those of the topic, so that a sink's offset means the same with and without modules.

use std::collections::BTreeMap;
use std::sync::Arc;

use clickmill_schemas::Offset;
use clickmill_schemas::record::{COUNT_LEN, Record, put_record};

use crate::reader::Chunk;

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
    /// Records that a module has failed on or rejected.
    pub failed: Vec<Failed>,
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

/// A record that is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    pub offset: Offset,
    /// `smartmodule` where a module failed, else the rule by which one rejected it.
    pub rule: String,
    pub message: String,
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
