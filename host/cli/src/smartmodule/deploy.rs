//! `clickmill smartmodule deploy|rollback|remove`: changes of the chain, after a look at what they would do.

use std::collections::BTreeSet;
use std::io::{self, BufRead as _, IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::Result;
use clickmill_pipeline::deployment::body::DeployBody;
use clickmill_pipeline::deployment::control::Deployed;
use clickmill_pipeline::deployment::plan::Plan;
use clickmill_schemas::{DeploymentId, PartitionId};

use super::control::{Change, ChangeOptions, Control};
use super::{module_file, plan};
use crate::TextOrJson;
use crate::config::Config;
use crate::exit::{Ended, mistake};
use crate::output::{print, say, unless_gone, write_json};

/// Exit code of a plan that would change something.
const CHANGES: u8 = 3;
/// Longest manifest.
const MAX_MANIFEST_BYTES: u64 = 1 << 20;

/// Puts a module into the chain, while events flow
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  clickmill smartmodule deploy validate.wasm --plan                    what it would do
  clickmill smartmodule deploy validate.wasm --message 'stricter ids'  asks first
  clickmill smartmodule deploy mask.wasm --stage mask --after validate --yes
  clickmill smartmodule deploy --stage validate --param date_to=2014-10-30 --yes
  clickmill smartmodule deploy validate.wasm --partition 0 --yes       try it on one partition, then
  clickmill smartmodule deploy --promote 7 --yes                       let all have it

A module is checked, then tried on the newest 10,000 records and on the state of every partition; what is refused has
changed nothing. Each partition goes on with the old module up to an offset that is written down, and from there on with
the new one. A SmartModule.toml beside FILE.wasm gives its name, version and parameters.

Exit codes: 0 deployed, or in force already; 1 refused, or not every partition has followed; 2 a mistake in the call;
with --plan 0 nothing would change, 3 something would.")]
pub struct DeployArgs {
    /// The module; without one, the module in force gets other parameters
    #[arg(value_name = "FILE.wasm")]
    file: Option<PathBuf>,
    /// The stage to replace, or to add [default: the name in the SmartModule.toml, else the file's]
    #[arg(long)]
    stage: Option<String>,
    /// Add the stage in front of this one
    #[arg(long, value_name = "STAGE", conflicts_with = "after")]
    before: Option<String>,
    /// Add the stage behind this one
    #[arg(long, value_name = "STAGE")]
    after: Option<String>,
    /// Set a parameter; those not named stay as they are
    #[arg(long = "param", value_name = "NAME=VALUE", value_parser = module_file::pair)]
    params: Vec<(String, String)>,
    /// Set a parameter to a file's content
    #[arg(long = "param-file", value_name = "NAME=FILE", value_parser = module_file::pair)]
    param_files: Vec<(String, String)>,
    /// Let a parameter go back to its default
    #[arg(long = "unset-param", value_name = "NAME")]
    unset_params: Vec<String>,
    /// Its SmartModule.toml [default: the one beside FILE.wasm]
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// Deploy to this partition only; may be given several times
    #[arg(long = "partition", value_name = "P")]
    partitions: Vec<PartitionId>,
    /// Roll out a deployment to all partitions that was made for some
    #[arg(long, value_name = "ID", conflicts_with_all = ["file", "stage", "partitions"])]
    promote: Option<DeploymentId>,
    /// Begin with empty state where the new module cannot read the old one's: a new generation. What was counted stays
    #[arg(long)]
    reset_state: bool,
    #[command(flatten)]
    how: How,
}

/// Goes back to the chain before, or to that of a deployment
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  clickmill smartmodule rollback --yes          undo the last change
  clickmill smartmodule rollback --to 4 --plan

A rollback is one more deployment, with an offset of its own: what the module judged stays judged.")]
pub struct RollbackArgs {
    /// The deployment to go back to [default: the one before]
    #[arg(long, value_name = "ID")]
    to: Option<DeploymentId>,
    /// Begin with empty state where the old module cannot read the new one's
    #[arg(long)]
    reset_state: bool,
    #[command(flatten)]
    how: How,
}

/// Takes a stage out of the chain
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  clickmill smartmodule remove mask --yes")]
pub struct RemoveArgs {
    stage: String,
    /// Leave the state of the chain behind, where the stage keeps some
    #[arg(long)]
    reset_state: bool,
    #[command(flatten)]
    how: How,
}

#[derive(Debug, clap::Args)]
struct How {
    /// Why, for those who read the history
    #[arg(long, default_value = "", hide_default_value = true)]
    message: String,
    /// Say what would change, and change nothing: exit code 0 nothing, 3 something
    #[arg(long)]
    plan: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    #[arg(long, value_enum, default_value = "text")]
    output: TextOrJson,
}

pub fn deploy(args: &DeployArgs, config: &Config) -> Result<()> {
    if let Some(id) = args.promote {
        let options = ChangeOptions { message: args.how.message.clone(), ..ChangeOptions::default() };
        return change(Change::Promote(id), &options, &args.how, config);
    }
    let body = body(args)?;
    let control = Control::of(config)?;
    carry_out(&args.how, || control.plan(&body), || control.deploy(&body))
}

pub fn rollback(args: &RollbackArgs, config: &Config) -> Result<()> {
    let options =
        ChangeOptions { message: args.how.message.clone(), reset_state: args.reset_state, ..ChangeOptions::default() };
    change(Change::Rollback(args.to), &options, &args.how, config)
}

pub fn remove(args: &RemoveArgs, config: &Config) -> Result<()> {
    let options =
        ChangeOptions { message: args.how.message.clone(), reset_state: args.reset_state, ..ChangeOptions::default() };
    change(Change::Remove(&args.stage), &options, &args.how, config)
}

fn change(change: Change<'_>, options: &ChangeOptions, how: &How, config: &Config) -> Result<()> {
    let control = Control::of(config)?;
    carry_out(how, || control.plan_change(change, options), || control.change(change, options))
}

fn body(args: &DeployArgs) -> Result<DeployBody> {
    let mut body = DeployBody {
        stage: args.stage.clone(),
        before: args.before.clone(),
        after: args.after.clone(),
        params: args.params.iter().cloned().collect(),
        unset_params: args.unset_params.clone(),
        message: args.how.message.clone(),
        partitions: (!args.partitions.is_empty()).then(|| args.partitions.iter().copied().collect::<BTreeSet<_>>()),
        reset_state: args.reset_state,
        ..DeployBody::default()
    };
    body.params.extend(module_file::params_of_files(&args.param_files)?);
    if let Some(file) = &args.file {
        body.set_wasm(&module_file::read(file)?);
    }
    if let Some(path) = manifest_file(args) {
        let text = module_file::read_at_most(&path, MAX_MANIFEST_BYTES)?;
        let text = String::from_utf8(text).map_err(|_| mistake(format!("{} is not UTF-8", path.display())))?;
        body.manifest = Some(text);
    } else if body.stage.is_none() {
        body.stage = args.file.as_deref().and_then(Path::file_stem).map(|stem| stem.to_string_lossy().into_owned());
    }
    Ok(body)
}

/// The manifest that is named, or the one that lies beside the module.
fn manifest_file(args: &DeployArgs) -> Option<PathBuf> {
    let beside = || {
        let file = args.file.as_deref()?;
        let path = file.parent()?.join("SmartModule.toml");
        path.is_file().then_some(path)
    };
    args.manifest.clone().or_else(beside)
}

/// Plans, asks, deploys, and says what came of it.
fn carry_out(how: &How, plan: impl FnOnce() -> Result<Plan>, deploy: impl FnOnce() -> Result<Deployed>) -> Result<()> {
    let json = how.output == TextOrJson::Json;
    if how.plan {
        let plan = plan()?;
        match json {
            true => unless_gone(write_json(&mut io::stdout().lock(), &plan))?,
            false => print(plan::text(&plan))?,
        }
        return if plan.changes { Err(Ended(CHANGES).into()) } else { Ok(()) };
    }
    if !how.yes {
        if !io::stdin().is_terminal() {
            return Err(mistake("there is nobody to ask: look with --plan, then say --yes"));
        }
        let plan = plan()?;
        say(plan::text(&plan).trim_end());
        if plan.changes && !confirmed()? {
            say("nothing was changed");
            return Err(Ended(1).into());
        }
    }
    let deployed = deploy()?;
    match json {
        true => unless_gone(write_json(&mut io::stdout().lock(), &deployed))?,
        false => print(outcome(&deployed))?,
    }
    // In a stopped data directory there is nobody who could follow.
    let waits_for_a_host = deployed.activations.is_empty();
    if deployed.waiting.is_empty() || waits_for_a_host { Ok(()) } else { Err(Ended(1).into()) }
}

fn confirmed() -> Result<bool> {
    let mut err = io::stderr().lock();
    // Where the question cannot be shown, the answer will not be yes.
    let _ = write!(err, "deploy? [y/N] ").and_then(|()| err.flush());
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn outcome(deployed: &Deployed) -> String {
    let id = deployed.deployment;
    let mut text = match deployed.changed {
        false => format!("nothing to change: this is in force already, as deployment {id}\n"),
        true => format!("deployment {id}\n"),
    };
    for (partition, offset) in &deployed.activations {
        text.push_str(&format!("  partition {partition}: from offset {offset} on\n"));
    }
    for (partition, why) in &deployed.waiting {
        text.push_str(&format!("  partition {partition}: not yet: {why}\n"));
    }
    text
}
