//! How many files the process may have open: connections are files, and many systems begin with a limit of 1,024.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// More are of no use here, and slow down what closes all of them.
const ENOUGH: u64 = 65_536;

/// Takes as many as the system lets a process have, where that is more than it has.
pub fn take_all() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = maximum.map_or(ENOUGH, |most| most.min(ENOUGH));
    if current.is_some_and(|now| now < wanted) {
        let limit = Rlimit { current: Some(wanted), maximum };
        if let Err(e) = setrlimit(Resource::Nofile, limit) {
            tracing::warn!("the limit of open files stays at {current:?}: {e}");
        }
    }
}
