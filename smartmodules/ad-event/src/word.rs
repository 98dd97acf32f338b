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

/// Whether a string has only plain characters for `len` bytes.
#[inline(always)]
pub fn is_plain(json: &[u8], mut at: usize, len: usize, seen: &mut u64) -> bool {
    let mut left = len;
    while left > 8 {
        let word = word(json, at);
        *seen |= word;
        if specials(word) != 0 {
            return false;
        }
        at += 8;
        left -= 8;
    }
    if left == 0 {
        return true;
    }
    let word = word(json, at);
    *seen |= word;
    specials(word) << (64 - 8 * left) == 0
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
    let first = word(json, at);
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
        let second = word(json, at + 8);
        let more = digit_count(second);
        let low = if more == 0 { 0 } else { digits(second, more) };
        return Some((high * POWERS.get(more)? + low, at + 8 + more));
    }
    let value = if negative { -high } else { high };
    Some((value, at + len + usize::from(negative)))
}

/// Reads an integer that has exactly `len` bytes, 1 to 8, and otherwise is as for [`integer`].
#[inline(always)]
pub fn integer_of(json: &[u8], at: usize, len: usize) -> Option<i64> {
    let mut first = word(json, at);
    let mut len = len;
    let negative = first as u8 == b'-';
    if negative {
        first >>= 8;
        len -= 1;
    }
    let needless_zero = first as u8 == b'0' && (negative || len > 1);
    if len == 0 || needless_zero || others(first) << (64 - 8 * len) != 0 {
        return None;
    }
    let value = digits(first, len);
    Some(if negative { -value } else { value })
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
        fn words_agree_with_bytes(bytes in prop::collection::vec(prop_oneof![any::<u8>(), 0x1e_u8..0x24, 0x2f_u8..0x3b, Just(b'\\')], 0..40)) {
            let plain = bytes.iter().position(|b| matches!(b, b'"' | b'\\' | ..0x20)).unwrap_or(bytes.len());
            let mut seen = 0;
            prop_assert_eq!(string_end(&bytes, 0, &mut seen), plain);
            prop_assert!(may_be_non_ascii(seen) || bytes[..plain].is_ascii());

            let len = bytes.iter().take(8).take_while(|b| b.is_ascii_digit()).count();
            let value = bytes[..len].iter().fold(0, |v, b| v * 10 + i64::from(b - b'0'));
            let first = word(&bytes, 0);
            prop_assert_eq!(digit_count(first), len);
            prop_assert!(len == 0 || digits(first, len) == value);
            for len in 0..bytes.len() {
                prop_assert_eq!(is_plain(&bytes, 0, len, &mut seen), len <= plain);
            }
            for len in 1..=bytes.len().min(8) {
                let whole = integer(&bytes, 0).filter(|(_, end)| *end >= len);
                let cut = integer(&bytes[..len], 0).filter(|(_, end)| *end == len);
                prop_assert_eq!(integer_of(&bytes, 0, len), cut.map(|(value, _)| value), "{:?}", whole);
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
