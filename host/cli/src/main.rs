//! The `clickmill` binary: flags, config, and one file or folder for each verb. Logic lives in the libraries.

mod bench;
mod checkpoint;
mod completions;
mod config;
mod context;
mod demo;
mod exit;
mod generate;
mod modules;
mod output;
mod produce;
mod profile;
mod run;
mod stack;
mod status;
mod topic;
mod windows;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory, Parser, Subcommand};
use config::{Config, Layers, Overrides};

/// Live CTR windows from WebAssembly SmartModules: produce, run, look.
#[derive(Debug, Parser)]
#[command(name = "clickmill", version, propagate_version = true, arg_required_else_help = true)]
#[command(after_help = "Exit codes: 0 ok, 1 the work failed, 2 the user's mistake.
Data goes to stdout, talk to stderr. Settings: flags, then environment (CLICKMILL_DATA_DIR, DATABASE_URL, REDIS_URL,
CLICKMILL_LISTEN, CLICKMILL_TOKEN), then clickmill.yaml, then defaults.")]
struct Cli {
    /// Settings to read instead of ./clickmill.yaml
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder of all state (default ./data)
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<PathBuf>,
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
    Checkpoint(checkpoint::Args),
    Completions(completions::Args),
    /// Prints every setting with its default and what it means
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
            eprintln!("error: {}", exit::shown(&error));
            ExitCode::from(exit::code_of(&error))
        }
    }
}

fn work(cli: Cli) -> Result<()> {
    let flags = Overrides { data_dir: cli.data_dir, ..Overrides::default() };
    let layers = Layers { env: Overrides::from_env(|name| std::env::var(name).ok()), flags };
    let config = Config::load(cli.config.as_deref(), &layers).map_err(|e| exit::mistake(e.to_string()))?;
    tracing_subscriber::fmt()
        .with_env_filter(&config.log.filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .init();
    match cli.verb {
        Verb::Generate(args) => generate::run(&args),
        Verb::Produce { args, output } => produce::run(&args, &stack::place::of(&config), output == TextOrJson::Json),
        Verb::Profile(args) => profile::run(&args),
        Verb::Run(args) => run::run(&args, &config),
        Verb::Demo(args) => demo::run(&args, &config),
        Verb::Bench(args) => bench::run(&args, &config),
        Verb::Status(args) => status::run(&args, &config),
        Verb::Windows(args) => windows::run(&args, &config),
        Verb::Topic(args) => topic::run(&args, &config),
        Verb::Checkpoint(args) => checkpoint::run(&args, &config),
        Verb::Completions(args) => completions::run(&args, &mut Cli::command()),
        Verb::Config => {
            print!("{}", config::default_yaml());
            Ok(())
        }
    }
}
