//! Event times as people read and write them: ISO 8601, UTC, to the second or millisecond.

use jiff::Timestamp;

/// What may be added to such times without a thought of overflow.
const FURTHEST_MS: i64 = i64::MAX / 4;

/// `2014-10-21T00:00:00Z`, with milliseconds only where there are some. A time outside the years -9999 to 9999 is
/// given as its number of milliseconds.
///
/// ```
/// assert_eq!(clickmill_pipeline::views::time::iso8601(1_413_849_600_000), "2014-10-21T00:00:00Z");
/// ```
#[must_use]
pub fn iso8601(epoch_ms: i64) -> String {
    Timestamp::from_millisecond(epoch_ms).map_or_else(|_| epoch_ms.to_string(), |t| t.to_string())
}

/// Reads `2014-10-21T00:00:00Z` (any offset), `2014-10-21` (its midnight, UTC) or epoch milliseconds.
///
/// ```
/// use clickmill_pipeline::views::time::parse_time;
/// assert_eq!(parse_time("2014-10-21").unwrap(), 1_413_849_600_000);
/// assert!(parse_time("yesterday").is_err());
/// assert!(parse_time("-9223372036854775808").is_err());
/// ```
///
/// # Errors
/// A sentence that names the forms, or the limit.
pub fn parse_time(text: &str) -> Result<i64, String> {
    if let Ok(ms) = text.parse::<i64>() {
        return match (-FURTHEST_MS..=FURTHEST_MS).contains(&ms) {
            true => Ok(ms),
            false => Err(format!("{text} is no time: it must lie within {FURTHEST_MS} ms of 1970")),
        };
    }
    let midnight = text.parse::<jiff::civil::Date>().map(|_| format!("{text}T00:00:00Z"));
    midnight
        .as_deref()
        .unwrap_or(text)
        .parse::<Timestamp>()
        .map(Timestamp::as_millisecond)
        .map_err(|_| format!("{text:?} is not a time; write 2014-10-21T00:00:00Z, 2014-10-21 or epoch milliseconds"))
}
