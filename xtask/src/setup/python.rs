//! A private Python with DuckDB for the recount (xtask/recount/), and Kubernetes' schemas: nothing outside target/ is touched.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{apt, cargo, tools};

const DEBIAN_PYTHON: &str = "/usr/bin/python3";

/// The Python that runs the recount.
pub fn recount_python(root: &Path) -> PathBuf {
    venv(root).join("bin/python")
}

fn venv(root: &Path) -> PathBuf {
    cargo::target(root).join("xtask-venv")
}

/// Makes the virtual environment, or makes it anew when the requirements changed or an earlier try was interrupted.
pub fn ensure(root: &Path) -> Result<()> {
    let requirements = root.join("xtask/recount/requirements.txt");
    let wanted = fs::read(&requirements).with_context(|| format!("cannot read {}", requirements.display()))?;
    let venv = venv(root);
    // Written last: it says what is in there, and that it is whole.
    let stamp = venv.join("installed-requirements.txt");
    if fs::read(&stamp).is_ok_and(|installed| installed == wanted) && imports_duckdb(root) {
        return Ok(());
    }
    if venv.exists() {
        fs::remove_dir_all(&venv).with_context(|| format!("cannot remove {}", venv.display()))?;
    }
    create(&venv)?;
    let mut pip = python(&recount_python(root));
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"])
        .args(["--require-hashes", "--only-binary", ":all:", "--no-deps", "-r"])
        .arg(&requirements);
    tools::run(&mut pip).context(
        "cannot install DuckDB and Kubernetes' schemas, which the tests need (is https://pypi.org reachable? is this Python 3.9 to 3.14?)",
    )?;
    if !imports_duckdb(root) {
        bail!("DuckDB is installed in {} but cannot be imported", venv.display());
    }
    fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))
}

fn create(venv: &Path) -> Result<()> {
    let system = tools::on_path("python3");
    if let Some(system) = system {
        // Debian's python3 has no ensurepip without the package python3-venv, and says so in many lines.
        if tools::succeeds(python(&system).args(["-m", "venv"]).arg(venv)) {
            return Ok(());
        }
    }
    apt::install(&["python3", "python3-venv"], "Python 3 with its venv module, which the recount needs")?;
    if venv.exists() {
        fs::remove_dir_all(venv).with_context(|| format!("cannot remove {}", venv.display()))?;
    }
    tools::run(python(Path::new(DEBIAN_PYTHON)).args(["-m", "venv"]).arg(venv))
}

fn imports_duckdb(root: &Path) -> bool {
    tools::succeeds(python(&recount_python(root)).args(["-c", "import duckdb"]))
}

/// A Python that takes no modules from elsewhere.
fn python(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_remove("PYTHONPATH").env_remove("PYTHONHOME");
    command
}
