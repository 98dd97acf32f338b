//! [`Server`]: binds an address, accepts connections, and stops within two seconds, open live streams included.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use clickmill_broker::Broker;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use crate::budget::BodyBudget;
use crate::host::Host;
use crate::metrics::HttpMetrics;
use crate::options::Options;
use crate::rounds::Rounds;
use crate::routes::{App, router};
use crate::stall::StallLimit;
use crate::tail::Tail;

/// How long open requests may go on after the stop was asked for.
const GRACE: Duration = Duration::from_millis(1_500);
/// Most bytes of a request's head.
const MAX_HEAD_BYTES: usize = 64 << 10;
/// A module of 32 MiB in base64, its manifest and parameters.
const MAX_MODULE_BODY_BYTES: usize = 48 << 20;
/// Answers of windows that may be in memory at once.
const WINDOW_ANSWERS: usize = 2;
/// Reports that may be made at once.
const REPORT_ANSWERS: usize = 4;

/// Why a server cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error(
        "listening on {listen}, beyond this machine, needs a token: set `server.token` in clickmill.yaml, \
         or listen on 127.0.0.1"
    )]
    TokenRequired { listen: SocketAddr },
    #[error(
        "{listen} is in use by another process: stop it, or take another port with CLICKMILL_LISTEN=127.0.0.1:0 (0: any \
         that is free), or with `server.listen` in clickmill.yaml"
    )]
    InUse { listen: SocketAddr },
    #[error("cannot listen on {listen}: {source}; set `server.listen` in clickmill.yaml to an address of this machine")]
    Address { listen: SocketAddr, source: io::Error },
}

/// Why a server stopped by itself.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("the listening socket failed: {0}")]
    Socket(#[from] io::Error),
    #[error("metrics cannot be set up: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// A server that has its address and does not answer yet.
#[derive(Debug)]
pub struct Server {
    options: Options,
    listener: TcpListener,
    address: SocketAddr,
}

impl Server {
    /// Takes the address.
    ///
    /// # Errors
    /// [`BindError`]: the address is taken, not ours, or beyond loopback without a token.
    pub fn bind(options: Options) -> Result<Self, BindError> {
        let listen = options.listen;
        if !listen.ip().is_loopback() && options.token.is_none() {
            return Err(BindError::TokenRequired { listen });
        }
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::AddrInUse => BindError::InUse { listen },
            _ => BindError::Address { listen, source },
        };
        let listener = TcpListener::bind(listen).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { options, listener, address })
    }

    /// The address, with the port that was taken.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `shutdown` is done, and then at most two seconds more.
    ///
    /// # Errors
    /// [`ServeError`] where it cannot go on.
    pub async fn serve(
        self,
        broker: Arc<dyn Broker>,
        host: Arc<dyn Host>,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), ServeError> {
        let Self { options, listener, .. } = self;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let (tail, frames) = Tail::start(Arc::clone(&broker))?;
        let connections = Connections::new(&options);
        let app = router(Arc::new(App {
            broker,
            host,
            http: HttpMetrics::new()?,
            bodies: BodyBudget::new(options.max_body_bytes, options.max_body_bytes_in_flight),
            modules: BodyBudget::new(MAX_MODULE_BODY_BYTES, MAX_MODULE_BODY_BYTES),
            in_flight: Semaphore::new(options.max_in_flight_requests),
            live_clients: Arc::new(Semaphore::new(options.max_live_clients)),
            window_answers: Arc::new(Semaphore::new(WINDOW_ANSWERS)),
            report_answers: Semaphore::new(REPORT_ANSWERS),
            rounds: Rounds::default(),
            frames,
            options,
        }));
        connections.run(listener, app, shutdown, tail).await;
        Ok(())
    }
}

/// The accept loop and what it accepted.
struct Connections {
    header_timeout: Duration,
    stall_limit: Duration,
    permits: Arc<Semaphore>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Connections {
    fn new(options: &Options) -> Self {
        Self {
            header_timeout: options.header_timeout,
            stall_limit: options.request_timeout,
            permits: Arc::new(Semaphore::new(options.max_connections)),
            stop: watch::Sender::new(false),
            tasks: JoinSet::new(),
        }
    }

    async fn run(
        mut self,
        listener: tokio::net::TcpListener,
        app: axum::Router,
        shutdown: impl Future<Output = ()>,
        tail: Tail,
    ) {
        let mut shutdown = pin!(shutdown);
        loop {
            // Finished tasks are forgotten here, so that the set does not grow.
            while self.tasks.try_join_next().is_some() {}
            tokio::select! {
                () = &mut shutdown => break,
                (socket, permit) = accept(&listener, &self.permits) => self.open(socket, permit, &app),
            }
        }
        drop(listener);
        // Live streams end with the tail that feeds them; other requests may finish.
        tail.stop();
        self.stop.send_replace(true);
        let all_done = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(GRACE, all_done).await.is_err() {
            tracing::info!("open requests are cut off");
            self.tasks.shutdown().await;
        }
    }

    fn open(&mut self, socket: tokio::net::TcpStream, permit: OwnedSemaphorePermit, app: &axum::Router) {
        // Answers are small and wanted at once; where it cannot be set, they come a little later.
        let _ = socket.set_nodelay(true);
        let io = TokioIo::new(StallLimit::new(socket, self.stall_limit));
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.header_timeout)
            .max_buf_size(MAX_HEAD_BYTES)
            .serve_connection(io, TowerToHyperService::new(app.clone()));
        let mut stop = self.stop.subscribe();
        self.tasks.spawn(async move {
            let _permit = permit;
            let mut connection = pin!(connection);
            let stopped = async { stop.wait_for(|stop| *stop).await.is_ok() };
            tokio::select! {
                result = connection.as_mut() => {
                    if let Err(e) = result {
                        tracing::debug!("a connection broke off: {e}");
                    }
                    return;
                }
                _ = stopped => connection.as_mut().graceful_shutdown(),
            }
            let _ = connection.await;
        });
    }
}

/// The next connection, once there is room for one.
async fn accept(
    listener: &tokio::net::TcpListener,
    permits: &Arc<Semaphore>,
) -> (tokio::net::TcpStream, OwnedSemaphorePermit) {
    loop {
        let Ok(permit) = Arc::clone(permits).acquire_owned().await else {
            return std::future::pending().await;
        };
        match listener.accept().await {
            Ok((socket, _)) => return (socket, permit),
            // Out of file descriptors, or a client that was gone already: neither is the listener's end.
            Err(e) => {
                tracing::warn!("a connection could not be accepted: {e}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}
