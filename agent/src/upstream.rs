//! The controller's HTTP API as an agent sees it.
//!
//! Nothing that comes from here is believed: metadata and blobs are checked by digest and
//! signature, so a mirror in between needs no trust.

use std::error::Error as _;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, RANGE};
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use tidegate_trust::Role;
use tidegate_wire::enrol::EnrolResponse;
use tidegate_wire::envelope::Message;
use tidegate_wire::{DeviceId, Digest, Reason};

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
    client: Client,
    base: String,
    credentials: Option<(DeviceId, String)>,
}

impl Upstream {
    /// A client of the controller at `base`, `http://host:port`. A connection that says nothing
    /// for `silence_max` is given up; how long all takes together does not matter, so that a slow
    /// link gets there too.
    ///
    /// # Errors
    /// [`UpstreamError`] if the client cannot be made.
    pub fn new(base: &str, silence_max: Duration) -> Result<Self, UpstreamError> {
        install_tls_provider();
        let client = Client::builder()
            .connect_timeout(Duration::from_secs(CONNECT_SECONDS_MAX))
            .read_timeout(silence_max)
            .pool_max_idle_per_host(2)
            .pool_idle_timeout(Duration::from_secs(30))
            .user_agent(concat!("tidegate-agent/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| failed("HTTP client".to_string(), &error))?;
        Ok(Self { client, base: base.to_string(), credentials: None })
    }

    /// The same client, from now on with a device's name and password.
    pub fn with_credentials(self, device: DeviceId, password: String) -> Self {
        Self { credentials: Some((device, password)), ..self }
    }

    /// Sends a signed enrolment request and returns the answer's bytes.
    ///
    /// # Errors
    /// [`UpstreamError`] with the controller's own words.
    pub async fn enrol(&self, request: Vec<u8>) -> Result<Vec<u8>, UpstreamError> {
        let what = "enrolment".to_string();
        let post = self.client.post(format!("{}/v1/enrol", self.base));
        let post = post.header(CONTENT_TYPE, "application/cose").body(request);
        let response = send(post, &what).await?;
        whole(response, &what, EnrolResponse::SIZE_MAX).await
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
        let response = send(self.get(&format!("metadata/{name}")), &what).await?;
        whole(response, &what, length_max).await
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
        let response = send(get, &what).await?;
        let start = match response.status() {
            StatusCode::PARTIAL_CONTENT => range_start(&response),
            // It ignores ranges and sends everything.
            _ => Some(0),
        };
        Ok(BlobBody { what, response, start })
    }

    fn get(&self, path: &str) -> RequestBuilder {
        let get = self.client.get(format!("{}/{path}", self.base));
        match &self.credentials {
            Some((device, password)) => get.basic_auth(device, Some(password)),
            None => get,
        }
    }
}

/// The bytes of a blob as they arrive.
#[derive(Debug)]
pub struct BlobBody {
    what: String,
    response: Response,
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
    /// [`UpstreamError`] if the connection breaks off or falls silent.
    pub async fn chunk(&mut self) -> Result<Option<impl AsRef<[u8]> + use<>>, UpstreamError> {
        let chunk = self.response.chunk().await;
        chunk.map_err(|error| failed(self.what.clone(), &error))
    }
}

/// One TLS provider for the whole process: ring. That one is installed already is fine.
pub fn install_tls_provider() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

async fn send(request: RequestBuilder, what: &str) -> Result<Response, UpstreamError> {
    let response = request.send().await.map_err(|error| failed(what.to_string(), &error))?;
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let problem = problem_text(response).await;
    let (reason, hint) = match status {
        StatusCode::NOT_FOUND | StatusCode::GONE => (Reason::BlobNotFound, ""),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            (Reason::Unreachable, " (it does not accept this device's password)")
        }
        _ => (Reason::Unreachable, ""),
    };
    let detail = format!("the controller answered {status}{hint}{problem}");
    let (what, status) = (what.to_string(), Some(status.as_u16()));
    Err(UpstreamError { what, reason, status, detail })
}

/// What the server says about an error, for people: printable, one line, not long.
async fn problem_text(response: Response) -> String {
    let body = whole(response, "", PROBLEM_MAX).await.unwrap_or_default();
    let text = String::from_utf8_lossy(&body);
    let shown: String = text.chars().filter(|c| !c.is_control()).take(300).collect();
    if shown.is_empty() { shown } else { format!(": {shown}") }
}

async fn whole(
    mut response: Response,
    what: &str,
    length_max: usize,
) -> Result<Vec<u8>, UpstreamError> {
    let mut bytes = Vec::new();
    while let Some(chunk) =
        response.chunk().await.map_err(|error| failed(what.to_string(), &error))?
    {
        if bytes.len() + chunk.len() > length_max {
            return Err(UpstreamError {
                what: what.to_string(),
                reason: Reason::TooLong,
                status: None,
                detail: format!("more than the {length_max} bytes that it may have"),
            });
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
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
    UpstreamError { what, reason: Reason::Unreachable, status: None, detail }
}
