//! Work beside the stream: in a thread of low priority, so that the workers come first.

use std::time::{Duration, Instant};

/// Priority of such a thread: about a fourteenth of a core that a worker could use too. At the lowest one (19), a deploy
/// while a backlog takes every core waited for minutes until its module was compiled.
const NICE: i32 = 10;

/// Work that is done at a stretch, about.
const PIECE: Duration = Duration::from_micros(500);
/// The longest rest, after a piece that could not be made shorter.
const LONGEST_REST: Duration = Duration::from_millis(2);

/// Long work in pieces, with rests between them. A scheduler lets a thread end its turn whatever its priority, some
/// milliseconds: without rests, each of the threads that a record goes through waits for such turns.
pub(crate) struct Pace {
    since: Instant,
}

impl Pace {
    pub(crate) fn new() -> Self {
        Self { since: Instant::now() }
    }

    /// Between two pieces: lets go of the core for as long as it was used.
    pub(crate) fn rest(&mut self) {
        let used = self.since.elapsed();
        if used >= PIECE {
            std::thread::sleep(used.min(LONGEST_REST));
            self.since = Instant::now();
        }
    }
}

/// Gives this thread a low priority, for good. Where the system does not allow it, it competes as others do; no
/// result depends on that.
pub(crate) fn lower_priority() {
    let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE);
}

/// Does `work` in a thread of its own at low priority, and waits for it. A pool of one thread: the compiler would
/// otherwise share its work out to threads of its own, which come before no worker but not after them either.
pub(crate) fn quietly<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).start_handler(|_| lower_priority()).build();
    match pool {
        Ok(pool) => pool.install(work),
        // No thread is to be had: better done loudly than not at all.
        Err(_) => work(),
    }
}
