//! A config that cannot be used: the user's mistake (exit code 2), said with its place.

use std::fmt;

/// One line for each problem, each with the place that it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    lines: Vec<String>,
}

impl ConfigError {
    pub(super) fn new(lines: Vec<String>) -> Self {
        Self { lines }
    }

    pub(super) fn one(line: impl Into<String>) -> Self {
        Self { lines: vec![line.into()] }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines.join("\n"))
    }
}

impl std::error::Error for ConfigError {}
