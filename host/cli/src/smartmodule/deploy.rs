//! `clickmill smartmodule deploy|rollback|remove`: changes of the chain, after a look at what they would do.

use std::io::{self, BufRead as _, IsTerminal, Write};

use anyhow::{Result, anyhow};
use clickmill_pipeline::deployment::body::DeployBody;
use clickmill_pipeline::deployment::control::Deployed;
use clickmill_pipeline::deployment::plan::Plan;
use clickmill_schemas::{DeploymentId, PartitionId};

use super::control::{Change, ChangeOptions, Control};
use super::module_args::ModuleArgs;
use super::plan;
use crate::TextOrJson;
use crate::config::Config;
use crate::exit::{Ended, mistake};
use crate::output::{print, say, unless_gone, write_json};

/// Exit code of a plan that would change something.
const CHANGES: u8 = 3;

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
with --plan 0 nothing would change, 3 something would, 1 it would be refused.")]
pub struct DeployArgs {
    #[command(flatten)]
    module: ModuleArgs,
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

/// Says what a deploy would do, and changes nothing: exit code 0 nothing would change, 3 something would
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  clickmill smartmodule plan validate.wasm
  clickmill smartmodule plan --stage validate --param date_to=2014-10-30 --output json")]
pub struct PlanArgs {
    #[command(flatten)]
    module: ModuleArgs,
    #[arg(long)]
    reset_state: bool,
    #[arg(long, value_enum, default_value = "text")]
    output: TextOrJson,
}

/// Goes back to the chain before, or to that of a deployment
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  clickmill smartmodule rollback --yes          undo the last change
  clickmill smartmodule rollback --to 4 --plan

A rollback is one more deployment, with an offset of its own: what the module judged stays judged. After a rollback, another
one goes back one more step, to what was in force before the deployment that the first went back to. It is never refused for
what the canary sees: the way back must not need a module to behave.")]
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
        let (message, reset_state) = (args.how.message.clone(), args.reset_state);
        let options = ChangeOptions { message, reset_state, ..ChangeOptions::default() };
        return change(Change::Promote(id), &options, &args.how, config);
    }
    let mut body = args.module.body()?;
    body.message.clone_from(&args.how.message);
    body.reset_state = args.reset_state;
    body.partitions = (!args.partitions.is_empty()).then(|| args.partitions.iter().copied().collect());
    let control = Control::of(config)?;
    carry_out(&args.how, &control, true, || control.plan(&body), || control.deploy(&body))
}

pub fn plan(args: &PlanArgs, config: &Config) -> Result<()> {
    let body = DeployBody { reset_state: args.reset_state, ..args.module.body()? };
    planned(&Control::of(config)?.plan(&body)?, true, args.output)
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
    carry_out(how, &control, false, || control.plan_change(change, options), || control.change(change, options))
}

/// Plans, asks, deploys, and says what came of it. `judged`: it is refused where its canary fails.
fn carry_out(
    how: &How,
    control: &Control,
    judged: bool,
    plan: impl FnOnce() -> Result<Plan>,
    deploy: impl FnOnce() -> Result<Deployed>,
) -> Result<()> {
    let json = how.output == TextOrJson::Json;
    if how.plan {
        return planned(&plan()?, judged, how.output);
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
    if deployed.waiting.is_empty() || control.is_stopped() { Ok(()) } else { Err(Ended(1).into()) }
}

fn planned(plan: &Plan, judged: bool, output: TextOrJson) -> Result<()> {
    match output {
        TextOrJson::Json => unless_gone(write_json(&mut io::stdout().lock(), plan))?,
        TextOrJson::Text => print(plan::text(plan))?,
    }
    match (&plan.canary, plan.changes) {
        (Some(canary), _) if judged && canary.failures > 0 => {
            Err(anyhow!("a deploy would be refused: the canary failed"))
        }
        (_, true) => Err(Ended(CHANGES).into()),
        (_, false) => Ok(()),
    }
}

fn confirmed() -> Result<bool> {
    let mut err = io::stderr().lock();
    // Where the question cannot be shown, the answer will not be yes.
    let _ = write!(err, "deploy? [y/N] ").and_then(|()| err.flush());
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

pub fn outcome(deployed: &Deployed) -> String {
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
