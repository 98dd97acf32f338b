//! Runs a module natively, through the same bytes as a host: for tests.

use clickmill_schemas::record::{RecordSetBuilder, Records};

use crate::guest::{Guest, status};
use crate::record::Input;
use crate::{Module, Params};

/// A record of an output or of an emitted set, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputRecord {
    pub offset_delta: i64,
    pub timestamp_delta_ms: i64,
    pub key: Option<Vec<u8>>,
    pub value: Vec<u8>,
}

impl OutputRecord {
    /// Its route, if it carries one.
    #[must_use]
    pub fn route(&self) -> Option<crate::Route<'_>> {
        crate::Route::decode(self.key.as_deref()?)
    }
}

/// A module under test.
#[derive(Debug)]
pub struct Harness<M> {
    /// For the calls that the harness has no shorter form of.
    pub guest: Guest<M>,
    next_offset: i64,
}

impl<M: Module> Harness<M> {
    /// Makes the module.
    ///
    /// # Errors
    /// The module's own message.
    pub fn new(params: &[(&str, &str)]) -> Result<Self, String> {
        Ok(Self { guest: Guest::new(&Params::new(params))?, next_offset: 0 })
    }

    /// Sends one batch of values, at the next offsets.
    ///
    /// # Errors
    /// The negative status of the call.
    pub fn batch(&mut self, values: &[&[u8]]) -> Result<Vec<OutputRecord>, i32> {
        let keyed: Vec<_> = values.iter().map(|value| (None, *value)).collect();
        self.keyed_batch(&keyed)
    }

    /// Sends one batch of keys and values, at the next offsets.
    ///
    /// # Errors
    /// The negative status of the call.
    pub fn keyed_batch(&mut self, records: &[(Option<&[u8]>, &[u8])]) -> Result<Vec<OutputRecord>, i32> {
        let mut set = RecordSetBuilder::default();
        records.iter().for_each(|(key, value)| set.push(*key, value, 0));
        let mut input = Vec::new();
        Input::encode(&mut input, self.next_offset, set.bytes(), set.base_timestamp_ms());
        self.next_offset += i64::from(set.count());
        match self.guest.array_map(&input) {
            (answer @ 0.., Some(output)) => {
                let (error, set) = output.split_last().ok_or(status::UNKNOWN)?;
                let records = decode(set).filter(|r| *error == 0 && r.len() as i32 == answer);
                records.ok_or(status::UNKNOWN)
            }
            (answer, _) => Err(answer),
        }
    }
}

/// Runs a module over one batch of values.
///
/// # Errors
/// A message, where the module refuses its parameters or the batch.
pub fn run<M: Module>(params: &[(&str, &str)], values: &[&[u8]]) -> Result<Vec<OutputRecord>, String> {
    Harness::<M>::new(params)?.batch(values).map_err(|status| format!("array_map answered {status}"))
}

/// Reads a record set; `None` where it is malformed.
#[must_use]
pub fn decode(set: &[u8]) -> Option<Vec<OutputRecord>> {
    let owned = |r: clickmill_schemas::record::Record<'_>| OutputRecord {
        offset_delta: r.offset_delta,
        timestamp_delta_ms: r.timestamp_delta_ms,
        key: r.key.map(<[u8]>::to_vec),
        value: r.value.to_vec(),
    };
    Records::new(set).ok()?.map(|r| r.ok().map(owned)).collect()
}
