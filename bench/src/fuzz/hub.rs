//! The agents' port before authentication.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use imp_control::admission::{Admission, RestRates};
use imp_control::compile::ClusterResources;
use imp_control::hub::agent_auth::{AgentAuth, KeyHolder};
use imp_control::hub::connected_agents::ConnectedAgents;
use imp_control::hub::deliveries::Deliveries;
use imp_control::hub::identity::AgentKey;
use imp_control::hub::report_writer::ReportWriter;
use imp_control::hub::service::Agents;
use imp_control::hub::session::ReportStreams;
use imp_control::operation::{Actor, Operation};
use imp_control::state::Clock;
use imp_core::cluster::{Cluster, RegistrationToken, RegistrationTokenSpec};
use imp_core::scope::TenantScope;
use imp_core::secret::{Secret, SecretKind};
use imp_core::{AgentId, ClusterId, Meta, RegistrationTokenId};
use imp_proto::agent::RegisterRequest;
use imp_proto::agent::agent_service_server::AgentService as _;
use imp_store::Writable as _;
use imp_store::{Store, registration_token};
use prost::Message as _;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request};

use super::bytes::edited;

/// The agents' side of a control plane, with its own database.
struct Hub {
    runtime: Runtime,
    store: Store,
    agents: Agents,
    cluster: ClusterId,
    _folder: tempfile::TempDir,
}

impl Hub {
    fn start() -> Self {
        let folder = super::files::folder();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        let key = AgentKey::open(&folder.path().join("agent-key")).expect("a key");
        let url = format!("sqlite://{}", folder.path().join("imp.db").display());
        let (store, cluster) = runtime.block_on(async {
            let store = Store::open(&url).await.expect("a database");
            let spec = serde_json::from_value(serde_json::json!({ "name": "one" }));
            let meta = Meta::new(imp_process::clock::now());
            let one = Cluster { id: ClusterId::new(), spec: spec.expect("a spec"), meta };
            let mut tx = store.begin().await.expect("a transaction");
            one.insert(&mut tx).await.expect("a cluster");
            tx.commit().await.expect("a commit");
            (store, one.id)
        });
        let clock = Clock::system();
        let connected = Arc::new(ConnectedAgents::default());
        let deliveries = Arc::new(Deliveries::new(clock.clone()));
        let (_writer, queue) =
            ReportWriter::new(store.clone(), clock.clone(), connected.clone(), deliveries);
        let auth = Arc::new(AgentAuth::new(
            store.clone(),
            clock.clone(),
            key,
            ClusterResources::default(),
        ));
        let stop = CancellationToken::new();
        let platform = Operation {
            store: store.clone(),
            clock: clock.clone(),
            upstreams: Arc::default(),
            claims: Arc::default(),
            admission: Admission::new(RestRates::default()),
            actor: Actor::Platform,
            scope: TenantScope::platform(),
            request_id: String::new(),
            tightens: false,
        };
        let agents = Agents::new(
            platform,
            auth,
            ReportStreams { store: store.clone(), clock, connected, queue, stop },
        );
        Self { runtime, store, agents, cluster, _folder: folder }
    }

    fn register(&self, request: RegisterRequest) -> Result<String, Code> {
        let mut request = Request::new(request);
        request.extensions_mut().insert(KeyHolder { key: "thumbprint".into() });
        let answer = self.runtime.block_on(self.agents.register(request));
        answer.map(|answer| answer.into_inner().cluster_id).map_err(|status| status.code())
    }

    fn token(&self) -> String {
        let (secret, now) = (Secret::new(SecretKind::Registration), imp_process::clock::now());
        let token = RegistrationToken {
            id: RegistrationTokenId::new(),
            cluster_id: self.cluster,
            spec: RegistrationTokenSpec::default(),
            prefix: secret.prefix().to_owned(),
            expires_at: now + RegistrationToken::LIFETIME,
            used_at: None,
            meta: Meta::new(now),
        };
        self.runtime.block_on(async {
            let mut tx = self.store.begin().await.expect("a transaction");
            let inserted = registration_token::insert(&mut tx, &token, &secret.hash()).await;
            inserted.expect("a token");
            tx.commit().await.expect("a commit");
        });
        secret.reveal().to_owned()
    }
}

/// A registration message. An unknown token is refused; a valid one (first byte a multiple of 16)
/// works once, whatever else the message contains.
pub(super) fn registration(bytes: &[u8]) {
    static HUB: OnceLock<Mutex<Hub>> = OnceLock::new();
    let Some((kind, message)) = bytes.split_first() else { return };
    let Ok(mut request) = RegisterRequest::decode(message) else { return };
    let hub = HUB.get_or_init(|| Mutex::new(Hub::start()));
    let hub = hub.lock().unwrap_or_else(PoisonError::into_inner);
    if kind % 16 == 0 {
        request.token = hub.token();
        let cluster = hub.cluster.to_string();
        assert_eq!(hub.register(request.clone()), Ok(cluster), "a good token: {request:?}");
    }
    assert_eq!(hub.register(request.clone()), Err(Code::Unauthenticated), "{request:?}");
}

/// Edits of a valid JWT, other content under its signature, and arbitrary bytes: only the control
/// plane can create one.
pub(super) fn agent_jwt(bytes: &[u8]) {
    static KEY: OnceLock<(AgentKey, String)> = OnceLock::new();
    let Some((kind, rest)) = bytes.split_first() else { return };
    let (key, good) = KEY.get_or_init(|| {
        let folder = super::files::folder();
        let key = AgentKey::open(&folder.path().join("agent-key")).expect("a key");
        let (agent, cluster) = (AgentId::new(), ClusterId::new());
        let issued = key.issue(agent, cluster, "thumbprint", 1, imp_process::clock::now());
        (key, issued.expect("a JWT").jwt)
    });
    let forged = match kind % 3 {
        0 => rest.to_vec(),
        1 => edited(good.as_bytes(), rest),
        _ => spliced(good, rest),
    };
    let Ok(forged) = String::from_utf8(forged) else { return };
    let now = imp_process::clock::now();
    if forged != *good {
        assert!(key.verify(&forged, now).is_err(), "{forged} is taken for {good}");
        assert!(key.verify_for_renewal(&forged, now).is_err(), "{forged} can be renewed");
    }
}

/// Arbitrary header and payload, separated by a zero byte, with the valid signature.
fn spliced(good: &str, parts: &[u8]) -> Vec<u8> {
    use base64::Engine as _;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
    let mut parts = parts.splitn(2, |byte| *byte == 0);
    let mut part = || BASE64.encode(parts.next().unwrap_or_default());
    let (header, payload) = (part(), part());
    let signature = good.rsplit('.').next().unwrap_or_default();
    format!("{header}.{payload}.{signature}").into_bytes()
}
