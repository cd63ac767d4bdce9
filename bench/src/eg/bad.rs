//! One tenant's header value that Envoy does not take, and what the others feel of it.

use std::ops::Range;
use std::time::Duration;

use anyhow::{Result, ensure};
use futures::future::try_join_all;
use reqwest::Method;
use serde::Serialize;
use serde_json::json;

use super::ours::Ours;
use super::side::Side;
use super::theirs::{SERVICES, Theirs};
use super::watch::{LOST, until};

/// Envoy reads a command where there is none.
const VALUE: &str = "100%";

/// A change that is not seen by then is held up: without the bad value, each takes less than a second.
const LIMIT: Duration = Duration::from_secs(10);

/// What was seen.
#[derive(Clone, Debug, Serialize)]
pub struct Bad {
    /// Changes of others, on each side.
    pub others: usize,
    /// Routes of others that Envoy Gateway accepted and that were not served beside the bad one.
    pub theirs_hurt: usize,
    /// Publishes of others that were not served beside the same value, which came to us and to them.
    pub ours_hurt: usize,
    /// How REST answered the value.
    pub refused_with: u16,
}

/// Gives both the value, then others change something.
pub(super) async fn bad(theirs: &Theirs<'_>, ours: &Ours<'_>, others: Range<usize>) -> Result<Bad> {
    let refused_with = offer(ours).await?;
    // It has a place beside the others.
    let bad = others.end;
    theirs.apply(bad, VALUE, SERVICES[0]).await?;
    theirs.rests().await?;
    let ours_hurt = hurt(ours, others.clone()).await?;
    let theirs_hurt = hurt(theirs, others.clone()).await?;
    theirs.remove(bad).await?;
    for index in others.clone() {
        let request = theirs.place(index).request(None);
        ensure!(
            until(theirs.edge().address, request, 200, LOST).await?.is_some(),
            "not served although the bad value is gone"
        );
        theirs.remove(index).await?;
        ours.remove(index).await?;
    }
    theirs.rests().await?;
    Ok(Bad { others: others.len(), theirs_hurt, ours_hurt, refused_with })
}

/// A service with the value, as a tenant sends it; returns the status of the answer.
async fn offer(ours: &Ours<'_>) -> Result<u16> {
    let provider = &ours.edge().provider;
    let at = ours.edge().theirs.address();
    let service = json!({
        "name": "bad",
        "backends": [{
            "name": "upstream", "endpoints": [{"host": at.ip().to_string(), "port": at.port()}],
        }],
        "routes": [{"name": "all", "path": {"prefix": "/"}, "backend_id": "upstream"}],
        "policies": [{
            "name": "bad", "type": "response_headers",
            "config": {"set": [{"name": "x-edition", "value": VALUE}]},
        }],
    });
    let (status, _) = provider.rest.send(Method::POST, "/v1/api-services", Some(&service)).await?;
    Ok(status.as_u16())
}

/// Adds these; how many are not served in time.
async fn hurt(side: &impl Side, others: Range<usize>) -> Result<usize> {
    for index in others.clone() {
        side.add(index).await?;
    }
    let seen =
        others.map(|index| until(side.edge().address, side.place(index).request(None), 200, LIMIT));
    let seen = try_join_all(seen).await?;
    Ok(seen.iter().filter(|seen| seen.is_none()).count())
}
