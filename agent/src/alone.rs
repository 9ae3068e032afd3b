//! Models without a fleet: to try one as a device would serve it, and to measure.
//!
//! Nothing is fetched, judged or reported here. A folder has a manifest and files named by their
//! roles, as `tidegate model pack` writes it and as slots on devices have it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tidegate_device::store::slots::MANIFEST;
use tidegate_wire::manifest::Manifest;
use tidegate_wire::{ArtifactRef, Digest, codec, envelope};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::http;
use crate::serving::{LoadError, LoadedModel, Serving};

/// Threads for network and serving, as in the agent's default configuration.
const WORKER_THREADS: usize = 2;

/// Closed windows on their way to nobody.
const WINDOWS_WAITING: usize = 16;

/// Why a folder's model does not answer.
#[derive(Debug, thiserror::Error)]
pub enum AloneError {
    /// There is no manifest.
    #[error("cannot read {}: name a folder that `tidegate model pack` wrote", file.display())]
    Unreadable {
        /// The manifest.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The manifest is none.
    #[error("{} is no manifest: {source}", file.display())]
    Malformed {
        /// The manifest.
        file: PathBuf,
        /// Why.
        source: codec::DecodeError,
    },
    /// The model cannot be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The address cannot be used.
    #[error("cannot listen on {address}: {source}; choose another with --listen")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The system gives no threads.
    #[error("the system cannot run the agent: {0}")]
    System(std::io::Error),
}

/// Answers with the models in `folders` until the process is asked to stop. Blocks.
///
/// # Errors
/// [`AloneError`] names the folder, file or address.
pub fn serve(folders: &[PathBuf], listen: SocketAddr) -> Result<(), AloneError> {
    let (sender, mut windows) = mpsc::channel(WINDOWS_WAITING);
    let serving = Serving::new(sender, 0);
    for folder in folders {
        let loaded = Arc::new(load(folder)?);
        tracing::info!("{loaded:?} from {}, {} ms", folder.display(), loaded.load_ms);
        let model = loaded.manifest.model.clone();
        serving.activate(&model, loaded);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKER_THREADS)
        .thread_name("tidegate")
        .enable_all()
        .build()
        .map_err(AloneError::System)?;
    let failed = |source| AloneError::Listen { address: listen, source };
    let served = runtime.block_on(async {
        let stop = crate::run::stop_signal().map_err(AloneError::System)?;
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        tracing::info!("the local API listens on http://{address}");
        tokio::spawn(async move { while windows.recv().await.is_some() {} });
        let router = http::router(serving, http::Facts::default());
        http::serve(listener, router, stop).await.map_err(failed)
    });
    runtime.shutdown_background();
    served
}

/// Loads the model of a folder, as a device loads one that it has committed.
///
/// # Errors
/// [`AloneError`] names the folder or file.
pub fn load(folder: &Path) -> Result<LoadedModel, AloneError> {
    let manifest = manifest(folder)?;
    let digest = Digest::of(&envelope::seal(&manifest));
    let artifact = ArtifactRef { digest, version: manifest.version.clone() };
    Ok(LoadedModel::reload(folder, artifact, manifest)?)
}

/// The manifest of a folder.
pub(crate) fn manifest(folder: &Path) -> Result<Manifest, AloneError> {
    let file = folder.join(MANIFEST);
    match std::fs::read(&file) {
        Ok(bytes) => {
            envelope::open(&bytes).map_err(|source| AloneError::Malformed { file, source })
        }
        Err(source) => Err(AloneError::Unreadable { file, source }),
    }
}
