//! An ad event in memory, its texts borrowed from wherever they were read.

use crate::fields::{INT_COUNT, Int, TEXT_COUNT, Text};

/// An ad event. Its texts are UTF-8 (whoever makes one checks that), its integers in the range of their fields.
#[derive(Clone, Copy, Debug, Default)]
pub struct AdEvent<'a> {
    pub(crate) texts: [&'a [u8]; TEXT_COUNT],
    pub(crate) ints: [i64; INT_COUNT],
    /// Whether texts were read from a form that can hold a NUL, which JSON without escapes cannot.
    pub(crate) may_have_nul: bool,
}

impl<'a> AdEvent<'a> {
    /// The bytes of a text.
    #[must_use]
    #[inline]
    pub const fn text(&self, field: Text) -> &'a [u8] {
        self.texts[field as usize]
    }

    /// The bytes of all texts, in no order that matters.
    #[must_use]
    #[inline]
    pub const fn texts(&self) -> &[&'a [u8]; TEXT_COUNT] {
        &self.texts
    }

    /// Whether any text may have a NUL character.
    #[must_use]
    #[inline]
    pub fn has_nul(&self) -> bool {
        self.may_have_nul && self.texts.iter().any(|text| text.contains(&0))
    }

    /// The value of an integer.
    #[must_use]
    #[inline]
    pub const fn int(&self, field: Int) -> i64 {
        self.ints[field as usize]
    }
}

impl PartialEq for AdEvent<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.texts == other.texts && self.ints == other.ints
    }
}

impl Eq for AdEvent<'_> {}
