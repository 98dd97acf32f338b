//! The Avro form of an ad event: `ad_event.avsc` behind the 5-byte header of [`clickmill_schemas::avro`].
//!
//! Owns writing, and reading with every check. [`crate::AdEventView`] reads what is known to be sound.

use clickmill_schemas::avro::{HEADER_LEN, header, schema_id, split};
use clickmill_schemas::record::take_varint;

use crate::event::{AdEvent, Slots, Span};
use crate::fault::{Fault, rule};
use crate::fields::{FIELDS, Field, INT_COUNT, TEXT_COUNT, Text};
use crate::word::low_bytes;

/// Appends an event, header first.
pub fn put_event(out: &mut Vec<u8>, event: &AdEvent<'_>) {
    let start = out.len();
    out.resize(start + max_event_len(event), 0);
    let len = out.get_mut(start..).map_or(0, |room| write_event(room, event));
    out.truncate(start + len);
}

/// Room that [`write_event`] needs for an event: never less than its length.
#[must_use]
#[inline]
pub fn max_event_len(event: &AdEvent<'_>) -> usize {
    let texts: usize = event.slots.texts.iter().map(|span| span.len).sum();
    HEADER_LEN + INT_COUNT * MAX_LONG + TEXT_COUNT * MAX_LONG + texts + SHORT_ROOM
}

/// Writes an event, header first, to the front of `room`, and returns its length. What lies behind it is overwritten.
///
/// # Panics
/// Where `room` is shorter than [`max_event_len`].
#[inline]
pub fn write_event(room: &mut [u8], event: &AdEvent<'_>) -> usize {
    room[..HEADER_LEN].copy_from_slice(&header(schema_id::AD_EVENT));
    let mut at = HEADER_LEN;
    for (_, field) in FIELDS {
        at = match field {
            Field::Text(text) => write_text(room, at, event, text),
            Field::Int(int) => write_long(room, at, event.int(int)),
        };
    }
    at
}

/// Bytes of the longest varint.
pub(crate) const MAX_LONG: usize = 10;
/// Everything is written a word at a time.
const WORD: usize = 8;
/// Room for a short text with its length, whole words.
const SHORT_ROOM: usize = 1 + SHORT;
/// The longest text that is written without a loop.
const SHORT: usize = 3 * WORD;

/// Writes a text; longer ones by a call to copy, which for a few bytes costs more than the copying.
#[inline(always)]
fn write_text(room: &mut [u8], at: usize, event: &AdEvent<'_>, field: Text) -> usize {
    let Span { start, len } = event.slots.texts[field as usize];
    let from = event.from(start);
    match (room[at..].first_chunk_mut::<SHORT_ROOM>(), from.first_chunk::<SHORT>()) {
        (Some(room), Some(text)) if len <= SHORT => {
            // What is too much of it is overwritten by the next field.
            room[0] = (len << 1) as u8;
            room[1..=WORD].copy_from_slice(&text[..WORD]);
            if len > WORD {
                room[1 + WORD..].copy_from_slice(&text[WORD..]);
            }
            at + 1 + len
        }
        _ => write_long_text(room, at, from.get(..len).unwrap_or_default()),
    }
}

#[inline(never)]
fn write_long_text(room: &mut [u8], at: usize, text: &[u8]) -> usize {
    let at = write_long(room, at, text.len() as i64);
    room[at..at + text.len()].copy_from_slice(text);
    at + text.len()
}

/// Writes an integer (Avro's `int` and `long` are the same bytes), and up to seven bytes more.
#[inline(always)]
pub(crate) fn write_long(room: &mut [u8], at: usize, value: i64) -> usize {
    let zigzag = ((value << 1) ^ (value >> 63)) as u64;
    // Groups of seven bits, and the high bit of each but the last. Branches rather than arithmetic, since where the next
    // field begins should not wait for this value.
    let (word, len) = match zigzag {
        ..0x80 => (zigzag, 1),
        0x80..0x4000 => (zigzag & 0x7f | (zigzag & 0x3f80) << 1 | 0x80, 2),
        0x4000..0x20_0000 => (zigzag & 0x7f | (zigzag & 0x3f80) << 1 | (zigzag & 0x1f_c000) << 2 | 0x8080, 3),
        0x20_0000..0x100_0000_0000_0000 => {
            let halves = zigzag & 0x0fff_ffff | (zigzag & 0x00ff_ffff_f000_0000) << 4;
            let quarters = halves & 0x0000_3fff_0000_3fff | (halves & 0x0fff_c000_0fff_c000) << 2;
            let groups = quarters & 0x007f_007f_007f_007f | (quarters & 0x3f80_3f80_3f80_3f80) << 1;
            let len = (70 - zigzag.leading_zeros() as usize) / 7;
            (groups | 0x8080_8080_8080_8080 & low_bytes(u64::MAX, len - 1), len)
        }
        _ => return write_longer(room, at, zigzag),
    };
    room[at..at + WORD].copy_from_slice(&word.to_le_bytes());
    at + len
}

#[inline(never)]
fn write_longer(room: &mut [u8], mut at: usize, mut zigzag: u64) -> usize {
    while zigzag >= 0x80 {
        room[at] = zigzag as u8 | 0x80;
        zigzag >>= 7;
        at += 1;
    }
    room[at] = zigzag as u8;
    at + 1
}

/// Reads an event of schema 1 from its header on, checking everything: every field's type and range, UTF-8, and that
/// nothing is left over.
///
/// # Errors
/// The rule `avro`, with the field and the position.
pub fn decode<'a>(value: &'a [u8], slots: &'a mut Slots) -> Result<AdEvent<'a>, Fault> {
    let body = match split(value) {
        Some((schema_id::AD_EVENT, body)) => body,
        other => return Err(other_schema(other.map(|(id, _)| id), schema_id::AD_EVENT)),
    };
    let end = decode_body(body, slots)?;
    left_over(body, end)?;
    Ok(AdEvent { source: body, unescaped: &[], slots, may_have_nul: true })
}

/// Reads the 25 fields that the bodies of both schemas begin with, and says where they end.
pub(crate) fn decode_body(body: &[u8], slots: &mut Slots) -> Result<usize, Fault> {
    let mut at = 0;
    for (name, field) in FIELDS {
        let start = at;
        let sound = match field {
            Field::Text(text) => take_bytes(body, &mut at).is_some_and(|bytes| {
                slots.texts[text as usize] = Span { start: at - bytes.len(), len: bytes.len() };
                std::str::from_utf8(bytes).is_ok()
            }),
            Field::Int(int) => take_varint(body, &mut at).is_some_and(|value| {
                slots.ints[int as usize] = value;
                int.holds(value)
            }),
        };
        if !sound {
            return Err(malformed(name, start));
        }
    }
    Ok(at)
}

pub(crate) fn left_over(body: &[u8], end: usize) -> Result<(), Fault> {
    match body.len() - end {
        0 => Ok(()),
        more => Err(Fault::parsing(rule::AVRO, format!("not this Avro schema: {more} bytes are left over"))),
    }
}

/// The fault of a field that cannot be read.
pub(crate) fn malformed(field: &str, position: usize) -> Fault {
    Fault::parsing(rule::AVRO, format!("not this Avro schema: `{field}` at byte {position} of the body"))
}

/// The fault of a value of another schema, or of none.
pub(crate) fn other_schema(found: Option<u32>, expected: u32) -> Fault {
    let message = match found {
        Some(id) => format!("Avro schema id {id}, expected {expected}"),
        None => "an Avro header of 5 bytes is cut short".to_owned(),
    };
    Fault::parsing(rule::AVRO, message)
}

/// Reads a string or bytes.
#[inline]
pub(crate) fn take_bytes<'a>(body: &'a [u8], at: &mut usize) -> Option<&'a [u8]> {
    let len = usize::try_from(take_varint(body, at)?).ok()?;
    let bytes = body.get(*at..at.checked_add(len)?)?;
    *at += len;
    Some(bytes)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::fields::Int;
    use clickmill_schemas::record::put_varint;
    use proptest::prelude::*;

    /// Any event, and the text that its slots refer to.
    pub fn events() -> impl Strategy<Value = (String, Slots)> {
        let text = prop_oneof!["[0-9a-f]{8}", ".{0,80}", Just(String::new())];
        let ints = prop::array::uniform13(prop_oneof![any::<i32>(), -200..20_000i32]);
        (prop::array::uniform11(text), ints, any::<i64>()).prop_map(|(texts, ints, ts)| {
            let (mut source, mut slots) = (String::new(), Slots::default());
            for (span, text) in slots.texts.iter_mut().zip(&texts) {
                *span = Span { start: source.len(), len: text.len() };
                source.push_str(text);
            }
            slots.ints.iter_mut().zip(ints.map(i64::from)).for_each(|(slot, int)| *slot = int);
            slots.ints.swap(Int::C21 as usize, Int::Ts as usize);
            slots.ints[Int::Ts as usize] = ts;
            (source, slots)
        })
    }

    pub fn event<'a>(source: &'a str, slots: &'a Slots) -> AdEvent<'a> {
        AdEvent { source: source.as_bytes(), unescaped: &[], slots, may_have_nul: true }
    }

    proptest! {
        #[test]
        fn an_event_reads_back_and_no_cut_of_it_does((source, slots) in events(), cut in any::<prop::sample::Index>()) {
            let event = event(&source, &slots);
            let mut value = b"before".to_vec();
            put_event(&mut value, &event);
            let mut value = value.strip_prefix(b"before").unwrap().to_vec();
            prop_assert!(value.len() <= max_event_len(&event));
            let mut read = Slots::default();
            prop_assert_eq!(decode(&value, &mut read), Ok(event));
            prop_assert!(decode(&value[..cut.index(value.len())], &mut read).is_err());
            value.push(0);
            prop_assert!(decode(&value, &mut read).unwrap_err().message.contains("1 bytes are left over"));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut value = header(schema_id::AD_EVENT).to_vec();
            value.extend_from_slice(&bytes);
            let mut slots = Slots::default();
            if let Ok(event) = decode(&value, &mut slots) {
                prop_assert!(std::str::from_utf8(event.text(Text::Id)).is_ok());
            }
            prop_assert!(bytes.first() == Some(&0) || decode(&bytes, &mut slots).is_err());
        }

        #[test]
        fn longs_are_written_as_the_shared_encoder_does(value in prop_oneof![any::<i64>(), -70_000i64..70_000, -2_000_000i64..2_000_000]) {
            let (mut ours, mut theirs) = ([0; 20], Vec::new());
            let len = write_long(&mut ours, 3, value);
            put_varint(&mut theirs, value);
            prop_assert_eq!(&ours[3..len], &theirs[..]);
        }
    }

    #[test]
    fn another_schema_is_named() {
        let message = |value| decode(value, &mut Slots::default()).unwrap_err().message;
        assert!(message(&[0, 0, 0, 0, 9, 1]).contains("schema id 9, expected 1"));
        assert!(message(&[0, 0]).contains("cut short"));
    }
}
