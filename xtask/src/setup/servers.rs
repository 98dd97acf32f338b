//! PostgreSQL and Redis servers, and for the tests a pooler: found where the distributions put them, else installed.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use super::Servers;
use crate::{apt, tools};

/// Folders that hold one folder of programs for each version of PostgreSQL, as `<folder>/<version>/bin`.
const POSTGRES_VERSIONS: &str = "/usr/lib/postgresql";
const USUAL_FOLDERS: [&str; 3] = ["/usr/bin", "/usr/local/bin", "/usr/sbin"];

/// Makes sure of both, as far as they are needed.
pub fn ensure(when: Servers) -> Result<()> {
    let needed = |variable: &str| when == Servers::Always || env::var_os(variable).is_none_or(|url| url.is_empty());
    let mut packages = Vec::new();
    let mut missing = Vec::new();
    if needed("DATABASE_URL") && postgres().is_none() {
        packages.push("postgresql");
        missing.push("the PostgreSQL server");
    }
    if needed("REDIS_URL") && redis().is_none() {
        packages.push("redis-server");
        missing.push("the Redis server");
    }
    // What the tests put between the two.
    if when == Servers::Always && usual("pgbouncer").is_none() {
        packages.push("pgbouncer");
        missing.push("the pooler PgBouncer");
    }
    if packages.is_empty() {
        return Ok(());
    }
    apt::install(&packages, &missing.join(" and "))?;
    if needed("DATABASE_URL") && postgres().is_none() {
        bail!("apt installed postgresql, but neither PATH nor {POSTGRES_VERSIONS}/*/bin has `initdb` and `postgres`");
    }
    if needed("REDIS_URL") && redis().is_none() {
        bail!("apt installed redis-server, but neither PATH nor {} has it", USUAL_FOLDERS.join(", "));
    }
    Ok(())
}

/// The folder with `initdb` and `postgres`: on PATH, or the newest of the distribution's.
fn postgres() -> Option<PathBuf> {
    let on_path = env::var_os("PATH").map(|path| env::split_paths(&path).collect::<Vec<_>>()).unwrap_or_default();
    on_path.into_iter().chain(versions(Path::new(POSTGRES_VERSIONS))).find(|folder| is_postgres(folder))
}

fn is_postgres(folder: &Path) -> bool {
    ["initdb", "postgres"].iter().all(|program| tools::is_executable(&folder.join(program)))
}

/// `<folder>/<version>/bin`, newest version first.
fn versions(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut found: Vec<(u32, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    found.sort();
    found.into_iter().rev().map(|(_, path)| path).collect()
}

fn redis() -> Option<PathBuf> {
    usual("redis-server")
}

/// On PATH, or where distributions put what root runs.
pub(super) fn usual(program: &str) -> Option<PathBuf> {
    let usual = USUAL_FOLDERS.iter().map(|folder| Path::new(folder).join(program));
    tools::on_path(program).or_else(|| usual.into_iter().find(|file| tools::is_executable(file)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_tried_from_the_newest_and_other_folders_are_not() {
        let folder = env::temp_dir().join(format!("clickmill-xtask-versions-{}", std::process::id()));
        for name in ["9", "15", "110", "common"] {
            fs::create_dir_all(folder.join(name)).expect("a scratch folder");
        }
        let found = versions(&folder);
        fs::remove_dir_all(&folder).expect("the scratch folder goes again");
        assert_eq!(found, ["110/bin", "15/bin", "9/bin"].map(|name| folder.join(name)));
    }
}
