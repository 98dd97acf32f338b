//! `clickmill shadow start|report|stop|promote`: a candidate beside the live chain of a running host.

use std::io;

use anyhow::Result;
use clickmill_pipeline::deployment::control::Deployed;
use clickmill_pipeline::shadow::{Condition, Report};
use serde_json::json;

use crate::TextOrJson;
use crate::config::Config;
use crate::context::{Host, Place};
use crate::exit::{Ended, mistake};
use crate::output::{counted, print, printable, unless_gone, write_json};
use crate::smartmodule::{ModuleArgs, deployed_text, matrix};

/// Lets a candidate judge the live records, and throws its output away
#[derive(Debug, clap::Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Examples:
  clickmill shadow start validate.wasm --stage validate
  clickmill shadow report
  clickmill shadow promote --if 'flips<0.1%'
  clickmill shadow stop

It runs in a host, in a thread of low priority that reads the topic by itself: it cannot fail the live chain, and
where it falls behind it leaves records out and says how many. It ends with its host."
)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    Start(Box<StartArgs>),
    /// Shows verdict by verdict where the candidate differs
    #[command(after_help = "Examples:
  clickmill shadow report
  clickmill shadow report --output json | jq '.flips, .share_seen'")]
    Report(ReportArgs),
    /// Ends the candidate, with its last report
    #[command(after_help = "Examples:
  clickmill shadow stop
  clickmill shadow stop --output json > shadow.json")]
    Stop(ReportArgs),
    Promote(PromoteArgs),
}

/// Starts a candidate
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  clickmill shadow start validate.wasm --stage validate
  clickmill shadow start --stage validate --param max_string_bytes=64")]
struct StartArgs {
    #[command(flatten)]
    module: ModuleArgs,
    #[arg(long, value_enum, default_value = "text")]
    output: TextOrJson,
}

#[derive(Debug, clap::Args)]
struct ReportArgs {
    #[arg(long, value_enum, default_value = "text")]
    output: TextOrJson,
}

/// Deploys the candidate and ends the shadow
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  clickmill shadow promote --if 'flips<0.1%'
  clickmill shadow promote --if 'records>=100000, flips<=5, failures=0, fuel<1.2' --message 'as good, and cheaper'

Figures: flips, failures, records, seen (the share of the records that it has seen), fuel (new to old). With % they are
shares of the records. Exit code 1 where a condition does not hold, and nothing has changed.")]
struct PromoteArgs {
    /// Only if this holds of the report
    #[arg(long = "if", value_name = "CONDITION")]
    condition: Option<Condition>,
    #[arg(long, default_value = "", hide_default_value = true)]
    message: String,
    #[arg(long, value_enum, default_value = "text")]
    output: TextOrJson,
}

/// # Errors
/// A mistake where no host runs.
pub fn run(args: &Args, config: &Config) -> Result<()> {
    let Place::Host(host) = Place::of(config)? else {
        return Err(mistake("a shadow needs a running host: nothing flows in a stopped data directory"));
    };
    match &args.verb {
        Verb::Start(args) => shown(args.output, &host.ask("POST", "/api/shadow", &args.module.body()?)?),
        Verb::Report(args) => shown(args.output, &host.get("/api/shadow")?),
        Verb::Stop(args) => shown(args.output, &host.ask("DELETE", "/api/shadow", &json!({}))?),
        Verb::Promote(args) => promote(args, &host),
    }
}

fn promote(args: &PromoteArgs, host: &Host) -> Result<()> {
    let condition = args.condition.as_ref().map(ToString::to_string);
    let body = json!({"if": condition, "message": args.message});
    let deployed: Deployed = host.ask("POST", "/api/shadow/promote", &body)?;
    match args.output {
        TextOrJson::Json => unless_gone(write_json(&mut io::stdout().lock(), &deployed))?,
        TextOrJson::Text => print(deployed_text(&deployed))?,
    }
    if deployed.waiting.is_empty() { Ok(()) } else { Err(Ended(1).into()) }
}

fn shown(output: TextOrJson, report: &Report) -> Result<()> {
    match output {
        TextOrJson::Json => unless_gone(write_json(&mut io::stdout().lock(), report)),
        TextOrJson::Text => print(text(report)),
    }
}

fn text(report: &Report) -> String {
    let digest = report.sha256.to_string();
    let (old, new) = (report.nanos_per_record_old, report.nanos_per_record_new);
    let mut text = format!(
        "shadow of stage {}: {} {} ({}) against deployment {}\n{} seen ({:.1} % of those that came), {} differ ({:.3} %), {} on \
         which it failed\nfuel a record {} -> {}, time a record {old} -> {new} ns\n",
        printable(&report.stage),
        printable(&report.name),
        printable(&report.version),
        &digest[..12],
        report.against,
        counted(report.verdicts.records, "record"),
        100.0 * report.share_seen,
        report.verdicts.flips,
        100.0 * report.verdicts.flips as f64 / report.verdicts.records.max(1) as f64,
        report.failures,
        report.fuel_per_record_old,
        report.fuel_per_record_new,
    );
    if let Some(why) = &report.ended {
        text.push_str(&format!("it has ended: {}\n", printable(why)));
    }
    if report.verdicts.records > 0 {
        matrix(&mut text, &report.verdicts);
    }
    text
}
