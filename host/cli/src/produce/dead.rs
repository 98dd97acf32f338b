//! Lines that are no rows, as dead letters.

use clickmill_schemas::SourceId;
use clickmill_schemas::dead_letter::{DeadLetter, Origin, RawPayload};
use clickmill_schemas::envelope::ErrorType;

use super::rounds::wall_clock_ms;

/// Rule of a line that is no CSV row of 24 columns.
pub const CSV_COLUMNS: &str = "csv_columns";
/// Rule of a line longer than the limit; only its beginning is kept.
pub const LINE_TOO_LONG: &str = "line_too_long";

/// The dead letter of a line of a file with these contents, as it is sent: of its first bytes, `raw`, where it has more (`bytes` in
/// all).
pub fn letter(
    (file, line, source): (&str, u64, SourceId),
    raw: &[u8],
    bytes: u64,
    rule: &str,
    message: String,
) -> Vec<u8> {
    let letter = DeadLetter {
        payload: RawPayload::beginning(raw, bytes),
        error_type: ErrorType::Parsing,
        rule: rule.to_owned(),
        message,
        retry_count: 0,
        error_timestamp_ms: wall_clock_ms(),
        origin: Origin::Line { file: file.to_owned(), line, source: Some(source) },
        judged: None,
        stacktrace: None,
        retried_at: None,
        connector: None,
    };
    // A struct of strings and numbers: serialization has no failing case.
    serde_json::to_vec(&letter).unwrap_or_default()
}
