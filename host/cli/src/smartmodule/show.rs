//! `clickmill smartmodule list|show|history`: which modules judge, since when, and what was deployed before.

use std::io::{self, Write};

use anyhow::Result;
use clickmill_pipeline::deployment::Cause;
use clickmill_pipeline::views::modules::{DeploymentView, StageView};
use clickmill_pipeline::views::time::iso8601;
use clickmill_schemas::{Offset, PartitionId};

use super::control;
use crate::config::Config;
use crate::exit::mistake;
use crate::output::{Output, Rows, unless_gone, write_json};

/// Lists the stages of the chain with their modules, and the offsets from which they judge
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  clickmill smartmodule list
  clickmill smartmodule list --output json | jq '.[] | {stage, sha256, activations}'")]
pub struct ListArgs {
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Shows one stage: its module, parameters and deployments
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  clickmill smartmodule show validate")]
pub struct ShowArgs {
    stage: String,
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Lists every deployment, newest first
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  clickmill smartmodule history
  clickmill smartmodule history --output json | jq '.[0]'")]
pub struct HistoryArgs {
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub fn list(args: &ListArgs, config: &Config) -> Result<()> {
    let stages = control::stages(config)?;
    let mut rows = Rows::new(&["stage", "module", "version", "sha256", "deployment>", "from_offset", "message"]);
    for stage in &stages {
        rows.push(vec![
            stage.stage.clone(),
            stage.name.clone(),
            stage.version.clone(),
            short(&stage.sha256.to_string(), args.output),
            stage.deployment.to_string(),
            offsets(stage.activations.iter()),
            stage.message.clone(),
        ]);
        if let Some(staged) = &stage.staged {
            rows.push(vec![
                stage.stage.clone(),
                "in some partitions".to_owned(),
                String::new(),
                short(&staged.sha256.to_string(), args.output),
                staged.deployment.to_string(),
                offsets(staged.activations.iter()),
                format!("rolled out in part: deploy --promote {0}, or rollback", staged.deployment),
            ]);
        }
    }
    write(args.output, &rows, &stages)
}

pub fn show(args: &ShowArgs, config: &Config) -> Result<()> {
    let stages = control::stages(config)?;
    let Some(stage) = stages.iter().find(|s| s.stage == args.stage) else {
        let names = stages.iter().map(|s| s.stage.as_str()).collect::<Vec<_>>().join(", ");
        return Err(mistake(format!("there is no stage {:?}; the chain is {names}", args.stage)));
    };
    let mut rows = Rows::new(&["what", "value"]);
    for (what, value) in fields(stage) {
        rows.push(vec![what, value]);
    }
    write(args.output, &rows, stage)
}

fn fields(stage: &StageView) -> Vec<(String, String)> {
    let mut fields = vec![
        ("stage".to_owned(), stage.stage.clone()),
        ("module".to_owned(), stage.name.clone()),
        ("version".to_owned(), stage.version.clone()),
        ("sha256".to_owned(), stage.sha256.to_string()),
        ("deployment".to_owned(), stage.deployment.to_string()),
        ("message".to_owned(), stage.message.clone()),
        ("from offset".to_owned(), offsets(stage.activations.iter())),
    ];
    fields.extend(stage.params.iter().map(|(name, value)| (format!("param {name}"), value.clone())));
    fields
}

pub fn history(args: &HistoryArgs, config: &Config) -> Result<()> {
    let deployments = control::history(config)?;
    let mut rows = Rows::new(&["deployment>", "created", "cause", "stages", "from_offset", "message"]);
    for deployment in &deployments {
        let stages = deployment.stages.iter().map(|s| {
            let version =
                if s.version.is_empty() { short(&s.sha256.to_string(), Output::Text) } else { s.version.clone() };
            format!("{} {version}", s.stage)
        });
        rows.push(vec![
            deployment.deployment.to_string(),
            iso8601(deployment.created_at_ms),
            cause(deployment),
            stages.collect::<Vec<_>>().join(", "),
            offsets(deployment.activations.iter()),
            deployment.message.clone(),
        ]);
    }
    write(args.output, &rows, &deployments)
}

fn cause(deployment: &DeploymentView) -> String {
    let cause = match deployment.cause {
        Cause::Config => "clickmill.yaml".to_owned(),
        Cause::Deploy => "deploy".to_owned(),
        Cause::Remove => "remove".to_owned(),
        Cause::Rollback { to } => format!("rollback to {to}"),
        Cause::Promote { of } => format!("promotes {of}"),
        Cause::Reprocess => "judges again".to_owned(),
        Cause::Switch { of } => format!("readers take what {of} has judged"),
        Cause::Breaker { undoes } => format!("breaker, undoes {undoes}"),
    };
    match &deployment.partitions {
        None => cause,
        Some(only) if only.is_empty() => format!("{cause}, beside the live run"),
        Some(only) => {
            let only = only.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            format!("{cause}, partition {only} only")
        }
    }
}

fn offsets<'a>(activations: impl Iterator<Item = (&'a PartitionId, &'a Offset)>) -> String {
    activations.map(|(partition, offset)| format!("{partition}@{offset}")).collect::<Vec<_>>().join(" ")
}

fn short(digest: &str, output: Output) -> String {
    match output {
        Output::Text => digest.chars().take(12).collect(),
        Output::Json | Output::Csv => digest.to_owned(),
    }
}

fn write(output: Output, rows: &Rows, json: &impl serde::Serialize) -> Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let written = match output {
        Output::Text => rows.write_text(&mut out),
        Output::Json => write_json(&mut out, json),
        Output::Csv => rows.write_csv(&mut out),
    };
    unless_gone(written.and_then(|()| out.flush()))
}
