//! CTR, CPC, CPA and ROAS: exact decimals of six digits, computed from integers.
//!
//! Rounding is half away from zero on the exact quotient, as `numeric` of PostgreSQL rounds, so that a recount
//! in SQL gives the same digits.

use std::fmt;

use clickmill_schemas::partial::Metrics;
use serde::{Serialize, Serializer};

const SCALE: i128 = 1_000_000;

/// A decimal number with six digits after the point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Decimal6(i128);

impl Decimal6 {
    /// `numerator / denominator`; none where the denominator is 0.
    ///
    /// ```
    /// use clickmill_pipeline::views::derived::Decimal6;
    /// assert_eq!(Decimal6::ratio(1, 6).unwrap().to_string(), "0.166667");
    /// assert_eq!(Decimal6::ratio(1, 0), None);
    /// ```
    #[must_use]
    pub fn ratio(numerator: i64, denominator: i64) -> Option<Self> {
        Self::divide(i128::from(numerator) * SCALE, i128::from(denominator))
    }

    /// `micros / 1,000,000 / count`, in units of the currency; none where the count is 0.
    ///
    /// ```
    /// use clickmill_pipeline::views::derived::Decimal6;
    /// assert_eq!(Decimal6::units_per(2_500_001, 2).unwrap().to_string(), "1.250001");
    /// ```
    #[must_use]
    pub fn units_per(micros: i64, count: i64) -> Option<Self> {
        Self::divide(i128::from(micros), i128::from(count))
    }

    fn divide(numerator: i128, denominator: i128) -> Option<Self> {
        if denominator == 0 {
            return None;
        }
        let (quotient, remainder) = (numerator / denominator, numerator % denominator);
        let away = if remainder.abs() * 2 >= denominator.abs() { numerator.signum() * denominator.signum() } else { 0 };
        Some(Self(quotient + away))
    }

    /// The nearest floating-point number, for charts and JSON.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // That is what "nearest" says.
    pub fn as_f64(self) -> f64 {
        self.0 as f64 / SCALE as f64
    }
}

impl fmt::Display for Decimal6 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (units, digits) = (self.0.unsigned_abs() / 1_000_000, self.0.unsigned_abs() % 1_000_000);
        write!(f, "{}{units}.{digits:06}", if self.0 < 0 { "-" } else { "" })
    }
}

impl Serialize for Decimal6 {
    /// As a JSON number, exact up to 15 significant digits.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.as_f64())
    }
}

/// The four metrics that are quotients of the sums; none where the divisor is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Derived {
    /// Clicks per impression, a ratio.
    pub ctr: Option<Decimal6>,
    /// Cost per click, in units of the currency.
    pub cpc: Option<Decimal6>,
    /// Cost per conversion, in units of the currency.
    pub cpa: Option<Decimal6>,
    /// Revenue per cost, a ratio.
    pub roas: Option<Decimal6>,
}

impl From<&Metrics> for Derived {
    fn from(m: &Metrics) -> Self {
        Self {
            ctr: Decimal6::ratio(m.clicks, m.impressions),
            cpc: Decimal6::units_per(m.cost_micros, m.clicks),
            cpa: Decimal6::units_per(m.cost_micros, m.conversions),
            roas: Decimal6::ratio(m.revenue_micros, m.cost_micros),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn halves_round_away_from_zero() {
        let text = |n, d| Decimal6::ratio(n, d).unwrap().to_string();
        assert_eq!(text(1, 2_000_000), "0.000001");
        assert_eq!(text(-1, 2_000_000), "-0.000001");
        assert_eq!(text(1, 2_000_001), "0.000000");
        assert_eq!(text(2, 3), "0.666667");
        assert_eq!(text(17, 1), "17.000000");
    }

    #[test]
    fn a_divisor_of_zero_has_no_quotient() {
        let derived = Derived::from(&Metrics { impressions: 10, cost_micros: 0, ..Metrics::default() });
        assert_eq!(derived.ctr.unwrap().to_string(), "0.000000");
        assert_eq!((derived.cpc, derived.cpa, derived.roas), (None, None, None));
    }

    proptest! {
        #[test]
        fn the_quotient_is_within_half_a_digit(n: i64, d in any::<i64>().prop_filter("not 0", |d| *d != 0)) {
            let got = Decimal6::ratio(n, d).unwrap().0;
            let error = (i128::from(n) * SCALE - got * i128::from(d)).abs();
            prop_assert!(error * 2 <= i128::from(d).abs());
        }
    }
}
