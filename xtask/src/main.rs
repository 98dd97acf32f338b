//! The one entry for tasks: set-up, build, demo, test. `cargo xtask --help` lists them.
//!
//! Owns how this repository is built and checked on a fresh machine. It must stay quick to compile (std, anyhow and
//! clap only) and must know nothing of what the crates do: it calls cargo, the package manager and the built program.

mod apt;
mod build;
mod cargo;
mod conformance;
mod fuzz;
mod setup;
mod steps;
mod stock;
mod suites;
mod tally;
mod tools;

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

use crate::setup::Needs;
use crate::steps::Steps;

#[derive(Parser)]
#[command(bin_name = "cargo xtask", about = "Builds, demonstrates and checks Clickmill")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what the other tasks need and this machine lacks (each of them does its own share too)
    Setup,
    /// Build the SmartModules and target/release/clickmill
    Build,
    /// Set up, build, and run `clickmill demo` with the arguments given (try `cargo xtask demo --exit`)
    Demo {
        /// Arguments for `clickmill demo`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Set up, build, and run every check: formatting, lints, all tests, the recount by an unrelated tool
    Test,
    /// Build smartmodules/examples/ into target/smartmodules/examples/
    Examples,
    /// Run every kind of SmartModule in Fluvio's own engine and in ours, and compare what they make of it
    ///
    /// Not part of `test`: it compiles Fluvio's engine and its wasmtime first, which took 11 minutes on two busy cores.
    Conformance {
        /// Arguments for the comparison: try `--only speed`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Fuzz each target of fuzz/ in turn (needs cargo-fuzz; `test` runs their corpora without it)
    Fuzz {
        /// How long each target runs
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        minutes: u32,
        /// Only this target; may be given several times
        #[arg(long = "target", value_name = "NAME")]
        targets: Vec<String>,
    },
    /// Check the formatting (`cargo fmt` repairs it)
    FmtCheck,
    /// Run clippy on everything, warnings being errors
    Lint,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli.task) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<ExitCode> {
    let root = tools::repository_root()?;
    let mut steps = Steps::default();
    match task {
        Task::Setup => {
            setup::ensure(&root, &mut steps, Needs::everything())?;
        }
        Task::Build => {
            build::everything(&root, &mut steps)?;
        }
        Task::Demo { args } => {
            let program = {
                setup::ensure(&root, &mut steps, Needs::demo())?;
                build::everything(&root, &mut steps)?
            };
            // The program takes this process's place, so that Ctrl-C is its own to handle.
            let error = Command::new(&program).arg("demo").args(args).exec();
            return Err(error).with_context(|| format!("cannot run {}", program.display()));
        }
        Task::Test => return suites::run_all(&root, &mut steps),
        Task::Examples => {
            setup::ensure_compiler()?;
            let folder = steps.run("build smartmodules/examples", || stock::examples(&root))?;
            println!("{}", folder.display());
        }
        Task::Conformance { args } => return conformance::run(&root, &mut steps, &args),
        Task::Fuzz { minutes, targets } => fuzz::run(&root, &mut steps, minutes, &targets)?,
        Task::FmtCheck => {
            setup::component("rustfmt", "cargo-fmt")?;
            steps.run("formatting", || suites::format_check(&root))?;
        }
        Task::Lint => {
            setup::component("clippy", "cargo-clippy")?;
            steps.run("clippy", || suites::lint(&root))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
