//! The agent's own certificate authority, which authenticates nodes, and the agent to nodes.

use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use chrono::{Datelike as _, Days, NaiveDate};
use imp_process::clock;
use imp_process::file::FileFault;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, date_time_ymd,
};
use thiserror::Error;

use super::ALL_GATEWAYS;

/// The URI in the agent's own certificate, which Envoys verify.
pub const AGENT_URI: &str = "spiffe://imp/agent";

/// The same as a host name, for clients that verify one.
pub const AGENT_NAME: &str = "imp-agent";

/// The reason why there is no certificate.
#[derive(Debug, Error)]
pub enum AuthorityError {
    /// The authority's key is invalid.
    #[error(
        "{0}. Restore it, or move it away: the agent then makes a new one, and every node needs a new certificate"
    )]
    Key(FileFault),
    /// A certificate could not be made.
    #[error("a certificate could not be made: {0}")]
    Make(#[from] rcgen::Error),
    /// The node's name is invalid.
    #[error("--node-id {0}: 1 to 128 letters, digits, dots, dashes and underscores")]
    NodeId(String),
    /// The validity is out of range.
    #[error("--days: 1 to {MAX_DAYS}")]
    Days,
    /// A file could not be written.
    #[error("{path}: {why}")]
    Write { path: String, why: io::Error },
}

/// What the key file must contain, for error messages.
const KEY: &str = "a private key in PEM (of the authority by which nodes are known)";

/// Instead of a node's id, which has no such sign.
const ANY_NODE: &str = "*";

/// Ten years: an upper bound, within the authority's own validity.
pub(super) const MAX_DAYS: u32 = 3_650;

/// The authority, identified by its key. Any certificate with its name and key is valid.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate with its key, as PEM.
pub(crate) struct Issued {
    pub(crate) certificate: String,
    pub(crate) key: KeyPair,
}

/// The identity of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodeName {
    pub(crate) cluster: String,
    /// `None` for all gateways.
    pub(crate) gateway: Option<String>,
    /// `None` for every Envoy of that gateway: those of a Deployment share a Secret.
    pub(crate) id: Option<String>,
}

impl NodeName {
    pub(crate) fn new(
        cluster: &str,
        gateway: Option<String>,
        id: &str,
    ) -> Result<Self, AuthorityError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if id.is_empty() || id.len() > 128 || !id.chars().all(plain) {
            return Err(AuthorityError::NodeId(id.to_owned()));
        }
        Ok(Self { cluster: cluster.to_owned(), gateway, id: Some(id.to_owned()) })
    }

    /// All Envoys of one gateway.
    pub(crate) fn of_gateway(cluster: &str, gateway: &str) -> Self {
        Self { cluster: cluster.to_owned(), gateway: Some(gateway.to_owned()), id: None }
    }

    fn uri(&self) -> String {
        let gateway = self.gateway.as_deref().unwrap_or(ALL_GATEWAYS);
        let node = self.id.as_deref().unwrap_or(ANY_NODE);
        format!("spiffe://imp/cluster/{}/gateway/{gateway}/node/{node}", self.cluster)
    }

    /// Parses the name in a certificate.
    pub(crate) fn parse(uri: &str) -> Option<Self> {
        let rest = uri.strip_prefix("spiffe://imp/cluster/")?;
        let (cluster, rest) = rest.split_once("/gateway/")?;
        let (gateway, id) = rest.split_once("/node/")?;
        let gateway = match gateway {
            ALL_GATEWAYS => None,
            one => Some(uuid::Uuid::try_parse(one).ok()?.hyphenated().to_string()),
        };
        let is_valid = !id.contains('/') && !cluster.contains('/');
        let id = (id != ANY_NODE).then(|| id.to_owned());
        let name = Self { cluster: cluster.to_owned(), gateway, id };
        // Nobody is every Envoy of every gateway.
        (is_valid && (name.id.is_some() || name.gateway.is_some())).then_some(name)
    }
}

impl Authority {
    /// The authority of this state directory; created if there is none.
    pub(crate) fn open(state_dir: &Path) -> Result<Self, AuthorityError> {
        let path = state_dir.join("nodes-ca.key");
        let failed = |error| AuthorityError::Key(FileFault::unreadable(&path, KEY, &error));
        let pem = match read(&path).map_err(failed)? {
            Some(pem) => pem,
            None => {
                let pem = KeyPair::generate()?.serialize_pem();
                make(&path, &pem).map_err(failed)?
            }
        };
        let unfit = |_| AuthorityError::Key(FileFault::unfit(&path, KEY, &pem));
        let key = std::str::from_utf8(&pem).map_err(|_| rcgen::Error::CouldNotParseKeyPair);
        let key = key.and_then(KeyPair::from_pem).map_err(unfit)?;
        Ok(Self { issuer: Issuer::new(authority(), key) })
    }

    /// The public key, which is the authority to all who know it.
    pub(crate) fn public_key(&self) -> String {
        self.issuer.key().public_key_pem()
    }

    /// A certificate of the authority itself.
    pub(crate) fn certificate(&self) -> Result<String, AuthorityError> {
        Ok(authority().self_signed(self.issuer.key())?.pem())
    }

    /// A server certificate for the agent.
    pub(crate) fn for_agent(&self) -> Result<Issued, AuthorityError> {
        let mut params = named(AGENT_NAME, AGENT_URI, MAX_DAYS)?;
        params.subject_alt_names.push(SanType::DnsName(AGENT_NAME.try_into()?));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.issue(&params)
    }

    /// A client certificate for a node.
    pub(crate) fn for_node(&self, name: &NodeName, days: u32) -> Result<Issued, AuthorityError> {
        if !(1..=MAX_DAYS).contains(&days) {
            return Err(AuthorityError::Days);
        }
        let id = name.id.as_deref().unwrap_or("gateway");
        let mut params = named(id, &name.uri(), days)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(&params)
    }

    fn issue(&self, params: &CertificateParams) -> Result<Issued, AuthorityError> {
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        Ok(Issued { certificate, key })
    }
}

fn authority() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Imp-Gateway nodes");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn named(name: &str, uri: &str, days: u32) -> Result<CertificateParams, AuthorityError> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.subject_alt_names = vec![SanType::URI(uri.try_into()?)];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let today = clock::now().date_naive();
    // Clocks differ.
    let (from, to) = (today - Days::new(1), today + Days::new(u64::from(days) + 1));
    let at = |day: NaiveDate| {
        let part = |part: u32| u8::try_from(part).unwrap_or(1);
        date_time_ymd(day.year(), part(day.month()), part(day.day()))
    };
    (params.not_before, params.not_after) = (at(from), at(to));
    Ok(params)
}

fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(pem) => Ok(Some(pem)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Creates the key file. Of two concurrent calls both end with the same key.
fn make(path: &Path, pem: &str) -> io::Result<Vec<u8>> {
    let draft = path.with_extension(format!("key.{}", std::process::id()));
    write_secret(&draft, pem)?;
    let linked = std::fs::hard_link(&draft, path);
    std::fs::remove_file(&draft)?;
    match linked {
        Ok(()) => Ok(pem.into()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => std::fs::read(path),
        Err(error) => Err(error),
    }
}

fn write_secret(path: &Path, text: &str) -> io::Result<()> {
    let _ = std::fs::remove_file(path); // of a start that was broken off, with any mode
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Writes the files that an Envoy needs: `node.pem`, `node.key` (0600), `ca.pem`, and `sds.yaml`,
/// with which Envoy reloads renewed ones without a restart.
pub(crate) fn write_node(
    out: &Path,
    authority: &Authority,
    issued: &Issued,
) -> Result<(), AuthorityError> {
    let failed = |path: &Path, why| AuthorityError::Write { path: path.display().to_string(), why };
    let mut directory = std::fs::DirBuilder::new();
    std::os::unix::fs::DirBuilderExt::mode(&mut directory, 0o700);
    directory.recursive(true).create(out).map_err(|why| failed(out, why))?;
    let out = std::path::absolute(out).map_err(|why| failed(out, why))?;
    let files = [
        ("ca.pem", authority.certificate()?),
        ("node.key", issued.key.serialize_pem()),
        ("node.pem", issued.certificate.clone()),
        ("sds.yaml", sds(&out)),
    ];
    for (name, text) in files {
        let (path, draft) = (out.join(name), out.join(format!("{name}.new")));
        write_secret(&draft, &text).map_err(|why| failed(&draft, why))?;
        std::fs::rename(&draft, &path).map_err(|why| failed(&path, why))?;
    }
    Ok(())
}

fn sds(directory: &Path) -> String {
    let quoted = |name: &str| quoted(&directory.join(name));
    format!(
        r#"resources:
- "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret
  name: node
  tls_certificate:
    certificate_chain: {{filename: {}}}
    private_key: {{filename: {}}}
"#,
        quoted("node.pem"),
        quoted("node.key"),
    )
}

/// Quotes a path for YAML.
pub(crate) fn quoted(path: &Path) -> String {
    serde_json::Value::from(path.display().to_string()).to_string()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const GATEWAY: &str = "00000000-0000-7000-8000-000000000001";

    #[test]
    fn a_name_is_read_as_it_was_written() {
        for gateway in [None, Some(GATEWAY.to_owned())] {
            let name = NodeName::new("c", gateway, "edge-1.example_2").unwrap();
            assert_eq!(NodeName::parse(&name.uri()), Some(name));
        }
        let all = NodeName::of_gateway("c", GATEWAY);
        assert_eq!(NodeName::parse(&all.uri()), Some(all));
        assert_eq!(NodeName::parse("spiffe://imp/cluster/c/gateway/all/node/*"), None);
        for id in ["*", "", "a/b", "a b", "ü", "a/gateway/all/node/b", &"x".repeat(129)] {
            assert!(NodeName::new("c", None, id).is_err(), "{id}");
        }
        for uri in [
            "",
            AGENT_URI,
            "spiffe://imp/cluster/c/gateway/x/node/n",
            "spiffe://imp/cluster/c/gateway/all/node/n/m",
            "spiffe://other/cluster/c/gateway/all/node/n",
        ] {
            assert_eq!(NodeName::parse(uri), None, "{uri}");
        }
    }

    #[test]
    fn the_authority_stays_the_same_and_its_key_is_secret() {
        let state = tempfile::tempdir().unwrap();
        let first = Authority::open(state.path()).unwrap();
        let path = state.path().join("nodes-ca.key");
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let again = Authority::open(state.path()).unwrap();
        assert_eq!(first.issuer.key().serialize_der(), again.issuer.key().serialize_der());
        assert_eq!(std::fs::read_dir(state.path()).unwrap().count(), 1, "no draft is left");
        let name = NodeName::new("c", None, "n").unwrap();
        assert!(matches!(first.for_node(&name, 0), Err(AuthorityError::Days)));
        assert!(first.for_node(&name, MAX_DAYS).is_ok());
        std::fs::write(&path, "damaged").unwrap();
        assert!(matches!(Authority::open(state.path()), Err(AuthorityError::Key(_))));
    }
}
