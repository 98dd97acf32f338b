//! The C compiler, which zstd's and others' C sources need.

use std::env;
use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

/// Checks that there is one and that it finds the C library's headers.
pub fn ensure() -> Result<()> {
    let compiler = env::var("CC").ok().filter(|name| !name.is_empty()).unwrap_or_else(|| "cc".to_owned());
    if compiles(&compiler) {
        return Ok(());
    }
    bail!(
        "the C compiler `{compiler}` does not work here, and some dependencies (zstd) are written in C.\n\
         Install one with its headers (`sudo apt-get install gcc libc6-dev`), or name another in the variable CC."
    )
}

/// `CC` may hold arguments too, as in `ccache gcc`.
fn compiles(compiler: &str) -> bool {
    let mut words = compiler.split_whitespace();
    let Some(program) = words.next() else {
        return false;
    };
    let child = Command::new(program)
        .args(words)
        .args(["-x", "c", "-fsyntax-only", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut child) = child else { return false };
    let wrote = child.stdin.take().is_some_and(|mut input| input.write_all(b"#include <stdlib.h>\n").is_ok());
    child.wait().is_ok_and(|status| status.success()) && wrote
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compiler_that_is_not_there_does_not_compile() {
        assert!(!compiles("clickmill-has-no-such-compiler -O2"));
        assert!(!compiles(""));
        assert!(!compiles("false"));
    }
}
