//! How reading verbs print: tables for people, JSON and CSV for programs.

use std::fmt::Display;
use std::io::{self, Write};

use anyhow::{Context as _, Result};
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;

/// Form of what goes to standard output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// For people
    #[default]
    Text,
    Json,
    Csv,
}

/// Data that is there at once, to standard output.
///
/// # Errors
/// Where it cannot be written; a reader that went away (`| head`) is no failure.
pub fn print(text: impl Display) -> Result<()> {
    let mut out = io::stdout().lock();
    unless_gone(write!(out, "{text}").and_then(|()| out.flush()))
}

/// A reader that went away (`| head`) is no failure of ours.
pub fn unless_gone(result: io::Result<()>) -> Result<()> {
    match result {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("standard output cannot be written"),
    }
}

/// A line for people, to standard error. Where nobody can read it (the terminal is gone), the work goes on.
pub fn say(line: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// A number of things: `1 line`, `2 lines`.
pub fn counted(n: u64, thing: &str) -> String {
    let number = indicatif::HumanCount(n);
    if n == 1 { format!("{number} {thing}") } else { format!("{number} {thing}s") }
}

/// Rows of text under headers; columns whose header ends in `>` are set flush right.
pub struct Rows {
    headers: &'static [&'static str],
    rows: Vec<Vec<String>>,
}

impl Rows {
    pub const fn new(headers: &'static [&'static str]) -> Self {
        Self { headers, rows: Vec::new() }
    }

    pub fn push(&mut self, row: Vec<String>) {
        self.rows.push(row);
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.headers.iter().map(|h| h.trim_end_matches('>'))
    }

    /// As an aligned table.
    pub fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut table = Table::new();
        table.load_preset(NOTHING).set_header(self.names().map(|n| n.replace('_', " ")).collect::<Vec<_>>());
        for row in &self.rows {
            table.add_row(row.iter().map(|cell| printable(cell)).collect::<Vec<_>>());
        }
        for (i, header) in self.headers.iter().enumerate() {
            if let Some(column) = table.column_mut(i) {
                column.set_padding((0, 2));
                if header.ends_with('>') {
                    column.set_cell_alignment(CellAlignment::Right);
                }
            }
        }
        for line in table.lines() {
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }

    /// The same, as text.
    pub fn text(&self) -> String {
        let mut out = Vec::new();
        // Memory takes everything, and cells are text.
        let _ = self.write_text(&mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    /// As CSV with a line of headers.
    pub fn write_csv(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut csv = csv::Writer::from_writer(out);
        csv.write_record(self.names())?;
        for row in &self.rows {
            csv.write_record(row)?;
        }
        csv.flush()
    }
}

/// A value as indented JSON with a line end.
pub fn write_json(out: &mut dyn Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    writeln!(out)
}

/// Text that cannot steer a terminal: control characters are escaped.
pub fn printable(text: &str) -> String {
    if !text.chars().any(char::is_control) {
        return text.to_owned();
    }
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Rows {
        let mut rows = Rows::new(&["name", "log_end>"]);
        rows.push(vec!["a,b".into(), "5".into()]);
        rows.push(vec!["c\u{1b}[31m".into(), "1000".into()]);
        rows
    }

    #[test]
    fn a_table_is_aligned_and_cannot_steer_the_terminal() {
        let mut out = Vec::new();
        rows().write_text(&mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "name         log end\na,b                5\nc\\u{1b}[31m     1000\n"
        );
    }

    #[test]
    fn csv_keeps_fields_apart() {
        let mut out = Vec::new();
        rows().write_csv(&mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "name,log_end\n\"a,b\",5\nc\u{1b}[31m,1000\n");
    }
}
