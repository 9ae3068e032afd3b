//! A fleet's authority, and servers that speak TLS with its certificates, or with bad ones.
#![allow(dead_code, missing_docs)] // Each test file uses some of it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use tidegate_wire::Digest;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Unix seconds now.
pub fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

/// From when until when a certificate is valid, Unix seconds.
#[derive(Debug, Clone, Copy)]
pub struct Validity(pub u64, pub u64);

impl Validity {
    /// Since yesterday, for another hour.
    pub fn present() -> Self {
        Self(now() - 86_400, now() + 3_600)
    }

    fn apply(self, params: &mut CertificateParams) {
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        params.not_before = epoch + Duration::from_secs(self.0);
        params.not_after = epoch + Duration::from_secs(self.1);
    }
}

/// A server's certificate with its key and the chain that it shows.
#[derive(Debug)]
pub struct ServerIdentity {
    pub chain: Vec<Vec<u8>>,
    pub key: Vec<u8>,
}

/// An authority, as the controller has one.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Validity(1_000_000_000, now() + 1_000_000_000).apply(&mut params);
        let key = KeyPair::generate().unwrap();
        Self { issuer: CertifiedIssuer::self_signed(params, key).unwrap() }
    }

    /// Its certificate.
    pub fn der(&self) -> Vec<u8> {
        self.issuer.der().to_vec()
    }

    /// What stands in invitations.
    pub fn fingerprint(&self) -> Digest {
        Digest::of(&self.der())
    }

    /// A certificate for a server with these names.
    pub fn server(&self, names: &[&str], validity: Validity) -> ServerIdentity {
        let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        validity.apply(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let chain = vec![certificate.der().to_vec(), self.der()];
        ServerIdentity { chain, key: key.serialize_der() }
    }

    /// A certificate for whoever made this certificate request (PKCS#10, DER).
    pub fn device(&self, request: &[u8], validity: Validity) -> Vec<u8> {
        let request = CertificateSigningRequestDer::from(request.to_vec());
        let mut request = CertificateSigningRequestParams::from_der(&request).unwrap();
        request.params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        validity.apply(&mut request.params);
        request.signed_by(&self.issuer).unwrap().der().to_vec()
    }

    /// How a server with `identity` speaks TLS to clients of this authority.
    pub fn accepting(&self, identity: &ServerIdentity, clients: Clients) -> ServerConfig {
        let provider = Arc::new(ring::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from(self.der())).unwrap();
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let verifier = match clients {
            Clients::Certified => verifier.build(),
            Clients::Anyone => verifier.allow_unauthenticated().build(),
        };
        let chain = identity.chain.iter().map(|der| CertificateDer::from(der.clone())).collect();
        let key = PrivatePkcs8KeyDer::from(identity.key.clone());
        ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier.unwrap())
            .with_single_cert(chain, key.into())
            .unwrap()
    }
}

/// Who may connect.
#[derive(Debug, Clone, Copy)]
pub enum Clients {
    /// Whoever shows a certificate of the authority.
    Certified,
    /// Also those who show none.
    Anyone,
}

/// The certificates that a server shows; they can be changed while it runs.
#[derive(Clone)]
pub struct Front(Arc<Mutex<Arc<ServerConfig>>>);

impl Front {
    pub fn new(config: ServerConfig) -> Self {
        Self(Arc::new(Mutex::new(Arc::new(config))))
    }

    /// New connections are accepted by this from now on.
    pub fn replace(&self, config: ServerConfig) {
        *self.0.lock().unwrap() = Arc::new(config);
    }

    fn config(&self) -> Arc<ServerConfig> {
        self.0.lock().unwrap().clone()
    }
}

type Accepted = (TlsStream<TcpStream>, SocketAddr);

/// A listener for axum; no client can hold up others by a slow handshake.
pub struct TlsListener {
    address: SocketAddr,
    accepted: mpsc::UnboundedReceiver<Accepted>,
}

impl TlsListener {
    pub fn new(listener: TcpListener, front: Front) -> Self {
        let address = listener.local_addr().unwrap();
        let (sender, accepted) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((stream, peer)) = listener.accept().await {
                let (front, sender) = (front.config(), sender.clone());
                tokio::spawn(async move {
                    if let Ok(stream) = TlsAcceptor::from(front).accept(stream).await {
                        let _ = sender.send((stream, peer));
                    }
                });
            }
        });
        Self { address, accepted }
    }
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> Accepted {
        self.accepted.recv().await.expect("the accepting task does not end")
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        Ok(self.address)
    }
}

/// The certificate that a client of a [`TlsListener`] showed, DER.
#[derive(Debug, Clone)]
pub struct Shown(pub Option<Vec<u8>>);

impl Connected<IncomingStream<'_, TlsListener>> for Shown {
    fn connect_info(stream: IncomingStream<'_, TlsListener>) -> Self {
        Self(certificate(stream.io()))
    }
}

/// The certificate that a client showed.
pub fn certificate(stream: &TlsStream<TcpStream>) -> Option<Vec<u8>> {
    Some(stream.get_ref().1.peer_certificates()?.first()?.to_vec())
}

/// Accepts TLS by `front` and hands plain bytes on to `inner`, as the controller's front door does.
/// Returns where it listens; each certificate that is let in goes to `seen`.
pub async fn door(
    front: Front,
    inner: SocketAddr,
    seen: mpsc::UnboundedSender<Vec<u8>>,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (front, seen) = (front.config(), seen.clone());
            tokio::spawn(async move {
                let mut outer = TlsAcceptor::from(front).accept(stream).await.ok()?;
                let _ = seen.send(certificate(&outer).unwrap_or_default());
                let mut inner = TcpStream::connect(inner).await.ok()?;
                tokio::io::copy_bidirectional(&mut outer, &mut inner).await.ok()
            });
        }
    });
    address
}
