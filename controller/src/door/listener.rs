//! Accepts connections and does their handshakes, all of it bounded.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::crowd::{Crowd, Stranger};
use super::guests::{Guests, Turned};
use super::{Peer, ShownCertificate};
use crate::authority::read_shown;

/// How long a handshake may take: over a satellite link it takes three seconds.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// Connections whose handshake is done and that nobody has taken yet.
const ARRIVED_MAX: usize = 64;

/// The pause after the system refused a connection, for example because too many files are open.
const PAUSE: Duration = Duration::from_millis(100);

/// A connection whose handshake is done.
pub(super) struct Arrived {
    pub(super) stream: TlsStream<TcpStream>,
    pub(super) peer: Peer,
    /// Its place among those who are not known.
    pub(super) stranger: Stranger,
    /// Its place among all connections.
    pub(super) room: OwnedSemaphorePermit,
}

/// Accepts until it is dropped.
pub(super) struct Accepting {
    listener: TcpListener,
    config: Arc<ServerConfig>,
    guests: Arc<Guests>,
    crowd: Arc<Crowd>,
    rooms: Arc<Semaphore>,
}

impl Accepting {
    pub(super) fn new(
        listener: TcpListener,
        config: Arc<ServerConfig>,
        guests: Arc<Guests>,
        connections_max: u32,
    ) -> Self {
        let rooms = Arc::new(Semaphore::new(connections_max as usize));
        Self { listener, config, guests, crowd: Arc::default(), rooms }
    }

    /// Runs in a task; what arrives comes out of the channel. The handshakes end with it.
    pub(super) async fn run(self, arrived: mpsc::Sender<Arrived>) {
        let mut handshakes = JoinSet::new();
        loop {
            while handshakes.try_join_next().is_some() {}
            match self.listener.accept().await {
                Ok((tcp, address)) => {
                    if let Some(handshake) = self.enter(tcp, address, arrived.clone()) {
                        handshakes.spawn(handshake);
                    }
                }
                Err(error) if of_one_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "no connection can be accepted");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// The handshake of a connection, unless there is no place for it.
    fn enter(
        &self,
        tcp: TcpStream,
        address: SocketAddr,
        arrived: mpsc::Sender<Arrived>,
    ) -> Option<impl Future<Output = ()> + use<>> {
        let stranger = self.crowd.enter(address.ip());
        let room = Arc::clone(&self.rooms).try_acquire_owned().ok();
        let (Some(stranger), Some(room)) = (stranger, room) else {
            self.guests.turn(Turned::Crowded);
            return None;
        };
        let (config, guests) = (Arc::clone(&self.config), Arc::clone(&self.guests));
        Some(async move {
            match tokio::time::timeout(HANDSHAKE_MAX, handshake(config, tcp, address)).await {
                Ok(Ok((stream, peer))) => {
                    // If nobody takes it, the door is closing.
                    let _ = arrived.send(Arrived { stream, peer, stranger, room }).await;
                }
                Ok(Err(error)) => {
                    guests.turn(Turned::Handshake);
                    tracing::debug!(%address, %error, "a handshake failed");
                }
                Err(_) => {
                    guests.turn(Turned::Handshake);
                    tracing::debug!(%address, "a handshake took too long");
                }
            }
        })
    }
}

/// A channel for what [`Accepting::run`] finds.
pub(super) fn arrivals() -> (mpsc::Sender<Arrived>, mpsc::Receiver<Arrived>) {
    mpsc::channel(ARRIVED_MAX)
}

async fn handshake(
    config: Arc<ServerConfig>,
    tcp: TcpStream,
    address: SocketAddr,
) -> io::Result<(TlsStream<TcpStream>, Peer)> {
    tcp.set_nodelay(true)?;
    let stream = TlsAcceptor::from(config).accept(tcp).await?;
    let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let shown =
        shown.and_then(read_shown).map(|(device, serial)| ShownCertificate { device, serial });
    Ok((stream, Peer { address, shown }))
}

/// The other side went away before it was accepted: nothing is wrong with the listener.
fn of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    )
}
