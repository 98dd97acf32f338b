//! How far a click-through rate that was measured may be from the one that is: the Wilson score interval, in one place.

/// The 97.5 % quantile of the standard normal distribution: 95 % lie within.
const Z: f64 = 1.959_963_984_540_054;

/// Bounds of the 95 % confidence interval of `clicks / impressions`; none where that is no share of anything.
///
/// ```
/// use clickmill_pipeline::views::wilson::interval;
/// let (low, high) = interval(3, 10).unwrap();
/// assert!(low < 0.11 && high > 0.60, "3 of 10 clicks say little");
/// assert_eq!(interval(0, 0), None);
/// ```
#[must_use]
#[allow(clippy::cast_precision_loss)] // Beyond 2^53 impressions the interval is a point.
pub fn interval(clicks: i64, impressions: i64) -> Option<(f64, f64)> {
    if impressions <= 0 || !(0..=impressions).contains(&clicks) {
        return None;
    }
    let (n, share) = (impressions as f64, clicks as f64 / impressions as f64);
    let scale = 1.0 + Z * Z / n;
    let middle = (share + Z * Z / (2.0 * n)) / scale;
    let half = Z / scale * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
    // Where all or none clicked a bound is the share itself, which the arithmetic misses by its last digit.
    let low = if clicks == 0 { 0.0 } else { (middle - half).max(0.0) };
    let high = if clicks == impressions { 1.0 } else { (middle + half).min(1.0) };
    Some((low, high))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// R. G. Newcombe, Two-sided confidence intervals for the single proportion, Statistics in Medicine 17 (1998), table I,
    /// method 3.
    #[test]
    fn the_intervals_are_those_that_newcombe_published() {
        for (clicks, impressions, low, high) in
            [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0000, 0.1611), (1, 29, 0.0061, 0.1718)]
        {
            let (l, h) = interval(clicks, impressions).unwrap();
            let near = |a: f64, b: f64| (a - b).abs() <= 0.000_05;
            assert!(near(l, low) && near(h, high), "{clicks} of {impressions}: {l} to {h}");
        }
    }

    #[test]
    fn what_is_no_share_has_no_interval() {
        for (clicks, impressions) in [(0, 0), (1, 0), (-1, 10), (11, 10), (0, -1), (i64::MIN, i64::MIN)] {
            assert_eq!(interval(clicks, impressions), None, "{clicks} of {impressions}");
        }
    }

    proptest! {
        #[test]
        fn an_interval_lies_within_0_and_1_and_around_the_share(n in 1..=i64::MAX, part in 0.0..=1.0) {
            let clicks = ((n as f64 * part) as i64).min(n);
            let (low, high) = interval(clicks, n).unwrap();
            let share = clicks as f64 / n as f64;
            prop_assert!((0.0..=1.0).contains(&low) && (0.0..=1.0).contains(&high));
            prop_assert!(low <= share + 1e-12 && share <= high + 1e-12, "{low} {share} {high}");
        }
    }
}
