//! The server, bytes on a socket: a well-behaved HTTP library would not lie.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_bytes::ByteBuf;
use tidegate_trust::verify_enrol;
use tidegate_trust::{Root, Timestamp};
use tidegate_wire::enrol::EnrolResponse;
use tidegate_wire::envelope::{self, Message};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::authority::{Authority, Clients};
use crate::folder::{self, Attack, Conduct};

/// The attacker's server. It also lets the device in, as the real controller did before.
pub struct Mirror {
    pub base: String,
    asked: Arc<Mutex<Vec<String>>>,
}

struct Scene {
    attack: Arc<Attack>,
    authority: Arc<Authority>,
    /// What devices are told of the broker.
    broker: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Mirror {
    pub async fn start(attack: Arc<Attack>, authority: Arc<Authority>, broker: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("https://{}", listener.local_addr().unwrap());
        let identity = authority.server(&["127.0.0.1"], super::validity());
        let acceptor = TlsAcceptor::from(Arc::new(authority.accepting(&identity, Clients::Anyone)));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let scene = Arc::new(Scene { attack, authority, broker, asked: Arc::clone(&asked) });
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, scene) = (acceptor.clone(), Arc::clone(&scene));
                tokio::spawn(async move {
                    let mut stream = acceptor.accept(stream).await?;
                    scene.answer(&mut stream).await?;
                    stream.shutdown().await
                });
            }
        });
        Self { base, asked }
    }

    /// The paths that were asked for.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// A request's first line and headers in lower case, and its body.
struct Question {
    path: String,
    head: String,
    body: Vec<u8>,
}

impl Question {
    async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Self> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        let head = String::from_utf8_lossy(&head).to_lowercase();
        let path = head.split_whitespace().nth(1).unwrap_or_default();
        let path = path.trim_start_matches('/').to_string();
        let mut question = Self { path, head, body: Vec::new() };
        let length = question.number("content-length: ").unwrap_or(0);
        question.body.resize(length, 0);
        stream.read_exact(&mut question.body).await?;
        Ok(question)
    }

    fn number(&self, before: &str) -> Option<usize> {
        let (_, rest) = self.head.split_once(before)?;
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        rest[..digits].parse().ok()
    }
}

impl Scene {
    async fn answer(&self, stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<()> {
        let question = Question::read(stream).await?;
        if question.path == "v1/enrol" {
            let answer = self.admit(&question.body);
            return send(stream, "200 OK", answer.len(), &answer).await;
        }
        self.asked.lock().unwrap().push(question.path.clone());
        let path = question.path.as_str();
        let bytes = self.attack.mirror.get(path);
        let conduct = self.attack.conduct(path);
        let (Some(bytes), None) = (bytes, conduct) else {
            let nothing = Vec::new();
            let bytes = bytes.unwrap_or(&nothing);
            return self.misbehave(stream, &question, bytes, conduct).await;
        };
        send(stream, "200 OK", bytes.len(), bytes).await
    }

    async fn misbehave(
        &self,
        stream: &mut (impl AsyncWrite + Unpin),
        question: &Question,
        bytes: &[u8],
        conduct: Option<Conduct>,
    ) -> io::Result<()> {
        let half = bytes.len() / 2;
        match conduct {
            None => send(stream, "404 Not Found", 0, b"").await,
            Some(Conduct::Refused) => send(stream, "503 Service Unavailable", 0, b"").await,
            Some(Conduct::Silent) => std::future::pending().await,
            Some(Conduct::Truncated) => send(stream, "200 OK", half, &bytes[..half]).await,
            Some(Conduct::Oversized) => {
                let mut more = bytes.to_vec();
                more.resize(length_max(&question.path).unwrap_or(bytes.len()) + 1, 0);
                send(stream, "200 OK", more.len(), &more).await
            }
            Some(Conduct::Endless) => {
                stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n").await?;
                stream.write_all(bytes).await?;
                loop {
                    stream.write_all(&[0; 4096]).await?;
                }
            }
            Some(Conduct::Trickle) => {
                send(stream, "200 OK", 1 << 20, b"").await?;
                loop {
                    stream.write_all(&[0]).await?;
                    stream.flush().await?;
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
            Some(Conduct::WrongRange) => match question.number("range: bytes=") {
                None => send(stream, "200 OK", bytes.len(), &bytes[..half]).await,
                Some(start) => {
                    let (length, end) = (bytes.len() - start, bytes.len() - 1);
                    let status = format!(
                        "206 Partial Content\r\ncontent-range: bytes {start}-{end}/{}",
                        bytes.len()
                    );
                    send(stream, &status, length, &bytes[..length]).await
                }
            },
        }
    }

    /// Gives whoever asks a certificate, and the root that the device has.
    fn admit(&self, body: &[u8]) -> Vec<u8> {
        let request = verify_enrol(body).unwrap();
        let validity = super::validity();
        envelope::seal(&EnrolResponse {
            fleet: folder::fleet(),
            broker: self.broker.clone(),
            root: self.attack.device["trust/root"].clone(),
            certificate: self.authority.device(&request.certificate_request, validity),
            authorities: vec![ByteBuf::from(self.authority.der())],
            expires: validity.1,
        })
    }
}

/// What a file may have that no other names by its length.
fn length_max(path: &str) -> Option<usize> {
    match path.strip_prefix("metadata/")? {
        "timestamp" => Some(Timestamp::SIZE_MAX),
        root if root.ends_with(".root") => Some(Root::<tidegate_trust::PublicKey>::SIZE_MAX),
        _ => None,
    }
}

/// Says that `length` bytes come, and sends `body`.
async fn send(
    stream: &mut (impl AsyncWrite + Unpin),
    status: &str,
    length: usize,
    body: &[u8],
) -> io::Result<()> {
    let head =
        format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body).await?;
    stream.flush().await
}
