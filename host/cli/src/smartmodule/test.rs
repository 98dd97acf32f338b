//! `clickmill smartmodule test`: a module on cases with expected outputs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clickmill_engine::{
    BatchOutcome, Chain, Engine, EngineError, EngineOptions, LogLine, MemoryBatch, Module, ProcessError, RouteOwned,
    StageSpec, Verdicts,
};
use clickmill_schemas::partial::{self, Owner, Partial, Version};
use clickmill_schemas::record::Records;
use clickmill_schemas::{Generation, Offset, PartitionId, RunId};
use serde_json::{Value, json};

use super::case::{Case, Outcome};
use super::module_file::pair;
use super::project::Local;
use crate::config::Config;
use crate::exit::mistake;
use crate::output::{counted, print, printable};

/// Runs a module on cases and compares what comes out
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  clickmill smartmodule test                                    the module and the cases of this folder
  clickmill smartmodule test mask.wasm --cases mask/cases --param salt=x
  clickmill smartmodule test --update                           after a change that is meant

A case is a line of a file DIR/*.jsonl:
  {\"name\":\"a click passes\", \"in\":{\"click\":1}, \"expect\":[{\"value\":{\"click\":1}}]}
    in      a record's value: a string, an object as it is written, {\"base64\":…}; or several in [ ], one batch
    expect  what comes out, in order: {\"value\":…} (an object is compared as JSON, a string byte by byte), with its key
            {\"value\":…,\"key\":\"k\"}; {\"rejected\":RULE}; {\"late\":true}; \"dropped\"; \"counted\" by a module with state;
            {\"failed\":TEXT} in the message of its failure; {\"refused\":TEXT} in that of refused parameters
    params  parameters of the case, over those of --param
    key, ts_ms   of its records
    windows what a module with windows gives out behind the records
Each case runs in a fresh instance.

Exit codes: 0 all are as expected, 1 some differ, 2 a mistake in the call or in a case.")]
pub struct Args {
    /// The module, or the folder of a project that was built
    #[arg(value_name = "FILE.wasm|DIR", default_value = ".")]
    module: PathBuf,
    /// Folder of the cases [default: cases, beside the module]
    #[arg(long, value_name = "DIR")]
    cases: Option<PathBuf>,
    /// Set a parameter in all cases
    #[arg(long = "param", value_name = "NAME=VALUE", value_parser = pair)]
    params: Vec<(String, String)>,
    /// Write what comes out into the cases
    #[arg(long)]
    update: bool,
}

pub fn run(args: &Args, config: &Config) -> Result<()> {
    let local = Local::open(&args.module)?;
    let fuel = config.engine.call_fuel_limit.is_some();
    let engine = Engine::new(&EngineOptions { fuel, ..EngineOptions::default() })?;
    let module = engine.compile(&local.wasm)?;
    let runner = Runner { local: &local, engine, module, config, params: args.params.iter().cloned().collect() };
    let (mut cases, mut differ) = (0, 0);
    for file in files(args.cases.as_deref().unwrap_or(&local.cases))? {
        let text = fs::read_to_string(&file).map_err(|e| mistake(format!("{}: {e}", file.display())))?;
        let mut written = String::new();
        for (i, line) in text.lines().enumerate() {
            if line.trim().is_empty() {
                writeln!(written)?;
                continue;
            }
            let place = format!("{}:{}", file.display(), i + 1);
            let mut case = Case::parse(line).map_err(|e| mistake(format!("{place}: {e:#}")))?;
            let ran = runner.run(&case).with_context(|| place.clone())?;
            cases += 1;
            if !ran.is_as_expected(&case) {
                differ += 1;
                if !args.update {
                    print(ran.difference(&place, &case, colours()))?;
                }
                case.expect = ran.outcomes.iter().map(Outcome::to_json).collect();
                case.windows = case.windows.map(|_| ran.windows);
                writeln!(written, "{}", serde_json::to_string(&case)?)?;
            } else {
                writeln!(written, "{line}")?;
            }
        }
        if args.update && written != text {
            fs::write(&file, written).with_context(|| file.display().to_string())?;
        }
    }
    let all = counted(cases, "case");
    match (differ, args.update) {
        (0, _) => print(format_args!("{all}, all as expected\n")),
        (_, true) => print(format_args!("{all}, {differ} written anew\n")),
        (_, false) => bail!("{differ} of {all} differ"),
    }
}

/// The files of cases, in order of names.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries =
        fs::read_dir(folder).map_err(|e| mistake(format!("{}: {e}: --cases names the folder", folder.display())))?;
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    files.sort();
    if files.is_empty() {
        return Err(mistake(format!("{}: there are no cases in it, files *.jsonl", folder.display())));
    }
    Ok(files)
}

fn colours() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

struct Runner<'a> {
    local: &'a Local,
    engine: Engine,
    module: Module,
    config: &'a Config,
    params: BTreeMap<String, String>,
}

/// What came of a case.
#[derive(Default)]
struct Ran {
    outcomes: Vec<Outcome>,
    windows: Vec<Value>,
    log: Vec<LogLine>,
}

impl Runner<'_> {
    fn run(&self, case: &Case) -> Result<Ran> {
        let mut params = self.params.clone();
        params.extend(case.params.clone());
        let only = |outcome| Ok(Ran { outcomes: vec![outcome], ..Ran::default() });
        if let Err(problems) = self.local.check_params(&params) {
            return only(Outcome::Refused(problems.to_string()));
        }
        let (name, module, limits) = (self.local.name.clone(), self.module.clone(), self.config.limits());
        let mut chain = match Chain::new(&self.engine, &[StageSpec { name, module, params, limits, lookback: None }]) {
            Ok(chain) => chain,
            Err(EngineError::Fault(fault)) => return only(Outcome::Refused(fault.message)),
            Err(error) => return only(Outcome::Refused(error.to_string())),
        };
        let values = case.values()?;
        let (key, ts_ms) = (case.key.as_deref().map(str::as_bytes), case.ts_ms.unwrap_or_default());
        let batch = MemoryBatch::of(Offset(0), values.iter().map(|value| (key, value.as_slice(), ts_ms)));
        let mut ran = match self.process(&mut chain, &batch, values.len()) {
            Ok(ran) => ran,
            Err(ProcessError::Fault(fault)) => Ran { outcomes: vec![Outcome::Failed(fault.message)], ..Ran::default() },
            Err(ProcessError::Source(e)) => bail!("the records cannot be read: {e}"),
        };
        ran.log = chain.take_logs();
        Ok(ran)
    }

    fn process(&self, chain: &mut Chain, batch: &MemoryBatch, records: usize) -> Result<Ran, ProcessError> {
        let (mut out, mut passed) = (BatchOutcome::default(), Vec::new());
        chain.process_collecting(batch, &Verdicts::default(), &mut out, &mut passed)?;
        let windows = windows(&chain.emit()?);
        let mut outcomes = Vec::new();
        for offset in 0..records as u64 {
            let before = outcomes.len();
            for record in passed.iter().filter(|record| record.offset.0 == offset) {
                outcomes.push(Outcome::Value { value: record.value.clone(), key: record.key.clone() });
            }
            for routed in out.routed.iter().filter(|routed| routed.offset.0 == offset) {
                outcomes.push(match &routed.route {
                    RouteOwned::Error { rule, message, .. } => {
                        Outcome::Rejected { rule: rule.clone(), message: message.clone() }
                    }
                    RouteOwned::Late { .. } => Outcome::Late,
                });
            }
            if outcomes.len() == before {
                outcomes.push(if self.module.is_stateful() { Outcome::Counted } else { Outcome::Dropped });
            }
        }
        Ok(Ran { outcomes, windows, log: Vec::new() })
    }
}

/// Windows as a case has them. The chain has checked that they are partials.
fn windows(set: &[u8]) -> Vec<Value> {
    let owner = Owner { run: RunId([0; 16]), partition: PartitionId(0), generation: Generation(0) };
    let records = Records::new(set).into_iter().flatten().flatten();
    let decoded = records.filter_map(|record| {
        let key = [partial::key_prefix(&owner).as_bytes(), record.key.unwrap_or_default()].concat();
        let mut value = Vec::new();
        partial::put_stamps(&mut value, &Version::default());
        value.extend_from_slice(record.value);
        Partial::decode(&key, &value).ok()
    });
    decoded
        .map(|Partial { window, entries, .. }| {
            let entries: BTreeMap<_, _> = entries
                .into_iter()
                .map(|(key, m)| {
                    let sums = json!({
                        "impressions": m.impressions, "clicks": m.clicks, "conversions": m.conversions,
                        "cost_micros": m.cost_micros, "revenue_micros": m.revenue_micros,
                    });
                    (key, sums)
                })
                .collect();
            json!({ "size_ms": window.size_ms, "start_ms": window.start_ms, "dimension": window.dimension, "entries": entries })
        })
        .collect()
}

impl Ran {
    fn is_as_expected(&self, case: &Case) -> bool {
        let outcomes = self.outcomes.len() == case.expect.len()
            && self.outcomes.iter().zip(&case.expect).all(|(outcome, expected)| outcome.matches(expected));
        outcomes && case.windows.as_ref().is_none_or(|expected| *expected == self.windows)
    }

    /// What differs, line by line.
    fn difference(&self, place: &str, case: &Case, colours: bool) -> String {
        let (red, green, plain) = if colours { ("\x1b[31m", "\x1b[32m", "\x1b[0m") } else { ("", "", "") };
        let mut text = format!("{place}  {}\n", printable(case.name.as_deref().unwrap_or_default()));
        let mut pair = |expected: Option<String>, got: Option<String>, message: Option<&str>| {
            let (expected_cut, got_cut) = around_difference(expected.as_deref(), got.as_deref());
            if let Some(expected) = expected_cut {
                text.push_str(&format!("  {red}- {}{plain}\n", printable(&expected)));
            }
            if let Some(got) = got_cut {
                let message = message.map_or(String::new(), |message| format!("  ({})", printable(message)));
                text.push_str(&format!("  {green}+ {}{plain}{message}\n", printable(&got)));
            }
        };
        for i in 0..self.outcomes.len().max(case.expect.len()) {
            let (expected, got) = (case.expect.get(i), self.outcomes.get(i));
            if !matches!((expected, got), (Some(expected), Some(got)) if got.matches(expected)) {
                let shown = got.map(|got| got.to_json().to_string());
                pair(expected.map(Value::to_string), shown, got.and_then(Outcome::message));
            }
        }
        for i in 0..case.windows.as_ref().map_or(0, |expected| expected.len().max(self.windows.len())) {
            let (expected, got) = (case.windows.as_ref().and_then(|windows| windows.get(i)), self.windows.get(i));
            if expected != got {
                pair(expected.map(Value::to_string), got.map(Value::to_string), None);
            }
        }
        for line in &self.log {
            text.push_str(&format!("    it said: {}\n", line.text));
        }
        text
    }
}

/// Long lines are shown from a little before where they part.
fn around_difference(one: Option<&str>, other: Option<&str>) -> (Option<String>, Option<String>) {
    const LONG: usize = 160;
    const BEFORE: usize = 40;
    let same = match (one, other) {
        (Some(one), Some(other)) => one.chars().zip(other.chars()).take_while(|(a, b)| a == b).count(),
        _ => 0,
    };
    let from =
        if one.map_or(0, str::len).max(other.map_or(0, str::len)) <= LONG { 0 } else { same.saturating_sub(BEFORE) };
    let cut = |text: &str| {
        let mut shown: String = text.chars().skip(from).take(LONG).collect();
        if from > 0 {
            shown.insert(0, '…');
        }
        if text.chars().count() > from + LONG {
            shown.push('…');
        }
        shown
    };
    (one.map(cut), other.map(cut))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_are_shown_where_they_part() {
        let long = |end: &str| format!("{}{end}", "x".repeat(500));
        let (one, other) = around_difference(Some(&long("abc")), Some(&long("abd")));
        assert_eq!(one, Some(format!("…{}abc", "x".repeat(38))));
        assert_eq!(other, Some(format!("…{}abd", "x".repeat(38))));
        assert_eq!(around_difference(Some("a"), None), (Some("a".into()), None));
    }

    #[test]
    fn a_difference_shows_both_sides_and_what_the_module_said() {
        let case = Case::parse(r#"{"name":"n\u001b","in":"x","expect":[{"value":"y"},"dropped"]}"#).unwrap();
        let rejected = Outcome::Rejected { rule: "r".into(), message: "why".into() };
        let ran = Ran { outcomes: vec![rejected], ..Ran::default() };
        assert!(!ran.is_as_expected(&case));
        assert_eq!(
            ran.difference("f:1", &case, false),
            "f:1  n\\u{1b}\n  - {\"value\":\"y\"}\n  + {\"rejected\":\"r\"}  (why)\n  - \"dropped\"\n"
        );
        assert!(ran.difference("f:1", &case, true).contains("\x1b[31m- "));
    }
}
