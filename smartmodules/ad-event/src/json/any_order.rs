//! Tier 2: keys in any order, white space anywhere, unknown fields with plain values.
//!
//! Where two records in a row look alike it hands their [`Shape`] to tier 1.

use super::keys::field_of;
use super::shape::Shape;
use super::word::{integer, low_bytes, may_be_non_ascii, skip_white_space, string_end, word};
use crate::event::AdEvent;
use crate::fields::{FIELDS, Field, Int};

/// Reads records, and notices when they look alike.
#[derive(Debug, Default)]
pub struct Learner {
    /// Of the last record: the order of its fields, and how far apart its values stand.
    last_look: u64,
}

/// What was read so far: fields in the order in which they stand, with start and end of their values.
struct Seen {
    fields: [(Field, usize, usize); FIELDS.len()],
    count: usize,
    set: u32,
    look: u64,
    last_end: usize,
    bytes: u64,
}

impl Seen {
    /// Notes a field; `None` where it was there before.
    #[inline(always)]
    fn note(&mut self, field: Field, bit: u32, start: usize, end: usize) -> Option<()> {
        if self.set & (1 << bit) != 0 {
            return None;
        }
        self.set |= 1 << bit;
        *self.fields.get_mut(self.count)? = (field, start, end);
        self.count += 1;
        let between = (start - self.last_end) as u64;
        self.look =
            (self.look ^ (between << 5 | u64::from(bit))).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.last_end = end;
        Some(())
    }
}

impl Learner {
    /// Reads a record; `None` where something in it is unexpected. With it comes its shape, if it is worth learning.
    pub fn read<'a>(&mut self, json: &'a [u8], event: &mut AdEvent<'a>) -> Option<Option<Shape>> {
        let seen = read(json, event)?;
        let alike = seen.look == self.last_look;
        self.last_look = seen.look;
        Some(if alike {
            Shape::new(json, &seen.fields)
        } else {
            None
        })
    }
}

fn read<'a>(json: &'a [u8], event: &mut AdEvent<'a>) -> Option<Seen> {
    let mut seen = Seen {
        fields: [(Field::Int(Int::Click), 0, 0); FIELDS.len()],
        count: 0,
        set: 0,
        look: 0,
        last_end: 0,
        bytes: 0,
    };
    let mut at = after(b'{', json, skip_white_space(json, 0))?;
    loop {
        at = member(json, skip_white_space(json, at), event, &mut seen)?;
        at = skip_white_space(json, at);
        match json.get(at)? {
            b',' => at += 1,
            b'}' => break,
            _ => return None,
        }
    }
    let utf8 = !may_be_non_ascii(seen.bytes) || std::str::from_utf8(json).is_ok();
    let whole = seen.count == FIELDS.len() && skip_white_space(json, at + 1) == json.len();
    (whole && utf8).then_some(seen)
}

/// The position after a byte that must stand here.
#[inline(always)]
fn after(expected: u8, json: &[u8], at: usize) -> Option<usize> {
    (json.get(at) == Some(&expected)).then_some(at + 1)
}

/// Reads a key and its value, and says where they end.
#[inline(always)]
fn member<'a>(
    json: &'a [u8],
    at: usize,
    event: &mut AdEvent<'a>,
    seen: &mut Seen,
) -> Option<usize> {
    let key = after(b'"', json, at)?;
    let key_end = string_end(json, key, &mut seen.bytes);
    let len = key_end - key;
    let colon = skip_white_space(json, after(b'"', json, key_end)?);
    let value = skip_white_space(json, after(b':', json, colon)?);
    let words = match len {
        ..8 => (low_bytes(word(json, key), len), 0),
        8..=16 => (word(json, key), low_bytes(word(json, key + 8), len - 8)),
        _ => return unknown(json, value, seen),
    };
    match field_of(words) {
        Some(field @ Field::Text(text)) => {
            let start = after(b'"', json, value)?;
            let end = string_end(json, start, &mut seen.bytes);
            event.texts[text as usize] = json.get(start..end)?;
            seen.note(field, 16 + text as u32, start, end)?;
            after(b'"', json, end)
        }
        Some(field @ Field::Int(int)) => {
            let (number, end) = integer(json, value)?;
            event.ints[int as usize] = number;
            seen.note(field, int as u32, value, end)?;
            int.holds(number).then_some(end)
        }
        None => unknown(json, value, seen),
    }
}

/// The position after the plain value of an unknown field.
#[cold]
fn unknown(json: &[u8], at: usize, seen: &mut Seen) -> Option<usize> {
    for literal in [&b"null"[..], b"true", b"false"] {
        if json.get(at..)?.starts_with(literal) {
            return Some(at + literal.len());
        }
    }
    match json.get(at)? {
        b'"' => after(b'"', json, string_end(json, at + 1, &mut seen.bytes)),
        _ => number_end(json, at),
    }
}

/// The position after a number.
fn number_end(json: &[u8], at: usize) -> Option<usize> {
    let after_digits = |start: usize| {
        let rest = json.get(start..)?;
        let len = rest
            .iter()
            .position(|b| !b.is_ascii_digit())
            .unwrap_or(rest.len());
        (len > 0).then_some(start + len)
    };
    let start = after(b'-', json, at).unwrap_or(at);
    let mut at = after(b'0', json, start).or_else(|| after_digits(start))?;
    if let Some(fraction) = after(b'.', json, at) {
        at = after_digits(fraction)?;
    }
    if let Some(b'e' | b'E') = json.get(at) {
        let sign = usize::from(matches!(json.get(at + 1), Some(b'+' | b'-')));
        at = after_digits(at + 1 + sign)?;
    }
    Some(at)
}
