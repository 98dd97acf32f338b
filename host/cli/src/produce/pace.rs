//! When a row may go: at the speed of its event time, at a rate, or at once.

use std::str::FromStr;
use std::time::{Duration, Instant};

/// How many times faster than event time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Speed {
    Max,
    Times(f64),
}

impl FromStr for Speed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.eq_ignore_ascii_case("max") {
            return Ok(Self::Max);
        }
        let number = text.strip_suffix(['x', 'X']).unwrap_or(text);
        match number.parse::<f64>() {
            Ok(times) if times.is_finite() && times > 0.0 => Ok(Self::Times(times)),
            _ => Err("expected `max` or a factor above 0 such as `60x`".to_owned()),
        }
    }
}

/// Says when each row is due.
#[derive(Debug)]
pub struct Pace {
    begun: Instant,
    times: Option<f64>,
    per_second: Option<f64>,
    first_ts_ms: Option<i64>,
    rows: u64,
}

impl Pace {
    /// `None` where nothing is to be held back.
    pub fn new(speed: Speed, per_second: Option<f64>, now: Instant) -> Option<Self> {
        let times = match speed {
            Speed::Max => None,
            Speed::Times(times) => Some(times),
        };
        let held = times.is_some() || per_second.is_some();
        held.then_some(Self { begun: now, times, per_second, first_ts_ms: None, rows: 0 })
    }

    /// When the next row may go, by the pace that is the slower.
    pub fn due(&mut self, ts_ms: Option<i64>) -> Instant {
        let mut seconds: f64 = 0.0;
        if let Some(rate) = self.per_second {
            seconds = self.rows as f64 / rate;
        }
        self.rows += 1;
        if let (Some(times), Some(ts_ms)) = (self.times, ts_ms) {
            let first = *self.first_ts_ms.get_or_insert(ts_ms);
            seconds = seconds.max(ts_ms.saturating_sub(first) as f64 / 1000.0 / times);
        }
        // A row a century ahead is due in a century, not never.
        self.begun + Duration::from_secs_f64(seconds.clamp(0.0, 3.2e9))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds_are_factors_or_max() {
        assert_eq!("60x".parse(), Ok(Speed::Times(60.0)));
        assert_eq!("0.5".parse(), Ok(Speed::Times(0.5)));
        assert_eq!("MAX".parse(), Ok(Speed::Max));
        for bad in ["", "x", "0x", "-1x", "nan", "infx", "60 x"] {
            assert!(bad.parse::<Speed>().is_err(), "{bad}");
        }
    }

    #[test]
    fn rows_are_due_by_the_slower_of_event_time_and_rate() {
        let now = Instant::now();
        let after = |due: Instant| (due - now).as_millis();
        assert!(Pace::new(Speed::Max, None, now).is_none());
        let mut pace = Pace::new(Speed::Times(60.0), Some(10.0), now).unwrap();
        assert_eq!(after(pace.due(Some(5_000))), 0);
        assert_eq!(after(pace.due(Some(5_000 + 60_000))), 1_000);
        assert_eq!(after(pace.due(None)), 200);
        assert_eq!(after(pace.due(Some(0))), 300);
        assert_eq!(after(pace.due(Some(i64::MAX))), 3_200_000_000_000);
    }
}
