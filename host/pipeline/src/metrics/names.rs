//! Values of labels that come from users: of stages, of rules and reasons of modules, of any text that is not ours.
//!
//! Every value is a series that Prometheus keeps, so their number and their length are bounded here, whatever is deployed.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::{PoisonError, RwLock};

/// What stands for the values that came too late.
pub const OTHER: &str = "other";
/// Bytes of a value.
pub const MOST_BYTES: usize = 64;
/// Stages that are told apart in the life of a process.
pub const MOST_STAGES: usize = 32;
/// Rules, or reasons, that are told apart in the life of a process.
pub const MOST_RULES: usize = 100;

/// The first values that come, each of them as a label for good: a series must not change what it is of.
#[derive(Debug)]
pub struct Names {
    most: usize,
    seen: RwLock<BTreeSet<String>>,
}

impl Names {
    #[must_use]
    pub const fn new(most: usize) -> Self {
        Self { most, seen: RwLock::new(BTreeSet::new()) }
    }

    /// The label that stands for `value`: itself, cut, or [`OTHER`].
    pub fn label<'a>(&self, value: &'a str) -> Cow<'a, str> {
        let cut = value.get(..value.floor_char_boundary(MOST_BYTES)).unwrap_or_default();
        if self.seen.read().unwrap_or_else(PoisonError::into_inner).contains(cut) {
            return Cow::Borrowed(cut);
        }
        let mut seen = self.seen.write().unwrap_or_else(PoisonError::into_inner);
        if seen.len() < self.most {
            seen.insert(cut.to_owned());
        }
        if seen.contains(cut) { Cow::Borrowed(cut) } else { Cow::Borrowed(OTHER) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_values_keep_their_label_and_later_ones_share_one() {
        let names = Names::new(2);
        let labels = ["a", "b", "c", "b", "a", "d"].map(|value| names.label(value).into_owned());
        assert_eq!(labels, ["a", "b", OTHER, "b", "a", OTHER]);
    }

    #[test]
    fn a_long_value_is_cut_at_a_character_and_is_one_label() {
        let names = Names::new(10);
        let long = "ü".repeat(100);
        assert_eq!(names.label(&long), "ü".repeat(32));
        assert_eq!(names.label(&format!("x{long}")), format!("x{}", "ü".repeat(31)));
        assert_eq!(names.label(&"ü".repeat(90)), names.label(&long));
    }
}
