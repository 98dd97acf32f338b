//! `clickmill checkpoint`: the files that workers start again from, and savepoints, which are kept.
//!
//! Read straight from the data directory, also beside a running host: checkpoints are created whole and never changed.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};

use anyhow::{Context as _, Result, bail};
use clickmill_broker::Broker as _;
use clickmill_pipeline::checkpoint::{Checkpoint, CheckpointName, Damaged};
use clickmill_pipeline::clock::{Clock as _, SystemClock};
use clickmill_pipeline::savepoint::{self, Manifest, SavedPartition};
use clickmill_pipeline::topics::AD_EVENTS_RAW;
use clickmill_pipeline::views::checkpoints::{self, CheckpointFile};
use clickmill_pipeline::views::status::Status;
use clickmill_pipeline::views::time::iso8601;
use clickmill_pipeline::{WorkerError, runs};
use clickmill_schemas::{Offset, PartitionId};
use serde_json::json;

use crate::TextOrJson;
use crate::config::Config;
use crate::context::{Place, existing_log_dir};
use crate::exit::mistake;
use crate::output::{Output, Rows, counted, say, unless_gone, write_json};

/// Lists, shows and checks the checkpoints that workers start again from, and makes savepoints of them
#[derive(Debug, clap::Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Examples:
  clickmill checkpoint list
  clickmill checkpoint show --partition 0 | jq .ledger
  clickmill checkpoint verify && echo sound
  clickmill checkpoint save before-rules && clickmill run --from before-rules"
)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Lists the checkpoints, newest first, and then the savepoints
    #[command(after_help = "Examples:
  clickmill checkpoint list
  clickmill checkpoint list --output csv")]
    List(ListArgs),
    /// Prints checkpoints without the modules' state, as JSON: the newest one, or the one named
    #[command(after_help = "Examples:
  clickmill checkpoint show --partition 0
  clickmill checkpoint show --partition 0 --offset 120000")]
    Show(ShowArgs),
    /// Checks every checkpoint: its checksum, and that the logs hold all that it builds on
    #[command(after_help = "Examples:
  clickmill checkpoint verify && echo sound

Exit code 1 where one is damaged or is ahead of a log, 2 where a worker refuses one of a newer clickmill.")]
    Verify(ListArgs),
    /// Makes a savepoint: the state of all partitions under a name, with the modules, kept until it is deleted
    #[command(after_help = "Examples:
  clickmill checkpoint save before-rules
  clickmill run --from before-rules        judge everything after it again

A running host commits first. The savepoint is a folder, savepoints/NAME of the data directory; `sha256sum -c SHA256SUMS` in
it tells whether it is whole. Events after it are needed again: mind their retention.")]
    Save(SaveArgs),
    /// Deletes a savepoint
    #[command(after_help = "Examples:
  clickmill checkpoint delete before-rules")]
    Delete(NameArgs),
}

#[derive(Debug, clap::Args)]
struct SaveArgs {
    name: String,
    #[arg(long, value_enum, default_value = "text")]
    output: TextOrJson,
}

#[derive(Debug, clap::Args)]
struct NameArgs {
    name: String,
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Debug, clap::Args)]
struct ShowArgs {
    /// Partition of ad_events_raw [default: all]
    #[arg(long, value_name = "P")]
    partition: Option<PartitionId>,
    /// The checkpoint at this offset [default: the newest]
    #[arg(long, value_name = "N")]
    offset: Option<Offset>,
}

/// # Errors
/// A mistake for a data directory that is not one or a checkpoint that is not there; otherwise where one cannot be
/// read, or `verify` found a fault.
pub fn run(args: &Args, config: &Config) -> Result<()> {
    existing_log_dir(config)?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    match &args.verb {
        Verb::List(args) => list(config, args.output, &mut out),
        Verb::Show(args) => show(config, args, &mut out),
        Verb::Verify(args) => verify(config, args.output, &mut out),
        Verb::Save(args) => save(config, args, &mut out),
        Verb::Delete(args) => {
            savepoint::delete(&config.data_dir, &args.name)?;
            unless_gone(writeln!(out, "savepoint {} is deleted", args.name).and_then(|()| out.flush()))
        }
    }
}

fn save(config: &Config, args: &SaveArgs, out: &mut dyn Write) -> Result<()> {
    let manifest = match Place::of(config)? {
        Place::Host(host) => host.ask::<Manifest>("POST", "/api/savepoints", &json!({"name": args.name}))?,
        Place::Folder(log) => {
            let input = log.topic(AD_EVENTS_RAW)?.context("there is no topic of events yet: nothing to save")?;
            let run = runs::current(&log)?.unwrap_or(input.id);
            let of = (run, input.spec.partitions);
            savepoint::save(&log, &config.data_dir, of, &args.name, SystemClock.now_ms())?
        }
    };
    let written = match args.output {
        TextOrJson::Json => write_json(out, &manifest),
        TextOrJson::Text => {
            let at = manifest.partitions.iter().map(|p| format!("{}@{}", p.partition, p.offset)).collect::<Vec<_>>();
            writeln!(out, "savepoint {}: partitions {}", manifest.name, at.join(", "))
        }
    };
    unless_gone(written.and_then(|()| out.flush()))
}

/// A checkpoint's file, read.
struct Stored {
    /// The savepoint that it belongs to.
    savepoint: Option<String>,
    file: CheckpointFile,
    bytes: u64,
    content: Result<Checkpoint, Damaged>,
}

/// Every checkpoint of the input topic, by partition, newest first.
fn stored(config: &Config) -> Result<Vec<Stored>> {
    let mut found = Vec::new();
    for file in checkpoints::files(&config.data_dir)? {
        match file.read() {
            // A running host has removed it since: newer ones have made it superfluous.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            read => {
                let (content, bytes) = read.with_context(|| format!("reading {}", file.path.display()))?;
                found.push(Stored { savepoint: None, file, bytes, content });
            }
        }
    }
    Ok(found)
}

/// The checkpoints of the savepoints; one that is damaged is told.
fn saved(config: &Config) -> Result<Vec<Stored>> {
    let mut found = Vec::new();
    for name in savepoint::names(&config.data_dir)? {
        let (manifest, folder, checkpoints) = match savepoint::load(&config.data_dir, &name) {
            Ok(savepoint) => (savepoint.manifest, savepoint.folder, savepoint.checkpoints),
            Err(error) => {
                say(error);
                continue;
            }
        };
        for SavedPartition { partition, offset, epoch, file, .. } in manifest.partitions {
            let path = folder.join(file);
            let bytes = fs::metadata(&path).with_context(|| format!("reading {}", path.display()))?.len();
            let content =
                checkpoints.get(&partition).cloned().context("a savepoint lacks a partition that it names")?;
            let file = CheckpointFile { partition, name: CheckpointName { epoch, offset }, path };
            found.push(Stored { savepoint: Some(name.clone()), file, bytes, content: Ok(content) });
        }
    }
    Ok(found)
}

fn list(config: &Config, output: Output, out: &mut dyn Write) -> Result<()> {
    let mut all = stored(config)?;
    all.extend(saved(config)?);
    let mut rows = Rows::new(&["savepoint", "partition>", "epoch>", "offset>", "written", "bytes>", "state", "file"]);
    for s in &all {
        let written = s.content.as_ref().map(|c| iso8601(c.written_at_ms)).unwrap_or_default();
        let state = s.content.as_ref().map_or_else(ToString::to_string, |_| "sound".to_owned());
        rows.push(vec![
            s.savepoint.clone().unwrap_or_default(),
            s.file.partition.to_string(),
            s.file.name.epoch.to_string(),
            s.file.name.offset.to_string(),
            written,
            s.bytes.to_string(),
            state,
            s.file.path.display().to_string(),
        ]);
    }
    let written = match output {
        Output::Text => rows.write_text(out),
        Output::Csv => rows.write_csv(out),
        Output::Json => write_json(out, &all.iter().map(|s| s.json(None)).collect::<Vec<_>>()),
    };
    unless_gone(written.and_then(|()| out.flush()))?;
    if all.is_empty() {
        say(format_args!("no checkpoints in {}", config.data_dir.display()));
    }
    Ok(())
}

impl Stored {
    fn json(&self, fault: Option<&str>) -> serde_json::Value {
        json!({
            "savepoint": self.savepoint,
            "partition": self.file.partition,
            "epoch": self.file.name.epoch,
            "offset": self.file.name.offset,
            "written_at_ms": self.content.as_ref().ok().map(|c| c.written_at_ms),
            "bytes": self.bytes,
            "sound": self.content.is_ok() && fault.is_none(),
            "fault": self.content.as_ref().err().map(ToString::to_string).or_else(|| fault.map(str::to_owned)),
            "file": self.file.path,
        })
    }
}

fn show(config: &Config, args: &ShowArgs, out: &mut dyn Write) -> Result<()> {
    let mut chosen = BTreeMap::new();
    for s in stored(config)? {
        let CheckpointFile { partition, name, .. } = &s.file;
        let wanted = args.partition.is_none_or(|p| p == *partition) && args.offset.is_none_or(|o| o == name.offset);
        if wanted {
            // Newest first: the first one of a partition is it.
            chosen.entry(*partition).or_insert(s);
        }
    }
    if chosen.is_empty() {
        return Err(mistake("there is no such checkpoint; `clickmill checkpoint list` shows those that there are"));
    }
    for s in chosen.into_values() {
        let checkpoint = match s.content {
            Err(why @ Damaged::Newer { .. }) => return Err(WorkerError::Newer { file: s.file.path, why }.into()),
            content => content.with_context(|| format!("{} is damaged", s.file.path.display()))?,
        };
        let mut shown = serde_json::to_value(&checkpoint)?;
        shown["state_bytes"] = json!(checkpoint.state.len());
        shown["file"] = json!(s.file.path);
        unless_gone(write_json(out, &shown).and_then(|()| out.flush()))?;
    }
    Ok(())
}

fn verify(config: &Config, output: Output, out: &mut dyn Write) -> Result<()> {
    // The files first: logs only grow, so the ends that are read after are not behind them.
    let all = stored(config)?;
    let status = Place::of(config)?.status()?;
    let faults: Vec<Option<String>> = all.iter().map(|s| fault(s, &status)).collect();
    let mut rows = Rows::new(&["partition>", "epoch>", "offset>", "verdict", "file"]);
    for (s, fault) in all.iter().zip(&faults) {
        rows.push(vec![
            s.file.partition.to_string(),
            s.file.name.epoch.to_string(),
            s.file.name.offset.to_string(),
            fault.clone().unwrap_or_else(|| "sound".to_owned()),
            s.file.path.display().to_string(),
        ]);
    }
    let written = match output {
        Output::Text => rows.write_text(out),
        Output::Csv => rows.write_csv(out),
        Output::Json => {
            let json: Vec<_> = all.iter().zip(&faults).map(|(s, fault)| s.json(fault.as_deref())).collect();
            write_json(out, &json)
        }
    };
    unless_gone(written.and_then(|()| out.flush()))?;
    if let Some(newer) = in_the_way(&all) {
        return Err(newer.into());
    }
    match faults.iter().flatten().count() {
        0 => Ok(()),
        n => bail!(
            "{n} of {} cannot be used; a worker starts from the newest sound one of its partition",
            counted(all.len() as u64, "checkpoint")
        ),
    }
}

/// What a worker meets before a sound checkpoint of its partition, and refuses to go behind.
fn in_the_way(all: &[Stored]) -> Option<WorkerError> {
    let mut sound = None;
    all.iter().find_map(|s| match &s.content {
        Err(why @ Damaged::Newer { .. }) if sound != Some(s.file.partition) => {
            Some(WorkerError::Newer { file: s.file.path.clone(), why: why.clone() })
        }
        content => {
            sound = content.as_ref().map_or(sound, |_| Some(s.file.partition));
            None
        }
    })
}

/// What is wrong with a checkpoint.
fn fault(stored: &Stored, status: &Status) -> Option<String> {
    match &stored.content {
        Ok(checkpoint) => stored.file.fault(checkpoint, status),
        Err(damaged) => Some(damaged.to_string()),
    }
}
