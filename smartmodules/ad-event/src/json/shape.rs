//! Tier 1: records that look like the ones before them.
//!
//! A shape is what stood around the values of an earlier record: keys, colons, commas, quotes, white space, and unknown
//! fields too. Where the same bytes stand between values of the same kinds, the record has the same structure, and the
//! only thing left to check is the values themselves.

use super::word::{integer, may_be_non_ascii, string_end, word};
use crate::event::AdEvent;
use crate::fields::{FIELDS, Field, Int};

/// Longest text between two values; a record with a longer one has no shape.
const MAX_BETWEEN: usize = 32;

/// The text that leads up to a value. That of a string ends with its opening quote; that of what follows a string
/// begins with the closing quote.
#[derive(Clone, Copy, Debug)]
struct Between {
    words: [u64; MAX_BETWEEN / 8],
    len: usize,
}

impl Between {
    fn new(text: &[u8]) -> Option<Self> {
        let mut words = [0; MAX_BETWEEN / 8];
        if text.len() > MAX_BETWEEN {
            return None;
        }
        for (i, slot) in words.iter_mut().enumerate() {
            *slot = word(text, 8 * i);
        }
        Some(Self {
            words,
            len: text.len(),
        })
    }

    /// The position after this text, if it stands here.
    #[inline(always)]
    fn after(&self, json: &[u8], mut at: usize) -> Option<usize> {
        let end = at + self.len;
        for expected in self.words {
            if at + 8 >= end {
                // The last word, cut.
                let unused = 64 - 8 * (end - at) as u32;
                return ((word(json, at) ^ expected).checked_shl(unused) == Some(0)).then_some(end);
            }
            if word(json, at) != expected {
                return None;
            }
            at += 8;
        }
        None
    }
}

/// See the head of this file.
#[derive(Clone, Debug)]
pub struct Shape {
    before: [(Between, Field); FIELDS.len()],
    after_last: Between,
}

impl Shape {
    /// The shape of a record that was read: its fields in the order in which they stand there, and for each where its
    /// value begins and ends, without quotes. `None` where something between them is too long.
    pub fn new(json: &[u8], fields: &[(Field, usize, usize); FIELDS.len()]) -> Option<Self> {
        let first = (Between::new(&[])?, Field::Int(Int::Click));
        let mut before = [first; FIELDS.len()];
        let mut last_end = 0;
        for (slot, (field, start, end)) in before.iter_mut().zip(fields) {
            *slot = (Between::new(json.get(last_end..*start)?)?, *field);
            last_end = *end;
        }
        Some(Self {
            before,
            after_last: Between::new(json.get(last_end..)?)?,
        })
    }

    /// Reads a record of this shape; `None` where it has another, or something unexpected in its values.
    #[inline]
    pub fn read<'a>(&self, json: &'a [u8], event: &mut AdEvent<'a>) -> Option<()> {
        let mut at = 0;
        let mut seen = 0;
        for (between, field) in &self.before {
            let start = between.after(json, at)?;
            match *field {
                Field::Text(text) => {
                    at = string_end(json, start, &mut seen);
                    event.texts[text as usize] = json.get(start..at)?;
                }
                Field::Int(int) => {
                    let (value, end) = integer(json, start)?;
                    if !int.holds(value) {
                        return None;
                    }
                    at = end;
                    event.ints[int as usize] = value;
                }
            }
        }
        let end = self.after_last.after(json, at)?;
        let utf8 = !may_be_non_ascii(seen) || std::str::from_utf8(json).is_ok();
        (end == json.len() && utf8).then_some(())
    }
}
