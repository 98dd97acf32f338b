//! Calls cargo the same way everywhere, so that nothing is compiled twice.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A cargo command in the repository, without the variables that `cargo run` gave to this program.
pub fn cargo(root: &Path) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root).arg("--color").arg(color());
    for (name, _) in env::vars_os() {
        let leaked =
            name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"));
        if leaked {
            command.env_remove(name);
        }
    }
    // Documented: the program is target/release/clickmill, wherever the caller usually builds.
    command.env("CARGO_TARGET_DIR", target(root));
    command
}

/// The folder of everything that is built.
pub fn target(root: &Path) -> PathBuf {
    root.join("target")
}

fn color() -> &'static str {
    use std::io::IsTerminal;
    let wanted = std::io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    if wanted { "always" } else { "never" }
}
