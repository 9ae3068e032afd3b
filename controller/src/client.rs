//! A client of the controller's HTTP API, for the command line and for tests.

use std::fmt;
use std::time::Duration;

use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tidegate_agent::tls::{self, Authority, Credentials, TimeFloor};
use tidegate_wire::invitation::Pass;
use tidegate_wire::{DeviceId, Digest, ModelName};

use crate::api::types::{
    BlobStored, DeviceDetail, DeviceList, DeviceTokenRequest, ErrorBody, FleetSummary, Health,
    IssuedToken, ModelDetail, ModelList, RevokeDevice, RolloutAct, RolloutCommand, RolloutDetail,
    RolloutList, RolloutStart,
};

mod access;
mod trust;
mod upload;

/// Where `tidegate serve` listens unless it is told otherwise.
pub const DEFAULT_URL: &str = "https://127.0.0.1:8080";

/// A name or an address that does not answer is noticed after this long.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A server that accepts a request and then says nothing is given up after this long. Between two
/// pieces, so a slow upload is not cut off.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// The most bytes of a JSON answer or a metadata file: a list of ten thousand devices has some 5 MB.
const ANSWER_MAX: usize = 64 << 20;

/// Why the controller did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address is none.
    #[error("{url:?} is no https address: give one as in --url {DEFAULT_URL}")]
    Url {
        /// What was given.
        url: String,
    },
    /// There is no answer.
    #[error(
        "no answer from the controller at {url} ({cause}): is `tidegate serve` running there? \
         Another address is given with --url or TIDEGATE_URL"
    )]
    Unreachable {
        /// The controller's address.
        url: String,
        /// Why.
        cause: Cause,
    },
    /// The token is missing or wrong.
    #[error(
        "the controller at {url} refused the token ({error}): give the right one with \
         --token-file, TIDEGATE_TOKEN, or --data with the controller's data folder"
    )]
    Token {
        /// The controller's address.
        url: String,
        /// What it said.
        error: String,
    },
    /// The controller refused.
    #[error("{error}")]
    Refused {
        /// The status code.
        status: StatusCode,
        /// What it said, for people.
        error: String,
    },
    /// The answer is not what this version understands.
    #[error(
        "the controller at {url} gave an answer to {path} that this version does not understand \
         ({what}): is that address a Tidegate controller, of about this version?"
    )]
    Answer {
        /// The controller's address.
        url: String,
        /// What was asked for.
        path: String,
        /// What is wrong.
        what: String,
    },
}

impl ClientError {
    /// Whether the controller says that there is no such thing.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status: StatusCode::NOT_FOUND, .. })
    }

    /// Whether asking again may help: there was no answer, or the server is in trouble.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused { status, .. } => status.is_server_error(),
            _ => false,
        }
    }
}

/// What a failed request comes down to: "connection refused" instead of three wrappers.
#[derive(Debug)]
pub struct Cause(reqwest::Error);

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_timeout() {
            return f.write_str("time is up");
        }
        if let Some(told) = tls::explain(&self.0) {
            return f.write_str(&told);
        }
        let mut cause: &dyn std::error::Error = &self.0;
        while let Some(source) = cause.source() {
            cause = source;
        }
        write!(f, "{cause}")
    }
}

impl std::error::Error for Cause {}

/// What is uploaded, and how many bytes of it are on their way.
pub type Progress = dyn Fn(u64) + Send + Sync;

/// Talks to one controller. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    url: Url,
    bearer: String,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({})", self.url)
    }
}

/// An HTTP client that talks only to servers of the authority with this SHA-256, and shows
/// `credentials` if there are some.
///
/// # Errors
/// If the credentials cannot be used.
pub fn http(
    authority: Digest,
    credentials: Option<&Credentials>,
) -> Result<reqwest::Client, HttpError> {
    let config = tls::client(&Authority::Pinned(authority), credentials, &TimeFloor::default())?;
    // One provider in the process; who else installed it first does not matter.
    tls::install_provider();
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(config)
        .https_only(true)
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .user_agent(concat!("tidegate/", env!("CARGO_PKG_VERSION")))
        .build()?;
    Ok(client)
}

/// Why there is no HTTP client.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The credentials cannot be used.
    #[error(transparent)]
    Tls(#[from] tls::TlsError),
    /// The client cannot be made.
    #[error("the HTTP client cannot be made: {0}")]
    Client(#[from] reqwest::Error),
}

impl Client {
    /// A client of the controller that a pass names, with its secret. It talks to nobody who cannot
    /// show the pass's authority. Nothing is sent yet.
    ///
    /// # Errors
    /// [`ClientError::Url`] if the address is no https address.
    pub fn new(pass: &Pass) -> Result<Self, ClientError> {
        let invalid = || ClientError::Url { url: pass.controller.clone() };
        let url = Url::parse(&pass.controller).map_err(|_| invalid())?;
        if url.scheme() != "https" || url.host().is_none() {
            return Err(invalid());
        }
        let http = http(pass.authority, None).map_err(|_| invalid())?;
        Ok(Self { http, url, bearer: pass.bearer() })
    }

    /// The controller's address.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// `GET /healthz`.
    ///
    /// # Errors
    /// [`ClientError`], as every method.
    pub async fn health(&self) -> Result<Health, ClientError> {
        self.read("healthz").await
    }

    /// `GET /metadata/{name}`: signed metadata, unverified.
    ///
    /// # Errors
    /// [`ClientError::is_not_found`] if there is none of that name yet.
    pub async fn metadata(&self, name: &str) -> Result<Vec<u8>, ClientError> {
        let path = format!("metadata/{name}");
        self.body(&path, self.send(&path, self.request(Method::GET, &path)).await?).await
    }

    /// Whether the controller has the blob.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn has_blob(&self, digest: Digest) -> Result<bool, ClientError> {
        let path = format!("v1/blobs/{digest}");
        match self.send(&path, self.request(Method::HEAD, &path)).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// `PUT /v1/blobs/{digest}`; `progress` is told of every piece that goes out.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn put_blob(
        &self,
        digest: Digest,
        bytes: Vec<u8>,
        progress: std::sync::Arc<Progress>,
    ) -> Result<BlobStored, ClientError> {
        let path = format!("v1/blobs/{digest}");
        let body = upload::body(bytes, progress);
        self.answer(&path, self.request(Method::PUT, &path).body(body)).await
    }

    /// `GET /v1/models`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn models(&self) -> Result<ModelList, ClientError> {
        self.read("v1/models").await
    }

    /// `GET /v1/models/{model}`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn model(&self, model: &ModelName) -> Result<ModelDetail, ClientError> {
        self.read(&format!("v1/models/{model}")).await
    }

    /// `POST /v1/rollouts`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn start_rollout(&self, start: &RolloutStart) -> Result<RolloutDetail, ClientError> {
        self.write("v1/rollouts", start).await
    }

    /// `GET /v1/rollouts`, of one model or of all.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn rollouts(&self, model: Option<&ModelName>) -> Result<RolloutList, ClientError> {
        match model {
            Some(model) => self.read(&format!("v1/rollouts?model={model}")).await,
            None => self.read("v1/rollouts").await,
        }
    }

    /// `GET /v1/rollouts/{id}`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn rollout(&self, id: u64) -> Result<RolloutDetail, ClientError> {
        self.read(&format!("v1/rollouts/{id}")).await
    }

    /// `POST /v1/rollouts/{id}/{command}`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn command_rollout(
        &self,
        id: u64,
        command: RolloutCommand,
        act: &RolloutAct,
    ) -> Result<RolloutDetail, ClientError> {
        self.write(&format!("v1/rollouts/{id}/{}", command.name()), act).await
    }

    /// `GET /v1/devices`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn devices(&self) -> Result<DeviceList, ClientError> {
        self.read("v1/devices").await
    }

    /// `GET /v1/devices/{id}`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn device(&self, device: &DeviceId) -> Result<DeviceDetail, ClientError> {
        self.read(&format!("v1/devices/{device}")).await
    }

    /// `DELETE /v1/devices/{id}?why=`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn remove_device(&self, device: &DeviceId, why: &str) -> Result<(), ClientError> {
        let mut url = self.url.clone();
        let query = url.query_pairs_mut().clear().append_pair("why", why).finish().query();
        let path = format!("v1/devices/{device}?{}", query.unwrap_or_default());
        self.send(&path, self.request(Method::DELETE, &path)).await?;
        Ok(())
    }

    /// `POST /v1/devices/{id}/revoke`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn revoke_device(
        &self,
        device: &DeviceId,
        revoke: &RevokeDevice,
    ) -> Result<(), ClientError> {
        let path = format!("v1/devices/{device}/revoke");
        self.send(&path, self.request(Method::POST, &path).json(revoke)).await?;
        Ok(())
    }

    /// `POST /v1/device-tokens`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn device_token(
        &self,
        request: &DeviceTokenRequest,
    ) -> Result<IssuedToken, ClientError> {
        self.write("v1/device-tokens", request).await
    }

    /// `GET /v1/fleet`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn fleet(&self) -> Result<FleetSummary, ClientError> {
        self.read("v1/fleet").await
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        // Not `Url::join`, which drops the last segment of a base without a slash at its end.
        let url = format!("{}/{path}", self.url.as_str().trim_end_matches('/'));
        self.http.request(method, url).bearer_auth(&self.bearer)
    }

    async fn read<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.answer(path, self.request(Method::GET, path)).await
    }

    async fn write<B: Serialize, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<T, ClientError> {
        self.answer(path, self.request(Method::POST, path).json(body)).await
    }

    async fn answer<T: DeserializeOwned>(
        &self,
        path: &str,
        request: RequestBuilder,
    ) -> Result<T, ClientError> {
        let bytes = self.body(path, self.send(path, request).await?).await?;
        serde_json::from_slice(&bytes).map_err(|error| self.unclear(path, error.to_string()))
    }

    /// A response with a 2xx status.
    async fn send(&self, path: &str, request: RequestBuilder) -> Result<Response, ClientError> {
        let response = request.send().await.map_err(|error| self.unreachable(error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let bytes = self.body(path, response).await?;
        let error = match serde_json::from_slice::<ErrorBody>(&bytes) {
            Ok(body) => body.error,
            Err(_) => format!("the controller at {} answered {path} with {status}", self.url),
        };
        Err(match status {
            StatusCode::UNAUTHORIZED => ClientError::Token { url: self.url.to_string(), error },
            status => ClientError::Refused { status, error },
        })
    }

    async fn body(&self, path: &str, mut response: Response) -> Result<Vec<u8>, ClientError> {
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unreachable(error))? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > ANSWER_MAX {
                return Err(self.unclear(path, format!("more than {ANSWER_MAX} bytes")));
            }
        }
        Ok(bytes)
    }

    fn unreachable(&self, error: reqwest::Error) -> ClientError {
        ClientError::Unreachable { url: self.url.to_string(), cause: Cause(error) }
    }

    fn unclear(&self, path: &str, what: String) -> ClientError {
        ClientError::Answer { url: self.url.to_string(), path: format!("/{path}"), what }
    }
}

#[cfg(test)]
mod tests {
    use tidegate_wire::invitation::Secret;

    use super::*;

    fn pass(controller: &str) -> Pass {
        let (controller, authority) = (controller.to_owned(), Digest::of(b"authority"));
        Pass { controller, authority, secret: Secret(vec![7; 32]) }
    }

    #[test]
    fn addresses_are_checked_before_anything_is_sent() {
        for url in ["", "localhost:8080", "ftp://localhost", "http://localhost:8080", "unix:/x"] {
            assert!(matches!(Client::new(&pass(url)), Err(ClientError::Url { .. })), "{url}");
        }
        assert!(Client::new(&pass("https://fleet.example/tidegate")).is_ok());
    }

    #[tokio::test]
    async fn a_controller_that_is_away_is_named_with_what_to_do() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let client = Client::new(&pass(&format!("https://{address}"))).unwrap();
        let error = client.fleet().await.unwrap_err();
        assert!(error.is_transient());
        let expected = format!("no answer from the controller at https://{address}/ (");
        let text = error.to_string();
        assert!(text.starts_with(&expected) && text.contains("tidegate serve"), "{text}");
    }
}
