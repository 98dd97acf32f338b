//! Tier 1: records that look like the ones before them.
//!
//! A shape is what stood around the values of an earlier record: keys, colons, commas, quotes, white space, and unknown
//! fields too. Where the same bytes stand between values of the same kinds, the record has the same structure, and the
//! only thing left to check is the values themselves.
//!
//! A value is first tried at the length of the last one in its place. So where the next value begins does not depend on
//! the bytes of this one, and the processor reads several values at once; that halves the time.

use crate::event::{Slots, Span};
use crate::fields::{FIELDS, Field, Int};
use crate::word::{integer, integer_of, is_plain, may_be_non_ascii, string_end, word};

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
    /// `None` where the text is too long, or empty, which it is never between values.
    fn new(text: &[u8]) -> Option<Self> {
        let words = std::array::from_fn(|i| word(text, 8 * i));
        (1..=MAX_BETWEEN).contains(&text.len()).then_some(Self { words, len: text.len() })
    }

    /// Whether this text stands here.
    #[inline(always)]
    fn stands_at(&self, json: &[u8], mut at: usize) -> bool {
        let mut left = self.len;
        for expected in self.words {
            let differing = word(json, at) ^ expected;
            if left <= 8 {
                return differing << (64 - 8 * left) == 0;
            }
            if differing != 0 {
                return false;
            }
            at += 8;
            left -= 8;
        }
        false
    }
}

/// A value: its field, its length in the last record, and the text that follows.
#[derive(Clone, Copy, Debug)]
struct Step {
    field: Field,
    len: usize,
    after: Between,
}

/// See the head of this file.
#[derive(Clone, Debug)]
pub struct Shape {
    before_first: Between,
    steps: [Step; FIELDS.len()],
}

impl Shape {
    /// The shape of a record that was read: its fields in the order in which they stand there, and for each where its
    /// value stands, without quotes. `None` where something between them is too long.
    pub fn new(json: &[u8], fields: &[(Field, Span); FIELDS.len()]) -> Option<Self> {
        let before_first = Between::new(json.get(..fields[0].1.start)?)?;
        let none = Step { field: Field::Int(Int::Click), len: 0, after: before_first };
        let mut steps = [none; FIELDS.len()];
        let nexts = fields[1..].iter().map(|(_, span)| span.start).chain([json.len()]);
        for ((step, (field, span)), next) in steps.iter_mut().zip(fields).zip(nexts) {
            let after = Between::new(json.get(span.start + span.len..next)?)?;
            *step = Step { field: *field, len: span.len, after };
        }
        Some(Self { before_first, steps })
    }

    /// Reads a record of this shape; `None` where it has another, or something unexpected in its values.
    #[inline]
    pub fn read(&mut self, json: &[u8], slots: &mut Slots) -> Option<()> {
        if !self.before_first.stands_at(json, 0) {
            return None;
        }
        let mut at = self.before_first.len;
        let mut seen = 0;
        for step in &mut self.steps {
            let len = match step.field {
                Field::Text(text) => {
                    let len = step.text(json, at, &mut seen)?;
                    slots.texts[text as usize] = Span { start: at, len };
                    len
                }
                Field::Int(int) => {
                    let (value, len) = step.integer(json, at)?;
                    if !int.holds(value) {
                        return None;
                    }
                    slots.ints[int as usize] = value;
                    len
                }
            };
            at += len + step.after.len;
        }
        let utf8 = !may_be_non_ascii(seen) || std::str::from_utf8(json).is_ok();
        (at == json.len() && utf8).then_some(())
    }
}

impl Step {
    /// The length of a string that begins here, if it is plain and what is expected follows.
    #[inline(always)]
    fn text(&mut self, json: &[u8], at: usize, seen: &mut u64) -> Option<usize> {
        if is_plain(json, at, self.len, seen) && self.after.stands_at(json, at + self.len) {
            return Some(self.len);
        }
        let len = string_end(json, at, seen) - at;
        if !self.after.stands_at(json, at + len) {
            return None;
        }
        self.len = len;
        Some(len)
    }

    /// The integer that begins here, and its length, if what is expected follows.
    #[inline(always)]
    fn integer(&mut self, json: &[u8], at: usize) -> Option<(i64, usize)> {
        if (1..=8).contains(&self.len)
            && let Some(value) = integer_of(json, at, self.len)
            && self.after.stands_at(json, at + self.len)
        {
            return Some((value, self.len));
        }
        let (value, end) = integer(json, at)?;
        if !self.after.stands_at(json, end) {
            return None;
        }
        self.len = end - at;
        Some((value, end - at))
    }
}
