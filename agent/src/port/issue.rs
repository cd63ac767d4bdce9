//! `imp-agent node-certificate`: issues the certificate of an Envoy that connects over TCP.

use std::path::Path;

use imp_process::file::FileFault;
use thiserror::Error;

use super::authority::{self, Authority, AuthorityError, NodeName};
use crate::identity::IdentityFile;

/// The reason why none was issued.
#[derive(Debug, Error)]
pub enum IssueError {
    /// The certificate cannot be made or written.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The agent's own identity cannot be read.
    #[error(transparent)]
    Identity(#[from] FileFault),
    /// The agent is not registered, so it has no cluster yet.
    #[error("{0}: this agent is not registered; start it with a registration token first")]
    NotRegistered(String),
}

/// Issues a certificate for all Envoys of a gateway: the authority's, the node's and its key, as PEM.
pub fn issue_for_gateway(
    state_dir: &Path,
    gateway: &str,
    days: u32,
) -> Result<(String, String, String), IssueError> {
    let name = NodeName::of_gateway(&cluster(state_dir)?, gateway);
    let authority = Authority::open(state_dir)?;
    let issued = authority.for_node(&name, days)?;
    Ok((authority.certificate()?, issued.certificate, issued.key.serialize_pem()))
}

/// The public key of the authority, which tells it from others.
pub fn authority_key(state_dir: &Path) -> Result<String, IssueError> {
    Ok(Authority::open(state_dir)?.public_key())
}

fn cluster(state_dir: &Path) -> Result<String, IssueError> {
    let file = IdentityFile::within(state_dir);
    let path = file.path().display().to_string();
    let identity = file.load()?.ok_or(IssueError::NotRegistered(path))?;
    Ok(identity.cluster_id)
}

/// Issues a certificate for the node, for one gateway or all, and writes Envoy's files to `out`.
pub fn issue(
    state_dir: &Path,
    gateway: Option<uuid::Uuid>,
    node_id: &str,
    days: u32,
    out: &Path,
) -> Result<(), IssueError> {
    let gateway = gateway.map(|id| id.hyphenated().to_string());
    let name = NodeName::new(&cluster(state_dir)?, gateway, node_id)?;
    let authority = Authority::open(state_dir)?;
    let issued = authority.for_node(&name, days)?;
    Ok(authority::write_node(out, &authority, &issued)?)
}

/// The certificate of all proxies that a controller runs for one gateway: the authority's, the
/// certificate and its key, as PEM.
pub(crate) fn issue_for_controller(
    state_dir: &Path,
    cluster: &str,
    gateway: &str,
) -> Result<[String; 3], AuthorityError> {
    let name = NodeName::new(cluster, Some(gateway.to_owned()), "gateway-api")?;
    let authority = Authority::open(state_dir)?;
    let issued = authority.for_node(&name, authority::MAX_DAYS)?;
    Ok([authority.certificate()?, issued.certificate, issued.key.serialize_pem()])
}
