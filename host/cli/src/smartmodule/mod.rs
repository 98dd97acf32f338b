//! `clickmill smartmodule`: one file a verb.
//!
//! `new`, `build`, `test` and `bench` are an author's own: they touch files and the engine, no host and no data directory.
//! The others ask [`control`], which knows whether a host runs.

mod bench;
mod build;
mod case;
pub mod control;
mod deploy;
mod logs;
mod module_args;
pub mod module_file;
mod new;
mod pause;
mod plan;
mod project;
mod show;
mod test;
mod toolchain;

use anyhow::Result;

pub use deploy::outcome as deployed_text;
pub use module_args::ModuleArgs;
pub use plan::matrix;

use crate::config::Config;

/// Writes, tests and deploys SmartModules
#[derive(Debug, clap::Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Examples:
  clickmill smartmodule new mask-devices --kind map
  clickmill smartmodule build mask-devices && clickmill smartmodule test mask-devices
  clickmill smartmodule deploy mask-devices/mask-devices.wasm --after validate --plan
  clickmill smartmodule list"
)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    New(new::Args),
    Build(build::Args),
    Test(test::Args),
    Bench(bench::Args),
    Deploy(Box<deploy::DeployArgs>),
    Plan(Box<deploy::PlanArgs>),
    List(show::ListArgs),
    Show(show::ShowArgs),
    History(show::HistoryArgs),
    Rollback(deploy::RollbackArgs),
    Remove(deploy::RemoveArgs),
    Logs(logs::Args),
    Pause(pause::PauseArgs),
    Resume(pause::ResumeArgs),
}

pub fn run(args: &Args, config: &Config) -> Result<()> {
    match &args.verb {
        Verb::New(args) => new::run(args),
        Verb::Build(args) => build::run(args),
        Verb::Test(args) => test::run(args, config),
        Verb::Bench(args) => bench::run(args, config),
        Verb::Deploy(args) => deploy::deploy(args, config),
        Verb::Plan(args) => deploy::plan(args, config),
        Verb::List(args) => show::list(args, config),
        Verb::Show(args) => show::show(args, config),
        Verb::History(args) => show::history(args, config),
        Verb::Rollback(args) => deploy::rollback(args, config),
        Verb::Remove(args) => deploy::remove(args, config),
        Verb::Logs(args) => logs::run(args, config),
        Verb::Pause(args) => pause::pause(args, config),
        Verb::Resume(args) => pause::resume(args, config),
    }
}
