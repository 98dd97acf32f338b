//! Installs Debian packages, as root or through a sudo that asks nothing, and leaves no service behind.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::tools;

/// Runs as root with the packages as arguments. It takes away again what it put in Debian's way, also on Ctrl-C.
const SCRIPT: &str = r#"
set -eu
export DEBIAN_FRONTEND=noninteractive UCF_FORCE_CONFFOLD=1 LC_ALL=C
log=$(mktemp)
policy=
clean_up() {
    rm -f "$log"
    if [ -n "$policy" ]; then rm -f "$policy"; fi
}
trap clean_up EXIT
trap 'exit 130' INT TERM HUP
# Debian starts what it installs; Clickmill starts private servers of its own and wants no others.
if [ ! -e /usr/sbin/policy-rc.d ]; then
    policy=/usr/sbin/policy-rc.d
    printf '#!/bin/sh\nexit 101\n' > "$policy"
    chmod 755 "$policy"
fi
case " $* " in *" postgresql "*)
    conf=/etc/postgresql-common/createcluster.conf
    if [ ! -e "$conf" ]; then
        mkdir -p /etc/postgresql-common
        echo 'create_main_cluster = false' > "$conf"
    fi ;;
esac
# Lists that cannot be renewed may still do.
apt-get update -q > "$log" 2>&1 || true
if ! apt-get install -y -q --no-install-recommends -o DPkg::Lock::Timeout=300 \
        -o Dpkg::Options::=--force-confold -o Dpkg::Use-Pty=0 "$@" >> "$log" 2>&1; then
    tail -n 25 "$log" >&2
    exit 1
fi
for package; do
    case "$package" in redis-server|postgresql|pgbouncer|prometheus*)
        if command -v systemctl > /dev/null; then systemctl disable --quiet "$package" 2> /dev/null || true; fi
        update-rc.d "$package" disable > /dev/null 2>&1 || true ;;
    esac
done
"#;

/// Installs `packages`, which are needed for `purpose`.
pub fn install(packages: &[&str], purpose: &str) -> Result<()> {
    let names = packages.join(" ");
    if tools::on_path("apt-get").is_none() {
        bail!(
            "{purpose} is missing, and this machine has no apt-get to install it with.\n\
             Install it with your system's package manager (on Debian the packages are: {names}), then run this again."
        );
    }
    let mut command = if is_root() {
        Command::new("sh")
    } else if tools::succeeds(Command::new("sudo").args(["-n", "true"])) {
        let mut command = Command::new("sudo");
        command.args(["-n", "sh"]);
        command
    } else {
        bail!(
            "{}",
            by_hand(purpose, &names, "and it can only be installed as root or through a sudo that asks no password")
        );
    };
    eprintln!("    installing {names} with apt ({purpose})");
    tools::run(command.args(["-c", SCRIPT, "install"]).args(packages))
        .with_context(|| by_hand(purpose, &names, "and installing it did not work"))
}

fn by_hand(purpose: &str, names: &str, why: &str) -> String {
    format!(
        "{purpose} is missing, {why}.\nRun this, then try again:\n    \
         sudo apt-get update && sudo apt-get install --no-install-recommends {names}\n"
    )
}

fn is_root() -> bool {
    tools::output(Command::new("id").arg("-u")).is_ok_and(|id| id == "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_is_one_that_the_shell_can_read() {
        assert!(tools::succeeds(Command::new("sh").args(["-n", "-c", SCRIPT])));
    }

    #[test]
    fn what_to_do_by_hand_names_the_packages() {
        let text = by_hand("the PostgreSQL server", "postgresql", "and nothing helps");
        assert!(text.contains("sudo apt-get install --no-install-recommends postgresql\n"), "{text}");
    }
}
