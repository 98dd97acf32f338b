//! Parameters against what the manifest says of them: unknown names, missing ones, values that the declared type cannot be.

use std::collections::BTreeMap;

use super::{Manifest, ParamSpec};

/// A parameter that a manifest does not allow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParamProblem {
    #[error("there is no parameter {name:?}; {}", meant(.suggestion.as_deref(), .known))]
    Unknown { name: String, suggestion: Option<String>, known: Vec<String> },
    #[error("the parameter {name:?} is missing{}", .description.as_ref().map_or(String::new(), |d| format!(": {d}")))]
    Missing { name: String, description: Option<String> },
    #[error("the parameter {name:?} is {value:?}, and must be {expected}")]
    Value { name: String, value: String, expected: String },
}

impl ParamProblem {
    /// The parameter's.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Unknown { name, .. } | Self::Missing { name, .. } | Self::Value { name, .. } => name,
        }
    }
}

fn meant(suggestion: Option<&str>, known: &[String]) -> String {
    suggestion.map_or_else(|| format!("there are {}", known.join(", ")), |meant| format!("did you mean {meant:?}?"))
}

/// Longest value that a message repeats.
const MAX_SHOWN_CHARS: usize = 60;

impl Manifest {
    /// Compares parameters with those that the module declares; one that declares none takes what its `init` takes.
    ///
    /// # Errors
    /// Every problem, by name.
    pub fn check_params(&self, params: &BTreeMap<String, String>) -> Result<(), Vec<ParamProblem>> {
        if self.params.is_empty() {
            return Ok(());
        }
        let mut problems = Vec::new();
        for (name, value) in params {
            match self.params.iter().find(|spec| spec.name == *name) {
                Some(spec) => problems.extend(spec.refuses(value)),
                None => problems.push(self.unknown(name)),
            }
        }
        for spec in &self.params {
            if !spec.optional && spec.default.is_none() && !params.contains_key(&spec.name) {
                problems.push(ParamProblem::Missing { name: spec.name.clone(), description: spec.description.clone() });
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }

    fn unknown(&self, name: &str) -> ParamProblem {
        let known: Vec<String> = self.params.iter().map(|spec| spec.name.clone()).collect();
        let near = known.iter().map(|known| (distance(name, known), known)).min();
        // Half of a short word may be wrong, three letters of a long one.
        let suggestion =
            near.filter(|(far, _)| *far <= (name.chars().count() / 2).clamp(1, 3)).map(|(_, known)| known.clone());
        ParamProblem::Unknown { name: name.to_owned(), suggestion, known }
    }
}

impl ParamSpec {
    fn refuses(&self, value: &str) -> Option<ParamProblem> {
        let declared = self.kind.as_deref()?;
        let of = |kind: &str| declared.strip_prefix(kind);
        let fits = if let Some(rest) = of("integer") {
            value.parse::<i64>().is_ok_and(|n| range(rest).is_none_or(|(least, most)| (least..=most).contains(&n)))
        } else if of("number").is_some() {
            value.parse::<f64>().is_ok_and(f64::is_finite)
        } else if of("bool").is_some() {
            matches!(value, "true" | "false")
        } else if of("date").is_some() {
            is_date(value)
        } else {
            true
        };
        if fits {
            return None;
        }
        let mut shown: String = value.chars().take(MAX_SHOWN_CHARS).collect();
        if shown.len() < value.len() {
            shown.push('…');
        }
        Some(ParamProblem::Value { name: self.name.clone(), value: shown, expected: declared.to_owned() })
    }
}

/// `, 0 to 10` behind `integer`.
fn range(rest: &str) -> Option<(i64, i64)> {
    let (least, most) = rest.trim_start().strip_prefix(',')?.split_once(" to ")?;
    Some((least.trim().parse().ok()?, most.trim().parse().ok()?))
}

/// A day of the calendar as YYYY-MM-DD.
fn is_date(text: &str) -> bool {
    let bytes = text.as_bytes();
    if bytes.len() != 10 || bytes[4] != b'-' || bytes[7] != b'-' {
        return false;
    }
    let number = |at: std::ops::Range<usize>| {
        let digits = &bytes[at];
        digits.iter().all(u8::is_ascii_digit).then(|| digits.iter().fold(0, |n, d| n * 10 + u32::from(d - b'0')))
    };
    let (Some(year), Some(month), Some(day)) = (number(0..4), number(5..7), number(8..10)) else { return false };
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 => 28 + u32::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return false,
    };
    (1..=days).contains(&day)
}

/// Letters to change, add or leave out to make one word of the other.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in other.iter().enumerate() {
            let change = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = change.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(params: &[(&str, &str)]) -> Vec<String> {
        let manifest = Manifest::parse(
            r#"
            package = { name = "a", version = "1" }
            params = [
                { name = "max_string_bytes", type = "integer, 1 to 100", optional = true },
                { name = "rate", type = "number", optional = true },
                { name = "strict", type = "bool", default = "false" },
                { name = "date_from", type = "date, YYYY-MM-DD", optional = true },
                { name = "pricing", type = "JSON object", description = "The table." },
            ]"#,
        )
        .unwrap();
        let params = params.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let problems = manifest.check_params(&params).err().unwrap_or_default();
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn names_are_known_or_the_nearest_one_is_suggested() {
        let none: [String; 0] = [];
        assert_eq!(problems(&[("pricing", "")]), none);
        assert_eq!(problems(&[]), ["the parameter \"pricing\" is missing: The table."]);
        assert_eq!(
            problems(&[("pricing", ""), ("max_strng_bytes", "1"), ("zzz", "")]),
            [
                "there is no parameter \"max_strng_bytes\"; did you mean \"max_string_bytes\"?",
                "there is no parameter \"zzz\"; there are max_string_bytes, rate, strict, date_from, pricing"
            ]
        );
    }

    #[test]
    fn values_are_of_the_declared_type() {
        let refused = |name, value| problems(&[("pricing", ""), (name, value)]);
        for (name, good, bad) in [
            ("max_string_bytes", &["1", "100"][..], &["0", "101", "", "1.0", "ten"][..]),
            ("rate", &["1", "-1.5e3"], &["", "NaN", "inf", "1,5"]),
            ("strict", &["true", "false"], &["", "yes", "True"]),
            (
                "date_from",
                &["2014-10-21", "2024-02-29"],
                &["2023-02-29", "2014-13-01", "2014-1-1", "2014-10-00", "21.10.2014", "2014-10-2ü"],
            ),
        ] {
            good.iter().for_each(|value| assert!(refused(name, value).is_empty(), "{name} {value}"));
            bad.iter().for_each(|value| assert_eq!(refused(name, value).len(), 1, "{name} {value}"));
        }
        assert_eq!(
            refused("max_string_bytes", &"9".repeat(100)),
            [format!("the parameter \"max_string_bytes\" is \"{}…\", and must be integer, 1 to 100", "9".repeat(60))]
        );
    }

    #[test]
    fn a_module_that_declares_no_parameters_takes_what_its_init_takes() {
        let manifest = Manifest::parse("[package]\nname = \"a\"\nversion = \"1\"").unwrap();
        assert_eq!(manifest.check_params(&[("any".to_owned(), String::new())].into()), Ok(()));
    }
}
