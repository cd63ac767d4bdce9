//! The REST API's inputs.

use std::fmt::Debug;

use imp_control::rest::body::Json;
use imp_control::rest::param::{PAGE, Param, TENANT};
use imp_control::rest::query::Query;
use imp_core::Check;
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::bytes::edited;

/// The first byte selects the entity, the rest is the body. An accepted body is accepted again in
/// the form in which the API returns it, because callers PUT what they read.
pub(super) fn bodies(bytes: &[u8]) {
    let Some((kind, body)) = bytes.split_first() else { return };
    match kind % 13 {
        0 => body_of::<imp_core::api_service::ApiServiceSpec>(body),
        1 => body_of::<imp_core::gateway::GatewaySpec>(body),
        2 => body_of::<imp_core::product::ProductSpec>(body),
        3 => body_of::<imp_core::plan::PlanSpec>(body),
        4 => body_of::<imp_core::product_publish::ProductPublishSpec>(body),
        5 => body_of::<imp_core::customer::CustomerSpec>(body),
        6 => body_of::<imp_core::subscription::SubscriptionSpec>(body),
        7 => body_of::<imp_core::client_app::ClientAppSpec>(body),
        8 => body_of::<imp_core::consumer::ConsumerSpec>(body),
        9 => body_of::<imp_core::credential::CredentialSpec>(body),
        10 => body_of::<imp_core::api_token::ApiTokenSpec>(body),
        11 => body_of::<imp_core::tenant::TenantSpec>(body),
        _ => body_of::<imp_core::cluster::ClusterSpec>(body),
    }
}

fn body_of<T: Check + Serialize + DeserializeOwned + PartialEq + Debug>(body: &[u8]) {
    let Ok(spec) = Json::parse(body).and_then(Json::into_spec::<T>) else { return };
    let given = serde_json::to_vec(&spec).expect("a spec is JSON");
    let again = Json::parse(&given).and_then(Json::into_spec::<T>);
    assert_eq!(again.ok().as_ref(), Some(&spec), "accepted once, not twice");
}

/// A query string, or (first byte odd) an edited page token or one of another list: a page token is
/// valid only for its list, and only in its original spelling.
pub(super) fn page_tokens(bytes: &[u8]) {
    let Some((kind, rest)) = bytes.split_first() else { return };
    if kind % 2 == 0 {
        let raw = String::from_utf8_lossy(rest);
        let Ok(mut query) = Query::parse(&raw) else { return };
        let known = query.check(&[Param::text("status"), PAGE[0], PAGE[1], TENANT]);
        let Ok(page) = query.page("plans") else { return };
        let first = page.sheet().to_fetch(1_000).expect("an open page");
        assert!((2..=201).contains(&first.limit), "{raw}");
        let _tenant = query.take_tenant();
        let _status = query.take::<imp_core::product_publish::PublishStatus>("status");
        drop(known);
        return;
    }
    let good = token("plans");
    for (list, sent) in [
        ("plans", edited(good.as_bytes(), rest)),
        ("products", good.clone().into_bytes()),
        ("plans", rest.to_vec()),
    ] {
        let Ok(sent) = String::from_utf8(sent) else { continue };
        let Ok(mut query) = Query::parse(&format!("page_token={sent}")) else { continue };
        let Ok(page) = query.page(list) else { continue };
        let after = page.after().expect("a page token names a place");
        // `%41` is `A` and `+` is a blank before the token is parsed.
        let plain = !sent.contains(['%', '+']);
        assert!(!plain || sent == token_after(list, after), "{sent} opens {list}");
    }
}

fn token(list: &str) -> String {
    token_after(list, Uuid::from_u128(7))
}

fn token_after(list: &str, after: Uuid) -> String {
    let mut query = Query::parse("page_size=1").expect("a query");
    query.page(list).expect("a page").token_behind(after)
}

/// A regular expression: checked in bounded time (the fuzzer's own limit per input), and with the
/// same result by agent and API.
pub(super) fn regexes(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if imp_core::grammar::regex(text).is_ok() {
        super::contract::agent_takes_path(super::contract::Path::Regex, text);
    }
}
