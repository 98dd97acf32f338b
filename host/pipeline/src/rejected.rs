//! Which rejected records of a partition are still to be counted: what tells a retry from a repeated one.
//!
//! A pure function of the input prefix, kept in the checkpoint. A retry is admitted only while its origin is rejected: so
//! none is counted twice, whoever sends it again after a crash, and whatever judges the topic anew. A run that accepts the
//! origin itself drops its retries.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use clickmill_schemas::envelope::{Retry, RetryOf};
use clickmill_schemas::{Offset, SourceId};
use roaring::RoaringTreemap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

/// First bytes of the SHA-256 of a line's number, source and file.
type LineId = [u8; 16];

/// Rejected records that no retry has taken the place of. Cheap to clone: save points hold one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rejected(Arc<Origins>);

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Origins {
    /// Offsets: two bytes each, one bit at the most.
    #[serde(serialize_with = "to_base64", deserialize_with = "from_base64")]
    records: RoaringTreemap,
    /// Lines are rejected before there is a topic: those of them that have been taken in by now.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    lines: BTreeSet<LineId>,
}

impl Rejected {
    /// A record was rejected.
    pub(crate) fn insert(&mut self, offset: Offset) {
        self.origins().records.insert(offset.0);
    }

    /// Retention took these records before anybody judged them: a retry of one is all that there is of it.
    pub(crate) fn insert_range(&mut self, from: Offset, to: Offset) {
        self.origins().records.insert_range(from.0..to.0);
    }

    /// Whether this retry is to be judged.
    pub(crate) fn admits(&self, retry: &Retry<'_>) -> bool {
        match retry.of {
            RetryOf::Record { offset } => self.0.records.contains(offset.0),
            RetryOf::Line { file, line, source } => !self.0.lines.contains(&line_id(file, line, source)),
        }
    }

    /// A retry was not rejected: there are no more of its origin.
    pub(crate) fn settle(&mut self, retry: &Retry<'_>) {
        match retry.of {
            RetryOf::Record { offset } => {
                self.origins().records.remove(offset.0);
            }
            RetryOf::Line { file, line, source } => {
                self.origins().lines.insert(line_id(file, line, source));
            }
        }
    }

    fn origins(&mut self) -> &mut Origins {
        Arc::make_mut(&mut self.0)
    }

    /// Whether nothing has been rejected at all, nor taken in after all.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.records.is_empty() && self.0.lines.is_empty()
    }
}

/// Equality of bitmaps is that of sets.
impl Eq for Rejected {}

impl Serialize for Rejected {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Rejected {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Origins::deserialize(deserializer).map(|origins| Self(Arc::new(origins)))
    }
}

fn line_id(file: &str, line: u64, source: Option<SourceId>) -> LineId {
    let source = source.as_ref().map_or(&[][..], |source| &source.0);
    let digest = Sha256::new().chain_update(line.to_be_bytes()).chain_update(source).chain_update(file).finalize();
    let mut id = LineId::default();
    id.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
    id
}

fn to_base64<S: Serializer>(records: &RoaringTreemap, serializer: S) -> Result<S::Ok, S::Error> {
    let mut bytes = Vec::with_capacity(records.serialized_size());
    records.serialize_into(&mut bytes).map_err(serde::ser::Error::custom)?;
    serializer.serialize_str(&BASE64_STANDARD.encode(bytes))
}

fn from_base64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<RoaringTreemap, D::Error> {
    let text = String::deserialize(deserializer)?;
    let bytes = BASE64_STANDARD.decode(text).map_err(serde::de::Error::custom)?;
    RoaringTreemap::deserialize_from(io::Cursor::new(bytes)).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_taken_in_once_and_only_if_it_was_rejected() {
        let mut rejected = Rejected::default();
        let retry = |offset| Retry { of: RetryOf::Record { offset: Offset(offset) }, attempt: 1 };
        rejected.insert(Offset(7));
        rejected.insert_range(Offset(1 << 40), Offset((1 << 40) + 9));
        assert!(!rejected.admits(&retry(6)) && rejected.admits(&retry(7)) && rejected.admits(&retry((1 << 40) + 8)));
        rejected.settle(&retry(7));
        assert!(!rejected.admits(&retry(7)));
        let of = |line, source| Retry { of: RetryOf::Line { file: "a", line, source }, attempt: 1 };
        let line = of(1, None);
        assert!(rejected.admits(&line));
        rejected.settle(&line);
        assert!(!rejected.admits(&Retry { attempt: 2, ..line }));
        assert!(rejected.admits(&of(2, None)));
        let tomorrows = of(1, Some(SourceId::from(1)));
        assert!(rejected.admits(&tomorrows), "a line of another file of that name");
        rejected.settle(&tomorrows);
        assert!(!rejected.admits(&tomorrows) && rejected.admits(&of(1, Some(SourceId::from(2)))));
        let json = serde_json::to_string(&rejected).unwrap();
        assert_eq!(serde_json::from_str::<Rejected>(&json).unwrap(), rejected);
    }
}
