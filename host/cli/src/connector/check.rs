//! `clickmill connector check`: every problem of connector files, with line and column.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clickmill_connectors::Connector;
use clickmill_connectors::file::ConnectorFile;

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
    /// Connect to the servers too
    #[arg(long)]
    connect: bool,
}

pub fn run(args: &Args, config: &Config) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut bad = Vec::new();
    for path in &args.files {
        let checked = ConnectorFile::read(path, &Environment(config)).map_err(|e| e.to_string()).and_then(|file| {
            let server =
                if args.connect { format!(", {}", runtime.block_on(answers(&file.connector))?) } else { String::new() };
            Ok((file, server))
        });
        match checked {
            Ok((file, server)) => {
                let (kind, name) = (file.meta.r#type.name(), &file.meta.name);
                print(format_args!("{}: ok ({kind} {name}{server})\n", path.display()))?;
            }
            Err(problems) if problems.starts_with(&path.display().to_string()) => bad.push(problems),
            Err(problem) => bad.push(format!("{}: {problem}", path.display())),
        }
    }
    if bad.is_empty() { Ok(()) } else { Err(mistake(bad.join("\n"))) }
}

async fn answers(connector: &Connector) -> Result<String, String> {
    let server = || connector.url().map(|url| url.masked()).unwrap_or_default();
    let answered = match tokio::time::timeout(PATIENCE, connector.answers()).await {
        Ok(Ok(server)) => Ok(format!("{server} answers")),
        Ok(Err(error)) => Err(format!("{}: {}", server(), error.chain())),
        Err(_) => Err(format!("{}: no answer within {PATIENCE:?}", server())),
    };
    let hidden = connector.hidden();
    answered.map(|text| hidden.redact(&text)).map_err(|text| hidden.redact(&text))
}
