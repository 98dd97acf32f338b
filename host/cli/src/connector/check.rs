//! `clickmill connector check`: every problem of connector files, with line and column.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clickmill_connectors::file::{ConnectorFile, Place, each_name_once};

use crate::config::Config;
use crate::exit::mistake;
use crate::output::print;
use crate::stack::connectors::Environment;

/// Longest wait for a server's answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Checks connector files: every problem with its line and column
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  clickmill connector check connectors/*.yaml
  clickmill connector check connectors/postgres-sink.yaml --connect

Exit codes: 0 all of them can be used, 2 one of them cannot.")]
pub struct Args {
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Connect to the servers too: those of the files, or of the config where it names others (DATABASE_URL, sinks.*)
    #[arg(long)]
    connect: bool,
}

pub fn run(args: &Args, config: &Config) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut paths = BTreeSet::new();
    let files = args.files.iter().filter(|path| paths.insert(*path));
    let files = files.map(|path| ConnectorFile::read(path, &Environment(config))).collect();
    let mut bad = Vec::new();
    for file in each_name_once(files) {
        let asked = file.map_err(|e| e.to_string()).and_then(|file| {
            let server =
                if args.connect { format!(", {}", runtime.block_on(answer(&file, config))?) } else { String::new() };
            Ok((file, server))
        });
        match asked {
            Ok((ConnectorFile { path, meta, .. }, server)) => {
                print(format_args!("{}: ok ({} {}{server})\n", path.display(), meta.r#type.name(), meta.name))?;
            }
            Err(problems) => bad.push(problems),
        }
    }
    if bad.is_empty() { Ok(()) } else { Err(mistake(bad.join("\n"))) }
}

/// What a file's server says, where one is named: in the file, or over it in the config.
async fn answer(file: &ConnectorFile, config: &Config) -> Result<String, String> {
    let Some(connector) = config.connectors(vec![file.clone()]).pop() else {
        return Ok("switched off in the config, not asked".to_owned());
    };
    let is_named = connector.url().is_some();
    let server = || connector.url().map(|url| url.masked()).unwrap_or_default();
    let problem = match tokio::time::timeout(PATIENCE, connector.answers()).await {
        Ok(Ok(server)) if is_named => return Ok(connector.hidden().redact(&format!("{server} answers"))),
        Ok(Ok(place)) => return Ok(format!("{place}, not asked")),
        Ok(Err(error)) => format!("{}: {}", server(), error.chain()),
        Err(_) => format!("{}: no answer within {PATIENCE:?}", server()),
    };
    let Place { line, column } = file.address_at;
    let over = match connector.url() == file.connector.url() {
        true => String::new(),
        false => format!("sinks.{}.url of the config, in place of the file's: ", connector.name()),
    };
    Err(format!("{}:{line}:{column}: {over}{}", file.path.display(), connector.hidden().redact(&problem)))
}
