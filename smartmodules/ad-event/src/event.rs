//! An ad event in memory: where its texts stand in what was read, and its integers.

use crate::fields::{INT_COUNT, Int, TEXT_COUNT, Text};

/// Place of a text: in the source, or, past its end, in the text that was unescaped.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Span {
    pub start: usize,
    pub len: usize,
}

/// Room for one event, to be used again for the next.
#[derive(Clone, Debug, Default)]
pub struct Slots {
    pub(crate) texts: [Span; TEXT_COUNT],
    pub(crate) ints: [i64; INT_COUNT],
}

/// An ad event. Its texts are UTF-8 (whoever makes one checks that), its integers in the range of their fields.
#[derive(Clone, Copy, Debug)]
pub struct AdEvent<'a> {
    pub(crate) source: &'a [u8],
    pub(crate) unescaped: &'a [u8],
    pub(crate) slots: &'a Slots,
    /// Whether texts were read from a form that can hold a NUL, which JSON without escapes cannot.
    pub(crate) may_have_nul: bool,
}

impl<'a> AdEvent<'a> {
    /// The bytes of a text.
    #[must_use]
    #[inline]
    pub fn text(&self, field: Text) -> &'a [u8] {
        let Span { start, len } = self.slots.texts[field as usize];
        self.from(start).get(..len).unwrap_or_default()
    }

    /// Length of the longest text, in bytes.
    #[must_use]
    #[inline]
    pub fn longest_text(&self) -> usize {
        self.slots.texts.iter().fold(0, |longest, span| longest.max(span.len))
    }

    /// Whether any text has a NUL character.
    #[must_use]
    #[inline]
    pub fn has_nul(&self) -> bool {
        self.may_have_nul && Text::ALL.iter().any(|field| self.text(*field).contains(&0))
    }

    /// The value of an integer.
    #[must_use]
    #[inline]
    pub fn int(&self, field: Int) -> i64 {
        self.slots.ints[field as usize]
    }

    /// The text that begins at a position, and everything behind it.
    #[inline(always)]
    pub(crate) fn from(&self, start: usize) -> &'a [u8] {
        let (within, start) = match start.checked_sub(self.source.len()) {
            None => (self.source, start),
            Some(start) => (self.unescaped, start),
        };
        within.get(start..).unwrap_or_default()
    }
}

impl PartialEq for AdEvent<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.slots.ints == other.slots.ints && Text::ALL.iter().all(|field| self.text(*field) == other.text(*field))
    }
}

impl Eq for AdEvent<'_> {}
