//! Calls of the agents' port of the control plane.

use std::time::Duration;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use imp_grammar::proof::{self, PrivateKey, SCHEME};
use imp_proto::agent as pb;
use prost::Message as _;
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::Outcome;
use super::grpc::{self, Call, Place, framed};
use super::stage::{MARK, Stage};
use super::wire::unhex;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    /// `register`, `renew`, `report`, `delta`, or a path.
    method: String,
    /// Each is a separate header.
    #[serde(default)]
    authorization: Vec<String>,
    /// A forged JWT, as `DPoP`.
    jwt: Option<Jwt>,
    /// A proof of possession (RFC 9449).
    proof: Option<Proof>,
    #[serde(default)]
    headers: Vec<(String, String)>,
    /// The registration token.
    #[serde(default)]
    token: String,
    /// The framed message, instead of the method's own.
    hex: Option<String>,
    /// The message announces this many bytes, sends half of them, and stops.
    unfinished: Option<usize>,
    expect: Vec<String>,
    /// Must be in the answer's message, so that it was refused for this reason.
    says: Option<String>,
    #[serde(default = "wait")]
    wait_ms: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Jwt {
    header: Value,
    claims: Value,
    /// `none`, `good` (the control plane's own key), or the secret itself.
    sign: String,
}

/// Valid for this call and its JWT, now, unless set otherwise.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Proof {
    /// A variable with the key's seed.
    key: String,
    path: Option<String>,
    /// `None` for the JWT of the case, if it has one.
    token: Option<String>,
    late_ms: i64,
    /// `None` for a unique id.
    id: Option<String>,
}

fn wait() -> u64 {
    10_000
}

pub(crate) async fn run(stage: &mut Stage, case: Value) -> Result<Outcome> {
    let shown = case.to_string();
    let case: Case = serde_json::from_value(case).with_context(|| shown.clone())?;
    let mut headers: Vec<(String, String)> = case.headers.clone();
    let mut authorization = case.authorization.clone();
    let jwt = case.jwt.as_ref().map(|jwt| jwt.text(stage));
    authorization.extend(jwt.as_ref().map(|jwt| format!("{SCHEME} {jwt}")));
    headers.extend(authorization.into_iter().map(|value| ("authorization".to_owned(), value)));
    let (path, message) = message(&case);
    if let Some(proof) = &case.proof {
        let text = proof.text(stage, &path, jwt.as_deref()).with_context(|| shown.clone())?;
        headers.push((proof::HEADER.to_owned(), text));
    }
    let (body, ends) = match (&case.hex, case.unfinished) {
        (Some(hex), _) => (unhex(hex), true),
        (None, Some(size)) => {
            let length = u32::try_from(size)?.to_be_bytes();
            ([&[0], length.as_slice(), &vec![b'a'; size / 2]].concat(), false)
        }
        (None, None) => (framed(&message), true),
    };
    let wait = Duration::from_millis(case.wait_ms);
    let place = Place::Tcp(stage.stack.control.agent_listen);
    let said = grpc::call(&place, Call { path, headers, body, ends, wait }).await;
    let said_so = case.says.as_ref().is_none_or(|says| said.why.contains(says));
    let leaked = String::from_utf8_lossy(&said.body).contains(MARK);
    let judged = if leaked {
        Err("the victim's text is in the answer".to_owned())
    } else if case.expect.contains(&said.outcome) && said_so {
        Ok(())
    } else {
        let Case { expect, says, .. } = &case;
        Err(format!("wanted {expect:?} {says:?}, got {} {:?}", said.outcome, said.why))
    };
    Ok(Outcome::of(1, judged))
}

fn message(case: &Case) -> (String, Vec<u8>) {
    let agent = |method: &str| format!("/imp.agent.v1.AgentService/{method}");
    match case.method.as_str() {
        "register" => {
            let token = case.token.clone();
            let message = pb::RegisterRequest { token, ..Default::default() };
            (agent("Register"), message.encode_to_vec())
        }
        "renew" => (agent("Renew"), Vec::new()),
        "report" => {
            let beat = pb::report_request::Kind::Heartbeat(pb::Heartbeat::default());
            (agent("Report"), pb::ReportRequest { kind: Some(beat) }.encode_to_vec())
        }
        "delta" => {
            let path =
                "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";
            let message = imp_xds::wire::DeltaDiscoveryRequest {
                type_url: "type.googleapis.com/imp.config.v1.Publish".to_owned(),
                resource_names_subscribe: vec!["*".to_owned()],
                ..Default::default()
            };
            (path.to_owned(), message.encode_to_vec())
        }
        path => (path.to_owned(), Vec::new()),
    }
}

impl Proof {
    fn text(&self, stage: &Stage, path: &str, jwt: Option<&str>) -> Result<String> {
        let key = PrivateKey::from_seed(&unhex(&stage.var(&self.key))).context("a key")?;
        let token = self.token.as_deref().or(jwt);
        let call = proof::Call { path: self.path.as_deref().unwrap_or(path), token };
        let fresh = || format!("{:032x}", imp_process::random::random::<u128>());
        let id = self.id.clone().unwrap_or_else(fresh);
        let now_ms = imp_process::clock::now().timestamp_millis() - self.late_ms;
        Ok(key.prove(&call, "a copy", &id, now_ms))
    }
}

impl Jwt {
    fn text(&self, stage: &Stage) -> String {
        let part = |value: &Value| BASE64.encode(value.to_string());
        let head = format!("{}.{}", part(&self.header), part(&self.claims));
        let secret = match self.sign.as_str() {
            "none" => return format!("{head}."),
            "good" => unhex(&stage.var("hub.key")),
            other => other.as_bytes().to_vec(),
        };
        format!("{head}.{}", BASE64.encode(hmac(&secret, head.as_bytes())))
    }
}

/// HMAC-SHA-256 (RFC 2104).
fn hmac(secret: &[u8], message: &[u8]) -> Vec<u8> {
    let mut key = [0; 64];
    key.iter_mut().zip(secret).for_each(|(to, from)| *to = *from);
    let padded = |pad: u8| key.map(|byte| byte ^ pad);
    let inner = Sha256::new().chain_update(padded(0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(padded(0x5c)).chain_update(inner).finalize().to_vec()
}
