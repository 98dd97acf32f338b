//! Tier 1: records that look like the ones before them.
//!
//! A shape is what stood around the values of an earlier record: keys, colons, commas, quotes, white space, and unknown
//! fields too. Where the same bytes stand between values of the same kinds, the record has the same structure, and the
//! only thing left to check is the values themselves.
//!
//! A value is first tried at the length of the last one in its place. So where the next value begins does not depend on
//! the bytes of this one, and the processor reads several values at once; that halves the time. Where lengths change, a
//! wrong guess costs more than waiting, and the value is read to its end.

use crate::event::{Slots, Span};
use crate::fields::{FIELDS, Field, Int};
use crate::word::{
    WINDOW, Window, integer_from, is_plain_word, low_bytes, may_be_non_ascii, number_of, string_end, string_end_in,
    window, word, word_in,
};

/// Longest text between two values; a record with a longer one has no shape.
const MAX_BETWEEN: usize = 32;

/// The text that leads up to a value. That of a string ends with its opening quote; that of what follows a string
/// begins with the closing quote.
#[derive(Clone, Copy, Debug)]
struct Between {
    words: [u64; MAX_BETWEEN / 8],
    /// Of each word the bytes that count.
    masks: [u64; MAX_BETWEEN / 8],
    len: usize,
}

impl Between {
    /// `None` where the text is too long, or empty, which it is never between values.
    fn new(text: &[u8]) -> Option<Self> {
        let words = std::array::from_fn(|i| word(text, 8 * i));
        let masks = std::array::from_fn(|i| low_bytes(u64::MAX, text.len().saturating_sub(8 * i).min(8)));
        (1..=MAX_BETWEEN).contains(&text.len()).then_some(Self { words, masks, len: text.len() })
    }

    /// Whether this text stands behind a value of `len` bytes, at most [`NEAR`].
    #[inline(always)]
    fn follows(&self, window: &Window, len: usize) -> bool {
        let differing = |i| (word_in(window, len, i) ^ self.words[i]) & self.masks[i];
        if self.len <= 8 {
            return differing(0) == 0;
        }
        let differing = differing(0) | differing(1) | differing(2) | if self.len <= 24 { 0 } else { differing(3) };
        differing == 0
    }

    /// Whether this text stands here.
    #[inline(never)]
    fn stands_at(&self, json: &[u8], at: usize) -> bool {
        (0..self.words.len()).all(|i| (word(json, at + 8 * i) ^ self.words[i]) & self.masks[i] == 0)
    }
}

/// A value: its field, its length in the last record, and the text that follows.
#[derive(Clone, Copy, Debug)]
struct Step {
    field: Field,
    /// At most [`NEAR`] where it is steady.
    len: usize,
    /// Whether all values so far had this length, which then is worth a guess.
    is_steady: bool,
    after: Between,
}

/// See the head of this file.
#[derive(Clone, Debug)]
pub struct Shape {
    before_first: Between,
    steps: [Step; FIELDS.len()],
    /// The end of the record that is read, and zeros behind it.
    tail: [u8; 2 * WINDOW],
}

impl Shape {
    /// The shape of a record that was read: its fields in the order in which they stand there, and for each where its
    /// value stands, without quotes. `None` where something between them is too long.
    pub fn new(json: &[u8], fields: &[(Field, Span); FIELDS.len()]) -> Option<Self> {
        let before_first = Between::new(json.get(..fields[0].1.start)?)?;
        let none = Step { field: Field::Int(Int::Click), len: 0, is_steady: true, after: before_first };
        let mut steps = [none; FIELDS.len()];
        let nexts = fields[1..].iter().map(|(_, span)| span.start).chain([json.len()]);
        for ((step, (field, span)), next) in steps.iter_mut().zip(fields).zip(nexts) {
            let after = Between::new(json.get(span.start + span.len..next)?)?;
            *step = Step { field: *field, len: span.len, is_steady: span.len <= 8, after };
        }
        Some(Self { before_first, steps, tail: [0; 2 * WINDOW] })
    }

    /// Reads a record of this shape; `None` where it has another, or something unexpected in its values.
    #[inline]
    pub fn read(&mut self, json: &[u8], slots: &mut Slots) -> Option<()> {
        let last_window = json.len().checked_sub(WINDOW)?;
        self.tail[..WINDOW].copy_from_slice(&json[last_window..]);
        if !self.before_first.follows(window(json, 0)?, 0) {
            return None;
        }
        let mut at = self.before_first.len;
        let mut seen = 0;
        for step in &mut self.steps {
            let window = match window(json, at) {
                Some(window) => window,
                // The end is in range of `at`; past it there is no window in the tail either.
                None => window(&self.tail, at - last_window)?,
            };
            let len = match step.field {
                Field::Text(text) => {
                    let len = step.text(json, at, window, &mut seen)?;
                    slots.texts[text as usize] = Span { start: at, len };
                    len
                }
                Field::Int(int) => {
                    let (value, len) = step.integer(window)?;
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
    fn text(&mut self, json: &[u8], at: usize, window: &Window, seen: &mut u64) -> Option<usize> {
        let word = word_in(window, 0, 0);
        if self.is_steady && is_plain_word(word, self.len) && self.after.follows(window, self.len) {
            *seen |= word;
            return Some(self.len);
        }
        self.other_text(json, at, window, seen)
    }

    #[inline(never)]
    fn other_text(&mut self, json: &[u8], at: usize, window: &Window, seen: &mut u64) -> Option<usize> {
        self.is_steady = false;
        match string_end_in(window, 0, seen) {
            Some(len) => self.after.follows(window, len).then_some(len),
            None => {
                let end = string_end(json, at, seen);
                self.after.stands_at(json, end).then_some(end - at)
            }
        }
    }

    /// The integer that begins here, and its length, if what is expected follows.
    #[inline(always)]
    fn integer(&mut self, window: &Window) -> Option<(i64, usize)> {
        let word = word_in(window, 0, 0);
        if self.is_steady
            && let Some(value) = number_of(word, self.len)
            && self.after.follows(window, self.len)
        {
            return Some((value, self.len));
        }
        self.is_steady = false;
        let (value, len) = integer_from(word, || word_in(window, 0, 1))?;
        self.after.follows(window, len).then_some((value, len))
    }
}
