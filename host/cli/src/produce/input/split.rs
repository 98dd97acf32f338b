//! Splitting one CSV row into fields: a fast way for rows without quotes, a careful one for the rest.

use super::columns::WIDTH;

/// Where a field stands in its text.
pub type Span = (u32, u32);

const COMMAS: u64 = 0x2c2c_2c2c_2c2c_2c2c;
const QUOTES: u64 = 0x2222_2222_2222_2222;
const BACKSLASHES: u64 = 0x5c5c_5c5c_5c5c_5c5c;
const LOW: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// The high bit of every byte of `word` that is zero, and of no other.
const fn zeros(word: u64) -> u64 {
    !(((word & !HIGH) + !HIGH) | word) & HIGH
}

/// What was seen in a row besides its commas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Fields; more than [`WIDTH`] of them are counted and not kept.
    pub fields: usize,
    /// Nothing in it needs an escape in JSON: no quote, no backslash, no control character.
    pub plain: bool,
}

/// Splits `text[start..end]` at its commas. At least 8 bytes follow `end` in `text`.
///
/// Quotes mean nothing here: where [`Seen::plain`] is false, look for them.
#[inline]
pub fn at_commas(text: &[u8], start: usize, end: usize, spans: &mut [Span; WIDTH]) -> Seen {
    let (mut fields, mut begun) = (0, start as u32);
    let mut special = 0;
    let mut at = start;
    while at < end {
        let Some(chunk) = text.get(at..).and_then(|rest| rest.first_chunk::<8>()) else {
            break;
        };
        let word = u64::from_le_bytes(*chunk);
        let left = end - at;
        let mask = if left >= 8 { u64::MAX } else { (1 << (8 * left)) - 1 };
        let controls = word.wrapping_sub(0x20 * LOW) & !word & HIGH;
        special |= (controls | zeros(word ^ QUOTES) | zeros(word ^ BACKSLASHES)) & mask;
        let mut commas = zeros(word ^ COMMAS) & mask;
        while commas != 0 {
            let comma = at as u32 + commas.trailing_zeros() / 8;
            if fields < WIDTH {
                spans[fields] = (begun, comma);
            }
            fields += 1;
            begun = comma + 1;
            commas &= commas - 1;
        }
        at += 8;
    }
    if fields < WIDTH {
        spans[fields] = (begun, end as u32);
    }
    Seen { fields: fields + 1, plain: special == 0 }
}

/// A row that may have quoted fields.
#[derive(Debug, PartialEq, Eq)]
pub enum Quoted {
    /// It takes `len` bytes, its line feed included; its fields stand in `unquoted`.
    Row { len: usize, fields: usize },
    /// A quoted field is still open at the end of the text.
    Open,
    /// Something follows a closing quote.
    Broken,
}

/// Splits the row that `text` begins with, by the rules of RFC 4180; an unquoted field may have quotes inside. The
/// fields go to `unquoted` without their quotes.
pub fn quoted(text: &[u8], unquoted: &mut Vec<u8>, spans: &mut [Span; WIDTH]) -> Quoted {
    unquoted.clear();
    let (mut at, mut fields) = (0, 0);
    loop {
        let begun = unquoted.len() as u32;
        if text.get(at) == Some(&b'"') {
            at += 1;
            loop {
                let Some(len) = memchr::memchr(b'"', &text[at..]) else {
                    return Quoted::Open;
                };
                unquoted.extend_from_slice(&text[at..at + len]);
                at += len + 1;
                if text.get(at) != Some(&b'"') {
                    break;
                }
                unquoted.push(b'"');
                at += 1;
            }
        } else {
            let len = memchr::memchr2(b',', b'\n', &text[at..]).unwrap_or(text.len() - at);
            let is_last = text.get(at + len) != Some(&b',');
            let field = &text[at..at + len];
            unquoted.extend_from_slice(if is_last { field.strip_suffix(b"\r").unwrap_or(field) } else { field });
            at += len;
        }
        if fields < WIDTH {
            spans[fields] = (begun, unquoted.len() as u32);
        }
        fields += 1;
        match &text[at..] {
            [b',', ..] => at += 1,
            [] => return Quoted::Row { len: at, fields },
            [b'\n', ..] => return Quoted::Row { len: at + 1, fields },
            [b'\r', b'\n', ..] => return Quoted::Row { len: at + 2, fields },
            [b'\r'] => return Quoted::Row { len: at + 1, fields },
            _ => return Quoted::Broken,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(line: &[u8]) -> (Vec<Vec<u8>>, Seen) {
        let mut text = b"xx".to_vec();
        text.extend_from_slice(line);
        let end = text.len();
        text.extend_from_slice(b"\n,\"\\,,,,,,,,,,");
        let mut spans = [(0, 0); WIDTH];
        let seen = at_commas(&text, 2, end, &mut spans);
        let kept = seen.fields.min(WIDTH);
        (spans[..kept].iter().map(|s| text[s.0 as usize..s.1 as usize].to_vec()).collect(), seen)
    }

    proptest! {
        #[test]
        fn splitting_at_commas_is_what_split_does(line in proptest::collection::vec(any::<u8>(), 0..200)) {
            let (fields, seen) = split(&line);
            let expected: Vec<Vec<u8>> = line.split(|b| *b == b',').map(<[u8]>::to_vec).collect();
            prop_assert_eq!(seen.fields, expected.len());
            prop_assert_eq!(&fields[..], &expected[..expected.len().min(WIDTH)]);
            let plain = !line.iter().any(|b| *b < 0x20 || *b == b'"' || *b == b'\\');
            prop_assert_eq!(seen.plain, plain);
        }

        #[test]
        fn what_the_csv_crate_writes_is_split_into_the_same_fields(
            fields in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..12), 1..24),
        ) {
            let mut writer = csv::WriterBuilder::new().from_writer(Vec::new());
            writer.write_record(&fields).unwrap();
            let mut text = writer.into_inner().unwrap();
            let row_len = text.len();
            text.extend_from_slice(b"next,row\n");
            let (mut unquoted, mut spans) = (Vec::new(), [(0, 0); WIDTH]);
            let found = quoted(&text, &mut unquoted, &mut spans);
            // A lone carriage return at a row's end belongs to the line end; csv writes such a field in quotes.
            prop_assert_eq!(found, Quoted::Row { len: row_len, fields: fields.len() });
            for (span, field) in spans.iter().zip(&fields) {
                prop_assert_eq!(&unquoted[span.0 as usize..span.1 as usize], &field[..]);
            }
        }
    }

    #[test]
    fn quotes_that_are_open_or_followed_by_text_are_told_apart() {
        let (mut unquoted, mut spans) = (Vec::new(), [(0, 0); WIDTH]);
        assert_eq!(quoted(b"a,\"b\nc", &mut unquoted, &mut spans), Quoted::Open);
        assert_eq!(quoted(b"a,\"b\"c,d\n", &mut unquoted, &mut spans), Quoted::Broken);
        assert_eq!(quoted(b"a\"b,\"c\"\r\nd", &mut unquoted, &mut spans), Quoted::Row { len: 9, fields: 2 });
        assert_eq!(&unquoted[..], b"a\"bc");
    }
}
