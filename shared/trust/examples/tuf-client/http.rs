//! Plain HTTP. Nothing that comes from here is believed before it was verified.

use std::io::Read;
use std::time::Duration;

use tidegate_wire::Reason;

/// No test repository is slower; a server that never ends a file is stopped by its length first.
const FETCH_MAX: Duration = Duration::from_secs(60);

/// A file could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The server does not have it.
    #[error("the server has no {0}")]
    NotFound(String),
    /// It is longer than it may be.
    #[error("{url} is longer than {length_max} bytes")]
    TooLong {
        /// The file.
        url: String,
        /// The most bytes that were wanted.
        length_max: usize,
    },
    /// The server cannot be reached, or broke off.
    #[error("{url}: {what}")]
    Unreachable {
        /// The file.
        url: String,
        /// What happened.
        what: String,
    },
}

impl FetchError {
    /// The reason that the workflow is told.
    pub fn reason(&self) -> Reason {
        match self {
            Self::NotFound(_) => Reason::BlobNotFound,
            Self::TooLong { .. } => Reason::TooLong,
            Self::Unreachable { .. } => Reason::Unreachable,
        }
    }
}

/// A folder on a server.
pub struct Server {
    agent: ureq::Agent,
    base: String,
}

impl Server {
    /// The folder with this URL, with or without a slash at its end.
    pub fn new(base: String) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(FETCH_MAX))
            .build();
        Self { agent: config.new_agent(), base: base.trim_end_matches('/').to_string() }
    }

    /// Fetches a file, whose path has one name per folder. Reads at most one byte too many.
    pub fn fetch(&self, path: &[&str], length_max: usize) -> Result<Vec<u8>, FetchError> {
        let mut url = self.base.clone();
        for name in path {
            url.push('/');
            url.push_str(&escape(name, "-._~"));
        }
        let unreachable = |what: String| FetchError::Unreachable { url: url.clone(), what };
        let response =
            self.agent.get(&url).call().map_err(|error| unreachable(error.to_string()))?;
        match response.status().as_u16() {
            200 => {}
            404 => return Err(FetchError::NotFound(url)),
            status => return Err(unreachable(format!("status {status}"))),
        }
        let mut bytes = Vec::new();
        let limit = (length_max as u64).saturating_add(1);
        let read = response.into_body().into_reader().take(limit).read_to_end(&mut bytes);
        read.map_err(|error| unreachable(error.to_string()))?;
        if bytes.len() > length_max {
            return Err(FetchError::TooLong { url, length_max });
        }
        Ok(bytes)
    }
}

/// `text` with a percent sign and two digits for every byte that is neither a letter nor a digit
/// nor one of `plain`.
pub fn escape(text: &str, plain: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        match char::from(byte) {
            letter if letter.is_ascii_alphanumeric() || plain.contains(letter) => {
                escaped.push(letter);
            }
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}
