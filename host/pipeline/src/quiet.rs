//! Work beside the stream: in a thread of low priority, so that the workers come first.

/// Priority of such a thread: about a fourteenth of a core that a worker could use too. At the lowest one (19), a deploy
/// while a backlog takes every core waited for minutes until its module was compiled.
const NICE: i32 = 10;

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
