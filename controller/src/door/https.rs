//! The HTTPS side: a listener for `axum`, whose connections know who is at the other end.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{Instant, Sleep};
use tokio_rustls::server::TlsStream;

use super::Peer;
use super::crowd::Stranger;
use super::guests::{Guests, Kind, Place};
use super::listener::{Accepting, Arrived, arrivals};

/// A connection on which nothing moves for this long is closed.
const SILENCE_MAX: Duration = Duration::from_secs(120);

/// The public port of the HTTP API.
pub struct HttpsDoor {
    address: SocketAddr,
    guests: Arc<Guests>,
    arrived: mpsc::Receiver<Arrived>,
    accepting: JoinHandle<()>,
}

impl HttpsDoor {
    /// Opens the door; with port 0 a free one is chosen.
    ///
    /// # Errors
    /// If the address is taken or not this machine's.
    pub async fn open(
        listen: SocketAddr,
        config: Arc<ServerConfig>,
        guests: Arc<Guests>,
        connections_max: u32,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let accepting = Accepting::new(listener, config, Arc::clone(&guests), connections_max);
        let (sender, arrived) = arrivals();
        let accepting = tokio::spawn(accepting.run(sender));
        Ok(Self { address, guests, arrived, accepting })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for HttpsDoor {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Listener for HttpsDoor {
    type Io = Connection;
    type Addr = Peer;

    async fn accept(&mut self) -> (Connection, Peer) {
        loop {
            let Some(Arrived { stream, peer, stranger, room }) = self.arrived.recv().await else {
                // Nothing accepts any more; who runs this is stopping.
                return std::future::pending().await;
            };
            let who = match &peer.shown {
                None => Who::Stranger { _place: stranger },
                Some(shown) => match self.guests.admit(shown, Kind::Request, None) {
                    Some(place) => Who::Device(place),
                    None => continue,
                },
            };
            return (Connection::new(stream, who, room), peer);
        }
    }

    fn local_addr(&self) -> io::Result<Peer> {
        Ok(Peer { address: self.address, shown: None })
    }
}

impl Connected<IncomingStream<'_, HttpsDoor>> for Peer {
    fn connect_info(stream: IncomingStream<'_, HttpsDoor>) -> Self {
        stream.remote_addr().clone()
    }
}

enum Who {
    Stranger { _place: Stranger },
    Device(Place),
}

/// A connection that ends when nothing moves, or when its device is put out.
pub struct Connection {
    stream: TlsStream<TcpStream>,
    silence: Pin<Box<Sleep>>,
    who: Who,
    _room: OwnedSemaphorePermit,
}

impl Connection {
    fn new(stream: TlsStream<TcpStream>, who: Who, room: OwnedSemaphorePermit) -> Self {
        let silence = Box::pin(tokio::time::sleep(SILENCE_MAX));
        Self { stream, silence, who, _room: room }
    }

    /// What came of an attempt, unless it is time to end.
    fn watched<T>(
        &mut self,
        context: &mut Context<'_>,
        attempt: impl FnOnce(Pin<&mut TlsStream<TcpStream>>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if let Who::Device(place) = &self.who
            && place.is_cut()
        {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        match attempt(Pin::new(&mut self.stream), context) {
            Poll::Ready(done) => {
                self.silence.as_mut().reset(Instant::now() + SILENCE_MAX);
                Poll::Ready(done)
            }
            Poll::Pending => {
                ready!(self.silence.as_mut().poll(context));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.watched(context, |stream, context| stream.poll_read(context, buffer))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.watched(context, |stream, context| stream.poll_write(context, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.watched(context, |stream, context| stream.poll_write_vectored(context, slices))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.watched(context, |stream, context| stream.poll_flush(context))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.watched(context, |stream, context| stream.poll_shutdown(context))
    }
}
