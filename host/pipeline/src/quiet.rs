//! Work beside the stream: in a thread of the lowest priority, so that the workers come first.

use std::panic::resume_unwind;

/// Lowest priority of a thread.
const NICE: i32 = 19;

/// Gives this thread the lowest priority, for good. Where the system does not allow it, it competes as others do; no
/// result depends on that.
pub(crate) fn lower_priority() {
    let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE);
}

/// Does `work` in a thread of its own at the lowest priority, and waits for it.
pub(crate) fn quietly<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            lower_priority();
            work()
        });
        thread.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}
