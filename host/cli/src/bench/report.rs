//! Figures beside what the project asks of them, as a table and as JSON.

use std::fmt;

use comfy_table::{Table, presets};
use serde::Serialize;

use crate::output::say;

/// What is asked of a figure.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    AtLeast(f64),
    AtMost(f64),
    /// For orientation.
    None,
}

#[derive(Debug, Serialize)]
struct Figure {
    name: String,
    value: f64,
    unit: &'static str,
    goal: Goal,
    reached: Option<bool>,
}

/// All figures of a run.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    figures: Vec<Figure>,
}

impl Report {
    pub fn add(&mut self, name: impl Into<String>, value: f64, unit: &'static str, goal: Goal) {
        let reached = match goal {
            Goal::AtLeast(least) => Some(value >= least),
            Goal::AtMost(most) => Some(value <= most),
            Goal::None => None,
        };
        let name = name.into();
        say(format_args!("    {name}: {} {unit}", shown(value)));
        self.figures.push(Figure { name, value, unit, goal, reached });
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_header(["figure", "value", "unit", "asked", ""]);
        for figure in &self.figures {
            let asked = match figure.goal {
                Goal::AtLeast(least) => format!("≥ {}", shown(least)),
                Goal::AtMost(most) => format!("≤ {}", shown(most)),
                Goal::None => String::new(),
            };
            let reached = figure.reached.map_or("", |reached| if reached { "ok" } else { "not reached" });
            table.add_row([figure.name.clone(), shown(figure.value), figure.unit.into(), asked, reached.into()]);
        }
        table.fmt(f)
    }
}

fn shown(value: f64) -> String {
    match value.abs() {
        large if large >= 1_000.0 => format!("{value:.0}"),
        small if small < 0.1 => format!("{value:.4}"),
        _ => format!("{value:.2}"),
    }
}
