//! When a shadow may be promoted: a condition on its report, pure.

use super::Report;

/// A condition on a report, as in `flips<0.1%` or `flips<=5, failures=0`.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition(Vec<Clause>);

#[derive(Clone, Debug, PartialEq)]
struct Clause {
    text: String,
    figure: Figure,
    compares: Compares,
    limit: f64,
    percent: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Figure {
    Flips,
    Failures,
    Records,
    Seen,
    Fuel,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compares {
    Less,
    AtMost,
    More,
    AtLeast,
    Equal,
}

impl std::str::FromStr for Condition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.split(',').map(|clause| clause_of(clause.trim())).collect::<Result<_, _>>().map(Self)
    }
}

fn clause_of(text: &str) -> Result<Clause, String> {
    let usage = || {
        format!(
            "{text:?} is no condition: write flips, failures, records, seen or fuel, then <, <=, >, >= or =, then a number, as \
             in flips<0.1% (fuel is new to old)"
        )
    };
    let at = text.find(['<', '>', '=']).ok_or_else(usage)?;
    let (name, rest) = text.split_at(at);
    let signs = [
        ("<=", Compares::AtMost),
        (">=", Compares::AtLeast),
        ("<", Compares::Less),
        (">", Compares::More),
        ("=", Compares::Equal),
    ];
    let (compares, number) =
        signs.into_iter().find_map(|(sign, compares)| Some((compares, rest.strip_prefix(sign)?))).ok_or_else(usage)?;
    let figure = match name.trim() {
        "flips" => Figure::Flips,
        "failures" => Figure::Failures,
        "records" => Figure::Records,
        "seen" => Figure::Seen,
        "fuel" => Figure::Fuel,
        _ => return Err(usage()),
    };
    let (number, percent) = match number.trim().strip_suffix('%') {
        Some(number) => (number.trim(), true),
        None => (number.trim(), false),
    };
    let limit: f64 = number.parse().map_err(|_| usage())?;
    if !limit.is_finite() {
        return Err(usage());
    }
    Ok(Clause { text: text.to_owned(), figure, compares, limit, percent })
}

impl std::fmt::Display for Condition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let clauses: Vec<&str> = self.0.iter().map(|clause| clause.text.as_str()).collect();
        f.write_str(&clauses.join(", "))
    }
}

impl Condition {
    /// The first clause that does not hold, with the figure; none where all do. Of no records nothing holds.
    #[must_use]
    pub fn fails(&self, report: &Report) -> Option<String> {
        let records = report.verdicts.records as f64;
        if records == 0.0 {
            return Some("the shadow has seen no record yet".to_owned());
        }
        let fails = |clause: &&Clause| {
            let value = clause.value(report);
            !match clause.compares {
                Compares::Less => value < clause.limit,
                Compares::AtMost => value <= clause.limit,
                Compares::More => value > clause.limit,
                Compares::AtLeast => value >= clause.limit,
                Compares::Equal => value == clause.limit,
            }
        };
        let clause = self.0.iter().find(fails)?;
        let unit = if clause.percent { "%" } else { "" };
        let value = match clause.value(report) {
            whole if whole.fract() == 0.0 => format!("{whole}"),
            value => format!("{value:.4}"),
        };
        Some(format!("{} does not hold: it is {value}{unit}, of {records} records", clause.text))
    }
}

impl Clause {
    fn value(&self, report: &Report) -> f64 {
        let records = report.verdicts.records as f64;
        let (count, of) = match self.figure {
            Figure::Flips => (report.verdicts.flips as f64, records),
            Figure::Failures => (report.failures as f64, records),
            Figure::Records => (records, records),
            Figure::Seen => (report.share_seen, 1.0),
            Figure::Fuel => (report.fuel_per_record_new as f64 / report.fuel_per_record_old.max(1) as f64, 1.0),
        };
        if self.percent { 100.0 * count / of } else { count }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use clickmill_schemas::{DeploymentId, ModuleDigest};

    use super::*;
    use crate::judge::Matrix;

    fn report(records: u64, flips: u64) -> Report {
        Report {
            stage: "validate".into(),
            name: "validate".into(),
            version: "1".into(),
            sha256: ModuleDigest([0; 32]),
            against: DeploymentId(0),
            since_ms: 0,
            from: BTreeMap::new(),
            verdicts: Matrix { records, flips, cells: Vec::new() },
            skipped: 0,
            share_seen: 0.5,
            failures: 0,
            fuel_per_record_old: 100,
            fuel_per_record_new: 110,
            nanos_per_record_old: 0,
            nanos_per_record_new: 0,
            ended: None,
        }
    }

    fn fails(condition: &str, records: u64, flips: u64) -> Option<String> {
        condition.parse::<Condition>().unwrap().fails(&report(records, flips))
    }

    #[test]
    fn conditions_are_on_counts_shares_and_ratios() {
        assert_eq!(fails("flips<0.1%", 10_000, 9), None);
        assert!(fails("flips<0.1%", 10_000, 10).unwrap().contains("it is 0.1000%"));
        assert_eq!(fails("flips <= 10, failures=0, fuel<1.2, seen>=50%", 10_000, 10), None);
        assert!(fails("flips<=10, fuel<1.1", 10_000, 0).unwrap().starts_with("fuel<1.1"));
        assert!(fails("flips<0.1%", 0, 0).unwrap().contains("no record"));
    }

    #[test]
    fn what_is_no_condition_is_refused_with_an_example() {
        for bad in ["", "flips", "flips<", "flips<x", "clicks<1", "flips<0.1%,", "flips<NaN", "flips!1"] {
            assert!(bad.parse::<Condition>().unwrap_err().contains("flips<0.1%"), "{bad}");
        }
    }
}
