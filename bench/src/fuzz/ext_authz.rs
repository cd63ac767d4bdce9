//! The questions of Envoys: who may call?

use std::collections::HashMap;
use std::sync::OnceLock;

use envoy_types::pb::envoy::service::auth::v3 as auth;
use http_body_util::{BodyExt as _, Full};
use imp_agent::ext_authz::ExtAuthz;
use imp_agent::fleet::Fleet;
use imp_agent::lkg::Lkg;
use imp_agent::port::{Caller, Who};
use imp_enforce::{Credential, Engine, Entitlement, PublishAccess};
use imp_proto::config as pb;
use prost::Message as _;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::agent::options;
use super::contract::publish_message;

const KEY: &str = "imp_key_of_the_fuzzer";

/// The publishes, each at a host of its name.
const KEYED: &str = "keyed";
const PUBLIC: &str = "public";

/// The digits in the access rules of both: gateway, tenant, product and environment are the same.
const OWNER: &str = "8ab2d5c4800e";

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
    let (context, headers) = (&attributes.context_extensions, &http.headers);
    let needed = needed(context, headers);
    let has_key = headers.get("x-api-key").is_some_and(|key| key == KEY);
    // Other places for the key.
    let elsewhere = context.contains_key("keys")
        && headers.values().chain([&http.path]).any(|text| text.contains(KEY));
    let may = needed == Some(Needed::Nothing) || (needed == Some(Needed::Key) && has_key);
    assert!(passes == may || (needed == Some(Needed::Key) && elsewhere), "{context:?} {headers:?}");
    // An Envoy of another gateway cannot admit a call.
    let stranger = Who::Node { gateway: Some("another".to_owned()), id: "n".to_owned() };
    assert!(!decisions.passes(stranger, frame(bytes)), "{context:?} from outside");
    // Whatever the five bytes are.
    decisions.passes(envoy, bytes.to_vec());
}

/// What a call must show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Needed {
    Nothing,
    Key,
}

/// What the publish and the route of a call ask for; `None` if nobody may pass.
fn needed(context: &HashMap<String, String>, headers: &HashMap<String, String>) -> Option<Needed> {
    let text = |key| context.get(key).map_or("", String::as_str);
    // The form of a former release, whose routes name their publish.
    if context.contains_key("publish") || context.contains_key("access") {
        return Some(of_publish(text("publish"))?.max(of_route(text("access"))?));
    }
    // "<access> <route> <base path>", and the host in a header.
    let (access, rest) = text("route").split_once(' ')?;
    let (route, base_path) = rest.split_once(' ')?;
    let [_, owner, _] = access.split('.').collect::<Vec<_>>()[..] else { return None };
    let key = headers.get("x-imp-host").map_or("", String::as_str);
    let host = key.split(':').next().unwrap_or_default();
    if route.is_empty() || base_path != "/" || owner != OWNER {
        return None;
    }
    Some(of_publish(host.strip_suffix(".example")?)?.max(of_route(access)?))
}

fn of_publish(id: &str) -> Option<Needed> {
    match id {
        PUBLIC => Some(Needed::Nothing),
        KEYED => Some(Needed::Key),
        _ => None,
    }
}

/// A route asks for at least what its rules do. One of a newer release may ask for what is unknown
/// here.
fn of_route(access: &str) -> Option<Needed> {
    let parts: Vec<_> = access.split('.').collect();
    let is_owner = |text: &&str| {
        text.len() == OWNER.len()
            && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    };
    match parts[..] {
        ["none", ..] => Some(Needed::Nothing),
        ["api_key", ..] => Some(Needed::Key),
        ["unsupported", ..] => None,
        [_, owner, _] if is_owner(&owner) => None,
        _ => Some(Needed::Nothing),
    }
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
    let at = |id: &str| pb::Publish {
        hostnames: vec![format!("{id}.example")],
        ..publish_message(id, "g")
    };
    let keyed = at(KEYED);
    let auth_mode = pb::publish::AuthMode::None.into();
    let public = pb::Publish { auth_mode, ..at(PUBLIC) };
    for publish in [&keyed, &public] {
        let access = PublishAccess::from(publish);
        assert_eq!(access.digest().split('.').nth(1), Some(OWNER));
        engine.put_publish(access);
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
