//! `clickmill smartmodule`: one file a verb.
//!
//! `new`, `build`, `test` and `bench` are an author's own: they touch files and the engine, no host and no data directory.

mod bench;
mod build;
mod new;
mod test;

use anyhow::Result;

use crate::config::Config;

/// Writes, tests and deploys SmartModules
#[derive(Debug, clap::Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Examples:
  clickmill smartmodule new mask-devices --kind map
  clickmill smartmodule build mask-devices && clickmill smartmodule test mask-devices"
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
}

pub fn run(args: &Args, config: &Config) -> Result<()> {
    match &args.verb {
        Verb::New(args) => new::run(args),
        Verb::Build(args) => build::run(args),
        Verb::Test(args) => test::run(args, config),
        Verb::Bench(args) => bench::run(args, config),
    }
}
