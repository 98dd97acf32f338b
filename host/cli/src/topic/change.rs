//! `clickmill topic create|alter|delete`: in the host that runs, or in the files of a stopped one.

use std::io;

use anyhow::Result;
use clickmill_broker::{Broker, EmbeddedLog};
use clickmill_connectors::percent_encoded;
use clickmill_pipeline::runs;
use clickmill_pipeline::topics::{self, Alter, Create, Limit};
use clickmill_pipeline::views::status::{TopicView, topic};
use serde_json::{Value, json};

use super::list::kept;
use crate::TextOrJson;
use crate::config::Config;
use crate::context::{Host, Place};
use crate::exit::mistake;
use crate::output::{counted, print, unless_gone, write_json};
use crate::stack;

/// Makes a topic of your own
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  clickmill topic create masked --partitions 3
  clickmill topic create states --partitions 1 --compact --retention-max-bytes 1000000000

Events are sent to it over HTTP: POST /api/topics/NAME/records. Clickmill's own topics are made by `clickmill run`.")]
pub struct CreateArgs {
    name: String,
    /// From 1 to 256
    #[arg(long, value_name = "N")]
    partitions: u32,
    /// Records older than this may go [default: all stay]
    #[arg(long, value_name = "HOURS")]
    retention_max_age_hours: Option<u64>,
    /// The oldest records may go while a partition has more bytes than this [default: all stay]
    #[arg(long, value_name = "BYTES")]
    retention_max_bytes: Option<u64>,
    /// Keep the newest record of each key; records without a key stay
    #[arg(long)]
    compact: bool,
    #[arg(long, value_enum, default_value = "text")]
    output: TextOrJson,
}

/// Adds partitions to a topic, or changes what it keeps, while it is in use
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:
  clickmill topic alter ad_events_raw --partitions 6
  clickmill topic alter ad_events_raw --retention-max-age-hours 168
  clickmill topic alter ad_events_raw --retention-max-bytes none

Partitions can be added and never taken away. Records stay where they are; new ones go to all partitions. Workers for the
new partitions of ad_events_raw start at once, with the newest deployment and the watermark of the others: windows that
are final stay so. A file that `produce` had begun goes on in the partitions that it began with.

Retention that clickmill.yaml names comes first at the next start; what it does not name stays as it is set here.",
    group = clap::ArgGroup::new("change").required(true).multiple(true)
)]
pub struct AlterArgs {
    name: String,
    /// As many partitions from now on, 256 at most
    #[arg(long, value_name = "N", group = "change")]
    partitions: Option<u32>,
    /// Records older than this may go; `none`: all stay
    #[arg(long, value_name = "HOURS", group = "change")]
    retention_max_age_hours: Option<Limit>,
    /// The oldest records may go while a partition has more bytes than this; `none`: all stay
    #[arg(long, value_name = "BYTES", group = "change")]
    retention_max_bytes: Option<Limit>,
    #[arg(long, value_enum, default_value = "text")]
    output: TextOrJson,
}

/// Deletes a topic of your own with all its records
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  clickmill topic delete masked --yes")]
pub struct DeleteArgs {
    name: String,
    /// Really: its records are gone for good
    #[arg(long)]
    yes: bool,
    #[arg(long, value_enum, default_value = "text")]
    output: TextOrJson,
}

/// Where topics are changed.
enum Topics {
    Host(Host),
    /// Ours until we end.
    Log(EmbeddedLog),
}

impl Topics {
    fn of(config: &Config) -> Result<Self> {
        match Place::of(config)? {
            Place::Host(host) => Ok(Self::Host(host)),
            Place::Folder(read_only) => {
                drop(read_only);
                Ok(Self::Log(stack::place::open_log(config)?))
            }
        }
    }
}

/// # Errors
/// A mistake where there cannot be such a topic; otherwise where it cannot be made, as there is one.
pub fn create(args: &CreateArgs, config: &Config) -> Result<()> {
    let topic = Create {
        name: args.name.clone(),
        partitions: args.partitions,
        retention_max_age_hours: args.retention_max_age_hours,
        retention_max_bytes: args.retention_max_bytes,
        compact: args.compact,
    };
    let made = match Topics::of(config)? {
        Topics::Host(host) => host.ask("POST", "/api/topics", &topic)?,
        Topics::Log(log) => view(&log, &topics::create(&log, &topic)?)?,
    };
    show(&made, args.output)
}

/// # Errors
/// A mistake for an unknown topic or a change that cannot be; otherwise where it is not made.
pub fn alter(args: &AlterArgs, config: &Config) -> Result<()> {
    let change = Alter {
        partitions: args.partitions,
        retention_max_age_hours: args.retention_max_age_hours,
        retention_max_bytes: args.retention_max_bytes,
    };
    let altered = match Topics::of(config)? {
        Topics::Host(host) => host.ask("PATCH", &format!("/api/topics/{}", percent_encoded(&args.name)), &change)?,
        Topics::Log(log) => {
            if change.partitions.is_some() && runs::is_filling(&config.data_dir)? {
                let why =
                    "a run is being filled, which would lack them: start the host with `clickmill run` and wait for it";
                return Err(mistake(format!("no partitions are added now: {why}")));
            }
            view(&log, &topics::alter(&log, &args.name, &change)?)?
        }
    };
    show(&altered, args.output)
}

/// # Errors
/// A mistake for an unknown topic, one of clickmill's own, or without `--yes`; otherwise where it is still there.
pub fn delete(args: &DeleteArgs, config: &Config) -> Result<()> {
    if !args.yes {
        return Err(mistake(format!("all records of {} would be gone for good: say --yes", args.name)));
    }
    match Topics::of(config)? {
        Topics::Host(host) => {
            host.ask::<Value>("DELETE", &format!("/api/topics/{}", percent_encoded(&args.name)), &json!({}))?;
        }
        Topics::Log(log) => topics::delete(&log, &args.name)?,
    }
    match args.output {
        TextOrJson::Text => print(format_args!("topic {} is deleted\n", args.name)),
        TextOrJson::Json => unless_gone(write_json(&mut io::stdout().lock(), &json!({"deleted": args.name}))),
    }
}

fn view(log: &dyn Broker, info: &clickmill_broker::TopicInfo) -> Result<TopicView> {
    Ok(topic(log, info)?)
}

fn show(topic: &TopicView, output: TextOrJson) -> Result<()> {
    let partitions = counted(topic.partitions.len() as u64, "partition");
    match output {
        TextOrJson::Text => print(format_args!("topic {}: {partitions}, keeps {}\n", topic.topic, kept(topic))),
        TextOrJson::Json => unless_gone(write_json(&mut io::stdout().lock(), topic)),
    }
}
