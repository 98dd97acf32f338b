//! JSON to [`AdEvent`], in three tiers: speculate and verify, and where that fails, ask serde_json.
//!
//! 1. [`shape`]: what stands between the values is byte for byte as it was in earlier records of the stream.
//! 2. [`any_order`]: any order of keys and any white space; a string with escapes is serde_json's even here. It also
//!    learns the shape for tier 1.
//! 3. [`strict`]: serde_json. Everything that the others do not expect ends here, and so does every error: what is
//!    accepted, and why the rest is not, is serde_json's own.
//!
//! The law, tested on mutated inputs: tiers 1 and 2 accept nothing that tier 3 refuses, and read the same values.
//! The first two tiers look at eight bytes at a time ([`crate::word`]) and have few loops: in a sandbox that checks for time
//! at every loop head, a loop over bytes costs a third more than it does natively.

mod any_order;
mod keys;
mod shape;
mod strict;
mod value_end;

use crate::event::{AdEvent, Slots};
use crate::fault::Fault;
use any_order::Learner;
use shape::Shape;

/// Reads JSON. Remembers only how the stream's records look, which decides the speed and never the outcome.
#[derive(Debug, Default)]
pub struct Parser {
    shape: Option<Shape>,
    learner: Learner,
    slots: Slots,
    /// The texts of the last record that had escapes.
    unescaped: String,
}

impl Parser {
    /// Reads one event: a JSON object with all fields and nothing but white space around it. Unknown fields are ignored.
    ///
    /// # Errors
    /// The first rule that the value breaks, with its place.
    #[inline]
    pub fn parse<'a>(&'a mut self, json: &'a [u8]) -> Result<AdEvent<'a>, Fault> {
        self.unescaped.clear();
        let read = self.shape.as_mut().and_then(|shape| shape.read(json, &mut self.slots));
        if read.is_none() {
            self.parse_other(json)?;
        }
        let unescaped = self.unescaped.as_bytes();
        Ok(AdEvent { source: json, unescaped, slots: &self.slots, may_have_nul: !unescaped.is_empty() })
    }

    #[inline(never)]
    fn parse_other(&mut self, json: &[u8]) -> Result<(), Fault> {
        match self.learner.read(json, &mut self.slots, &mut self.unescaped) {
            Some(Some(shape)) => self.shape = Some(shape),
            Some(None) => {}
            None => {
                self.unescaped.clear();
                strict::parse(json, &mut self.slots, &mut self.unescaped)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
