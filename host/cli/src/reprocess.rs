//! `clickmill reprocess`: judges the topic again in a new run, which takes the live one's place when it has caught up.

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clickmill_pipeline::deployment::body::DeployBody;
use clickmill_pipeline::reprocess::{Body, From, State, Status};
use clickmill_pipeline::views::time::parse_time;
use clickmill_schemas::Offset;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use crate::TextOrJson;
use crate::config::Config;
use crate::context::{Host, Place};
use crate::exit::{Ended, mistake};
use crate::output::{counted, print, printable, say, unless_gone, write_json};
use crate::smartmodule::module_file;

/// Between two looks at how far it is.
const LOOK: Duration = Duration::from_millis(200);

/// Judges the topic again, and lets readers take the result once it has caught up
#[derive(Debug, clap::Args)]
#[command(
    arg_required_else_help = true,
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  clickmill reprocess --from 0 --with validate.wasm            all of it, with another module
  clickmill reprocess --from 2014-10-21T06:00:00Z --with enrich.wasm --message 'right prices since six'
  clickmill reprocess --from 120000 --stage validate --param max_string_bytes=64
  clickmill reprocess status
  clickmill reprocess stop

A new run fills beside the live one, in the running host: below --from it is the same, from there on the module judges.
When it has caught up, one record lets all readers take it, PostgreSQL in one transaction, Redis window by window, and its
workers go on in the place of the old ones. Until then nothing that anybody reads has changed. --from without --with
takes the chain in force. Ctrl-C ends the waiting, not the work; a host that is stopped goes on at its next start."
)]
pub struct Args {
    /// Where it may differ: an offset of each partition, or an event time
    #[arg(long, value_name = "OFFSET|TIME", value_parser = parse_from)]
    from: Option<From>,
    /// The module that judges from there on
    #[arg(long, value_name = "FILE.wasm", requires = "from")]
    with: Option<PathBuf>,
    /// The stage that it stands for [default: the name in its SmartModule.toml]
    #[arg(long, requires = "from")]
    stage: Option<String>,
    /// Add the stage in front of this one
    #[arg(long, value_name = "STAGE", conflicts_with = "after", requires = "with")]
    before: Option<String>,
    /// Add the stage behind this one
    #[arg(long, value_name = "STAGE", requires = "with")]
    after: Option<String>,
    /// Set a parameter of the stage; those not named stay as they are
    #[arg(long = "param", value_name = "NAME=VALUE", value_parser = module_file::pair, requires = "from")]
    params: Vec<(String, String)>,
    /// Let the state begin empty there, in a new generation: what was counted before stays, and adds up
    #[arg(long, requires = "from")]
    reset_state: bool,
    /// Why, for the history
    #[arg(long, default_value = "", hide_default_value = true)]
    message: String,
    /// Do not wait for it
    #[arg(long, requires = "from")]
    detach: bool,
    #[arg(long, value_enum, default_value = "text", global = true)]
    output: TextOrJson,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Clone, Copy, Debug, clap::Subcommand)]
enum Verb {
    /// Says how far it is
    #[command(after_help = "Examples:
  clickmill reprocess status
  clickmill reprocess status --output json")]
    Status,
    /// Ends it and forgets what it has counted
    #[command(after_help = "Examples:
  clickmill reprocess stop

The live run is what it was. Of a run that readers take already nothing is ended.")]
    Stop,
}

/// Smaller numbers are offsets, greater ones epoch milliseconds: March 1973, and more records than a partition holds.
const FIRST_TIME_MS: u64 = 100_000_000_000;

fn parse_from(text: &str) -> Result<From, String> {
    match text.parse() {
        Ok(number) if number < FIRST_TIME_MS => Ok(From::Offset(Offset(number))),
        Err(_) if text.starts_with('-') => Err(format!("{text} is neither an offset nor a time of an event")),
        _ => parse_time(text).map(From::TimeMs).map_err(|e| format!("{e}, or an offset below {FIRST_TIME_MS}")),
    }
}

/// # Errors
/// A mistake where no host runs; otherwise what the host says, or [`Ended`] where it fails while it is waited for.
pub fn run(args: &Args, config: &Config) -> Result<()> {
    let Place::Host(host) = Place::of(config)? else {
        return Err(mistake("judging again needs a running host: start one with `clickmill run`"));
    };
    match (args.verb, args.from) {
        (Some(Verb::Status), _) => shown(args.output, &host.get("/api/reprocess")?),
        (Some(Verb::Stop), _) => shown(args.output, &host.ask("DELETE", "/api/reprocess", &json!({}))?),
        (None, Some(from)) => start(args, from, &host),
        (None, None) => Err(mistake("say from where: --from OFFSET or --from TIME")),
    }
}

fn start(args: &Args, from: From, host: &Host) -> Result<()> {
    let body = Body { from, with: with(args)?, reset_state: args.reset_state, message: args.message.clone() };
    let begun: Status = host.ask("POST", "/api/reprocess", &body)?;
    if let From::Offset(offset) = from
        && begun.partitions.iter().all(|p| p.from < offset)
    {
        say(format_args!(
            "offset {offset} is behind the end of every partition: only what comes from now on is judged anew"
        ));
    }
    let status = if args.detach { begun } else { wait(host, begun)? };
    shown(args.output, &status)?;
    match status.state {
        State::Failed => Err(Ended(1).into()),
        State::CatchingUp | State::Switched => Ok(()),
    }
}

/// The module, as a deploy has it; none where the chain in force is to judge again.
fn with(args: &Args) -> Result<Option<DeployBody>> {
    if args.with.is_none() && args.stage.is_none() {
        return match args.params.is_empty() {
            true => Ok(None),
            false => Err(mistake("--param needs to know of which stage: add --stage NAME")),
        };
    }
    let params = args.params.iter().cloned().collect();
    let (stage, before, after) = (args.stage.clone(), args.before.clone(), args.after.clone());
    let mut body = DeployBody { stage, before, after, params, ..DeployBody::default() };
    if let Some(file) = &args.with {
        body.set_wasm(&module_file::read(file)?);
        body.manifest = module_file::manifest_beside(file)?;
        if body.manifest.is_none() && body.stage.is_none() {
            body.stage = file.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        }
    }
    Ok(Some(body))
}

/// Waits for its end, and shows how far it is.
fn wait(host: &Host, begun: Status) -> Result<Status> {
    let bar = match io::stderr().is_terminal() {
        true => ProgressBar::new(0).with_style(ProgressStyle::with_template(
            "judging again {bar:30} {human_pos} of {human_len} records, {per_sec}, {eta}",
        )?),
        false => ProgressBar::hidden(),
    };
    let mut status = begun;
    while status.state == State::CatchingUp {
        bar.set_length(status.partitions.iter().map(|p| p.end.0).sum());
        bar.set_position(status.partitions.iter().map(|p| p.position.0).sum());
        std::thread::sleep(LOOK);
        status = host.get("/api/reprocess")?;
    }
    bar.finish_and_clear();
    Ok(status)
}

fn shown(output: TextOrJson, status: &Status) -> Result<()> {
    match output {
        TextOrJson::Json => unless_gone(write_json(&mut io::stdout().lock(), status)),
        TextOrJson::Text => {
            if let Some(why) = &status.why {
                say(format_args!("it has failed: {}", printable(why)));
            }
            print(text(status))
        }
    }
}

fn text(status: &Status) -> String {
    let state = match status.state {
        State::CatchingUp => "is being filled",
        State::Switched => "is the one that readers take",
        State::Failed => "has failed; `clickmill reprocess stop` forgets it",
    };
    let mut text = format!("run {} with deployment {} {state}\n", status.run, status.deployment);
    for p in &status.partitions {
        let waiting = p.end.0.saturating_sub(p.position.0);
        text.push_str(&format!(
            "partition {}: from offset {} on; judged up to {}, {} to go\n",
            p.partition,
            p.from,
            p.position,
            counted(waiting, "record")
        ));
    }
    text
}
