//! Lines that are no rows, as dead letters.

use base64::Engine as _;
use clickmill_schemas::dead_letter::{DeadLetter, Origin, RawEncoding};
use clickmill_schemas::envelope::ErrorType;

use super::rounds::wall_clock_ms;

/// Rule of a line that is no CSV row of 24 columns.
pub const CSV_COLUMNS: &str = "csv_columns";
/// Rule of a line longer than the limit; only its beginning is kept.
pub const LINE_TOO_LONG: &str = "line_too_long";

/// The dead letter of a line, as it is sent.
pub fn letter(file: &str, line: u64, raw: &[u8], rule: &str, message: String) -> Vec<u8> {
    let (raw_payload, raw_encoding) = match std::str::from_utf8(raw) {
        Ok(text) => (text.to_owned(), RawEncoding::Utf8),
        Err(_) => (base64::engine::general_purpose::STANDARD.encode(raw), RawEncoding::Base64),
    };
    let letter = DeadLetter {
        raw_payload,
        raw_encoding,
        error_type: ErrorType::Parsing,
        rule: rule.to_owned(),
        message,
        retry_count: 0,
        error_timestamp_ms: wall_clock_ms(),
        origin: Origin::Line { file: file.to_owned(), line },
        judged: None,
    };
    // A struct of strings and numbers: serialization has no failing case.
    serde_json::to_vec(&letter).unwrap_or_default()
}
