//! What a chain keeps from batch to batch: saving and restoring it, and asking after its windows.

use std::collections::BTreeMap;

use clickmill_schemas::partial::check_guest_part;
use clickmill_schemas::record::{COUNT_LEN, Records};

use crate::guest::{Cause, Guest};
use crate::kept;
use crate::{Chain, EngineError, Fault};

/// First bytes of an encoded state, the last of them the version of the encoding.
const MAGIC: [u8; 4] = *b"CMS\x01";

/// The saved states of a chain's stages, by the stages' names.
///
/// Encoded as `"CMS" 1, u16 count`, then for each stage in order of names `u16 length, name, i32 state version,
/// u32 length, state`, all big-endian. Whoever stores it adds the checksum.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChainState {
    stages: BTreeMap<String, StageState>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct StageState {
    version: i32,
    bytes: Vec<u8>,
}

impl ChainState {
    /// The state version and the size of the state of each stage that has one.
    pub fn stages(&self) -> impl Iterator<Item = (&str, i32, usize)> {
        self.stages.iter().map(|(name, state)| (name.as_str(), state.version, state.bytes.len()))
    }

    /// The encoding; see [`ChainState`].
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        // Chains are short, names are parameters and states come out of a 32-bit memory.
        out.extend_from_slice(&(self.stages.len() as u16).to_be_bytes());
        for (name, state) in &self.stages {
            out.extend_from_slice(&(name.len() as u16).to_be_bytes());
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(&state.version.to_be_bytes());
            out.extend_from_slice(&(state.bytes.len() as u32).to_be_bytes());
            out.extend_from_slice(&state.bytes);
        }
        out
    }

    /// Reads the encoding.
    ///
    /// # Errors
    /// [`EngineError::State`] where the bytes are not such an encoding.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, EngineError> {
        let damaged = |what: &str| EngineError::State(format!("its {} bytes cannot be read: {what}", bytes.len()));
        let rest = bytes.strip_prefix(&MAGIC).ok_or_else(|| damaged("another format"))?;
        let mut reader = Reader(rest);
        let stages = reader.stages().ok_or_else(|| damaged("cut short, or a name is not UTF-8 or not in order"))?;
        if !reader.0.is_empty() {
            return Err(damaged("bytes left over"));
        }
        Ok(Self { stages })
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*head)
    }

    fn slice(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(head)
    }

    fn stages(&mut self) -> Option<BTreeMap<String, StageState>> {
        let mut stages: BTreeMap<String, StageState> = BTreeMap::new();
        for _ in 0..u16::from_be_bytes(self.array()?) {
            let len = u16::from_be_bytes(self.array()?);
            let name = std::str::from_utf8(self.slice(len.into())?).ok()?;
            if stages.last_key_value().is_some_and(|(last, _)| last.as_str() >= name) {
                return None;
            }
            let version = i32::from_be_bytes(self.array()?);
            let len = u32::from_be_bytes(self.array()?);
            let bytes = self.slice(len as usize)?.to_vec();
            stages.insert(name.to_owned(), StageState { version, bytes });
        }
        Some(stages)
    }
}

impl Chain {
    /// The state of every stage that keeps one.
    ///
    /// # Errors
    /// The fault of the module that failed to save.
    pub fn save(&mut self) -> Result<ChainState, Fault> {
        self.guarded(|chain| {
            let mut state = ChainState::default();
            for stage in &mut chain.stages {
                if let Some((version, bytes)) = stage.save()? {
                    state.stages.insert(stage.name.clone(), StageState { version, bytes });
                }
            }
            Ok(state)
        })
    }

    /// Puts the chain where it was when `state` was saved, in fresh instances. States find their stage by name; a stage
    /// without one starts empty. After a restore every open window counts as changed.
    ///
    /// # Errors
    /// [`EngineError::State`] where a state has no stage to go to (nothing has changed then), [`EngineError::Fault`]
    /// where a module fails to start or refuses the state.
    pub fn restore(&mut self, state: &ChainState) -> Result<(), EngineError> {
        for (name, StageState { version, bytes }) in &state.stages {
            match self.stages.iter().find(|stage| stage.name == *name) {
                Some(stage) if stage.is_stateful() => {}
                _ if kept::is_disposable(*version, bytes) => {}
                Some(_) => {
                    return Err(EngineError::State(format!("stage {name} keeps none and is given one")));
                }
                None => {
                    return Err(EngineError::State(format!("there is one of stage {name}, and no such stage")));
                }
            }
        }
        Ok(self.load(state)?)
    }

    /// Takes the place of `old` at the record where it stands: the instance of a stage that is the same in both moves
    /// over, the state of one that has changed is saved and loaded. A stage that `old` has not starts empty.
    ///
    /// # Errors
    /// [`EngineError::State`] where a state has no stage to go to, [`EngineError::Fault`] where a module cannot save, or
    /// refuses what its predecessor saved. `old` can then go on; this chain is to be thrown away.
    pub fn succeed(&mut self, old: &mut Self) -> Result<(), EngineError> {
        old.usable()?;
        let mut same = Vec::new();
        for (at, stage) in old.stages.iter_mut().enumerate() {
            let heir = self.stages.iter().position(|heir| heir.name == stage.name);
            if let Some(heir) = heir.filter(|heir| self.stages[*heir].is_same(stage)) {
                same.push((heir, at));
                continue;
            }
            let Some((version, bytes)) = stage.save()? else {
                continue;
            };
            match heir {
                Some(heir) if self.stages[heir].is_stateful() => self.stages[heir].take_over(version, &bytes)?,
                _ if kept::is_disposable(version, &bytes) => {}
                _ => {
                    return Err(EngineError::State(format!(
                        "stage {} keeps one, and nothing in the new chain can take it over",
                        stage.name
                    )));
                }
            }
        }
        for (heir, at) in same {
            self.stages[heir].swap_instance(&mut old.stages[at]);
        }
        Ok(())
    }

    /// [`Chain::restore`] for a state that is known to fit.
    pub(crate) fn load(&mut self, state: &ChainState) -> Result<(), Fault> {
        let result = self.stages.iter_mut().try_for_each(|stage| {
            let state = state
                .stages
                .get(&stage.name)
                .filter(|state| stage.is_stateful() || !kept::is_disposable(state.version, &state.bytes));
            stage.load(state.map(|StageState { version, bytes }| (*version, bytes.as_slice())))
        });
        self.set_broken(result.as_ref().err().cloned());
        result
    }

    /// The windows that changed since the last call, as a record set (`clickmill_schemas::partial`); closed ones are
    /// forgotten by it.
    ///
    /// # Errors
    /// The fault of the module that failed to emit.
    pub fn emit(&mut self) -> Result<Vec<u8>, Fault> {
        let emitted = self.ask(|guest| {
            let Some(set) = guest.emit()? else {
                return Ok(None);
            };
            let malformed = |e: &dyn std::fmt::Display| Cause(format!("malformed windows: {e}"));
            for record in Records::new(set).map_err(|e| malformed(&e))? {
                // Behind the host's stamps, every reader of the topic has to read it.
                let record = record.map_err(|e| malformed(&e))?;
                check_guest_part(record.key.unwrap_or_default(), record.value).map_err(|e| malformed(&e))?;
            }
            Ok(Some(set.to_vec()))
        })?;
        Ok(emitted.flatten().unwrap_or_else(|| vec![0; COUNT_LEN]))
    }

    /// About how many bytes of closed windows wait for [`Chain::emit`].
    ///
    /// Where the module fails, this is 0 and the chain's next call reports the fault; likewise for the next two.
    pub fn pending_bytes(&mut self) -> usize {
        self.ask(Guest::pending_bytes).ok().flatten().unwrap_or(0)
    }

    /// Event time that the windows have seen, epoch milliseconds; `None` before the first record.
    pub fn watermark(&mut self) -> Option<i64> {
        self.ask(Guest::watermark).ok().flatten().flatten()
    }

    /// Windows that end at or before this are closed, epoch milliseconds.
    pub fn closed_before(&mut self) -> Option<i64> {
        self.ask(Guest::closed_before).ok().flatten().flatten()
    }

    /// Moves the watermark up to `watermark_ms`, if it is not there yet, and closes the windows that it passes.
    ///
    /// # Errors
    /// The fault of the module that failed.
    pub fn advance(&mut self, watermark_ms: i64) -> Result<(), Fault> {
        self.ask(|guest| guest.advance(watermark_ms)).map(drop)
    }

    /// Calls into the stage that keeps windows; `None` where there is none.
    fn ask<T>(&mut self, call: impl FnOnce(&mut Guest) -> Result<T, Cause>) -> Result<Option<T>, Fault> {
        let Some(windows) = self.windows else {
            return self.usable().map(|()| None);
        };
        self.guarded(|chain| chain.stages[windows].with(call).map(Some))
    }

    fn guarded<T>(&mut self, call: impl FnOnce(&mut Self) -> Result<T, Fault>) -> Result<T, Fault> {
        self.usable()?;
        let result = call(self);
        self.set_broken(result.as_ref().err().cloned());
        result
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn state() -> ChainState {
        let stage = |version, bytes: &[u8]| StageState { version, bytes: bytes.to_vec() };
        let stages = [("ctr-window", stage(-7, &[1; 300])), ("a", stage(i32::MAX, b""))];
        ChainState { stages: stages.into_iter().map(|(name, s)| (name.to_owned(), s)).collect() }
    }

    #[test]
    fn a_state_reads_back_and_no_cut_of_it_does() {
        let state = state();
        let mut bytes = state.to_bytes();
        assert_eq!(ChainState::from_bytes(&bytes).unwrap(), state);
        for cut in 0..bytes.len() {
            assert!(matches!(ChainState::from_bytes(&bytes[..cut]), Err(EngineError::State(_))), "cut at {cut}");
        }
        bytes.push(0);
        assert!(ChainState::from_bytes(&bytes).unwrap_err().to_string().contains("left over"));
        assert_eq!(state.stages().collect::<Vec<_>>(), [("a", i32::MAX, 0), ("ctr-window", -7, 300)]);
    }

    proptest! {
        #[test]
        fn flipped_bytes_never_panic_and_what_reads_is_what_was_written(at in 0usize..340, to: u8) {
            let mut bytes = state().to_bytes();
            let at = at % bytes.len();
            bytes[at] = to;
            if let Ok(state) = ChainState::from_bytes(&bytes) {
                prop_assert_eq!(state.to_bytes(), bytes);
            }
        }
    }
}
