//! The ABI in bytes: what a call's input looks like, and what a module says when it refuses.
//!
//! fluvio-smartmodule 0.50: numbers are big-endian, a string is `u16 length, UTF-8`. Pure functions on bytes.

use std::collections::BTreeMap;

use crate::{BatchSource, Lookback};

/// The protocol version that is passed along with each input.
pub(crate) const VERSION: i32 = 25;
/// Bytes before the record set of an input: i64 base offset, u32 length of the set.
pub(crate) const HEAD_LEN: usize = 12;
/// Bytes after it: i64 base timestamp.
pub(crate) const TAIL_LEN: usize = 8;
/// Longest text that is taken over from a module.
const MAX_TEXT_BYTES: usize = 512;

/// What stands around the record set of an input.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame {
    pub base_offset: i64,
    pub base_timestamp_ms: i64,
}

impl Frame {
    pub(crate) fn of(source: &dyn BatchSource) -> Self {
        let base_offset = source.base_offset().0.cast_signed();
        Self { base_offset, base_timestamp_ms: source.base_timestamp_ms() }
    }

    /// Writes head and tail into `input`, which is as long as both and the set; returns the place of the set.
    pub(crate) fn write<'a>(&self, input: &'a mut [u8]) -> Option<&'a mut [u8]> {
        let (head, rest) = input.split_first_chunk_mut::<HEAD_LEN>()?;
        let (set, tail) = rest.split_last_chunk_mut::<TAIL_LEN>()?;
        head[..8].copy_from_slice(&self.base_offset.to_be_bytes());
        head[8..].copy_from_slice(&u32::try_from(set.len()).ok()?.to_be_bytes());
        tail.copy_from_slice(&self.base_timestamp_ms.to_be_bytes());
        Some(set)
    }
}

/// The input of `init`; an error says which parameter does not fit.
pub(crate) fn init_input(params: &BTreeMap<String, String>, lookback: Option<&Lookback>) -> Result<Vec<u8>, String> {
    let count = u16::try_from(params.len()).map_err(|_| format!("{} parameters are too many", params.len()))?;
    let mut out = count.to_be_bytes().to_vec();
    for (name, value) in params {
        for text in [name, value] {
            let len = u16::try_from(text.len())
                .map_err(|_| format!("parameter {name:?} has {} bytes; the ABI takes 65535 at most", text.len()))?;
            out.extend_from_slice(&len.to_be_bytes());
            out.extend_from_slice(text.as_bytes());
        }
    }
    match lookback {
        None => out.push(0),
        Some(Lookback { last, age }) => {
            out.push(1);
            out.extend_from_slice(&last.to_be_bytes());
            out.push(u8::from(age.is_some()));
            if let Some(age) = age {
                out.extend_from_slice(&age.as_secs().to_be_bytes());
                out.extend_from_slice(&age.subsec_nanos().to_be_bytes());
            }
        }
    }
    Ok(out)
}

/// The hint in what a module copied out when `init` failed or when it reports an error: a string, then anything.
pub(crate) fn hint(bytes: &[u8]) -> String {
    let Some((len, rest)) = bytes.split_first_chunk::<2>() else {
        return text(bytes);
    };
    text(rest.get(..usize::from(u16::from_be_bytes(*len))).unwrap_or(bytes))
}

/// Which record is meant by what was copied out for an error in `look_back`, and the hint: the offset stands behind it.
pub(crate) fn hint_at(bytes: &[u8]) -> String {
    match offset_behind_hint(bytes) {
        Some(offset) => format!("record at offset {offset}: {}", hint(bytes)),
        None => hint(bytes),
    }
}

/// The offset that stands behind the hint of an error on a record.
pub(crate) fn offset_behind_hint(bytes: &[u8]) -> Option<i64> {
    let (len, rest) = bytes.split_first_chunk::<2>()?;
    let offset = rest.get(usize::from(u16::from_be_bytes(*len))..)?.first_chunk()?;
    Some(i64::from_be_bytes(*offset))
}

/// A module's text, made printable and cut.
pub(crate) fn text(bytes: &[u8]) -> String {
    printable(bytes, MAX_TEXT_BYTES)
}

/// Bytes as text that steers no terminal, ends no line and can be stored anywhere, cut before it is made so.
pub(crate) fn printable(bytes: &[u8], max_bytes: usize) -> String {
    let text = String::from_utf8_lossy(bytes.get(..max_bytes).unwrap_or(bytes));
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

/// The meaning of a transform's negative answer.
pub(crate) const fn refusal(status: i32) -> &'static str {
    match status {
        -1 => "unknown error",
        -2 => "error in init",
        -11 => "it cannot decode its input",
        -22 => "it cannot decode the records",
        -33 => "it cannot encode its output",
        -44 => "it cannot decode its parameters",
        -66 => "it cannot decode what it looks back on",
        -77 => "it cannot decode the records that it looks back on",
        -99 => "error in look_back",
        _ => "a status of its own",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_is_framed_as_fluvio_frames_it() {
        let mut input = vec![0xaa; HEAD_LEN + 3 + TAIL_LEN];
        let frame = Frame { base_offset: 7, base_timestamp_ms: -1 };
        assert_eq!(frame.write(&mut input).unwrap(), &[0xaa; 3]);
        assert_eq!(input[..HEAD_LEN], [0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 3]);
        assert_eq!(input[HEAD_LEN + 3..], [0xff; 8]);
        assert!(frame.write(&mut [0; 19]).is_none());
    }

    #[test]
    fn parameters_are_encoded_in_order_and_long_ones_refused_by_name() {
        let params = BTreeMap::from([("b".to_owned(), "2".to_owned()), ("a".to_owned(), String::new())]);
        assert_eq!(init_input(&params, None).unwrap(), b"\0\x02\0\x01a\0\0\0\x01b\0\x012\0");
        let long = BTreeMap::from([("pricing".to_owned(), "x".repeat(65_536))]);
        assert!(init_input(&long, None).unwrap_err().contains("\"pricing\" has 65536 bytes"));
    }

    #[test]
    fn an_error_in_look_back_names_the_record_where_the_module_does() {
        assert_eq!(hint_at(b"\0\x02no\0\0\0\0\0\0\x01\0and more"), "record at offset 256: no");
        assert_eq!(hint_at(b"\0\x02no\0\0"), "no");
    }

    #[test]
    fn lookback_is_told_to_init_as_fluvio_does() {
        let told = |last, age| init_input(&BTreeMap::new(), Some(&Lookback { last, age })).unwrap();
        assert_eq!(told(3, None), [0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 3, 0]);
        let age = std::time::Duration::from_millis(2_001);
        assert_eq!(told(0, Some(age)), b"\0\0\x01\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x02\0\x0f\x42\x40");
    }

    #[test]
    fn hints_are_read_whatever_the_module_wrote() {
        assert_eq!(hint(b"\0\x02no"), "no");
        assert_eq!(hint(b"\0\x02no and more"), "no");
        assert_eq!(hint(b"plain text"), "plain text");
        assert_eq!(hint(b"x"), "x");
        assert_eq!(hint(&[0xff; 9_000]).chars().count(), MAX_TEXT_BYTES);
    }
}
