//! Rows as `ad_event` JSON: one object in the order of the columns, `ts` last, no white space.
//!
//! Integer columns are numbers where they are canonical integers, else strings: judging is the module's work. Bytes
//! that are no UTF-8 are passed on as they are. Nearly every row needs no escape and goes the fast way, whose copies
//! all have a constant width.

use super::input::columns::{self, COLUMNS, IS_INTEGER, WIDTH};
use super::input::rows::Row;

/// Bytes copied at once: the longest text between two fields has 20, the longest usual field, the id, 20.
const WIDE: usize = 32;

/// The text before a column, for the fast way, padded: `,"C1":`, `","site_domain":"` and so on.
struct Lead {
    bytes: [u8; WIDE],
    len: usize,
}

/// Writes events; keeps what is the same for every row.
pub struct EventWriter {
    leads: [Lead; WIDTH],
}

impl Default for EventWriter {
    fn default() -> Self {
        Self { leads: std::array::from_fn(lead) }
    }
}

fn lead(column: usize) -> Lead {
    let mut text = Vec::with_capacity(WIDE);
    match column.checked_sub(1) {
        None => text.push(b'{'),
        Some(before) => text.extend_from_slice(if IS_INTEGER[before] { b"," } else { b"\"," }),
    }
    text.push(b'"');
    text.extend_from_slice(COLUMNS[column].as_bytes());
    text.extend_from_slice(if IS_INTEGER[column] { b"\":" } else { b"\":\"" });
    let mut bytes = [0; WIDE];
    bytes[..text.len()].copy_from_slice(&text);
    Lead { bytes, len: text.len() }
}

/// A buffer that grows and is never shortened, so that it is zeroed only once.
#[derive(Debug, Default)]
pub struct Value {
    bytes: Vec<u8>,
    len: usize,
}

impl Value {
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    pub fn set(&mut self, bytes: &[u8]) {
        self.bytes.clear();
        self.bytes.extend_from_slice(bytes);
        self.len = bytes.len();
    }
}

impl EventWriter {
    /// Replaces `out` by the event of `row`.
    pub fn write(&self, row: &Row<'_>, ts_ms: i64, out: &mut Value) {
        let integers_are_canonical = || (0..WIDTH).all(|c| !IS_INTEGER[c] || is_canonical_integer(row.field(c)));
        if row.plain && integers_are_canonical() && self.write_plain(row, ts_ms, out).is_some() {
            return;
        }
        out.bytes.clear();
        write_careful(row, ts_ms, &mut out.bytes);
        out.len = out.bytes.len();
    }

    /// `None` where a field is too close to the end of its text for a wide copy (what was written is void then).
    fn write_plain(&self, row: &Row<'_>, ts_ms: i64, out: &mut Value) -> Option<()> {
        let fields = row.spans[WIDTH - 1].1.saturating_sub(row.spans[0].0) as usize;
        let room = WIDTH * WIDE + fields.max(row.raw.len()) + 2 * WIDE;
        if out.bytes.len() < room {
            out.bytes.resize(room.next_power_of_two(), 0);
        }
        let bytes = &mut out.bytes[..];
        let mut at = 0;
        for (lead, (start, end)) in self.leads.iter().zip(row.spans) {
            *bytes.get_mut(at..)?.first_chunk_mut::<WIDE>()? = lead.bytes;
            at += lead.len;
            let (start, len) = (*start as usize, (end - start) as usize);
            if len <= WIDE {
                *bytes.get_mut(at..)?.first_chunk_mut::<WIDE>()? = *row.text.get(start..)?.first_chunk::<WIDE>()?;
            } else {
                bytes.get_mut(at..at + len)?.copy_from_slice(row.text.get(start..start + len)?);
            }
            at += len;
        }
        // The last column, C21, is an integer: no quote to close.
        let (tail, len) = ts_tail(ts_ms);
        *bytes.get_mut(at..)?.first_chunk_mut::<WIDE>()? = tail;
        out.len = at + len;
        Some(())
    }
}

/// `,"ts":<ts>}` and its length.
fn ts_tail(ts_ms: i64) -> ([u8; WIDE], usize) {
    let mut tail = [0; WIDE];
    let lead = b",\"ts\":";
    tail[..lead.len()].copy_from_slice(lead);
    let mut digits = [0; 20];
    let (mut left, mut first) = (ts_ms.unsigned_abs(), digits.len());
    loop {
        first -= 1;
        digits[first] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            break;
        }
    }
    if ts_ms < 0 {
        first -= 1;
        digits[first] = b'-';
    }
    let end = lead.len() + digits.len() - first;
    tail[lead.len()..end].copy_from_slice(&digits[first..]);
    tail[end] = b'}';
    (tail, end + 1)
}

fn write_careful(row: &Row<'_>, ts_ms: i64, out: &mut Vec<u8>) {
    for (column, name) in COLUMNS.iter().enumerate() {
        out.push(if column == columns::ID { b'{' } else { b',' });
        out.push(b'"');
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\":");
        let field = row.field(column);
        if IS_INTEGER[column] && is_canonical_integer(field) {
            out.extend_from_slice(field);
        } else {
            put_string(out, field);
        }
    }
    let (tail, len) = ts_tail(ts_ms);
    out.extend_from_slice(&tail[..len]);
}

fn put_string(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    for byte in bytes {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0..0x20 => {
                let hex = |n: u8| b"0123456789abcdef"[usize::from(n)];
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', hex(byte >> 4), hex(byte & 15)]);
            }
            _ => out.push(*byte),
        }
    }
    out.push(b'"');
}

/// `0`, or digits that do not begin with 0, perhaps behind a minus; not `-0`.
#[inline]
fn is_canonical_integer(field: &[u8]) -> bool {
    let digits = match field {
        [b'-', b'0', ..] => return false,
        [b'-', digits @ ..] => digits,
        digits => digits,
    };
    match digits {
        [] => false,
        [b'0'] => true,
        [b'0', ..] => false,
        _ => digits.iter().all(u8::is_ascii_digit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The event of a row with these fields.
    fn event(fields: &[Vec<u8>], ts_ms: i64) -> Vec<u8> {
        let mut text = Vec::new();
        let mut spans = [(0, 0); WIDTH];
        for (span, field) in spans.iter_mut().zip(fields) {
            *span = (text.len() as u32, (text.len() + field.len()) as u32);
            text.extend_from_slice(field);
            text.push(b',');
        }
        let raw = text.clone();
        let plain = fields.iter().flatten().all(|b| *b >= 0x20 && *b != b'"' && *b != b'\\');
        text.extend_from_slice(&[b'#'; 32]);
        let mut value = Value::default();
        value.set(b"what was there before");
        EventWriter::default().write(&Row { text: &text, spans: &spans, plain, raw: &raw }, ts_ms, &mut value);
        value.as_slice().to_vec()
    }

    fn field() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            6 => "[0-9a-f]{1,8}".prop_map(String::into_bytes),
            6 => "-?(0|[1-9][0-9]{0,18})".prop_map(String::into_bytes),
            1 => "\\PC{0,40}".prop_map(String::into_bytes),
            1 => "[ -~]{0,80}".prop_map(String::into_bytes),
            1 => any::<String>().prop_map(String::into_bytes),
        ]
    }

    proptest! {
        #[test]
        fn every_field_comes_back_out_of_serde_json(
            fields in proptest::collection::vec(field(), WIDTH),
            ts_ms: i64,
        ) {
            let value: serde_json::Value = serde_json::from_slice(&event(&fields, ts_ms)).unwrap();
            let object = value.as_object().unwrap();
            prop_assert_eq!(object.len(), WIDTH + 1);
            prop_assert_eq!(object["ts"].as_i64(), Some(ts_ms));
            for (column, field) in fields.iter().enumerate() {
                let found = &object[COLUMNS[column]];
                let text = std::str::from_utf8(field).unwrap();
                let canonical = text.parse::<i128>().is_ok_and(|n| n.to_string() == text);
                prop_assert_eq!(found.is_number(), IS_INTEGER[column] && canonical, "{}", text);
                match found.as_str() {
                    Some(found) => prop_assert_eq!(found, text),
                    None => prop_assert_eq!(found.to_string().parse::<f64>().unwrap(), text.parse::<f64>().unwrap()),
                }
            }
        }

        #[test]
        fn the_fast_way_and_the_careful_way_write_the_same(
            fields in proptest::collection::vec("-?[1-9][0-9]{0,40}", WIDTH),
            ts_ms: i64,
        ) {
            let fields: Vec<Vec<u8>> = fields.into_iter().map(String::into_bytes).collect();
            let mut escaped = fields.clone();
            escaped[5].push(b'\\');
            let careful = String::from_utf8(event(&escaped, ts_ms)).unwrap();
            prop_assert_eq!(String::from_utf8(event(&fields, ts_ms)).unwrap(), careful.replacen("\\\\", "", 1));
        }
    }

    #[test]
    fn an_event_is_compact_in_column_order_with_ts_last() {
        let mut fields: Vec<Vec<u8>> = (0..WIDTH).map(|i| i.to_string().into_bytes()).collect();
        fields[columns::HOUR] = b"14102100".to_vec();
        fields[3] = b"01005".to_vec();
        fields[22] = b"-1".to_vec();
        let text = String::from_utf8(event(&fields, 1_413_849_600_000)).unwrap();
        assert_eq!(
            text,
            r#"{"id":"0","click":1,"hour":"14102100","C1":"01005","banner_pos":4,"site_id":"5","site_domain":"6","site_category":"7","app_id":"8","app_domain":"9","app_category":"10","device_id":"11","device_ip":"12","device_model":"13","device_type":14,"device_conn_type":15,"C14":16,"C15":17,"C16":18,"C17":19,"C18":20,"C19":21,"C20":-1,"C21":23,"ts":1413849600000}"#
        );
        fields[6] = b"\xff\xfe\x00".to_vec();
        let bytes = event(&fields, 0);
        let needle = b"\"site_domain\":\"\xff\xfe\\u0000\"";
        assert!(bytes.windows(needle.len()).any(|w| w == needle));
        assert!(bytes.ends_with(b"\"C21\":23,\"ts\":0}"));
    }
}
