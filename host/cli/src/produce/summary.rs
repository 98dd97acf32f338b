//! What `produce` did, for people and for programs.

use std::time::Duration;

use indicatif::HumanCount;
use serde::Serialize;

/// The counts of one `produce`.
#[derive(Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// Lines that are rows: CSV rows of 24 columns, JSON lines that are not blank.
    pub rows_read: u64,
    pub rows_sent: u64,
    /// Rows that an earlier `produce` of the same files had sent.
    pub rows_already_there: u64,
    /// Of the rows: CSV rows whose hour cannot be read, sent last and with `ts` 0.
    pub rows_without_hour: u64,
    /// By partition.
    pub sent_by_partition: Vec<u64>,
    /// Lines that are no rows; they are in `ad_events_error` and not in the ledger.
    pub error_lines: u64,
    pub blank_lines: u64,
    pub elapsed_seconds: f64,
    pub rows_per_second: f64,
    /// The files' fingerprint, as it is in the records' keys.
    pub source: String,
}

impl Summary {
    pub fn took(&mut self, elapsed: Duration) {
        self.elapsed_seconds = elapsed.as_secs_f64();
        self.rows_per_second = self.rows_sent as f64 / self.elapsed_seconds.max(1e-9);
    }

    /// A few lines.
    pub fn text(&self) -> String {
        let by_partition: Vec<String> = self.sent_by_partition.iter().map(|n| HumanCount(*n).to_string()).collect();
        let mut text = format!(
            "sent {} of {} rows in {:.1} s ({} rows/s); by partition: {}",
            HumanCount(self.rows_sent),
            HumanCount(self.rows_read),
            self.elapsed_seconds,
            HumanCount(self.rows_per_second as u64),
            by_partition.join(", ")
        );
        for (count, what) in [
            (self.rows_already_there, "rows were there already"),
            (self.rows_without_hour, "rows have an hour that cannot be read; sent last"),
            (self.error_lines, "lines are no rows; they are in ad_events_error and not in the ledger"),
            (self.blank_lines, "blank lines skipped"),
        ] {
            if count > 0 {
                text.push_str(&format!("\n{} {what}", HumanCount(count)));
            }
        }
        text
    }
}
