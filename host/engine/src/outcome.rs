//! What became of each record of a batch.

use clickmill_schemas::Offset;
use clickmill_schemas::envelope::{ErrorType, Route};
use clickmill_schemas::record::Record;

use crate::BatchSource;

/// Where a record was sent instead of to the next stage; [`Route`] with its own strings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteOwned {
    Error { error_type: ErrorType, rule: String, message: String },
    Late { ts_ms: i64, watermark_ms: i64 },
}

impl From<Route<'_>> for RouteOwned {
    fn from(route: Route<'_>) -> Self {
        match route {
            Route::Error { error_type, rule, message } => {
                Self::Error { error_type, rule: rule.to_owned(), message: message.to_owned() }
            }
            Route::Late { ts_ms, watermark_ms } => Self::Late { ts_ms, watermark_ms },
        }
    }
}

/// A record that left the chain on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routed {
    pub offset: Offset,
    /// Index of the stage that routed it.
    pub stage: usize,
    pub route: RouteOwned,
    /// The value as it came to that stage; for a verdict, as it came to the chain.
    pub value: Vec<u8>,
}

/// A record that the last stage handed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassedRecord {
    /// Of the input record that it was made of; several may have the same.
    pub offset: Offset,
    /// Epoch milliseconds.
    pub timestamp_ms: i64,
    pub key: Option<Vec<u8>>,
    pub value: Vec<u8>,
}

impl PassedRecord {
    pub(crate) fn of(source: &dyn BatchSource, record: &Record<'_>) -> Self {
        Self {
            offset: source.base_offset().plus(record.offset_delta.unsigned_abs()),
            timestamp_ms: source.base_timestamp_ms().wrapping_add(record.timestamp_delta_ms),
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.to_vec(),
        }
    }
}

/// Fates of a batch's records: `records = counted + dropped + routed`, always.
///
/// A record of which a stage makes several has one fate too: rejected if any of them is (by the first of its rejections),
/// else counted if any is, else late if any is, else dropped by the stage that dropped the last of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BatchOutcome {
    /// In order of stages (verdicts first), and of offsets within one; part after part where it was run in parts.
    pub routed: Vec<Routed>,
    /// Records that reached the end of the chain, or the windows that a stage keeps.
    pub counted: u64,
    /// Records that a stage took in and neither handed on nor routed: (index of the stage, how many).
    pub dropped: Vec<(usize, u64)>,
    /// Records of the batch.
    pub records: u64,
}

impl BatchOutcome {
    /// Forgets everything and keeps the buffers.
    pub fn clear(&mut self) {
        self.routed.clear();
        self.dropped.clear();
        self.counted = 0;
        self.records = 0;
    }

    /// Takes in the outcome of the records that come next.
    pub(crate) fn add(&mut self, next: Self) {
        self.routed.extend(next.routed);
        self.dropped.extend(next.dropped);
        self.counted += next.counted;
        self.records += next.records;
    }

    pub(crate) fn drop_at(&mut self, stage: usize, records: u32) {
        if records > 0 {
            self.dropped.push((stage, u64::from(records)));
        }
    }

    /// Whether every record has exactly one fate.
    #[must_use]
    pub fn is_balanced(&self) -> bool {
        let dropped: u64 = self.dropped.iter().map(|(_, n)| n).sum();
        self.records == self.counted + dropped + self.routed.len() as u64
    }
}
