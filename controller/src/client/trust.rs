//! Releases, and what waits for signatures.

use reqwest::Method;

use super::{Client, ClientError};
use crate::api::types::{PendingList, RootPublished, RootWish, TargetsPosted, TrustView, Withdraw};

impl Client {
    /// `POST /v1/metadata/targets` with signed bytes.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn post_targets(&self, bytes: Vec<u8>) -> Result<TargetsPosted, ClientError> {
        let path = "v1/metadata/targets";
        self.answer(path, self.request(Method::POST, path).body(bytes)).await
    }

    /// `GET /v1/releases/pending`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn pending(&self) -> Result<PendingList, ClientError> {
        self.read("v1/releases/pending").await
    }

    /// `GET /v1/releases/pending/targets`: signed bytes, unverified.
    ///
    /// # Errors
    /// [`ClientError::is_not_found`] if nothing waits.
    pub async fn draft(&self) -> Result<Vec<u8>, ClientError> {
        let path = "v1/releases/pending/targets";
        self.body(path, self.send(path, self.request(Method::GET, path)).await?).await
    }

    /// `GET /v1/blobs/{digest}`: unverified.
    ///
    /// # Errors
    /// [`ClientError::is_not_found`] if the controller has no such blob.
    pub async fn blob(&self, digest: tidegate_wire::Digest) -> Result<Vec<u8>, ClientError> {
        let path = format!("v1/blobs/{digest}");
        self.body(&path, self.send(&path, self.request(Method::GET, &path)).await?).await
    }

    /// `POST /v1/releases/pending/withdraw`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn withdraw(&self, wish: &Withdraw) -> Result<(), ClientError> {
        let path = "v1/releases/pending/withdraw";
        self.send(path, self.request(Method::POST, path).json(wish)).await?;
        Ok(())
    }

    /// `GET /v1/trust`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn trust(&self) -> Result<TrustView, ClientError> {
        self.read("v1/trust").await
    }

    /// `POST /v1/metadata/root`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn rotate(&self, wish: &RootWish) -> Result<RootPublished, ClientError> {
        self.write("v1/metadata/root", wish).await
    }
}
