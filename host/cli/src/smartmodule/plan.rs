//! A plan as people read it.

use std::fmt::Write as _;

use clickmill_pipeline::deployment::canary::Canary;
use clickmill_pipeline::deployment::plan::{Change, ModuleOf, Plan, StateChange, StateVerdict};
use clickmill_pipeline::judge::Matrix;

use crate::output::{Rows, counted, printable};

/// Longest parameter value that is shown whole.
const SHOWN_CHARS: usize = 60;

pub fn text(plan: &Plan) -> String {
    let mut out = String::new();
    if !plan.changes {
        return format!("nothing would change: this is in force already, as deployment {}\n", plan.base);
    }
    for stage in &plan.stages {
        let what = match stage.change {
            Change::Added => "added",
            Change::Replaced => "replaced",
            Change::Removed => "removed",
            Change::Unchanged => "as it is",
        };
        line(&mut out, format_args!("stage {}: {what}", printable(&stage.stage)));
        if stage.change == Change::Unchanged {
            continue;
        }
        match (&stage.old, &stage.new) {
            (Some(old), Some(new)) if old == new => {}
            (Some(old), Some(new)) => line(&mut out, format_args!("  module {} -> {}", module(old), module(new))),
            (None, Some(one)) | (Some(one), None) => line(&mut out, format_args!("  module {}", module(one))),
            (None, None) => {}
        }
        for param in &stage.params {
            let shown = |value: &Option<String>| value.as_deref().map_or_else(|| "not set".to_owned(), cut);
            line(
                &mut out,
                format_args!("  {}: {} -> {}", printable(&param.name), shown(&param.old), shown(&param.new)),
            );
        }
    }
    state(&mut out, plan);
    if let Some(only) = &plan.partitions {
        let only = only.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        line(&mut out, format_args!("rolled out to partition {only} only"));
    }
    match &plan.canary {
        Some(canary) => self::canary(&mut out, canary),
        None => line(&mut out, format_args!("canary: there are no records to try it on, or no stage to try")),
    }
    out
}

fn line(out: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a String never fails.
    let _ = writeln!(out, "{line}");
}

fn module(of: &ModuleOf) -> String {
    let digest = of.sha256.to_string();
    format!("{} {} ({})", printable(&of.name), printable(&of.version), &digest[..12])
}

fn cut(value: &str) -> String {
    let shown = printable(value);
    match shown.chars().count() > SHOWN_CHARS {
        true => format!("{}… ({} bytes)", shown.chars().take(SHOWN_CHARS).collect::<String>(), value.len()),
        false => shown,
    }
}

fn state(out: &mut String, plan: &Plan) {
    for StateChange { stage, partition, verdict, from_version, to_version, bytes } in &plan.state {
        let verdict = match verdict {
            StateVerdict::Compatible => format!("compatible (version {from_version})"),
            StateVerdict::Migrated => {
                format!("migrated from version {from_version} to {}", to_version.unwrap_or_default())
            }
            StateVerdict::Reset => "left behind".to_owned(),
        };
        line(out, format_args!("state of {}, partition {partition}: {verdict}, {bytes} bytes", printable(stage)));
    }
    if plan.reset_state {
        line(
            out,
            format_args!(
                "a new generation begins with empty state: what was counted stays as it is, what comes next is counted \
                 beside it, and readers add the two; a record for a window that has closed is late, as before"
            ),
        );
    }
}

fn canary(out: &mut String, canary: &Canary) {
    let Matrix { records, flips, .. } = canary.verdicts;
    line(
        out,
        format_args!(
            "canary over the newest {}: {} would flip; fuel a record {} -> {}",
            counted(records, "record"),
            counted(flips, "verdict"),
            canary.fuel_per_record_old,
            canary.fuel_per_record_new
        ),
    );
    if canary.old_given_up {
        line(
            out,
            format_args!("the chain in force fails too often, or takes too long, to be compared with on all of them"),
        );
    }
    if canary.failures > 0 {
        let first = canary.failure.as_deref().map(printable).unwrap_or_default();
        line(out, format_args!("the new chain fails on {} of them: {first}", canary.failures));
    }
    matrix(out, &canary.verdicts);
}

/// The matrix of verdicts, with samples of those that differ.
pub fn matrix(out: &mut String, matrix: &Matrix) {
    let mut rows = Rows::new(&["old", "new", "records>"]);
    for cell in &matrix.cells {
        rows.push(vec![cell.old.clone(), cell.new.clone(), cell.records.to_string()]);
    }
    let mut table = Vec::new();
    // Writing to memory never fails.
    let _ = rows.write_text(&mut table);
    out.push_str(&String::from_utf8_lossy(&table));
    for cell in matrix.cells.iter().filter(|cell| cell.old != cell.new) {
        for sample in &cell.samples {
            let (place, message) = (format!("{}@{}", sample.partition, sample.offset), printable(&sample.message));
            line(out, format_args!("  {} -> {}  {place}  {message}  {}", cell.old, cell.new, cut(&sample.value)));
        }
    }
}
