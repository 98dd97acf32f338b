//! The Avro form of an ad event: `ad_event.avsc` behind the 5-byte header of [`clickmill_schemas::avro`].
//!
//! Owns writing, and reading with every check. [`crate::AdEventView`] reads what is known to be sound.

use clickmill_schemas::avro::{header, schema_id, split};
use clickmill_schemas::record::{put_varint, take_varint};

use crate::event::AdEvent;
use crate::fault::{Fault, rule};
use crate::fields::{FIELDS, Field};

/// Appends an event, header first.
#[inline]
pub fn put_event(out: &mut Vec<u8>, event: &AdEvent<'_>) {
    out.extend_from_slice(&header(schema_id::AD_EVENT));
    for (_, field) in FIELDS {
        match field {
            Field::Text(text) => put_bytes(out, event.text(text)),
            Field::Int(int) => put_long(out, event.int(int)),
        }
    }
}

/// Appends an integer (Avro's `int` and `long` are the same bytes).
#[inline]
pub fn put_long(out: &mut Vec<u8>, value: i64) {
    let zigzag = ((value << 1) ^ (value >> 63)) as u64;
    let more = |part: u64| part as u8 | 0x80;
    match zigzag {
        ..0x80 => out.push(zigzag as u8),
        0x80..0x4000 => out.extend_from_slice(&[more(zigzag), (zigzag >> 7) as u8]),
        0x4000..0x20_0000 => {
            out.extend_from_slice(&[more(zigzag), more(zigzag >> 7), (zigzag >> 14) as u8])
        }
        _ => put_varint(out, value),
    }
}

/// Appends a string or bytes: the length, then eight bytes at a time, since a call to copy so few costs more.
#[inline]
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    const LONG: usize = 64;
    put_long(out, bytes.len() as i64);
    if bytes.len() > LONG {
        out.extend_from_slice(bytes);
        return;
    }
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        out.extend_from_slice(word);
    }
    for byte in rest {
        out.push(*byte);
    }
}

/// Reads an event of schema 1 from its header on, checking everything: every field's type and range, UTF-8, and that
/// nothing is left over.
///
/// # Errors
/// The rule `avro`, with the field and the position.
pub fn decode(value: &[u8]) -> Result<AdEvent<'_>, Fault> {
    let body = match split(value) {
        Some((schema_id::AD_EVENT, body)) => body,
        other => return Err(other_schema(other.map(|(id, _)| id), schema_id::AD_EVENT)),
    };
    let (event, end) = decode_body(body)?;
    left_over(body, end)?;
    Ok(event)
}

/// Reads the 25 fields that the bodies of both schemas begin with, and says where they end.
pub(crate) fn decode_body(body: &[u8]) -> Result<(AdEvent<'_>, usize), Fault> {
    let mut event = AdEvent {
        may_have_nul: true,
        ..AdEvent::default()
    };
    let mut at = 0;
    for (name, field) in FIELDS {
        let start = at;
        let what = match field {
            Field::Text(text) => take_bytes(body, &mut at).and_then(|bytes| {
                event.texts[text as usize] = bytes;
                std::str::from_utf8(bytes).is_ok().then_some(())
            }),
            Field::Int(int) => take_varint(body, &mut at).and_then(|value| {
                event.ints[int as usize] = value;
                int.holds(value).then_some(())
            }),
        };
        what.ok_or_else(|| malformed(name, start))?;
    }
    Ok((event, at))
}

pub(crate) fn left_over(body: &[u8], end: usize) -> Result<(), Fault> {
    match body.len() - end {
        0 => Ok(()),
        more => Err(Fault::parsing(
            rule::AVRO,
            format!("not this Avro schema: {more} bytes are left over"),
        )),
    }
}

/// The fault of a field that cannot be read.
pub(crate) fn malformed(field: &str, position: usize) -> Fault {
    Fault::parsing(
        rule::AVRO,
        format!("not this Avro schema: `{field}` at byte {position} of the body"),
    )
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
mod tests {
    use super::*;
    use crate::fields::{Int, Text};
    use proptest::prelude::*;

    fn events() -> impl Strategy<Value = ([String; 11], [i32; 13], i64)> {
        let text = prop_oneof!["[0-9a-f]{8}", ".{0,80}", Just(String::new())];
        (
            prop::array::uniform11(text),
            prop::array::uniform13(any::<i32>()),
            any::<i64>(),
        )
    }

    proptest! {
        #[test]
        fn an_event_reads_back_and_no_cut_of_it_does((texts, ints, ts) in events(), cut in any::<prop::sample::Index>()) {
            let mut event = AdEvent::default();
            event.texts.iter_mut().zip(&texts).for_each(|(slot, text)| *slot = text.as_bytes());
            event.ints.iter_mut().zip(&ints).for_each(|(slot, int)| *slot = i64::from(*int));
            event.ints[Int::C21 as usize] = event.ints[Int::Ts as usize];
            event.ints[Int::Ts as usize] = ts;
            let mut value = Vec::new();
            put_event(&mut value, &event);
            prop_assert_eq!(decode(&value), Ok(event));
            prop_assert!(decode(&value[..cut.index(value.len())]).is_err());
            value.push(0);
            prop_assert!(decode(&value).unwrap_err().message.contains("1 bytes are left over"));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut value = header(schema_id::AD_EVENT).to_vec();
            value.extend_from_slice(&bytes);
            if let Ok(event) = decode(&value) {
                prop_assert!(std::str::from_utf8(event.text(Text::Id)).is_ok());
            }
            let _ = decode(&bytes);
        }

        #[test]
        fn longs_are_written_as_the_shared_encoder_does(value in prop_oneof![any::<i64>(), -70_000i64..70_000, -2_000_000i64..2_000_000]) {
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            put_long(&mut ours, value);
            put_varint(&mut theirs, value);
            prop_assert_eq!(ours, theirs);
        }
    }

    #[test]
    fn another_schema_is_named() {
        assert!(
            decode(&[0, 0, 0, 0, 9, 1])
                .unwrap_err()
                .message
                .contains("schema id 9, expected 1")
        );
        assert!(decode(&[0, 0]).unwrap_err().message.contains("cut short"));
    }
}
