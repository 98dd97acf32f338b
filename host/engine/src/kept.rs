//! What the host keeps for a stage whose module has no state of its own: an accumulator, and the records to look back on.

use crate::guest::Cause;
use crate::lookback::Recent;

/// State version of what is kept here; no module's own, by its unusual number.
pub(crate) const STATE_VERSION: i32 = i32::from_be_bytes(*b"KEP\x01");

/// Whether a state may be forgotten where its stage is gone, or no longer looks back: it is only records to look back on.
pub(crate) fn is_disposable(version: i32, bytes: &[u8]) -> bool {
    version == STATE_VERSION && bytes.first() == Some(&0)
}

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct Kept {
    /// Of an aggregate.
    pub accumulator: Option<Vec<u8>>,
    pub recent: Option<Recent>,
}

impl Kept {
    /// `u8 1, u32 length, accumulator` or `u8 0`, then what is looked back on, if anything is; `None` where the stage
    /// keeps nothing.
    pub(crate) fn save(&self) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        match &self.accumulator {
            Some(accumulator) => {
                out.push(1);
                // It came out of a 32-bit memory.
                out.extend_from_slice(&(accumulator.len() as u32).to_be_bytes());
                out.extend_from_slice(accumulator);
            }
            None if self.recent.is_some() => out.push(0),
            None => return None,
        }
        if let Some(recent) = &self.recent {
            out.extend(recent.input().into_iter().flatten());
        }
        Some(out)
    }

    pub(crate) fn is_something(&self) -> bool {
        self.accumulator.is_some() || self.recent.is_some()
    }

    pub(crate) fn clear(&mut self) {
        self.accumulator.iter_mut().for_each(Vec::clear);
        self.recent.iter_mut().for_each(Recent::clear);
    }

    /// Puts back what [`Kept::save`] gave. A lookback that is new begins with nothing, one that is gone is forgotten.
    pub(crate) fn load(&mut self, version: i32, bytes: &[u8]) -> Result<(), Cause> {
        if version != STATE_VERSION {
            return Err(Cause(format!(
                "it is given a module's own state of version {version}, and what the host keeps for it has version {STATE_VERSION}"
            )));
        }
        self.read(bytes).ok_or_else(|| {
            Cause(format!("the state that the host keeps for it cannot be read ({} bytes)", bytes.len()))
        })
    }

    fn read(&mut self, bytes: &[u8]) -> Option<()> {
        self.clear();
        let rest = match (bytes.split_first()?, &mut self.accumulator) {
            ((1, rest), Some(accumulator)) => {
                let (len, rest) = rest.split_first_chunk::<4>()?;
                let (found, rest) = rest.split_at_checked(u32::from_be_bytes(*len) as usize)?;
                accumulator.extend_from_slice(found);
                rest
            }
            ((0, rest), None) => rest,
            _ => return None,
        };
        match &mut self.recent {
            Some(recent) if !rest.is_empty() => recent.load(rest),
            _ => Some(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Lookback;

    fn kept(accumulates: bool, looks_back: bool) -> Kept {
        let lookback = Lookback { last: 3, age: None };
        Kept { accumulator: accumulates.then(Vec::new), recent: looks_back.then(|| Recent::new(&lookback, 3)) }
    }

    #[test]
    fn what_is_kept_is_put_back_and_no_cut_of_it_is() {
        let mut full = kept(true, true);
        full.accumulator = Some(b"12".to_vec());
        let bytes = full.save().unwrap();
        let mut read = kept(true, true);
        read.load(STATE_VERSION, &bytes).unwrap();
        assert_eq!(read.accumulator.as_deref(), Some(&b"12"[..]));
        for cut in (0..7).chain(8..bytes.len()) {
            assert!(kept(true, true).load(STATE_VERSION, &bytes[..cut]).is_err(), "cut at {cut}");
        }
        let mut without = kept(true, false);
        without.load(STATE_VERSION, &bytes).unwrap();
        kept(true, true).load(STATE_VERSION, &without.save().unwrap()).unwrap();
        assert_eq!(kept(false, false).save(), None);
    }

    #[test]
    fn a_state_of_another_sort_is_refused() {
        let bytes = kept(true, false).save().unwrap();
        assert!(kept(true, false).load(1, &bytes).unwrap_err().0.contains("own state of version 1"));
        assert!(kept(false, true).load(STATE_VERSION, &bytes).unwrap_err().0.contains("cannot be read (5 bytes)"));
    }
}
