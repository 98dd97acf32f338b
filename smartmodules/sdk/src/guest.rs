//! A module with its buffers: the calls of the ABI, on bytes, without wasm.
//!
//! Owns what each exported function takes and answers. `export` binds it to wasm, `harness` to tests.

use clickmill_schemas::envelope;

use crate::output::{Output, RecordSet};
use crate::params::Params;
use crate::record::Input;
use crate::{Module, Stateful};

/// What a call answers instead of a count, as Fluvio has it.
pub mod status {
    /// No record was processed: the module was never made.
    pub const UNKNOWN: i32 = -1;
    /// `init` refused its parameters; a message was copied out.
    pub const INIT: i32 = -2;
    /// The head of a call's input is malformed.
    pub const DECODING_INPUT: i32 = -11;
    /// The record set of a call's input is malformed.
    pub const DECODING_RECORDS: i32 = -22;
    /// The parameters are malformed.
    pub const DECODING_PARAMS: i32 = -44;
    /// A saved state cannot be loaded; a message was copied out.
    pub const STATE: i32 = -2;
}

/// Appends a text as Fluvio encodes one: `u16 length`, then UTF-8. Cut at 65,535 bytes.
pub(crate) fn put_string(out: &mut Vec<u8>, text: &str) {
    let text = &text[..text.floor_char_boundary(usize::from(u16::MAX))];
    out.extend_from_slice(&(text.len() as u16).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// The message that goes with [`status::INIT`], as Fluvio encodes it.
#[must_use]
pub fn init_failure(message: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len() + 2);
    put_string(&mut out, message);
    out
}

/// A module that is ready for calls.
#[derive(Debug)]
pub struct Guest<M> {
    module: M,
    first: bool,
    output: Output,
    emitted: RecordSet,
    state: Vec<u8>,
}

impl<M: Module> Guest<M> {
    /// The call `init`.
    ///
    /// # Errors
    /// The module's own message.
    pub fn new(params: &Params) -> Result<Self, String> {
        Ok(Self {
            module: M::init(params)?,
            first: params.is_first(),
            output: Output::default(),
            emitted: RecordSet::default(),
            state: Vec::new(),
        })
    }

    /// The call `array_map`: the answer (a count, or a negative [`status`]) and the output, if there is one.
    pub fn array_map(&mut self, input: &[u8]) -> (i32, Option<&[u8]>) {
        let Some(records) = Input::new(input) else {
            return (status::DECODING_INPUT, None);
        };
        self.output.clear();
        for record in records {
            let Ok(record) = record else {
                return (status::DECODING_RECORDS, None);
            };
            match record.key {
                Some(key) if !self.first && envelope::Route::is_route(key) => self.output.pass(&record, key),
                _ => self.module.record(&record, &mut self.output),
            }
        }
        (self.output.count() as i32, Some(self.output.finish()))
    }

    /// The call `clickmill_routed`.
    #[must_use]
    pub const fn routed(&self) -> i32 {
        self.output.routed() as i32
    }

    /// The module itself.
    #[must_use]
    pub const fn module(&self) -> &M {
        &self.module
    }
}

impl<M: Stateful> Guest<M> {
    /// The call `clickmill_save`: the state.
    pub fn save(&mut self) -> &[u8] {
        self.state.clear();
        self.module.save(&mut self.state);
        &self.state
    }

    /// The call `clickmill_load`.
    ///
    /// # Errors
    /// The module's own message.
    pub fn load(&mut self, state: &[u8]) -> Result<(), String> {
        self.module.load(state)
    }

    /// The call `clickmill_emit`: a record set.
    pub fn emit(&mut self) -> &[u8] {
        self.emitted.clear();
        self.module.emit(&mut self.emitted);
        self.emitted.finish()
    }

    /// The call `clickmill_pending`.
    #[must_use]
    pub fn pending(&self) -> i32 {
        i32::try_from(self.module.pending_bytes()).unwrap_or(i32::MAX)
    }

    /// The call `clickmill_watermark`; `i64::MIN` where there is none yet.
    #[must_use]
    pub fn watermark(&self) -> i64 {
        self.module.watermark().unwrap_or(i64::MIN)
    }

    /// The call `clickmill_closed_before`; `i64::MIN` where there is none yet.
    #[must_use]
    pub fn closed_before(&self) -> i64 {
        self.module.closed_before().unwrap_or(i64::MIN)
    }

    /// The call `clickmill_advance`.
    pub fn advance(&mut self, watermark_ms: i64) {
        self.module.advance(watermark_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::{Harness, decode};
    use crate::{ErrorType, Record, Route};

    /// Counts bytes; drops empty values, routes those that start with `!`.
    #[derive(Debug)]
    struct Counter {
        bytes: i64,
    }

    impl Module for Counter {
        fn init(params: &Params) -> Result<Self, String> {
            params.only(&["start"])?;
            Ok(Self { bytes: params.parse("start", 0)? })
        }
        fn record(&mut self, record: &Record<'_>, out: &mut Output) {
            self.bytes += record.value.len() as i64;
            match record.value.first() {
                None => {}
                Some(b'!') => {
                    let (error_type, rule) = (ErrorType::Schema, "bang");
                    out.route(record, &Route::Error { error_type, rule, message: "" });
                }
                Some(_) => out.forward(record, format!("{}", record.offset).as_bytes()),
            }
        }
    }

    impl Stateful for Counter {
        const STATE_VERSION: i32 = 3;
        fn save(&self, out: &mut Vec<u8>) {
            out.extend_from_slice(&self.bytes.to_be_bytes());
        }
        fn load(&mut self, state: &[u8]) -> Result<(), String> {
            let state = state.try_into().map_err(|_| format!("{} bytes", state.len()))?;
            self.bytes = i64::from_be_bytes(state);
            Ok(())
        }
        fn emit(&mut self, out: &mut RecordSet) {
            out.push(b"bytes", self.bytes.to_string().as_bytes());
        }
        fn pending_bytes(&self) -> usize {
            usize::MAX
        }
        fn watermark(&self) -> Option<i64> {
            (self.bytes > 0).then_some(self.bytes)
        }
        fn closed_before(&self) -> Option<i64> {
            None
        }
        fn advance(&mut self, watermark_ms: i64) {
            self.bytes = self.bytes.max(watermark_ms);
        }
    }

    crate::export_stateful!(Counter);

    #[test]
    fn records_keep_their_deltas_and_routes_are_counted() {
        let mut harness = Harness::<Counter>::new(&[]).unwrap();
        harness.batch(&[b"x", b"y"]).unwrap();
        let out = harness.batch(&[b"a", b"", b"!no"]).unwrap();
        assert_eq!(out.iter().map(|r| r.offset_delta).collect::<Vec<_>>(), [0, 2]);
        assert_eq!((&out[0].value[..], &out[1].value[..]), (&b"2"[..], &b"!no"[..]));
        assert!(out[0].key.is_none() && matches!(out[1].route(), Some(Route::Error { rule: "bang", .. })));
        assert_eq!(harness.guest.routed(), 1);
    }

    #[test]
    fn an_earlier_route_is_passed_on_and_a_producers_is_not_obeyed() {
        let mut key = Vec::new();
        Route::Late { ts_ms: 1, watermark_ms: 2 }.encode(&mut key);
        let routed = (Some(&key[..]), &b"payload"[..]);
        let mut later = Harness::<Counter>::new(&[]).unwrap();
        let out = later.keyed_batch(&[routed, (Some(b"user"), b"x")]).unwrap();
        assert_eq!((out[0].key.as_deref(), &out[0].value[..]), routed);
        assert_eq!((out[1].key.as_ref(), later.guest.module().bytes), (None, 1));
        let mut first = Harness::<Counter>::new(&[(crate::params::FIRST, "true")]).unwrap();
        let out = first.keyed_batch(&[routed]).unwrap();
        assert_eq!((out[0].key.as_ref(), &out[0].value[..]), (None, &b"0"[..]));
    }

    #[test]
    fn a_malformed_input_is_refused_wherever_it_is_cut() {
        let mut set = vec![0, 0, 0, 2];
        for offset_delta in 0..2 {
            let (timestamp_delta_ms, key, value) = (0, None, &b"value"[..]);
            let record = clickmill_schemas::record::Record { offset_delta, timestamp_delta_ms, key, value };
            clickmill_schemas::record::put_record(&mut set, &record);
        }
        let mut guest = Guest::<Counter>::new(&Params::default()).unwrap();
        for cut in 0..set.len() {
            let mut input = Vec::new();
            Input::encode(&mut input, 0, &set[..cut], 0);
            assert!(matches!(guest.array_map(&input), (..0, None)), "set cut at {cut}");
            input.truncate(12 + cut.saturating_sub(1));
            assert!(matches!(guest.array_map(&input), (..0, None)), "input cut at {cut}");
        }
    }

    #[test]
    fn state_goes_out_and_in_through_the_calls() {
        let mut guest = Guest::<Counter>::new(&Params::new(&[("start", "40")])).unwrap();
        guest.advance(41);
        let state = guest.save().to_vec();
        let mut other = Guest::<Counter>::new(&Params::default()).unwrap();
        assert_eq!((other.watermark(), other.closed_before()), (i64::MIN, i64::MIN));
        other.load(&state).unwrap();
        assert_eq!((other.watermark(), other.pending()), (41, i32::MAX));
        assert_eq!(decode(other.emit()).unwrap()[0].value, b"41");
        assert_eq!(other.load(b"x"), Err("1 bytes".to_owned()));
        assert!(Guest::<Counter>::new(&Params::new(&[("end", "")])).unwrap_err().contains("known are: start"));
    }
}
