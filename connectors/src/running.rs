//! The tasks of one connector that runs: how they are begun together, asked to stop, and waited for.
//!
//! Knows nothing of what they do.

use std::future::Future;
use std::pin::Pin;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use crate::SinkHandle;

/// Done once the connector is asked to stop.
pub(crate) type StopAsked = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A connector that is being started.
pub(crate) struct Begun<'a> {
    runtime: &'a Handle,
    running: Running,
    handles: Vec<SinkHandle>,
}

impl<'a> Begun<'a> {
    pub(crate) fn new(runtime: &'a Handle) -> Self {
        let running = Running { stop: watch::Sender::new(false), tasks: Vec::new() };
        Self { runtime, running, handles: Vec::new() }
    }

    /// Starts one of its sinks.
    pub(crate) fn spawn<F>(&mut self, run: impl FnOnce(StopAsked) -> F, handle: SinkHandle)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.task(run);
        self.handles.push(handle);
    }

    /// Starts something beside its sinks.
    pub(crate) fn task<F>(&mut self, run: impl FnOnce(StopAsked) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.running.spawn(self.runtime, run);
    }

    /// All of its sinks are started.
    pub(crate) fn done(self) -> (Running, Vec<SinkHandle>) {
        (self.running, self.handles)
    }
}

/// A connector that runs.
pub(crate) struct Running {
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Running {
    /// Starts one more of its tasks.
    pub(crate) fn spawn<F>(&mut self, runtime: &Handle, run: impl FnOnce(StopAsked) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut stop = self.stop.subscribe();
        let stopped: StopAsked = Box::pin(async move {
            // An error says that the set is gone: stopped as well.
            let _ = stop.wait_for(|stop| *stop).await;
        });
        self.tasks.push(runtime.spawn(run(stopped)));
    }

    /// Asks it to end.
    pub(crate) fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Waits for its end, and cuts off what hangs.
    pub(crate) async fn ended(self, deadline: Instant) {
        for mut task in self.tasks {
            // A task that panicked has printed why; there is nothing left for it to do.
            if timeout_at(deadline, &mut task).await.is_err() {
                task.abort();
            }
        }
    }
}
