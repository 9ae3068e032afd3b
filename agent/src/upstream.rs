//! The controller's HTTPS API as an agent sees it.
//!
//! Metadata and blobs are not believed because of where they come from: they are checked by digest
//! and signature. TLS keeps strangers out, and tells the controller which device asks.

use std::error::Error as _;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use reqwest::header::{CONTENT_TYPE, RANGE};
use reqwest::redirect::Policy;
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use rustls::ClientConfig;
use tidegate_device::fetch::SLOWEST;
use tidegate_trust::Role;
use tidegate_wire::enrol::EnrolResponse;
use tidegate_wire::envelope::Message;
use tidegate_wire::{Digest, Reason};

use crate::tls;

/// How long a connection may take to come about, seconds: a satellite link's handshakes fit.
const CONNECT_SECONDS_MAX: u64 = 15;
/// The most bytes of an error's text that are read.
const PROBLEM_MAX: usize = 1_024;

/// The controller could not be asked, or did not give what was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {detail}")]
pub struct UpstreamError {
    /// What was asked for, for example `blob ba7816bf…`.
    pub what: String,
    /// The reason code that travels.
    pub reason: Reason,
    /// The HTTP status, if there was an answer.
    pub status: Option<u16>,
    /// What happened, for people.
    pub detail: String,
}

/// A client of the controller. Clones share connections.
#[derive(Debug, Clone)]
pub struct Upstream {
    client: Arc<RwLock<Client>>,
    base: String,
    silence_max: Duration,
}

impl Upstream {
    /// A client of the controller at `base`, `https://host:port`, that connects by `tls`. A connection
    /// that says nothing for `silence_max` is given up, and so is one that is slower than
    /// [`SLOWEST`] for longer than that; how long all takes together does not matter, so that a
    /// slow link gets there too.
    ///
    /// # Errors
    /// [`UpstreamError`] if the client cannot be made.
    pub fn new(
        base: &str,
        tls: ClientConfig,
        silence_max: Duration,
    ) -> Result<Self, UpstreamError> {
        let client = client(silence_max).tls_backend_preconfigured(tls).https_only(true).build();
        Self::of(base, client, silence_max)
    }

    /// A client that speaks plain HTTP, for tests of what lies above TLS.
    #[cfg(test)]
    pub(crate) fn plain(base: &str, silence_max: Duration) -> Self {
        let tls = tls::client(&tls::Authority::Pinned(Digest::of(b"")), None, &Default::default());
        let client = client(silence_max).tls_backend_preconfigured(tls.unwrap()).build();
        Self::of(base, client, silence_max).unwrap()
    }

    fn of(
        base: &str,
        client: reqwest::Result<Client>,
        silence_max: Duration,
    ) -> Result<Self, UpstreamError> {
        let client = client.map_err(|error| failed("HTTP client".to_string(), &error))?;
        let client = Arc::new(RwLock::new(client));
        Ok(Self { client, base: base.to_string(), silence_max })
    }

    /// Connects by `tls` from now on, and so do all clones. What has begun goes on as it began.
    ///
    /// # Errors
    /// [`UpstreamError`] if the client cannot be made; nothing changed then.
    pub fn replace_tls(&self, tls: ClientConfig) -> Result<(), UpstreamError> {
        let renewed = Self::new(&self.base, tls, self.silence_max)?.client();
        *self.client.write().unwrap_or_else(PoisonError::into_inner) = renewed;
        Ok(())
    }

    fn client(&self) -> Client {
        self.client.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sends a signed enrolment request and returns the answer's bytes.
    ///
    /// # Errors
    /// [`UpstreamError`] with the controller's own words.
    pub async fn enrol(&self, request: Vec<u8>) -> Result<Vec<u8>, UpstreamError> {
        let what = "enrolment".to_string();
        let post = self.client().post(format!("{}/v1/enrol", self.base));
        let post = post.header(CONTENT_TYPE, "application/cose").body(request);
        self.send(post, what).await?.whole(EnrolResponse::SIZE_MAX).await
    }

    /// A metadata file of at most `length_max` bytes; `version` None is the newest.
    ///
    /// # Errors
    /// [`UpstreamError`], with [`Reason::BlobNotFound`] if there is none.
    pub async fn metadata(
        &self,
        role: Role,
        version: Option<u64>,
        length_max: usize,
    ) -> Result<Vec<u8>, UpstreamError> {
        let name = match version {
            Some(version) => format!("{version}.{role}"),
            None => role.to_string(),
        };
        let what = format!("metadata {name}");
        let get = self.get(&format!("metadata/{name}"));
        self.send(get, what).await?.whole(length_max).await
    }

    /// A blob from byte `offset` on.
    ///
    /// # Errors
    /// [`UpstreamError`].
    pub async fn blob(&self, digest: Digest, offset: u64) -> Result<BlobBody, UpstreamError> {
        let what = format!("blob {digest}");
        let mut get = self.get(&format!("blobs/{digest}"));
        if offset > 0 {
            get = get.header(RANGE, format!("bytes={offset}-"));
        }
        let body = self.send(get, what).await?;
        let start = match body.response.status() {
            StatusCode::PARTIAL_CONTENT => range_start(&body.response),
            // It ignores ranges and sends everything.
            _ => Some(0),
        };
        Ok(BlobBody { body, start })
    }

    /// Asks, and turns an answer that is an error into one.
    async fn send(&self, request: RequestBuilder, what: String) -> Result<Body, UpstreamError> {
        let response = request.send().await.map_err(|error| failed(what.clone(), &error))?;
        let status = response.status();
        let (allowed, waited) = (self.silence_max, Duration::ZERO);
        let body = Body { what, response, allowed, waited };
        if status.is_success() { Ok(body) } else { Err(body.problem(status).await) }
    }

    fn get(&self, path: &str) -> RequestBuilder {
        self.client().get(format!("{}/{path}", self.base))
    }
}

fn client(silence_max: Duration) -> reqwest::ClientBuilder {
    Client::builder()
        .connect_timeout(Duration::from_secs(CONNECT_SECONDS_MAX))
        .read_timeout(silence_max)
        .pool_max_idle_per_host(2)
        .pool_idle_timeout(Duration::from_secs(30))
        // Whoever redirects wants the device to talk to somebody else.
        .redirect(Policy::none())
        .user_agent(concat!("tidegate-agent/", env!("CARGO_PKG_VERSION")))
}

/// The bytes of a blob as they arrive.
#[derive(Debug)]
pub struct BlobBody {
    body: Body,
    start: Option<u64>,
}

impl BlobBody {
    /// The offset of the first byte; None if the server did not say.
    pub fn start(&self) -> Option<u64> {
        self.start
    }

    /// The next bytes; None at the end.
    ///
    /// # Errors
    /// [`UpstreamError`] if the connection breaks off, falls silent or is too slow.
    pub async fn chunk(&mut self) -> Result<Option<impl AsRef<[u8]> + use<>>, UpstreamError> {
        self.body.chunk().await
    }
}

/// An answer's bytes as they arrive, and the patience with whoever sends them.
#[derive(Debug)]
struct Body {
    what: String,
    response: Response,
    /// How long may have been waited up to now; every byte adds to it.
    allowed: Duration,
    /// How long was waited. What is done between two chunks does not count.
    waited: Duration,
}

impl Body {
    async fn chunk(&mut self) -> Result<Option<impl AsRef<[u8]> + use<>>, UpstreamError> {
        let begun = Instant::now();
        let left = self.allowed.saturating_sub(self.waited);
        let Ok(chunk) = tokio::time::timeout(left, self.response.chunk()).await else {
            return Err(self.unreachable(format!("it sends less than {SLOWEST} bytes a second")));
        };
        let chunk = chunk.map_err(|error| failed(self.what.clone(), &error))?;
        self.waited += begun.elapsed();
        let received = chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
        self.allowed += Duration::from_millis(received.saturating_mul(1_000) / SLOWEST);
        Ok(chunk)
    }

    /// All of it, if it is not more than `length_max`.
    async fn whole(mut self, length_max: usize) -> Result<Vec<u8>, UpstreamError> {
        let mut bytes = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            let chunk = chunk.as_ref();
            if bytes.len() + chunk.len() > length_max {
                let detail = format!("more than the {length_max} bytes that it may have");
                return Err(UpstreamError { reason: Reason::TooLong, ..self.unreachable(detail) });
            }
            bytes.extend_from_slice(chunk);
        }
        Ok(bytes)
    }

    /// What the server says about an error, for people: printable, one line, not long.
    async fn problem(self, status: StatusCode) -> UpstreamError {
        let (reason, hint) = match status {
            StatusCode::NOT_FOUND | StatusCode::GONE => (Reason::BlobNotFound, ""),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                (Reason::Unreachable, " (it does not let this device in)")
            }
            _ if status.is_redirection() => {
                (Reason::Unreachable, " (redirects are not followed: check the address)")
            }
            _ => (Reason::Unreachable, ""),
        };
        let what = self.what.clone();
        let text = self.whole(PROBLEM_MAX).await.unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let shown: String = text.chars().filter(|c| !c.is_control()).take(300).collect();
        let colon = if shown.is_empty() { "" } else { ": " };
        let detail = format!("the controller answered {status}{hint}{colon}{shown}");
        UpstreamError { what, reason, status: Some(status.as_u16()), detail }
    }

    fn unreachable(&self, detail: String) -> UpstreamError {
        let (what, reason) = (self.what.clone(), Reason::Unreachable);
        UpstreamError { what, reason, status: None, detail }
    }
}

/// The first number of `Content-Range: bytes 5-9/10`.
fn range_start(response: &Response) -> Option<u64> {
    let value = response.headers().get(reqwest::header::CONTENT_RANGE)?.to_str().ok()?;
    value.strip_prefix("bytes ")?.split('-').next()?.parse().ok()
}

fn failed(what: String, error: &reqwest::Error) -> UpstreamError {
    // The outer error only says that sending failed; the innermost one says why.
    let mut detail = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        detail = format!("{inner}");
        source = inner.source();
    }
    if error.is_timeout() {
        detail = "it fell silent".to_string();
    }
    if let Some(told) = tls::explain(error).or_else(|| tls::hung_up(error)) {
        detail = told;
    }
    UpstreamError { what, reason: Reason::Unreachable, status: None, detail }
}
