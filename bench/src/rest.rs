//! A client of the public REST API.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use reqwest::{Method, StatusCode};
use serde_json::Value;

/// A client with one bearer token.
#[derive(Clone)]
pub struct Rest {
    base: String,
    token: String,
    http: reqwest::Client,
}

impl Rest {
    /// `base` is the control plane's URL without a trailing slash.
    pub fn new(base: impl Into<String>, token: impl Into<String>) -> Self {
        crate::install_crypto();
        Self { base: base.into(), token: token.into(), http: reqwest::Client::new() }
    }

    /// A client with another token and its own connections.
    pub fn with_token(&self, token: impl Into<String>) -> Self {
        Self::new(self.base.clone(), token)
    }

    /// Makes any call; returns status and document (null if there is none).
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(StatusCode, Value)> {
        let url = format!("{}{path}", self.base);
        let mut request = self.http.request(method, url).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.with_context(|| path.to_owned())?;
        let status = response.status();
        let bytes = response.bytes().await?;
        Ok((status, serde_json::from_slice(&bytes).unwrap_or_default()))
    }

    /// The same, repeated while the rate limit refuses it.
    pub async fn patient(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(StatusCode, Value)> {
        loop {
            let (status, value) = self.send(method.clone(), path, body).await?;
            if status != StatusCode::TOO_MANY_REQUESTS {
                return Ok((status, value));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The metrics in text format.
    pub async fn metrics(&self) -> Result<String> {
        let url = format!("{}/metrics", self.base);
        let response = self.http.get(url).bearer_auth(&self.token).send().await?;
        Ok(response.error_for_status()?.text().await?)
    }

    /// Reads an object.
    pub async fn get(&self, path: &str) -> Result<Value> {
        self.expect(Method::GET, path, None).await
    }

    /// Performs an action: `/v1/plans/{id}/activate`.
    pub async fn act(&self, path: &str) -> Result<Value> {
        self.expect(Method::POST, path, None).await
    }

    /// Creates an object.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.expect(Method::POST, path, Some(body)).await
    }

    /// Changes an object by merge-patch, whatever its version.
    pub async fn patch(&self, path: &str, body: &Value) -> Result<Value> {
        self.expect(Method::PATCH, path, Some(body)).await
    }

    /// Deletes an object.
    pub async fn delete(&self, path: &str) -> Result<Value> {
        self.expect(Method::DELETE, path, None).await
    }

    async fn expect(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let (status, value) = self.patient(method.clone(), path, body).await?;
        if !status.is_success() {
            bail!("{method} {path}: {status} {value}");
        }
        Ok(value)
    }
}

/// A required text field, such as an id.
pub fn text(value: &Value, field: &str) -> Result<String> {
    let found = value.get(field).and_then(Value::as_str);
    Ok(found.with_context(|| format!("no '{field}' in {value}"))?.to_owned())
}
