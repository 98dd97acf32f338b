//! Keys, and what of them is compared.

/// A record's value in a dimension. A table is used with one kind only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key<'a> {
    /// UTF-8 text.
    Text(&'a [u8]),
    /// Shown as decimal text.
    Integer(i64),
}

/// A key as it is compared: nearly always these 12 bytes decide.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Probe {
    /// An integer, a short text's bytes, or a long text's hash.
    pub word: u64,
    /// A text's length, or [`Probe::INTEGER`].
    pub kind: u32,
}

impl Probe {
    /// Longest text that `word` holds whole.
    const SHORT: u32 = 8;
    const INTEGER: u32 = u32::MAX;

    /// The probe of a key.
    #[must_use]
    #[inline]
    pub fn new(key: Key<'_>) -> Self {
        match key {
            Key::Integer(value) => Self { word: value as u64, kind: Self::INTEGER },
            Key::Text(text) => match <[u8; 8]>::try_from(text) {
                Ok(eight) => Self { word: u64::from_le_bytes(eight), kind: Self::SHORT },
                Err(_) => Self::of_text(text),
            },
        }
    }

    #[inline(never)]
    fn of_text(text: &[u8]) -> Self {
        let little_endian = |bytes: &[u8]| bytes.iter().rev().fold(0, |word, b| word << 8 | u64::from(*b));
        let mut chunks = text.chunks_exact(8);
        let word = chunks.by_ref().fold(0, |word, chunk| mix(word ^ little_endian(chunk)));
        Self { word: word ^ little_endian(chunks.remainder()), kind: text.len() as u32 }
    }

    /// Whether equal probes mean equal keys.
    #[must_use]
    #[inline]
    pub const fn is_exact(self) -> bool {
        self.kind <= Self::SHORT || self.kind == Self::INTEGER
    }

    /// Where to start looking in an index of a power of two of places, at least two. The top bits of a product depend on
    /// all bits of its factors.
    #[must_use]
    #[inline]
    pub fn place(self, index_len: usize) -> usize {
        (self.word.wrapping_mul(MULTIPLIER) >> (index_len as u64).leading_zeros() >> 1) as usize
    }
}

/// Odd, and without a pattern.
pub const MULTIPLIER: u64 = 0x9E37_79B9_7F4A_7C15;

fn mix(word: u64) -> u64 {
    let product = (word ^ word >> 32).wrapping_mul(MULTIPLIER);
    product ^ product >> 29
}
