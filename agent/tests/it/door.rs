//! Tests of decisions, as Envoy requests them.

use std::collections::HashMap;

use envoy_types::pb::envoy::service::auth::v3 as auth;
use imp_agent::app::Running;
use imp_agent::port::Address;
use imp_proto::config as pb;

use crate::control::Control;
use crate::fake_envoy::dial;
use crate::fixtures::{self, KEY, credential, entitlement, id, publish, quota};
use crate::rig::{self, agent, control_with, eventually};
use auth::attribute_context::{HttpRequest, Request};
use auth::authorization_client::AuthorizationClient;
use auth::check_response::HttpResponse;

/// Envoy's view of the decision.
#[derive(Debug)]
pub(crate) struct Answer {
    /// 200: forwarded.
    pub(crate) status: i32,
    /// For the upstream, or for the caller of a refused call.
    headers: HashMap<String, String>,
    /// For the caller of a forwarded call.
    response_headers: HashMap<String, String>,
    removed: Vec<String>,
    body: serde_json::Value,
}

type Options = Vec<envoy_types::pb::envoy::config::core::v3::HeaderValueOption>;

fn map(options: Options) -> HashMap<String, String> {
    let pair = |option: envoy_types::pb::envoy::config::core::v3::HeaderValueOption| {
        assert_eq!(option.append_action, 2, "overwrites: {option:?}");
        let header = option.header.unwrap();
        (header.key, header.value)
    };
    options.into_iter().map(pair).collect()
}

pub(crate) async fn ask(
    agent: &Address,
    context: &[(&str, &str)],
    headers: &[(&str, &str)],
) -> Result<Answer, tonic::Status> {
    let owned = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<HashMap<_, _>>()
    };
    let http = HttpRequest { headers: owned(headers), ..Default::default() };
    let attributes = auth::AttributeContext {
        request: Some(Request { http: Some(http), ..Default::default() }),
        context_extensions: owned(context),
        ..Default::default()
    };
    let mut client = AuthorizationClient::new(dial(agent).await.unwrap());
    let request = auth::CheckRequest { attributes: Some(attributes) };
    let answer = client.check(request).await?.into_inner();
    let code = answer.status.unwrap().code;
    Ok(match answer.http_response.unwrap() {
        HttpResponse::OkResponse(ok) => {
            assert_eq!(code, 0);
            Answer {
                status: 200,
                headers: map(ok.headers),
                response_headers: map(ok.response_headers_to_add),
                removed: ok.headers_to_remove,
                body: serde_json::Value::Null,
            }
        }
        HttpResponse::DeniedResponse(denied) => {
            assert_ne!(code, 0, "a denial must not look like an admission");
            Answer {
                status: denied.status.unwrap().code,
                headers: map(denied.headers),
                response_headers: HashMap::new(),
                removed: vec![],
                body: serde_json::from_str(&denied.body).unwrap(),
            }
        }
        other => panic!("{other:?}"),
    })
}

/// Makes a call to this publish.
pub(crate) async fn knock(agent: &Address, publish: &str, key: Option<&str>) -> Answer {
    let mut headers = vec![("x-request-id", "r-1")];
    headers.extend(key.map(|key| ("x-api-key", key)));
    ask(agent, &[("publish", publish), ("route", &id(3, 0))], &headers).await.unwrap()
}

/// Makes a call on a route with these access rules.
pub(crate) async fn knock_by(
    agent: &Address,
    publish: &str,
    access: &str,
    key: Option<&str>,
) -> i32 {
    let context = [("publish", publish), ("route", &*id(3, 0)), ("access", access)];
    let headers: Vec<_> = key.map(|key| ("x-api-key", key)).into_iter().collect();
    ask(agent, &context, &headers).await.unwrap().status
}

/// One connection of a caller, for many calls; `None` if nothing listens.
pub(crate) async fn caller(
    agent: &Address,
) -> Option<AuthorizationClient<tonic::transport::Channel>> {
    dial(agent).await.ok().map(AuthorizationClient::new)
}

/// The status of a call. `Err` without an answer; `Err(true)` if the agent has not loaded its
/// state, so that the call had no effect.
pub(crate) async fn try_knock(
    caller: &mut AuthorizationClient<tonic::transport::Channel>,
    publish: &str,
    key: Option<&str>,
) -> Result<i32, bool> {
    let headers = key.map(|key| ("x-api-key".to_owned(), key.to_owned())).into_iter().collect();
    let http = HttpRequest { headers, ..Default::default() };
    let context = [("publish", publish), ("route", &id(3, 0))];
    let context = context.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let attributes = auth::AttributeContext {
        request: Some(Request { http: Some(http), ..Default::default() }),
        context_extensions: context.into_iter().collect(),
        ..Default::default()
    };
    let request = auth::CheckRequest { attributes: Some(attributes) };
    let answer = caller.check(request).await;
    let answer = answer.map_err(|status| status.message() == "not loaded yet")?.into_inner();
    match answer.http_response {
        Some(HttpResponse::DeniedResponse(denied)) => Ok(denied.status.map_or(0, |s| s.code)),
        Some(HttpResponse::OkResponse(_)) => Ok(200),
        _ => Err(false),
    }
}

async fn open_for_business(limits: Vec<pb::Limit>) -> (Control, tempfile::TempDir, Running) {
    let control = control_with(1).await;
    control.state.set(&entitlement(limits));
    control.state.set(&credential());
    let mut public = publish(1, 9_000);
    public.auth_mode = pb::publish::AuthMode::None.into();
    let mut suspended = publish(2, 9_000);
    suspended.suspended = true;
    control.state.set(&public);
    control.state.set(&suspended);
    let state = tempfile::tempdir().unwrap();
    let agent = agent(&control.url(), state.path()).await;
    rig::ready(&agent).await;
    (control, state, agent)
}

#[tokio::test]
async fn who_has_a_key_passes_under_the_name_that_the_door_gives() {
    let (_control, _state, agent) = open_for_business(vec![quota(100)]).await;
    let spoofed = [("x-api-key", KEY), ("x-imp-consumer", "somebody-else"), ("x-imp-plan", "gold")];
    let context = [("publish", &*id(1, 0)), ("route", &*id(3, 0))];
    let answer = ask(&agent.xds, &context, &spoofed).await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    let expected = [
        ("x-imp-consumer", "consumer"),
        ("x-imp-subscription", &*id(6, 1)),
        ("x-imp-customer", "customer"),
        ("x-imp-plan", "plan"),
    ];
    assert_eq!(answer.headers, expected.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
    assert_eq!(answer.removed, ["x-api-key"]);
    assert!(answer.response_headers["ratelimit"].contains("r=99"), "{answer:?}");
    agent.shutdown().await;
}

#[tokio::test]
async fn a_public_publish_is_open_and_nobody_can_pretend_to_be_known() {
    let (_control, _state, agent) = open_for_business(vec![]).await;
    let answer = knock(&agent.xds, &id(1, 1), Some("anything")).await;
    assert_eq!(answer.status, 200);
    assert!(answer.headers.is_empty(), "{answer:?}");
    for name in
        ["x-api-key", "x-imp-consumer", "x-imp-subscription", "x-imp-customer", "x-imp-plan"]
    {
        assert!(answer.removed.iter().any(|removed| removed == name), "{answer:?}");
    }
    agent.shutdown().await;
}

#[tokio::test]
async fn refusals_are_problem_documents() {
    let (control, _state, agent) = open_for_business(vec![quota(1)]).await;
    let keyed = id(1, 0);
    let two = format!("{KEY},{KEY}");
    for key in [None, Some(""), Some("wrong"), Some(two.as_str())] {
        let answer = knock(&agent.xds, &keyed, key).await;
        assert_eq!((answer.status, &answer.body["code"]), (401, &"unauthenticated".into()));
        assert_eq!(answer.headers["content-type"], "application/problem+json");
        assert!(answer.headers.contains_key("www-authenticate"), "{answer:?}");
        assert_eq!(answer.body["request_id"], "r-1");
        assert!(!answer.body.to_string().contains("wrong"), "a key is in the answer");
    }
    for unmarked in [vec![], vec![("publish", "nobody")], vec![("route", "r")]] {
        let answer = ask(&agent.xds, &unmarked, &[("x-api-key", KEY)]).await.unwrap();
        assert_eq!((answer.status, &answer.body["code"]), (403, &"unknown_publish".into()));
    }
    let answer = knock(&agent.xds, &id(1, 2), Some(KEY)).await;
    assert_eq!((answer.status, &answer.body["code"]), (503, &"publish_suspended".into()));

    assert_eq!(knock(&agent.xds, &keyed, Some(KEY)).await.status, 200);
    let answer = knock(&agent.xds, &keyed, Some(KEY)).await;
    assert_eq!((answer.status, &answer.body["code"]), (429, &"quota_exceeded".into()));
    let wait: u64 = answer.headers["retry-after"].parse().unwrap();
    assert!(wait > 0 && answer.headers.contains_key("ratelimit-policy"), "{answer:?}");

    let mut suspended = entitlement(vec![]);
    suspended.state = pb::entitlement::State::Suspended.into();
    suspended.reason = "unpaid".into();
    control.state.set(&suspended);
    let status = || async { knock(&agent.xds, &keyed, Some(KEY)).await };
    let deadline = tokio::time::Instant::now() + rig::PATIENCE;
    let answer = loop {
        let answer = status().await;
        if answer.status == 403 || tokio::time::Instant::now() > deadline {
            break answer;
        }
    };
    assert_eq!(answer.body["code"], "subscription_suspended", "{answer:?}");
    agent.shutdown().await;
}

#[tokio::test]
async fn the_door_is_closed_until_everything_is_loaded() {
    let state = tempfile::tempdir().unwrap();
    let agent = agent("http://127.0.0.1:9", state.path()).await;
    let refused = ask(&agent.xds, &[("publish", &id(1, 1))], &[]).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unavailable);
    agent.shutdown().await;
}

#[tokio::test]
async fn what_comes_in_any_order_never_opens_early() {
    let control = Control::start().await;
    control.state.set(&credential());
    let state = tempfile::tempdir().unwrap();
    let agent = agent(&control.url(), state.path()).await;
    rig::ready(&agent).await;
    let publish_id = id(1, 0);
    assert_eq!(knock(&agent.xds, &publish_id, Some(KEY)).await.status, 403);
    control.state.set(&publish(0, 9_000));
    eventually("the publish", || control.state.status(&publish_id)).await;
    let answer = knock(&agent.xds, &publish_id, Some(KEY)).await;
    assert_eq!((answer.status, &answer.body["code"]), (403, &"no_subscription".into()));
    assert_eq!(knock(&agent.xds, &publish_id, None).await.status, 401);
    control.state.set(&fixtures::entitlement(vec![]));
    let deadline = tokio::time::Instant::now() + rig::PATIENCE;
    while knock(&agent.xds, &publish_id, Some(KEY)).await.status != 200 {
        assert!(tokio::time::Instant::now() < deadline, "never open");
    }
    control.state.remove::<pb::Credential>(&id(7, 1));
    while knock(&agent.xds, &publish_id, Some(KEY)).await.status != 401 {
        assert!(tokio::time::Instant::now() < deadline, "never closed");
    }
    agent.shutdown().await;
}
