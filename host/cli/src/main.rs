//! The `clickmill` binary: flags, config, and one file or folder for each verb. Logic lives in the libraries.

mod bench;
mod blame;
mod checkpoint;
mod completions;
mod config;
mod connector;
mod context;
mod demo;
mod dlq;
mod exit;
mod generate;
mod modules;
mod output;
mod produce;
mod profile;
mod reprocess;
mod run;
mod shadow;
mod signals;
mod smartmodule;
mod stack;
mod status;
mod topic;
mod windows;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory, Parser, Subcommand};
use config::{Config, Layers, Overrides};

/// Live CTR windows from WebAssembly SmartModules: produce, run, look.
#[derive(Debug, Parser)]
#[command(name = "clickmill", version, propagate_version = true, arg_required_else_help = true)]
#[command(after_help = "Examples:
  clickmill demo                                                see it work, on generated rows
  clickmill generate --rows 200000 --hours 2 --out ads.csv.gz   make some rows
  clickmill produce ads.csv.gz                                  put them into the topic
  clickmill run                                                 process them, and show it
  clickmill windows --size 5m --dimension total                 read what came out

Exit codes: 0 ok, 1 the work failed, 2 the user's mistake.
Data goes to stdout, talk to stderr. Settings: flags, then environment (CLICKMILL_DATA_DIR, DATABASE_URL, REDIS_URL,
CLICKMILL_LISTEN, CLICKMILL_TOKEN), then clickmill.yaml, then defaults.")]
struct Cli {
    /// Settings to read instead of ./clickmill.yaml
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder of all state (default ./data)
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// End when this process, which started ours, is gone
    #[arg(long, global = true, hide = true, value_name = "PID")]
    end_with: Option<i32>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Generate(generate::Args),
    Produce {
        #[command(flatten)]
        args: produce::Args,
        /// `json`: the summary on stdout as well
        #[arg(long, value_enum, default_value = "text")]
        output: TextOrJson,
    },
    Profile(profile::Args),
    Run(run::RunArgs),
    Demo(demo::DemoArgs),
    Bench(bench::BenchArgs),
    Status(status::Args),
    Windows(windows::Args),
    Topic(topic::Args),
    Smartmodule(smartmodule::Args),
    Shadow(shadow::Args),
    Reprocess(reprocess::Args),
    Blame(blame::BlameArgs),
    WhyLate(blame::WhyLateArgs),
    WhyOpen(blame::WhyOpenArgs),
    Checkpoint(checkpoint::Args),
    Connector(connector::Args),
    Dlq(dlq::Args),
    Completions(completions::Args),
    /// Prints every setting with its default and what it means
    #[command(after_help = "Examples:
  clickmill config | less
  clickmill config > clickmill.yaml      then change what should differ; the rest may go

A clickmill.yaml in the working directory is read by itself, another one with --config FILE.
Its mistakes are told with line and column.")]
    Config,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum TextOrJson {
    Text,
    Json,
}

fn main() -> ExitCode {
    // clap ends the program itself on a bad flag, with exit code 2.
    let cli = Cli::parse();
    match work(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if !error.is::<exit::Ended>() {
                output::say(format_args!("error: {}", exit::shown(&error)));
            }
            ExitCode::from(exit::code_of(&error))
        }
    }
}

/// A variable of the environment. Bytes that are no text come out as such that no setting takes for another value.
fn variable(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

/// The private servers and the files that name others are told this path as text.
fn check_data_dir(data_dir: &Path) -> Result<()> {
    let whole = std::path::absolute(data_dir).unwrap_or_else(|_| data_dir.to_path_buf());
    match whole.to_str() {
        Some(text) if !text.contains(char::REPLACEMENT_CHARACTER) => Ok(()),
        _ => Err(exit::mistake(format!(
            "the path of the data directory, {}, is not UTF-8: take another one with --data-dir",
            whole.display()
        ))),
    }
}

fn work(cli: Cli) -> Result<()> {
    if let Some(parent) = cli.end_with {
        signals::end_with(parent)?;
    }
    let flags = Overrides { data_dir: cli.data_dir, ..Overrides::default() };
    let layers = Layers { env: Overrides::from_env(variable), flags };
    let config = Config::load(cli.config.as_deref(), &layers).map_err(|e| exit::mistake(e.to_string()))?;
    if matches!(cli.verb, Verb::Run(_) | Verb::Demo(_) | Verb::Bench(_) | Verb::Produce { .. }) {
        check_data_dir(&config.data_dir)?;
    }
    tracing_subscriber::fmt()
        .with_env_filter(&config.log.filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        // Where nobody can read it any more (the terminal is gone), that cannot be said either.
        .log_internal_errors(false)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .init();
    match cli.verb {
        Verb::Generate(args) => generate::run(&args),
        Verb::Produce { args, output } => {
            // Who started it for a purpose of its own says what there is to say.
            if cli.end_with.is_none() {
                signals::end_with_words(args.interrupted())?;
            }
            produce::run(&args, &stack::place::of(&config), output == TextOrJson::Json)
        }
        Verb::Profile(args) => profile::run(&args),
        Verb::Run(args) => run::run(&args, &config),
        Verb::Demo(args) => demo::run(&args, &config),
        Verb::Bench(args) => bench::run(&args, &config),
        Verb::Status(args) => status::run(&args, &config),
        Verb::Windows(args) => windows::run(&args, &config),
        Verb::Topic(args) => topic::run(&args, &config),
        Verb::Smartmodule(args) => smartmodule::run(&args, &config),
        Verb::Shadow(args) => shadow::run(&args, &config),
        Verb::Reprocess(args) => reprocess::run(&args, &config),
        Verb::Blame(args) => blame::blame(&args, &config),
        Verb::WhyLate(args) => blame::why_late(&args, &config),
        Verb::WhyOpen(args) => blame::why_open(&args, &config),
        Verb::Checkpoint(args) => checkpoint::run(&args, &config),
        Verb::Connector(args) => connector::run(&args, &config),
        Verb::Dlq(args) => dlq::run(&args, &config),
        Verb::Completions(args) => completions::run(&args, &mut Cli::command()),
        Verb::Config => output::print(config::default_yaml()),
    }
}
