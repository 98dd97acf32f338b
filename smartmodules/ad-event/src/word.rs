//! Eight bytes at a time, as a little-endian word.
//!
//! Owns the arithmetic on words; which words to look at is the callers' matter. Bytes past the end read as 0, which is
//! neither a digit nor allowed in a string.

const LOW_BITS: u64 = 0x0101_0101_0101_0101;
const HIGH_BITS: u64 = 0x8080_8080_8080_8080;

/// The word at a position.
#[inline(always)]
pub fn word(bytes: &[u8], at: usize) -> u64 {
    match bytes.get(at..).and_then(<[u8]>::first_chunk) {
        Some(bytes) => u64::from_le_bytes(*bytes),
        None => last_word(bytes, at),
    }
}

/// The word at one of the last seven positions, or past them.
#[inline(never)]
fn last_word(bytes: &[u8], at: usize) -> u64 {
    let rest = bytes.get(at..).unwrap_or_default();
    match bytes.last_chunk() {
        Some(last) if !rest.is_empty() => u64::from_le_bytes(*last) >> (64 - 8 * rest.len()),
        _ => rest.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)),
    }
}

/// The first `len` bytes of a word, the others 0. `len` is at most 8.
#[inline(always)]
pub const fn low_bytes(word: u64, len: usize) -> u64 {
    if len == 8 { word } else { word & !(u64::MAX << (8 * len)) }
}

/// A word in which the lowest bit that is set lies in the first byte that is a quote, a backslash or a control
/// character; 0 where there is none.
#[inline(always)]
const fn specials(word: u64) -> u64 {
    let quote = word ^ (LOW_BITS * b'"' as u64);
    let backslash = word ^ (LOW_BITS * b'\\' as u64);
    // A subtraction borrows from a byte only past one where it found something: the lowest finding is always true.
    let found = quote.wrapping_sub(LOW_BITS) & !quote
        | backslash.wrapping_sub(LOW_BITS) & !backslash
        | word.wrapping_sub(LOW_BITS * 0x20) & !word;
    found & HIGH_BITS
}

/// Where a string's plain characters end: the position of the first quote, backslash, control character, or the end.
/// `seen` collects the words that were looked at.
#[inline(always)]
pub fn string_end(json: &[u8], start: usize, seen: &mut u64) -> usize {
    let mut at = start;
    loop {
        let word = word(json, at);
        *seen |= word;
        let specials = specials(word);
        if specials != 0 {
            return at + specials.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
}

/// Bytes that are looked at together, with one check that they are there.
pub type Window = [u8; WINDOW];
pub const WINDOW: usize = 64;
/// The longest value that a window has room for, with 32 bytes behind it. All bits below its highest are set.
pub const NEAR: usize = 31;

/// The window that begins at a position; `None` where the bytes end before it does.
#[inline(always)]
pub fn window(bytes: &[u8], at: usize) -> Option<&Window> {
    bytes.get(at..)?.first_chunk()
}

/// The word that begins so many words, at most 3, past a value of `len` bytes, at most [`NEAR`].
#[inline(always)]
pub const fn word_in(window: &Window, len: usize, words: usize) -> u64 {
    // The mask changes nothing, and lets the compiler see that no check is needed.
    let (_, rest) = window.split_at((len & NEAR) + 8 * words);
    match rest.first_chunk() {
        Some(bytes) => u64::from_le_bytes(*bytes),
        None => 0,
    }
}

/// Whether the first `len` bytes of a word, at most 8, are plain characters.
#[inline(always)]
pub const fn is_plain_word(word: u64, len: usize) -> bool {
    specials(word) & low_bytes(u64::MAX, len) == 0
}

/// The length of a string that begins at a position, at most [`NEAR`]; `None` where it may be 24 or more.
#[inline(always)]
pub fn string_end_in(window: &Window, at: usize, seen: &mut u64) -> Option<usize> {
    for i in 0..3 {
        let word = word_in(window, at, i);
        *seen |= word;
        let specials = specials(word);
        if specials != 0 {
            return Some(8 * i + specials.trailing_zeros() as usize / 8);
        }
    }
    None
}

/// Whether any of the words that were collected may hold a byte that is not ASCII.
#[inline(always)]
pub const fn may_be_non_ascii(seen: u64) -> bool {
    seen & HIGH_BITS != 0
}

/// Reads an integer of at most 15 digits, and the position after it; `None` for all that JSON does not allow, and for
/// `-0`, which serde_json takes for a float. What follows is the caller's to check.
#[inline(always)]
pub fn integer(json: &[u8], at: usize) -> Option<(i64, usize)> {
    let (value, len) = integer_from(word(json, at), || word(json, at + 8))?;
    Some((value, at + len))
}

/// [`integer`] of the words that it would begin with, and its length.
#[inline(always)]
pub fn integer_from(first: u64, second: impl FnOnce() -> u64) -> Option<(i64, usize)> {
    let negative = first as u8 == b'-';
    let first = first >> (8 * u32::from(negative));
    let len = digit_count(first);
    let needless_zero = first as u8 == b'0' && (negative || len > 1);
    if len == 0 || needless_zero {
        return None;
    }
    let high = digits(first, len);
    if len == 8 {
        const POWERS: [i64; 8] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000];
        let second = second();
        let more = digit_count(second);
        let low = if more == 0 { 0 } else { digits(second, more) };
        return Some((high * POWERS.get(more)? + low, 8 + more));
    }
    let value = if negative { -high } else { high };
    Some((value, len + usize::from(negative)))
}

/// Reads an integer that begins a word, has exactly `len` bytes and no sign, 1 to 8, and otherwise is as for [`integer`]. `None` also for
/// other lengths.
#[inline(always)]
pub fn number_of(word: u64, len: usize) -> Option<i64> {
    let needless_zero = word as u8 == b'0' && len > 1;
    if len.wrapping_sub(1) >= 8 || needless_zero || others(word) & low_bytes(u64::MAX, len) != 0 {
        return None;
    }
    Some(digits(word, len))
}

/// A word in which the lowest bit that is set lies in the first byte that is not a digit; 0 where there is none.
#[inline(always)]
const fn others(word: u64) -> u64 {
    let digits = word ^ (LOW_BITS * b'0' as u64);
    // A byte greater than 9 carries into its high bit, and possibly on to bytes past it, which do not count.
    (digits.wrapping_add(LOW_BITS * 0x76) | digits) & HIGH_BITS
}

/// How many digits a word begins with.
#[inline(always)]
const fn digit_count(word: u64) -> usize {
    others(word).trailing_zeros() as usize / 8
}

/// The value of the `len` digits that a word begins with, 1 to 8.
#[inline(always)]
const fn digits(word: u64, len: usize) -> i64 {
    // Moved to the end of the word, with zeros before them; then pairs, fours and eights are put together.
    let digits = (word ^ (LOW_BITS * b'0' as u64)) << (64 - 8 * len);
    let pairs = (digits & 0x0f0f_0f0f_0f0f_0f0f).wrapping_mul(2_561) >> 8;
    let fours = (pairs & 0x00ff_00ff_00ff_00ff).wrapping_mul(6_553_601) >> 16;
    let eight = (fours & 0x0000_ffff_0000_ffff).wrapping_mul(42_949_672_960_001) >> 32;
    eight as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn integers_end_where_their_digits_do() {
        for (text, expected) in [
            ("0", Some((0, 1))),
            ("7,", Some((7, 1))),
            ("-1}", Some((-1, 2))),
            ("-9999999,", Some((-9_999_999, 8))),
            ("1234567", Some((1_234_567, 7))),
            ("12345678", Some((12_345_678, 8))),
            ("1413849600000}", Some((1_413_849_600_000, 13))),
            ("123456789012345", Some((123_456_789_012_345, 15))),
            ("1.5", Some((1, 1))),
            ("1234567890123456", None),
            ("-12345678", Some((-1_234_567, 8))),
            ("-0", None),
            ("00", None),
            ("012", None),
            ("0123456789", None),
            ("-", None),
            ("--1", None),
            ("", None),
            ("\u{fb0}1", None),
        ] {
            assert_eq!(integer(text.as_bytes(), 0), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn words_agree_with_bytes(bytes in prop::collection::vec(prop_oneof![any::<u8>(), 0x1e_u8..0x24, 0x2f_u8..0x3b, Just(b'\\')], 0..32), at in 0usize..=NEAR) {
            let plain = bytes.iter().position(|b| matches!(b, b'"' | b'\\' | ..0x20)).unwrap_or(bytes.len());
            let mut seen = 0;
            prop_assert_eq!(string_end(&bytes, 0, &mut seen), plain);
            prop_assert!(may_be_non_ascii(seen) || bytes[..plain].is_ascii());

            let len = bytes.iter().take(8).take_while(|b| b.is_ascii_digit()).count();
            let value = bytes[..len].iter().fold(0, |v, b| v * 10 + i64::from(b - b'0'));
            let first = word(&bytes, 0);
            prop_assert_eq!(digit_count(first), len);
            prop_assert!(len == 0 || digits(first, len) == value);
            let mut room = [0; WINDOW];
            room[at..at + bytes.len()].copy_from_slice(&bytes);
            for len in 0..=8.min(bytes.len()) {
                prop_assert_eq!(is_plain_word(first, len), len <= plain);
            }
            prop_assert_eq!(string_end_in(&room, at, &mut seen), Some(plain).filter(|end| *end < 24));
            prop_assert_eq!(integer_from(word_in(&room, at, 0), || word_in(&room, at, 1)), integer(&bytes, 0));
            for len in 0..=bytes.len() {
                let cut = integer(&bytes[..len], 0).filter(|(_, end)| *end == len && len <= 8 && bytes[0] != b'-');
                prop_assert_eq!(number_of(first, len), cut.map(|(value, _)| value));
            }
            prop_assert_eq!(low_bytes(word(&bytes, 0), len).to_le_bytes()[..len].to_vec(), bytes[..len].to_vec());
        }

        #[test]
        fn integers_are_read_as_the_standard_library_does(value in -9_999_999i64..999_999_999_999_999) {
            let text = value.to_string();
            prop_assert_eq!(integer(text.as_bytes(), 0), Some((value, text.len())));
        }
    }
}
