//! Tokens and the audit log.

use reqwest::{Method, StatusCode};

use super::{Client, ClientError};
use crate::api::types::{
    AuditHead, AuditPage, ErrorBody, IssuedToken, TokenList, TokenRequest, TokenRevocation,
    TokenRevoked,
};

/// The most bytes of one line of an export: an entry has at most 1 MiB, and base64 a third more.
const LINE_MAX: usize = 4 << 20;

impl Client {
    /// `GET /v1/tokens`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn tokens(&self) -> Result<TokenList, ClientError> {
        self.read("v1/tokens").await
    }

    /// `POST /v1/tokens`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn create_token(&self, request: &TokenRequest) -> Result<IssuedToken, ClientError> {
        self.write("v1/tokens", request).await
    }

    /// `POST /v1/tokens/{name}/revoke`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn revoke_token(
        &self,
        name: &str,
        revocation: &TokenRevocation,
    ) -> Result<TokenRevoked, ClientError> {
        self.write(&format!("v1/tokens/{name}/revoke"), revocation).await
    }

    /// `GET /v1/audit/head`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn audit_head(&self) -> Result<AuditHead, ClientError> {
        self.read("v1/audit/head").await
    }

    /// `GET /v1/audit/export`: hands every line from entry `since` on to `take`, which may stop it.
    ///
    /// # Errors
    /// [`ClientError`], also if the controller could not read its journal to the end.
    pub async fn audit_export<E: From<ClientError>>(
        &self,
        since: u64,
        mut take: impl FnMut(&str) -> Result<(), E>,
    ) -> Result<(), E> {
        let path = format!("v1/audit/export?since={since}");
        let mut response = self.send(&path, self.request(Method::GET, &path)).await?;
        let mut rest = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unreachable(error))? {
            rest.extend_from_slice(&chunk);
            if let Some(end) = rest.iter().rposition(|byte| *byte == b'\n') {
                let whole: Vec<u8> = rest.drain(..=end).collect();
                let whole = std::str::from_utf8(&whole);
                let whole = whole.map_err(|error| self.unclear(&path, error.to_string()))?;
                for line in whole.lines() {
                    failure(line).map_or(Ok(()), Err)?;
                    take(line)?;
                }
            }
            if rest.len() > LINE_MAX {
                return Err(self.unclear(&path, format!("a line over {LINE_MAX} bytes")).into());
            }
        }
        match rest.is_empty() {
            true => Ok(()),
            false => Err(self.unclear(&path, "half a line at the end".into()).into()),
        }
    }

    /// `GET /v1/audit`: at most `limit` entries with numbers above `after`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn audit(&self, after: u64, limit: u32) -> Result<AuditPage, ClientError> {
        self.read(&format!("v1/audit?after={after}&limit={limit}")).await
    }
}

/// What the controller says instead of an entry if it cannot read on.
fn failure(line: &str) -> Option<ClientError> {
    let said = line.starts_with("{\"error\":").then(|| serde_json::from_str(line).ok())?;
    let ErrorBody { error } = said?;
    Some(ClientError::Refused { status: StatusCode::INTERNAL_SERVER_ERROR, error })
}
