//! `clickmill dlq retry`: sends letters again that the modules take now, or says how they would fare.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;
use clickmill_pipeline::deployment::body::DeployBody;
use clickmill_pipeline::dlq::{Fares, Filter, Retried, RetryBody, RuleFares, Which};
use clickmill_schemas::dlq::{LetterId, LetterState};
use indicatif::HumanCount;

use super::FilterArgs;
use super::source::Source;
use crate::TextOrJson;
use crate::config::Config;
use crate::exit::{Ended, mistake};
use crate::output::{counted, print, printable, unless_gone, write_json};
use crate::smartmodule::module_file;

/// Letters that the text names one by one.
const NAMED: usize = 20;
/// The longest that one question waits.
const STEP: Duration = Duration::from_secs(10);

/// Sends dead letters again that the modules in force take now, each to be counted once
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  clickmill dlq retry 0-1234 2-77
  clickmill dlq retry --all
  clickmill dlq retry --all --rule device_type_known
  clickmill dlq retry --all --dry-run                      how they would fare now
  clickmill dlq retry --dry-run --with new.wasm            how they would fare with another module in its stage

A letter that passes is sent into the input topic again, to its partition, with its first origin: it is counted once, whoever
sends it how often. One that is rejected still stays as it is. One whose window has closed is late then: `clickmill reprocess`
or the daily batch counts it. A row that a server has refused is offered to its connector again.

Exit code 1 where one of the letters named is not taken in.")]
pub struct Args {
    /// As `clickmill dlq list` names them
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    /// All that are waiting or dead, and that the filter means
    #[arg(long, conflicts_with = "ids")]
    all: bool,
    #[command(flatten)]
    filter: FilterArgs,
    /// Only say how they would fare
    #[arg(long)]
    dry_run: bool,
    /// Of a dry run: with this module in its stage
    #[arg(long, value_name = "FILE.wasm", requires = "dry_run")]
    with: Option<PathBuf>,
    /// The stage that it stands for [default: the name in its SmartModule.toml, else the file's]
    #[arg(long, requires = "with")]
    stage: Option<String>,
    /// Set a parameter of that stage
    #[arg(long = "param", value_name = "NAME=VALUE", value_parser = module_file::pair, requires = "with")]
    params: Vec<(String, String)>,
    /// Wait no longer than so many seconds for what becomes of them
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    timeout: u64,
    #[arg(long, value_enum, default_value = "text")]
    output: TextOrJson,
}

impl Args {
    fn which(&self) -> Result<Which> {
        match (self.ids.is_empty(), self.all || self.dry_run) {
            (true, false) => Err(mistake("say which: IDs, or --all (with --type, --rule, --since, --state)")),
            (false, _) if self.filter.is_given() => Err(mistake("IDs are all that is meant: a filter goes with --all")),
            (false, _) => {
                let ids = self.ids.iter().cloned().map(LetterId).collect();
                Ok(Which { ids, filter: Filter::default() })
            }
            (true, true) => Ok(Which { ids: Vec::new(), filter: self.filter.filter() }),
        }
    }

    fn with(&self) -> Result<Option<DeployBody>> {
        let Some(file) = &self.with else { return Ok(None) };
        let mut body = DeployBody {
            stage: self.stage.clone(),
            params: self.params.iter().cloned().collect(),
            manifest: module_file::manifest_beside(file)?,
            ..DeployBody::default()
        };
        body.set_wasm(&module_file::read(file)?);
        if body.manifest.is_none() && body.stage.is_none() {
            body.stage = file.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        }
        Ok(Some(body))
    }
}

pub fn run(args: &Args, config: &Config) -> Result<()> {
    let body = RetryBody { which: args.which()?, dry_run: args.dry_run, with: args.with()?, wait_ms: 0 };
    let source = if args.dry_run { Source::to_read(config)? } else { Source::to_change(config)? };
    let patience = Duration::from_secs(args.timeout);
    let (begun, mut retried) = (Instant::now(), source.retry(&body, patience.min(STEP))?);
    // What is on its way is looked at on, where it is named.
    while retried.under_way > 0 && !source.is_stopped() && begun.elapsed() < patience {
        let under_way: Vec<LetterId> =
            retried.letters.iter().filter(|l| l.state == LetterState::Retrying).map(|l| l.id.clone()).collect();
        if under_way.is_empty() {
            break;
        }
        let left = patience.saturating_sub(begun.elapsed());
        look_again(&source, &under_way, left.min(STEP), &mut retried)?;
    }
    match args.output {
        TextOrJson::Json => unless_gone(write_json(&mut io::stdout().lock(), &retried))?,
        TextOrJson::Text => print(text(args, &retried, source.is_stopped()))?,
    }
    let taken = match source.is_stopped() {
        true => retried.sent,
        false => retried.letters.iter().filter(|letter| letter.state == LetterState::Resolved).count() as u64,
    };
    let named = args.ids.iter().collect::<BTreeSet<_>>().len() as u64;
    match args.dry_run || taken + retried.skipped >= named {
        true => Ok(()),
        false => Err(Ended(1).into()),
    }
}

fn look_again(source: &Source, ids: &[LetterId], wait: Duration, retried: &mut Retried) -> Result<()> {
    let seen = source.outcomes(ids, wait)?;
    retried.under_way = retried.under_way.saturating_sub(ids.len() as u64) + seen.under_way;
    for (outcome, n) in seen.outcomes {
        *retried.outcomes.entry(outcome).or_default() += n;
    }
    for letter in seen.letters {
        if let Some(known) = retried.letters.iter_mut().find(|known| known.id == letter.id) {
            *known = letter;
        }
    }
    Ok(())
}

fn text(args: &Args, retried: &Retried, is_stopped: bool) -> String {
    let Retried { fares, sent, skipped, unavailable, cut, outcomes, under_way, letters } = retried;
    let mut out = String::new();
    if args.dry_run {
        out.push_str(&fared(fares));
    } else {
        out.push_str(&format!("{} sent again", counted(*sent, "dead letter")));
        let told: Vec<String> = outcomes.iter().map(|(outcome, n)| format!("{} {outcome}", HumanCount(*n))).collect();
        if !told.is_empty() {
            out.push_str(&format!(": {}", told.join(", ")));
        }
        out.push('\n');
        let still = fares.letters - fares.would_pass;
        if still > 0 {
            out.push_str(&format!("{} would be rejected still, and stayed as they are\n", HumanCount(still)));
            out.push_str(&rules(&fares.by_rule));
        }
        for letter in letters.iter().take(NAMED) {
            let (id, reason) = (printable(&letter.id.0), printable(&letter.reason));
            out.push_str(&format!("  {id} {}: {reason}\n", letter.state.name()));
        }
        if letters.len() > NAMED {
            out.push_str("  …\n");
        }
        match (*under_way, is_stopped) {
            (0, _) => {}
            (n, true) => out.push_str(&format!("{} judged when a host runs: `clickmill run`\n", counted(n, "letter"))),
            (n, false) => out.push_str(&format!("{} not judged yet\n", counted(n, "letter"))),
        }
    }
    if *skipped > 0 {
        out.push_str(&format!("{} resolved or on their way already\n", counted(*skipped, "letter")));
    }
    if *unavailable > 0 {
        let rows = counted(*unavailable, "row");
        out.push_str(&format!("{rows} whose connector cannot be asked now: nothing has changed\n"));
    }
    if *cut > 0 {
        let letters = counted(*cut, "letter");
        out.push_str(&format!("{letters} whose payload is not all there: retention has taken the record\n"));
    }
    out
}

fn fared(fares: &Fares) -> String {
    let (pass, all) = (HumanCount(fares.would_pass), HumanCount(fares.letters));
    format!("{pass} of {all} would pass now\n{}", rules(&fares.by_rule))
}

fn rules(by_rule: &[RuleFares]) -> String {
    let mut out = String::new();
    for RuleFares { error_type, rule, letters, would_pass, rejected_by, example } in by_rule {
        let (kind, rule) = (error_type.name(), printable(rule));
        let (pass, all) = (HumanCount(*would_pass), HumanCount(*letters));
        out.push_str(&format!("  {kind}:{rule}: {pass} of {all}"));
        let by: Vec<String> =
            rejected_by.iter().map(|(by, n)| format!("{} by {}", HumanCount(*n), printable(by))).collect();
        if !by.is_empty() {
            out.push_str(&format!("; rejected still: {}", by.join(", ")));
        }
        out.push('\n');
        if let Some(example) = example {
            out.push_str(&format!("    {}\n", printable(example).chars().take(160).collect::<String>()));
        }
    }
    out
}
