//! Counters in columns that are narrower than they are.

/// A counter in a signed column of 64 bits; what does not fit is the greatest that does.
#[must_use]
pub fn bigint(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// A number in a signed column of 32 bits; what does not fit is the greatest that does.
#[must_use]
pub fn integer(n: u32) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}
