//! Avazu's `hour`, and the event time that its rows get.
//!
//! Row i (from 0) of the n rows of its hour gets ts = hour start + floor(i * 3,600,000 / n) milliseconds.

/// Milliseconds of an hour.
pub const HOUR_MS: u64 = 3_600_000;

/// Hours since 1970-01-01T00 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EpochHour(pub u32);

impl EpochHour {
    /// Reads `YYMMDDHH`, a real hour of the years 2000 to 2099.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let digits: &[u8; 8] = text.try_into().ok()?;
        let two = |at: usize| {
            let (tens, ones) = (digits[at].wrapping_sub(b'0'), digits[at + 1].wrapping_sub(b'0'));
            (tens < 10 && ones < 10).then(|| u32::from(tens * 10 + ones))
        };
        let (year, month, day, hour) = (two(0)?, two(2)?, two(4)?, two(6)?);
        // 2000 is a leap year, and so is every fourth one up to 2096.
        let leap = u32::from(year % 4 == 0);
        let days = [31, 28 + leap, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        let month = usize::try_from(month).ok()?.checked_sub(1).filter(|m| *m < 12)?;
        if day == 0 || day > days[month] || hour > 23 {
            return None;
        }
        const DAYS_TO_2000: u32 = 10_957;
        let leap_days_before = year.div_ceil(4);
        let days_before: u32 = days[..month].iter().sum();
        let day = DAYS_TO_2000 + year * 365 + leap_days_before + days_before + day - 1;
        Some(Self(day * 24 + hour))
    }

    /// Its first millisecond.
    pub const fn start_ms(self) -> u64 {
        self.0 as u64 * HOUR_MS
    }

    /// Event time of row `index` of the `rows` of this hour, epoch milliseconds.
    pub fn event_time_ms(self, index: u64, rows: u64) -> i64 {
        let offset = u128::from(index) * u128::from(HOUR_MS) / u128::from(rows.max(1));
        (self.start_ms() + offset as u64) as i64
    }
}

/// Remembers the last hour read: rows of an hour tend to come together.
#[derive(Debug, Default)]
pub struct HourCache(Option<([u8; 8], Option<EpochHour>)>);

impl HourCache {
    #[inline]
    pub fn parse(&mut self, text: &[u8]) -> Option<EpochHour> {
        let bytes: [u8; 8] = text.try_into().ok()?;
        match self.0 {
            Some((last, hour)) if last == bytes => hour,
            _ => {
                let hour = EpochHour::parse(text);
                self.0 = Some((bytes, hour));
                hour
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_hours_of_a_century_are_those_of_the_calendar() {
        let mut expected = 946_684_800 / 3_600; // 2000-01-01T00:00:00Z
        let mut at = jiff::civil::date(2000, 1, 1);
        while at.year() < 2100 {
            for hour in [0, 23] {
                let text = format!("{:02}{:02}{:02}{hour:02}", at.year() - 2000, at.month(), at.day());
                assert_eq!(EpochHour::parse(text.as_bytes()), Some(EpochHour(expected + hour)), "{text}");
            }
            expected += 24;
            at = at.tomorrow().unwrap();
        }
    }

    #[test]
    fn what_is_no_hour_is_refused() {
        for text in [
            "",
            "1410210",
            "141021000",
            "14102124",
            "14103200",
            "14023000",
            "15022900",
            "14130100",
            "14001000",
            "1410aa00",
            "-4102100",
            "14 02100",
            "+4102100",
            "14102\u{e9}0",
        ] {
            assert_eq!(EpochHour::parse(text.as_bytes()), None, "{text}");
        }
        assert!(EpochHour::parse(b"16022900").is_some());
    }

    proptest! {
        #[test]
        fn event_times_rise_and_stay_within_the_hour(rows in 1u64..1 << 40, a: u64, b: u64) {
            let (a, b) = (a % rows, b % rows);
            let hour = EpochHour(392_736);
            let (first, second) = (hour.event_time_ms(a.min(b), rows), hour.event_time_ms(a.max(b), rows));
            prop_assert!(hour.start_ms() as i64 <= first && first <= second);
            prop_assert!(second < (hour.start_ms() + HOUR_MS) as i64);
        }
    }
}
