//! Tier 2: keys in any order, white space anywhere, strings with escapes, unknown fields with plain values.
//!
//! Where two records in a row look alike it hands their [`Shape`] to tier 1.

use super::keys::field_of;
use super::shape::Shape;
use super::value_end::{number_end, skip_white_space};
use crate::event::{Slots, Span};
use crate::fields::{FIELDS, Field, Int};
use crate::word::{integer, low_bytes, may_be_non_ascii, string_end, word};

/// Reads records, and notices when they look alike.
#[derive(Debug, Default)]
pub struct Learner {
    /// Of the last record: the order of its fields, and how far apart its values stand.
    last_look: u64,
}

/// A record that is being read.
struct Members<'a> {
    json: &'a [u8],
    slots: &'a mut Slots,
    unescaped: &'a mut String,
    /// The fields in the order in which they stand, and where their values do.
    fields: [(Field, Span); FIELDS.len()],
    count: usize,
    set: u32,
    look: u64,
    last_end: usize,
    /// The words of all strings.
    seen: u64,
}

impl Learner {
    /// Reads a record; `None` where something in it is unexpected. With it comes its shape, if it is worth learning.
    pub fn read(&mut self, json: &[u8], slots: &mut Slots, unescaped: &mut String) -> Option<Option<Shape>> {
        let fields = [(Field::Int(Int::Click), Span::default()); FIELDS.len()];
        let mut members = Members { json, slots, unescaped, fields, count: 0, set: 0, look: 0, last_end: 0, seen: 0 };
        members.read()?;
        let alike = members.look == self.last_look && members.unescaped.is_empty();
        self.last_look = members.look;
        Some(if alike { Shape::new(json, &members.fields) } else { None })
    }
}

/// The position after a byte that must stand here.
#[inline(always)]
fn after(expected: u8, json: &[u8], at: usize) -> Option<usize> {
    (json.get(at) == Some(&expected)).then_some(at + 1)
}

impl Members<'_> {
    fn read(&mut self) -> Option<()> {
        let json = self.json;
        let mut at = after(b'{', json, skip_white_space(json, 0))?;
        loop {
            at = self.member(skip_white_space(json, at))?;
            at = skip_white_space(json, at);
            match json.get(at)? {
                b',' => at += 1,
                b'}' => break,
                _ => return None,
            }
        }
        let utf8 = !may_be_non_ascii(self.seen) || std::str::from_utf8(json).is_ok();
        let whole = self.count == FIELDS.len() && skip_white_space(json, at + 1) == json.len();
        (whole && utf8).then_some(())
    }

    /// Reads a key and its value, and says where they end.
    #[inline(always)]
    fn member(&mut self, at: usize) -> Option<usize> {
        let json = self.json;
        let key = after(b'"', json, at)?;
        let key_end = string_end(json, key, &mut self.seen);
        let len = key_end - key;
        let colon = skip_white_space(json, after(b'"', json, key_end)?);
        let value = skip_white_space(json, after(b':', json, colon)?);
        let words = match len {
            ..8 => (low_bytes(word(json, key), len), 0),
            8..=16 => (word(json, key), low_bytes(word(json, key + 8), len - 8)),
            _ => return self.unknown(value),
        };
        match field_of(words) {
            Some(field @ Field::Text(text)) => {
                let start = after(b'"', json, value)?;
                let end = string_end(json, start, &mut self.seen);
                let span = Span { start, len: end - start };
                self.note(field, 16 + text as u32, span)?;
                self.slots.texts[text as usize] = span;
                if json.get(end) == Some(&b'"') {
                    return Some(end + 1);
                }
                let (span, end) = self.escaped(start)?;
                self.slots.texts[text as usize] = span;
                Some(end)
            }
            Some(field @ Field::Int(int)) => {
                let (number, end) = integer(json, value)?;
                self.note(field, int as u32, Span { start: value, len: end - value })?;
                self.slots.ints[int as usize] = number;
                int.holds(number).then_some(end)
            }
            None => self.unknown(value),
        }
    }

    /// Notes a field; `None` where it was there before.
    #[inline(always)]
    fn note(&mut self, field: Field, bit: u32, span: Span) -> Option<()> {
        if self.set & (1 << bit) != 0 {
            return None;
        }
        self.set |= 1 << bit;
        *self.fields.get_mut(self.count)? = (field, span);
        self.count += 1;
        let between = (span.start - self.last_end) as u64;
        self.look = (self.look ^ (between << 5 | u64::from(bit))).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.last_end = span.start + span.len;
        Some(())
    }

    /// Reads a string that has escapes, or what looks like it: serde_json's business. Says where it stands now, and the
    /// position after it.
    #[inline(never)]
    fn escaped(&mut self, start: usize) -> Option<(Span, usize)> {
        let quote = start - 1;
        let mut strings = serde_json::Deserializer::from_slice(self.json.get(quote..)?).into_iter::<String>();
        let text = strings.next()?.ok()?;
        let span = Span { start: self.json.len() + self.unescaped.len(), len: text.len() };
        self.unescaped.push_str(&text);
        Some((span, quote + strings.byte_offset()))
    }

    /// The position after the plain value of an unknown field.
    #[cold]
    fn unknown(&mut self, at: usize) -> Option<usize> {
        for literal in [&b"null"[..], b"true", b"false"] {
            if self.json.get(at..)?.starts_with(literal) {
                return Some(at + literal.len());
            }
        }
        match self.json.get(at)? {
            b'"' => after(b'"', self.json, string_end(self.json, at + 1, &mut self.seen)),
            _ => number_end(self.json, at),
        }
    }
}
