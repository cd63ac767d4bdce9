//! The certificate by which Envoys of a Gateway are known, in a Secret. Renewed long before it ends.

use std::path::Path;

use chrono::{DateTime, Days, Utc};
use imp_process::clock;
use imp_translate::envoy_gateway::Certificate;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::identity::IdentityFile;
use crate::port::{IssueError, issue_for_gateway};

/// How long one is valid.
const DAYS: u32 = 365;

/// One with fewer days left is replaced.
const RENEW_AT: u64 = 120;

const UNTIL: &str = "imp-gateway.io/valid-until";
const ISSUER: &str = "imp-gateway.io/issuer";

/// Whether the Secret has a certificate of this authority for this gateway that ends late enough.
pub(super) fn is_good(secret: &Value, authority: &str, gateway: &str) -> bool {
    let annotation =
        |name: &str| secret.pointer("/metadata/annotations")?.get(name).and_then(Value::as_str);
    let until = annotation(UNTIL).and_then(|text| DateTime::parse_from_rfc3339(text).ok());
    let soon = clock::now().checked_add_days(Days::new(RENEW_AT));
    let has = |file: &str| secret.get("data").is_some_and(|data| data.get(file).is_some());
    annotation(ISSUER) == Some(mark(authority, gateway).as_str())
        && until.zip(soon).is_some_and(|(until, soon)| until.with_timezone(&Utc) > soon)
        && ["ca.pem", "node.pem", "node.key", "sds.yaml"].iter().all(|file| has(file))
}

/// Issues one.
pub(super) fn issue(state_dir: &Path, gateway: &str) -> Result<Certificate, IssueError> {
    let (authority, certificate, key) = issue_for_gateway(state_dir, gateway, DAYS)?;
    let until = clock::now().checked_add_days(Days::new(DAYS.into())).unwrap_or_else(clock::now);
    let annotations =
        vec![(UNTIL, until.to_rfc3339()), (ISSUER, mark(&authority_key(state_dir)?, gateway))];
    Ok(Certificate { authority, certificate, key, annotations })
}

/// What tells this agent's authority from another one's.
pub(super) fn authority_key(state_dir: &Path) -> Result<String, IssueError> {
    let cluster = IdentityFile::within(state_dir).load()?.map(|identity| identity.cluster_id);
    let key = crate::port::authority_key(state_dir)?;
    Ok(format!("{key} {}", cluster.unwrap_or_default()))
}

fn mark(authority: &str, gateway: &str) -> String {
    let digest: [u8; 32] = Sha256::digest(format!("{authority} {gateway}")).into();
    hex::encode(digest.split_at(16).0)
}
