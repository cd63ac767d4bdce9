//! Tests of access rules.

use super::*;

fn rated(id: &str, requests: u64, window_seconds: u64) -> pb::Policy {
    let rate = pb::RateLimit { requests, window_seconds };
    pb::Policy { id: id.into(), kind: Some(pb::policy::Kind::RateLimit(rate)) }
}

fn publish() -> pb::Publish {
    let route = |id: &str, policy: u32| pb::Route {
        id: id.into(),
        policy_indexes: vec![policy],
        ..Default::default()
    };
    let routes = vec![route("r1", 0), route("r2", 0), route("r3", 1)];
    pb::Publish {
        id: "p".into(),
        gateway_id: "g".into(),
        tenant_id: "t".into(),
        product_id: "q".into(),
        environment: "prod".into(),
        auth_mode: pb::publish::AuthMode::ApiKey.into(),
        hostnames: vec!["a.example.com".into()],
        api_services: vec![pb::ApiService { routes, ..Default::default() }],
        policies: vec![rated("a", 1, 60), rated("b", 1, 60)],
        ..Default::default()
    }
}

fn digest(publish: &pb::Publish) -> String {
    PublishAccess::from(publish).digest()
}

#[test]
fn the_digest_changes_with_what_decides_and_with_nothing_else() {
    let found = digest(&publish());
    let (start, hash) = found.rsplit_once('.').unwrap();
    assert_eq!(hash, "88e72ffb9af3428e", "it is the same in every build and former release");
    assert_eq!(start, "api_key.d37abcfc163c");
    let same: [fn(&mut pb::Publish); 5] = [
        |it| it.id = "other".into(),
        |it| it.suspended = true,
        |it| it.hostnames = vec!["b.example.com".into(), "c.example.com".into()],
        |it| it.base_path = "/below".into(),
        |it| it.api_services[0].routes.reverse(),
    ];
    for (number, change) in same.into_iter().enumerate() {
        let mut other = publish();
        change(&mut other);
        assert_eq!(digest(&other), found, "{number}");
    }
    let changes: [fn(&mut pb::Publish); 9] = [
        |it| it.gateway_id = "other".into(),
        |it| it.tenant_id = "other".into(),
        |it| it.product_id = "other".into(),
        |it| it.environment = "dev".into(),
        |it| it.auth_mode = pb::publish::AuthMode::None.into(),
        |it| it.policies[0] = rated("a", 2, 60),
        |it| it.policies[0] = rated("a", 1, 61),
        |it| it.api_services[0].routes[1].policy_indexes.clear(),
        |it| it.api_services[0].routes[2].policy_indexes.clear(),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let mut other = publish();
        change(&mut other);
        let other = digest(&other);
        assert_ne!(other, found, "{number}");
        let of = |digest: &str| digest.split('.').nth(1).map(str::to_owned);
        assert_eq!(of(&other) == of(&found), number >= 4, "{number}: the owner's part");
    }
}

#[test]
fn a_stored_row_says_all_of_it_and_one_of_a_former_release_can_be_read() {
    let access = PublishAccess::from(&publish());
    let row = serde_json::to_string(&access).unwrap();
    assert_eq!(serde_json::from_str::<PublishAccess>(&row).unwrap(), access);
    let former = r#"{"publish_id":"p","gateway_id":"g","tenant_id":"t","product_id":"q",
        "environment":"prod","auth_mode":"ApiKey","suspended":false,"limits":[
        {"id":"b","requests":1,"window_seconds":60,"routes":["r3"]},
        {"id":"a","requests":1,"window_seconds":60,"routes":["r2","r1"]}]}"#;
    let former: PublishAccess = serde_json::from_str(former).unwrap();
    assert_eq!(former.digest(), access.digest());
    assert_eq!(former.places(), (&[][..], "/"));
}
