//! The agent's inputs: from the control plane and from Envoys.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use envoy_types::pb::envoy::service::auth::v3 as auth;
use http_body_util::{BodyExt as _, Full};
use imp_agent::ext_authz::ExtAuthz;
use imp_agent::fleet::Fleet;
use imp_agent::intake::{self, Item};
use imp_agent::lkg::Lkg;
use imp_agent::port::{Caller, Who};
use imp_enforce::{Credential, Engine, Entitlement, PublishAccess};
use imp_proto::config::{self as pb, ResourceType};
use imp_translate::{Assembly, Delta, Layout, Options};
use imp_xds::Resource;
use imp_xds::wire::DeltaDiscoveryResponse;
use prost::Message as _;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::bytes::chunk;
use super::contract::publish_message;

pub(super) fn options() -> Options {
    Options {
        bind_address: "127.0.0.1".to_owned(),
        layout: Layout::ScopedRoutes,
        agent_cluster: "agent".to_owned(),
        upstreams: Default::default(),
        door: Default::default(),
    }
}

/// Length-prefixed responses of the delta stream. Invalid resources are refused; valid ones are
/// served, and removed again.
pub(super) fn delta_stream(bytes: &[u8]) {
    let mut rest = bytes;
    let mut agent = Agent::new();
    while let Some(message) = chunk(&mut rest) {
        let Ok(response) = DeltaDiscoveryResponse::decode(message) else { return };
        let Some(kind) = ResourceType::of(&response.type_url) else { continue };
        for resource in response.resources {
            let Some(any) = resource.resource else { continue };
            let resource = Resource::new(resource.name, resource.version, any.value);
            if let Ok(item) = intake::parse(kind, &resource) {
                agent.put(item);
            }
        }
        for name in &response.removed_resources {
            agent.remove(kind, name);
        }
    }
    agent.leave();
}

struct Agent {
    assembly: Assembly,
    engine: Engine,
    /// The resources of an Envoy for all gateways: type URL and name.
    envoy: BTreeMap<(&'static str, String), String>,
    held: Vec<(ResourceType, String)>,
}

impl Agent {
    fn new() -> Self {
        let assembly = Assembly::new(options());
        Self { assembly, engine: Engine::new(), envoy: BTreeMap::new(), held: Vec::new() }
    }

    fn put(&mut self, item: Item) {
        match item {
            Item::Gateway(gateway) => {
                self.held.push((ResourceType::Gateway, gateway.id.clone()));
                let delta = self.assembly.set_gateway(gateway);
                self.follow(delta);
            }
            Item::Publish(publish) => {
                self.held.push((ResourceType::Publish, publish.routes.id.clone()));
                self.engine.put_publish(publish.access);
                let delta = self.assembly.set_publish(publish.routes);
                self.follow(delta);
            }
            Item::Entitlement(entitlement) => self.engine.put_entitlement(entitlement),
            Item::Credential(credential) => self.engine.put_credential(credential),
        }
    }

    fn remove(&mut self, kind: ResourceType, name: &str) {
        match kind {
            ResourceType::Gateway => {
                let delta = self.assembly.remove_gateway(name);
                self.follow(delta);
            }
            ResourceType::Publish => {
                self.engine.remove_publish(name);
                let delta = self.assembly.remove_publish(name);
                self.follow(delta);
            }
            ResourceType::Entitlement => self.engine.remove_entitlement(name),
            ResourceType::Credential => self.engine.remove_credential(name),
        }
    }

    fn follow(&mut self, delta: Delta) {
        for rendered in delta.all.upserts {
            self.envoy.insert(
                (rendered.type_url, rendered.name.to_string()),
                rendered.version.to_string(),
            );
        }
        for removed in delta.all.removals {
            self.envoy.remove(&removed);
        }
    }

    /// Checks that after removal only the enforcement filter stays, if there ever was a gateway.
    fn leave(&mut self) {
        for (kind, name) in std::mem::take(&mut self.held) {
            self.remove(kind, &name);
        }
        self.envoy.retain(|(type_url, _), _| *type_url != imp_translate::xds::EXTENSION);
        assert_eq!(self.envoy, BTreeMap::new(), "left behind");
    }
}

const KEY: &str = "imp_key_of_the_fuzzer";
const KEYED: &str = "keyed";
const PUBLIC: &str = "public";

/// The body of a call to Envoy's ext_authz method, after gRPC's five bytes. Only calls with the one
/// valid key at its publish pass, and calls to the public publish.
pub(super) fn ext_authz(bytes: &[u8]) {
    static DECISIONS: OnceLock<Decisions> = OnceLock::new();
    let decisions = DECISIONS.get_or_init(Decisions::start);
    let envoy = Who::Local { uid: 0 };
    let passes = decisions.passes(envoy.clone(), frame(bytes));
    let asked = auth::CheckRequest::decode(bytes).unwrap_or_default();
    let attributes = asked.attributes.unwrap_or_default();
    let http = attributes.request.and_then(|request| request.http).unwrap_or_default();
    let publish = attributes.context_extensions.get("publish").map(String::as_str);
    let key = http.headers.get("x-api-key").map(String::as_str);
    let may = publish == Some(PUBLIC) || (publish == Some(KEYED) && key == Some(KEY));
    assert_eq!(passes, may, "publish {publish:?}, key {key:?}");
    // An Envoy of another gateway cannot admit a call.
    let stranger = Who::Node { gateway: Some("another".to_owned()), id: "n".to_owned() };
    assert!(!decisions.passes(stranger, frame(bytes)), "publish {publish:?} from outside");
    // Whatever the five bytes are.
    decisions.passes(envoy, bytes.to_vec());
}

fn frame(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&[0], length.as_slice(), message].concat()
}

struct Decisions {
    runtime: Runtime,
    engine: Engine,
    fleet: Fleet,
    _folder: tempfile::TempDir,
}

impl Decisions {
    fn start() -> Self {
        let folder = super::files::folder();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        let engine = engine();
        let fleet = runtime.block_on(async {
            let (lkg, _) = Lkg::open(folder.path()).expect("a state");
            Fleet::start(options(), engine.clone(), lkg, CancellationToken::new())
        });
        fleet.open();
        Self { runtime, engine, fleet, _folder: folder }
    }

    fn passes(&self, who: Who, body: Vec<u8>) -> bool {
        let service = ExtAuthz::service(self.engine.clone(), self.fleet.clone());
        let request = http::Request::post("/envoy.service.auth.v3.Authorization/Check")
            .header("content-type", "application/grpc")
            .extension(Caller::direct(who))
            .body(Full::new(bytes::Bytes::from(body)))
            .expect("a request");
        let answer = self.runtime.block_on(async {
            let answer = service.oneshot(request).await.expect("an answer");
            answer.into_body().collect().await.map(|body| body.to_bytes())
        });
        let Some(message) = answer.ok().and_then(|body| body.get(5..).map(<[u8]>::to_vec)) else {
            return false;
        };
        let answer = auth::CheckResponse::decode(message.as_slice()).expect("a CheckResponse");
        answer.status.is_some_and(|status| status.code == 0)
    }
}

fn engine() -> Engine {
    use sha2::Digest as _;
    let engine = Engine::new();
    let keyed = publish_message(KEYED, "g");
    let auth_mode = pb::publish::AuthMode::None.into();
    let public = pb::Publish { auth_mode, ..publish_message(PUBLIC, "g") };
    for publish in [&keyed, &public] {
        engine.put_publish(PublishAccess::from(publish));
    }
    let entitlement = Entitlement::parse(&pb::Entitlement {
        id: "subscription".into(),
        tenant_id: "tenant".into(),
        product_id: "product".into(),
        environment: "prod".into(),
        state: pb::entitlement::State::Active.into(),
        ..Default::default()
    });
    engine.put_entitlement(entitlement.expect("an entitlement"));
    let credential = Credential::parse(&pb::Credential {
        id: "credential".into(),
        subscription_id: "subscription".into(),
        key_sha256: sha2::Sha256::digest(KEY).to_vec().into(),
        state: pb::credential::State::Active.into(),
        ..Default::default()
    });
    engine.put_credential(credential.expect("a credential"));
    engine
}
