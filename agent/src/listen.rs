//! Where the local API listens: HTTP over TCP, HTTP over a Unix socket, gRPC; each if it is wanted.

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::config::ApiConfig;
use crate::http::{self, Facts, SocketFile, UnixSocket, UnixSocketError};
use crate::serving::Serving;

/// Why the local API cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// An address cannot be had.
    #[error("the local API cannot listen on {address}: {source}; set `{key}` to a free one")]
    Address {
        /// The address.
        address: SocketAddr,
        /// Where it is configured.
        key: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// A Unix socket cannot be had.
    #[error("the local API cannot listen at {} (`api.unix_socket`): {source}", path.display())]
    Unix {
        /// Where.
        path: PathBuf,
        /// Why.
        source: UnixSocketError,
    },
}

/// Bound, so that callers wait rather than being turned away; nothing is answered yet.
pub(crate) struct Sockets {
    tcp: Option<TcpListener>,
    unix: Option<UnixSocket>,
    grpc: Option<TcpListener>,
    /// Where applications find the API: an address, or `unix:` and a path.
    pub(crate) address: String,
}

impl Sockets {
    /// Binds what the configuration asks for.
    ///
    /// # Errors
    /// [`ListenError`] names the address and its key.
    pub(crate) async fn bind(config: &ApiConfig) -> Result<Self, ListenError> {
        let mut address = String::new();
        let tcp = match config.listen {
            Some(wanted) => Some(bind(wanted, "api.listen").await?),
            None => None,
        };
        if let Some((_, bound)) = &tcp {
            address = bound.to_string();
            tracing::info!("the local API listens on http://{bound}");
        }
        let mut unix = None;
        if let Some(path) = &config.unix_socket {
            let failed = |source| ListenError::Unix { path: path.clone(), source };
            unix = Some(UnixSocket::bind(path, config.unix_mode).map_err(failed)?);
            if address.is_empty() {
                address = format!("unix:{}", path.display());
            }
            tracing::info!("the local API listens at {}", path.display());
        }
        let grpc = match config.grpc {
            Some(wanted) => Some(bind(wanted, "api.grpc").await?),
            None => None,
        };
        if let Some((_, bound)) = &grpc {
            tracing::info!("the local API listens for gRPC on {bound}");
        }
        let listener = |(listener, _)| listener;
        Ok(Self { tcp: tcp.map(listener), unix, grpc: grpc.map(listener), address })
    }

    /// Begins to answer.
    pub(crate) fn serve(self, serving: &Arc<Serving>, facts: &Facts) -> Answering {
        let (stop, stopped) = watch::channel(());
        let mut tasks = JoinSet::new();
        let router = http::router(Arc::clone(serving), facts.clone());
        if let Some(listener) = self.tcp {
            let ended = ended(stopped.clone());
            tasks.spawn(logged(http::serve(listener, router.clone(), ended)));
        }
        let mut file = None;
        if let Some(socket) = self.unix {
            let (listener, its) = socket.into_parts();
            file = Some(its);
            tasks.spawn(logged(http::serve_unix(listener, router, ended(stopped.clone()))));
        }
        #[cfg(feature = "grpc")]
        if let Some(listener) = self.grpc {
            let (serving, ended) = (Arc::clone(serving), ended(stopped.clone()));
            tasks.spawn(logged(crate::grpc::serve(listener, serving, facts.clone(), ended)));
        }
        #[cfg(not(feature = "grpc"))]
        debug_assert!(self.grpc.is_none(), "refused with the configuration");
        Answering { stop, tasks, file }
    }
}

async fn bind(
    wanted: SocketAddr,
    key: &'static str,
) -> Result<(TcpListener, SocketAddr), ListenError> {
    let failed = |source| ListenError::Address { address: wanted, key, source };
    let listener = TcpListener::bind(wanted).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

async fn ended(mut stopped: watch::Receiver<()>) {
    // The sender never sends: it goes, at the end or with everything else.
    while stopped.changed().await.is_ok() {}
}

async fn logged(serving: impl Future<Output = std::io::Result<()>>) {
    if let Err(error) = serving.await {
        tracing::error!("the local API ended: {error}");
    }
}

/// A local API that answers.
pub(crate) struct Answering {
    stop: watch::Sender<()>,
    tasks: JoinSet<()>,
    file: Option<SocketFile>,
}

impl Answering {
    /// Takes no new requests, and gives those that have begun at most `goodbye_max`.
    pub(crate) async fn stop(mut self, goodbye_max: Duration) {
        // First, so that whoever comes now finds nobody rather than a socket that never answers.
        drop(self.file);
        drop(self.stop);
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(goodbye_max, all).await.is_err() {
            tracing::debug!("requests were cut off after {} ms", goodbye_max.as_millis());
        }
        self.tasks.shutdown().await;
    }
}
