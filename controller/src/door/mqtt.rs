//! The MQTT side: from TLS to the embedded broker and back.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::server::TlsStream;

use super::guests::{Guests, Kind, Place, Turned};
use super::listener::{Accepting, Arrived, arrivals};
use crate::broker::Broker;

/// Bytes copied at a time, either way.
const CHUNK: usize = 16 * 1024;

/// How long the other side may take to finish once one side has: the broker writes a session to the
/// disk, the device reads a goodbye.
const LINGER: Duration = Duration::from_secs(2);

/// The public port of the embedded broker.
pub struct MqttDoor {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl MqttDoor {
    /// Opens the door; with port 0 a free one is chosen.
    ///
    /// # Errors
    /// If the address is taken or not this machine's.
    pub async fn open(
        listen: SocketAddr,
        config: Arc<ServerConfig>,
        guests: Arc<Guests>,
        broker: Arc<Broker>,
        connections_max: u32,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let accepting = Accepting::new(listener, config, Arc::clone(&guests), connections_max);
        let task = tokio::spawn(receive(accepting, guests, broker));
        Ok(Self { address, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends every session, as a network that goes away.
    pub async fn close(mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }
}

impl Drop for MqttDoor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Its sessions end with it.
async fn receive(accepting: Accepting, guests: Arc<Guests>, broker: Arc<Broker>) {
    let (sender, mut arrived) = arrivals();
    let mut sessions = JoinSet::new();
    sessions.spawn(accepting.run(sender));
    while let Some(Arrived { stream, peer, stranger, room }) = arrived.recv().await {
        while sessions.try_join_next().is_some() {}
        let (guests, broker) = (Arc::clone(&guests), Arc::clone(&broker));
        sessions.spawn(async move {
            // Certificates of others than devices get nowhere: the controller does not come this way.
            let Some(shown) = peer.shown else { return guests.turn(Turned::Unknown) };
            let inner = match connect(&broker).await {
                Ok(inner) => inner,
                Err(error) => {
                    return tracing::warn!(%error, "the embedded broker cannot be reached");
                }
            };
            let place = guests.admit(&shown, Kind::Session, inner.local_addr().ok());
            drop(stranger);
            match place {
                Some(place) => session(place, stream, inner).await,
                None => {
                    let (device, address) = (shown.device, peer.address);
                    tracing::info!(%device, %address, "a device was turned away: it is not in");
                }
            }
            drop(room);
        });
    }
}

async fn connect(broker: &Broker) -> io::Result<TcpStream> {
    let inner = TcpStream::connect(broker.address()).await?;
    inner.set_nodelay(true)?;
    Ok(inner)
}

/// Copies until one side ends or the device is put out.
async fn session(place: Place, stream: TlsStream<TcpStream>, inner: TcpStream) {
    let (mut from_device, mut to_device) = tokio::io::split(stream);
    let (mut from_broker, mut to_broker) = inner.into_split();
    // Last here, so dropped first: once the loopback connection is closed, another program may get
    // its port.
    let place = place;
    let ended = tokio::select! {
        ended = upwards(&place, &mut from_device, &mut to_broker) => Ended::Device(ended),
        ended = tokio::io::copy(&mut from_broker, &mut to_device) => Ended::Broker(ended.map(drop)),
        () = place.cut() => Ended::Cut,
    };
    match ended {
        // The broker may not have read the goodbye yet, which says that no last will is due.
        Ended::Device(Ok(())) => {
            let finish = finish(&mut from_broker, &mut to_broker);
            let _ = tokio::time::timeout(LINGER, finish).await;
        }
        Ended::Broker(Ok(())) => {
            let _ = tokio::time::timeout(LINGER, to_device.shutdown()).await;
        }
        Ended::Cut => tracing::info!(device = %place.device(), "a device was cut off"),
        Ended::Device(Err(error)) | Ended::Broker(Err(error)) => {
            tracing::debug!(device = %place.device(), %error, "a session broke off");
        }
    }
}

/// Which side ended.
enum Ended {
    Device(io::Result<()>),
    Broker(io::Result<()>),
    Cut,
}

/// From the device to the broker, no faster than the device may send.
async fn upwards(
    place: &Place,
    from: &mut ReadHalf<TlsStream<TcpStream>>,
    to: &mut OwnedWriteHalf,
) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let length = match from.read(&mut chunk).await {
            Ok(0) => return Ok(()),
            Ok(length) => length,
            Err(error) => return Err(error),
        };
        to.write_all(&chunk[..length]).await?;
        let wait = place.take(length);
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }
}

async fn finish(from: &mut OwnedReadHalf, to: &mut OwnedWriteHalf) -> io::Result<()> {
    to.shutdown().await?;
    tokio::io::copy(from, &mut tokio::io::sink()).await.map(drop)
}
