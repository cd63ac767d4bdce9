//! Which calls pass, and how the others are refused.

use super::*;
use pb::publish::AuthMode;

#[test]
fn a_good_key_passes_with_its_identity() {
    let admission = decide(&engine(), &call(Some(KEY), start())).unwrap();
    let identity = [
        ("x-imp-consumer", "consumer"),
        ("x-imp-subscription", "sub"),
        ("x-imp-customer", "customer"),
        ("x-imp-plan", "plan"),
    ];
    assert_eq!(admission.identity, identity.map(|(key, value)| (key, value.into())));
    assert_eq!(admission.response_headers, []);
}

#[test]
fn every_bad_credential_gets_the_same_401() {
    let engine = engine();
    let mut expired = credential("expired", "expired");
    expired.expires_at_ms = start().timestamp_millis();
    give_key(&engine, &expired);
    let mut revoked = credential("revoked", "revoked");
    revoked.state = pb::credential::State::Revoked.into();
    give_key(&engine, &revoked);
    let long = "k".repeat(10_000);
    let keys =
        [None, Some(""), Some("unknown"), Some("expired"), Some("revoked"), Some(long.as_str())];
    let mut denials: Vec<Denial> =
        keys.iter().map(|key| decide(&engine, &call(*key, start())).unwrap_err()).collect();
    let twice = Call { credential: Presented::Several, ..call(Some(KEY), start()) };
    denials.push(decide(&engine, &twice).unwrap_err());
    for denial in &denials {
        assert_eq!(denial.status, 401);
        assert_eq!(denial.problem("r"), denials[0].problem("r"));
        assert_eq!(denial.response_headers, denials[0].response_headers);
        assert!(header(&denial.response_headers, "www-authenticate").is_some());
    }
    let reasons: Vec<_> = denials.iter().map(|denial| denial.log_reason).collect();
    let logged = [
        "missing_key",
        "missing_key",
        "unknown_key",
        "expired_key",
        "unknown_key",
        "malformed_key",
        "duplicate_key",
    ];
    assert_eq!(reasons, logged, "logs tell them apart");
}

#[test]
fn a_revoked_key_is_refused_at_once_and_others_live_on() {
    let engine = engine();
    give_key(&engine, &credential("other", "other"));
    let mut revoked = credential("cred", KEY);
    revoked.state = pb::credential::State::Revoked.into();
    give_key(&engine, &revoked);
    assert!(!passes(&engine, start()));
    assert!(decide(&engine, &call(Some("other"), start())).is_ok());
    engine.remove_credential("other");
    assert!(decide(&engine, &call(Some("other"), start())).is_err());
}

#[test]
fn a_credential_with_a_new_key_forgets_the_old_one() {
    let engine = engine();
    give_key(&engine, &credential("cred", "new"));
    assert!(!passes(&engine, start()));
    assert!(decide(&engine, &call(Some("new"), start())).is_ok());
    give_key(&engine, &credential("second", "new"));
    engine.remove_credential("cred");
    assert!(decide(&engine, &call(Some("new"), start())).is_ok(), "it is the second's by now");
}

#[test]
fn a_key_ends_at_its_expiry() {
    let engine = engine();
    let mut credential = credential("cred", KEY);
    credential.expires_at_ms = after(10).timestamp_millis();
    give_key(&engine, &credential);
    assert!(passes(&engine, after(9)));
    assert!(!passes(&engine, after(10)));
}

#[test]
fn who_is_known_but_not_entitled_learns_why() {
    type Change = fn(&mut pb::Entitlement);
    let cases: [(Change, &str); 8] = [
        (|e| e.state = pb::entitlement::State::Ended.into(), "no_subscription"),
        (|e| e.state = 0, "no_subscription"),
        (|e| e.expires_at_ms = 1, "no_subscription"),
        (|e| e.state = pb::entitlement::State::Suspended.into(), "subscription_suspended"),
        (|e| e.product_id = "other".into(), "wrong_product"),
        (|e| e.tenant_id = "other".into(), "wrong_product"),
        (|e| e.environment = "dev".into(), "wrong_environment"),
        (|e| e.product_publish_id = "other".into(), "wrong_publish"),
    ];
    let engine = engine();
    for (change, code) in cases {
        let mut entitlement = entitlement();
        entitlement.reason = "unpaid".into();
        change(&mut entitlement);
        entitle(&engine, &entitlement);
        let denial = decide(&engine, &call(Some(KEY), start())).unwrap_err();
        assert_eq!((denial.status, denial.code), (403, code));
        let body: serde_json::Value = serde_json::from_str(&denial.problem("req-1")).unwrap();
        assert_eq!(body["status"], 403);
        assert_eq!(body["reason"], code);
        assert_eq!(body["request_id"], "req-1");
        let detail = (code == "subscription_suspended").then_some("unpaid");
        assert_eq!(body["detail"].as_str(), detail);
    }
    engine.remove_entitlement("sub");
    assert_eq!(denied(&engine, &call(Some(KEY), start())), (403, "no_subscription"));
    let mut pinned = entitlement();
    pinned.product_publish_id = "pub".into();
    entitle(&engine, &pinned);
    assert!(passes(&engine, start()));
}

#[test]
fn what_the_engine_does_not_know_is_closed() {
    let engine = engine();
    for publish_id in ["", "unknown"] {
        let publish = PublishKey::Id(publish_id);
        let call = Call { publish, ..call(Some(KEY), start()) };
        assert_eq!(denied(&engine, &call), (403, "unknown_publish"));
    }
    // What has gone is answered as it will be when the gateway has no route any more.
    engine.remove_publish("pub");
    for key in [None, Some(KEY)] {
        assert_eq!(denied(&engine, &call(key, start())), (404, "no_route"));
    }
    for mode in [AuthMode::Unspecified, AuthMode::Oauth2, AuthMode::Jwt, AuthMode::Mtls] {
        let publish = pb::Publish { auth_mode: mode.into(), ..publish() };
        engine.put_publish(PublishAccess::from(&publish));
        assert_eq!(
            denied(&engine, &call(Some(KEY), start())),
            (503, "unsupported_auth_mode"),
            "{mode:?}"
        );
    }
}

#[test]
fn a_suspended_publish_answers_503_even_without_a_key() {
    let engine = engine();
    engine.put_publish(PublishAccess::from(&pb::Publish { suspended: true, ..publish() }));
    assert_eq!(denied(&engine, &call(None, start())), (503, "publish_suspended"));
}

#[test]
fn a_public_publish_asks_for_nothing_and_says_nothing() {
    let engine = engine();
    let public = pb::Publish { auth_mode: AuthMode::None.into(), ..publish() };
    engine.put_publish(PublishAccess::from(&public));
    let admission = decide(&engine, &call(None, start())).unwrap();
    assert_eq!(admission, Admission::default());
}
