//! The calendar that the field `hour` (`YYMMDDHH`, UTC, years 2000 to 2099) needs.
//!
//! Days are counted by Howard Hinnant's `days_from_civil`; there is no clock here and no time zone.

/// Milliseconds of an hour.
pub const HOUR_MS: i64 = 3_600_000;
/// Milliseconds of a day.
pub const DAY_MS: i64 = 24 * HOUR_MS;

/// The start of an hour written `YYMMDDHH`, epoch milliseconds; `None` where it is not eight digits or not a date.
#[must_use]
pub fn parse_hour(text: &[u8]) -> Option<i64> {
    let digits: &[u8; 8] = text.try_into().ok()?;
    let [year, month, day, hour] = [0, 2, 4, 6].map(|at| two_digits(digits[at], digits[at + 1]));
    let hour = hour.filter(|h| *h < 24)?;
    Some(days_from_civil(2000 + year?, month?, day?)? * DAY_MS + hour * HOUR_MS)
}

/// The hour of a time, written `YYMMDDHH`; `None` outside the years 2000 to 2099.
#[must_use]
pub fn format_hour(ms: i64) -> Option<[u8; 8]> {
    let (year, month, day) = civil_from_days(ms.div_euclid(DAY_MS));
    let hour = ms.rem_euclid(DAY_MS) / HOUR_MS;
    if !(2000..2100).contains(&year) {
        return None;
    }
    let mut out = [0; 8];
    for (pair, value) in out.chunks_exact_mut(2).zip([year - 2000, month, day, hour]) {
        pair.copy_from_slice(&[b'0' + (value / 10) as u8, b'0' + (value % 10) as u8]);
    }
    Some(out)
}

/// The start of a day written `YYYY-MM-DD`, epoch milliseconds; `None` where it is not a date.
#[must_use]
pub fn parse_date(text: &str) -> Option<i64> {
    let digits: &[u8; 10] = text.as_bytes().try_into().ok()?;
    if digits[4] != b'-' || digits[7] != b'-' {
        return None;
    }
    let year = two_digits(digits[0], digits[1])? * 100 + two_digits(digits[2], digits[3])?;
    let month = two_digits(digits[5], digits[6])?;
    Some(days_from_civil(year, month, two_digits(digits[8], digits[9])?)? * DAY_MS)
}

/// Hour of the day of a time, UTC, 0 to 23.
#[must_use]
pub const fn hour_of_day(ms: i64) -> i64 {
    ms.rem_euclid(DAY_MS) / HOUR_MS
}

/// Weekday of a time, UTC; 0 is Monday.
#[must_use]
pub const fn weekday(ms: i64) -> i64 {
    // The epoch began on a Thursday.
    (ms.div_euclid(DAY_MS) + 3).rem_euclid(7)
}

fn two_digits(tens: u8, ones: u8) -> Option<i64> {
    let digit = |byte: u8| byte.is_ascii_digit().then(|| i64::from(byte - b'0'));
    Some(digit(tens)? * 10 + digit(ones)?)
}

/// Days since 1970-01-01; `None` where there is no such day.
fn days_from_civil(year: i64, month: i64, day: i64) -> Option<i64> {
    if !(1..=12).contains(&month) || day < 1 {
        return None;
    }
    let shifted = if month > 2 { year } else { year - 1 };
    let era = shifted.div_euclid(400);
    let year_of_era = shifted.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * 146_097 + day_of_era - 719_468;
    // A day past the month's end would be the next month's.
    (civil_from_days(days) == (year, month, day)).then_some(days)
}

fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_hours_are_read_and_written() {
        for (text, ms) in [
            (b"14102100", 1_413_849_600_000),
            (b"00010100", 946_684_800_000),
            (b"24022923", 1_709_247_600_000),
            (b"99123123", 4_102_441_200_000),
        ] {
            assert_eq!(parse_hour(text), Some(ms));
            assert_eq!(format_hour(ms + HOUR_MS - 1), Some(*text));
        }
        assert_eq!(weekday(1_413_849_600_000), 1, "2014-10-21 was a Tuesday");
        assert_eq!(hour_of_day(1_709_247_600_000), 23);
        assert_eq!((weekday(-1), hour_of_day(-1)), (2, 23));
    }

    #[test]
    fn what_is_not_an_hour_is_refused() {
        let wrong =
            ["", "1410210", "141021000", "14102124", "14100021", "14133100", "14023000", "23022900", "1410 100"];
        for text in wrong {
            assert_eq!(parse_hour(text.as_bytes()), None, "{text}");
        }
        assert_eq!(parse_hour("1410210é".as_bytes()), None);
        assert_eq!(format_hour(4_102_444_800_000), None);
        assert_eq!(format_hour(i64::MIN), None);
    }

    #[test]
    fn every_hour_of_the_century_round_trips() {
        let mut ms = 946_684_800_000;
        while let Some(text) = format_hour(ms) {
            assert_eq!(parse_hour(&text), Some(ms));
            ms += HOUR_MS;
        }
        assert_eq!(ms, 4_102_444_800_000);
    }

    #[test]
    fn dates_are_read_strictly() {
        assert_eq!(parse_date("2014-10-21"), Some(1_413_849_600_000));
        assert_eq!(parse_date("1970-01-01"), Some(0));
        for text in ["2014-10-32", "2014-13-01", "2014/10/21", "14-10-21", "2014-10-2", "2100-02-29"] {
            assert_eq!(parse_date(text), None, "{text}");
        }
    }
}
