//! A trained model behind HTTP: pictures in, classes and probabilities out.
//!
//! Pictures are decoded side by side, and whoever waits meanwhile is computed in one batch. What
//! clients may cost is bounded by the [`Limits`]: a request holds its place until the last of its
//! work is over, whether somebody still waits for it or not.

mod batcher;
mod metrics;
mod openapi;
mod routes;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::data::preprocess::Preprocess;
use crate::engine::prefix::Prefix;
use batcher::Batcher;
use metrics::Metrics;

/// What is served.
#[derive(Debug)]
pub struct Model {
    /// Its name.
    pub name: String,
    /// Class names in label order.
    pub classes: Vec<String>,
    /// From picture to input.
    pub preprocess: Preprocess,
    /// From pictures `[batch, height, width, 3]` to logits `[batch, outputs]`.
    pub network: Prefix,
}

/// What clients may ask for at most.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of a request.
    pub bytes: usize,
    /// Pixels of a picture.
    pub pixels: u64,
    /// Time of a request, from the end of its head to its answer.
    pub time: Duration,
    /// Requests at work or waiting; more are turned away.
    pub requests: usize,
    /// Pictures in a request for several.
    pub pictures: usize,
}

impl Limits {
    /// Unless asked otherwise.
    pub const DEFAULT: Self = Self {
        bytes: 20_000_000,
        pixels: 40_000_000,
        time: Duration::from_secs(30),
        requests: 64,
        pictures: 64,
    };
}

/// Connections at a time, idle ones too: more wait to be let in.
const CONNECTIONS: usize = 1024;

/// Time for the head of a request, and between two of a connection.
const HEAD: Duration = Duration::from_secs(10);

/// Time between two looks at whether to stop.
const LOOK: Duration = Duration::from_millis(50);

/// Time in which a client must have taken what was sent to it.
const TAKE: Duration = Duration::from_secs(30);

/// A server that has its address, and no clients yet.
#[derive(Debug)]
pub struct Server {
    runtime: tokio::runtime::Runtime,
    listener: TcpListener,
    address: SocketAddr,
}

impl Server {
    /// Takes an address; port 0 is any that is free.
    ///
    /// # Errors
    /// If it is taken, or not this machine's.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(cores)
            .thread_name("serve")
            .enable_all()
            .build()?;
        let listener = runtime.block_on(TcpListener::bind(address))?;
        Ok(Self {
            address: listener.local_addr()?,
            runtime,
            listener,
        })
    }

    /// The address that it has.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `stop` says so, and then what is under way.
    ///
    /// # Errors
    /// If threads cannot be started.
    pub fn run(self, model: Model, limits: Limits, stop: impl Fn() -> bool) -> io::Result<()> {
        let model = Arc::new(model);
        let metrics = Arc::new(Metrics::default());
        let batcher = Batcher::start(Arc::clone(&model), Arc::clone(&metrics))?;
        let router = routes::router(routes::Shared {
            model,
            metrics,
            limits,
            batcher,
            places: Arc::new(Semaphore::new(limits.requests)),
        });
        let Self {
            runtime, listener, ..
        } = self;
        runtime.block_on(accept(listener, router, limits.time, stop));
        // What hangs in a decoder must not keep the process.
        runtime.shutdown_timeout(Duration::from_secs(1));
        Ok(())
    }
}

/// Lets clients in until `stop` says otherwise; then answers under way have so much time.
async fn accept(
    listener: TcpListener,
    router: axum::Router,
    last: Duration,
    stop: impl Fn() -> bool,
) {
    let graceful = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut looks = tokio::time::interval(LOOK);
    loop {
        let stream = tokio::select! {
            _ = looks.tick() => match stop() {
                true => break,
                false => continue,
            },
            accepted = async {
                let place = Arc::clone(&places).acquire_owned().await.ok();
                (listener.accept().await, place)
            } => accepted,
        };
        let (Ok((stream, _)), place) = stream else {
            // Out of file descriptors, mostly: they come back.
            tokio::time::sleep(LOOK).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        limit_silence(&stream);
        let service = TowerToHyperService::new(router.clone());
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD)
            .serve_connection(TokioIo::new(stream), service);
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            // A client that breaks off is no matter of ours.
            let _ = connection.await;
            drop(place);
        });
    }
    drop(listener);
    let _ = tokio::time::timeout(last, graceful.shutdown()).await;
}

/// Ends a connection whose client does not take what is sent to it.
fn limit_silence(stream: &tokio::net::TcpStream) {
    #[cfg(target_os = "linux")]
    {
        use std::os::fd::AsRawFd;
        let milliseconds = TAKE.as_millis() as libc::c_uint;
        // SAFETY: the socket is open, and the option takes an unsigned integer of this size. Where
        // it is refused, the connection only lasts longer.
        unsafe {
            libc::setsockopt(
                stream.as_raw_fd(),
                libc::IPPROTO_TCP,
                libc::TCP_USER_TIMEOUT,
                std::ptr::from_ref(&milliseconds).cast(),
                size_of::<libc::c_uint>() as libc::socklen_t,
            );
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (stream, TAKE);
}

#[cfg(test)]
mod tests;
