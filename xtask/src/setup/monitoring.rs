//! What the files of monitoring/ and compose.yaml are checked with: Prometheus, Alertmanager, their exporters, Compose.

use anyhow::{Result, bail};

use super::servers::usual;
use crate::apt;

/// Debian's package, and the programs of it that the tests run.
const PACKAGES: [(&str, &[&str]); 6] = [
    ("prometheus", &["prometheus", "promtool"]),
    ("prometheus-alertmanager", &["prometheus-alertmanager", "amtool"]),
    ("prometheus-postgres-exporter", &["prometheus-postgres-exporter"]),
    ("prometheus-redis-exporter", &["prometheus-redis-exporter"]),
    ("prometheus-node-exporter", &["prometheus-node-exporter"]),
    // `docker-compose config` needs no engine.
    ("docker-compose", &["docker-compose"]),
];

/// Makes sure of all of them.
pub fn ensure() -> Result<()> {
    let missing = || PACKAGES.into_iter().filter(|(_, programs)| programs.iter().any(|name| usual(name).is_none()));
    let packages: Vec<&str> = missing().map(|(package, _)| package).collect();
    if packages.is_empty() {
        return Ok(());
    }
    apt::install(
        &packages,
        "what the tests of monitoring/ and compose.yaml run (Prometheus and its company, Compose)",
    )?;
    match missing().next() {
        Some((package, programs)) => bail!("apt installed {package}, but PATH has not all of {}", programs.join(", ")),
        None => Ok(()),
    }
}
