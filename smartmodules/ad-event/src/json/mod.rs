//! JSON to [`AdEvent`], in three tiers: speculate and verify, and where that fails, ask serde_json.
//!
//! 1. [`shape`]: what stands between the values is byte for byte as it was in earlier records of the stream.
//! 2. [`any_order`]: any order of keys and any white space; it also learns the shape for tier 1.
//! 3. [`strict`]: serde_json. Everything that the others do not expect ends here (escapes, exotic unknown fields, and
//!    every error), so what is accepted, and why the rest is not, is serde_json's own.
//!
//! The law, tested on mutated inputs: tiers 1 and 2 accept nothing that tier 3 refuses, and read the same values.
//! The first two tiers look at eight bytes at a time ([`word`]) and have few loops: in a sandbox that checks for time
//! at every loop head, a loop over bytes costs a third more than it does natively.

mod any_order;
mod keys;
mod shape;
mod strict;
mod word;

use crate::event::AdEvent;
use crate::fault::Fault;
use any_order::Learner;
use shape::Shape;

/// Reads JSON. Remembers only how the stream's records look, which decides the speed and never the outcome.
#[derive(Debug, Default)]
pub struct Parser {
    shape: Option<Shape>,
    learner: Learner,
}

impl Parser {
    /// Reads one event: a JSON object with all fields and nothing but white space around it. Unknown fields are
    /// ignored. Texts with escapes are put into `unescaped`, which is for this call alone.
    ///
    /// # Errors
    /// The first rule that the value breaks, with its place.
    #[inline]
    pub fn parse<'a>(
        &mut self,
        json: &'a [u8],
        unescaped: &'a mut String,
    ) -> Result<AdEvent<'a>, Fault> {
        let mut event = AdEvent::default();
        if let Some(shape) = &self.shape
            && shape.read(json, &mut event).is_some()
        {
            return Ok(event);
        }
        self.parse_other(json, unescaped)
    }

    #[inline(never)]
    fn parse_other<'a>(
        &mut self,
        json: &'a [u8],
        unescaped: &'a mut String,
    ) -> Result<AdEvent<'a>, Fault> {
        let mut event = AdEvent::default();
        match self.learner.read(json, &mut event) {
            Some(learnt) => {
                if let Some(shape) = learnt {
                    self.shape = Some(shape);
                }
                Ok(event)
            }
            None => strict::parse(json, unescaped),
        }
    }
}

#[cfg(test)]
mod tests;
