//! Wildcards among hostnames: who may claim one, and that none takes what another tenant holds.

use imp_control::config::ClaimFlags;
use imp_grammar::features;
use imp_proto::config as pb;
use imp_store::testing::Kind;
use rstest::rstest;
use serde_json::{Value, json};

use crate::agent::{Agent, eventually, shows};
use crate::control_plane::{Answer, Caller, ControlPlane, Shop};

/// Two shops, and an operator who grants domains; tenants share `example.com`.
async fn two_shops(kind: Kind) -> (ControlPlane, Caller, Shop, Shop) {
    let flags = ClaimFlags {
        shared_domains: vec!["example.com".to_owned(), "apps.acme.org".to_owned()],
        ..ClaimFlags::in_process()
    };
    let plane = ControlPlane::ruled(kind, flags).await;
    let operator = plane.token(None, None, &["sre-operator"]).await;
    let (acme, other) = (Shop::open(&plane, "acme").await, Shop::open(&plane, "other").await);
    other.listen_on(8081).await;
    (plane, operator, acme, other)
}

async fn grant(operator: &Caller, shop: &Shop, name: &str) -> Answer {
    let domain = json!({ "tenant_id": shop.id("tenants"), "name": name });
    let domain = operator.make("domains", domain).await;
    operator.step(&format!("/v1/domains/{}/grant", domain["id"].as_str().unwrap())).await
}

async fn publish(shop: &Shop, host: &str) -> Answer {
    shop.provider.post("/v1/product-publishes", shop.publish(host)).await
}

#[rstest]
#[tokio::test]
async fn a_wildcard_needs_a_domain_of_its_tenant_alone(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let (_plane, operator, acme, other) = two_shops(kind).await;
    let unproven = async |shop: &Shop, host: &str| {
        publish(shop, host).await.refused(422, "hostname_not_verified", "/hostnames/0");
    };
    unproven(&acme, "*.corp.org").await;
    grant(&operator, &acme, "corp.org").await.ok();
    let made = publish(&acme, "*.Corp.Org.").await.ok();
    assert_eq!(made["hostnames"], json!(["*.corp.org"]));
    publish(&acme, "*.deep.corp.org").await.ok();
    // Above its domain, of somebody else's, of what tenants share or could share.
    for host in ["*.org", "*.com"] {
        publish(&acme, host).await.refused(422, "reserved_hostname", "/hostnames/0");
    }
    unproven(&other, "*.corp.org").await;
    unproven(&other, "*.x.corp.org").await;
    grant(&operator, &acme, "acme.org").await.ok();
    for host in ["*.example.com", "*.a.example.com", "*.acme.org", "*.apps.acme.org"] {
        unproven(&acme, host).await;
    }
    publish(&acme, "*.own.acme.org").await.ok();
    // A domain that is held below a shared one is its tenant's.
    grant(&operator, &acme, "held.example.com").await.ok();
    publish(&acme, "*.held.example.com").await.ok();
    // The same host and path twice, and the same host on another gateway of the port.
    publish(&acme, "*.corp.org").await.refused(409, "hostname_taken", "/hostnames/0");
    let below = acme.provider.post("/v1/product-publishes", {
        let mut body = acme.publish("*.corp.org");
        body["base_path"] = json!("/v1");
        body
    });
    below.await.ok();
    // A domain is in use by its wildcards.
    let domains = acme.provider.get("/v1/domains?name=corp.org").await.ok();
    let at = format!("/v1/domains/{}", domains["items"][0]["id"].as_str().unwrap());
    acme.provider.delete(&at).await.refused(409, "in_use", "");
}

#[rstest]
#[tokio::test]
async fn a_wildcard_and_another_tenants_host_below_it_exclude_each_other_without_a_domain(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let (_plane, operator, acme, other) = two_shops(kind).await;
    // The other one was there first, and has no domain of its own there.
    grant(&operator, &other, "corp.org").await.ok();
    publish(&other, "old.team.corp.org").await.ok();
    publish(&other, "*.old.team.corp.org").await.ok();
    grant(&operator, &acme, "team.corp.org").await.ok();
    let refused = publish(&acme, "*.team.corp.org").await;
    refused.refused(409, "hostname_taken", "/hostnames/0");
    assert!(!refused.body.to_string().contains("old."), "whose it is nobody is told");
    publish(&acme, "x.team.corp.org").await.ok();
    // Above what is in a domain of another tenant a wildcard may be; it does not take that.
    publish(&other, "*.corp.org").await.ok();
    let refused = publish(&other, "*.y.team.corp.org").await;
    refused.refused(422, "hostname_not_verified", "/hostnames/0");
}

#[rstest]
#[tokio::test]
async fn an_operator_grants_the_catch_all_to_one_tenant(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let (_plane, operator, acme, other) = two_shops(kind).await;
    publish(&acme, "*").await.refused(422, "hostname_not_verified", "/hostnames/0");
    let own = acme.provider.post("/v1/domains", json!({ "name": "*" })).await;
    own.refused(422, "reserved_hostname", "/name");
    let domain = json!({ "tenant_id": acme.id("tenants"), "name": "*" });
    let domain = operator.make("domains", domain).await;
    let at = format!("/v1/domains/{}", domain["id"].as_str().unwrap());
    publish(&acme, "*").await.refused(422, "hostname_not_verified", "/hostnames/0");
    acme.provider.step(&format!("{at}/grant")).await.refused(403, "forbidden", "");
    operator.step(&format!("{at}/grant")).await.ok();
    let made = publish(&acme, "*").await.ok();
    // It gives no right to any other name.
    publish(&acme, "api.nobody.org").await.refused(422, "hostname_not_verified", "/hostnames/0");
    publish(&acme, "*.nobody.org").await.refused(422, "hostname_not_verified", "/hostnames/0");
    publish(&other, "*").await.refused(422, "hostname_not_verified", "/hostnames/0");
    grant(&operator, &other, "*").await.refused(409, "domain_taken", "/name");
    operator.delete(&at).await.refused(409, "in_use", "");
    let path = format!("/v1/product-publishes/{}", made["id"].as_str().unwrap());
    assert_eq!(acme.provider.delete(&path).await.status, 204);
    assert_eq!(operator.delete(&at).await.status, 204);
}

/// The agent is told that a publish does not take these.
async fn told(agent: &Agent, id: &str, expected: &[&str]) {
    let look = async || {
        let all = agent.held.all::<pb::Publish>();
        let publish = all.into_iter().find(|publish| publish.id == id)?;
        (publish.kept_out_hosts == expected).then_some(())
    };
    eventually(format!("{expected:?}"), look).await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateways_are_told_what_a_wildcard_does_not_take(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let (plane, operator, acme, other) = two_shops(kind).await;
    let agent = Agent::start(&plane, acme.id("clusters")).await;
    grant(&operator, &acme, "corp.org").await.ok();
    grant(&operator, &other, "before.corp.org").await.ok();
    // Neither its own below, nor what only ends alike, nor what is not held.
    grant(&operator, &acme, "own.corp.org").await.ok();
    grant(&operator, &other, "xcorp.org").await.ok();
    other.provider.make("domains", json!({ "name": "pending.corp.org" })).await;
    let mut body = acme.publish("*.corp.org");
    body["hostnames"] = json!(["*.corp.org", "*.team.corp.org", "a.corp.org"]);
    let made = acme.provider.make("product-publishes", body).await;
    let id = made["id"].as_str().unwrap();
    let told = async |expected: &[&str]| told(&agent, id, expected).await;
    told(&["*.before.corp.org", "before.corp.org"]).await;
    // Another tenant proves a part: at once, without a new revision.
    let domain = grant(&operator, &other, "team.corp.org").await.ok();
    let both = ["*.before.corp.org", "*.team.corp.org", "before.corp.org", "team.corp.org"];
    told(&both).await;
    let after = acme.provider.get(&format!("/v1/product-publishes/{id}")).await.ok();
    assert_eq!((&after["desired_revision"], &after["status"]), (&json!(1), &made["status"]));
    // What is theirs can be published by them, exactly and as a wildcard, even if acme has it still.
    publish(&other, "x.team.corp.org").await.ok();
    publish(&other, "*.team.corp.org").await.refused(409, "hostname_taken", "/hostnames/0");
    let redeployed = acme.provider.step(&format!("/v1/product-publishes/{id}/redeploy")).await;
    redeployed.refused(422, "hostname_not_verified", "/hostnames/1");
    // They give it up.
    let published = other.provider.get("/v1/product-publishes").await.ok();
    for publish in published["items"].as_array().unwrap() {
        let is_there = publish["hostnames"][0] == "x.team.corp.org";
        if is_there {
            let at = format!("/v1/product-publishes/{}", publish["id"].as_str().unwrap());
            assert_eq!(other.provider.delete(&at).await.status, 204);
        }
    }
    let at = format!("/v1/domains/{}", domain["id"].as_str().unwrap());
    assert_eq!(other.provider.delete(&at).await.status, 204);
    told(&["*.before.corp.org", "before.corp.org"]).await;
}

/// However a domain and a wildcard above it come together, gateways hear of both.
#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_domain_that_is_proven_while_a_wildcard_is_claimed_is_kept_out(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let (plane, operator, acme, other) = two_shops(kind).await;
    let agent = Agent::start(&plane, acme.id("clusters")).await;
    for round in 0..6 {
        let (name, part) = (format!("r{round}.org"), format!("part.r{round}.org"));
        grant(&operator, &acme, &name).await.ok();
        let wildcard = format!("*.{name}");
        let (made, granted) =
            tokio::join!(publish(&acme, &wildcard), grant(&operator, &other, &part));
        let (made, _granted) = (made.ok(), granted.ok());
        let id = made["id"].as_str().unwrap();
        told(&agent, id, &[&format!("*.{part}"), &part]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_without_the_module_is_given_no_wildcard() {
    let (plane, operator, acme, _other) = two_shops(Kind::Sqlite).await;
    grant(&operator, &acme, "corp.org").await.ok();
    let agent = Agent::start(&plane, acme.id("clusters")).await;
    let report = agent.report().await;
    let seen_at = format!("{}/agents/{}", acme.path("clusters"), agent.id);
    let with_module = [&features::ALL[..], &[features::WILDCARD_HOSTS]].concat();
    let edit = || json!({ "hostnames": ["a.corp.org", "*.corp.org"] });
    for (version, known) in [("plain", &features::ALL[..]), ("module", &with_module)] {
        report.serves(version, &["rate_limit"], &["envoy-gateway"], known, &[]).await;
        shows(&plane.admin, &seen_at, |seen| seen["agent_version"] == version).await;
        let answer = acme.provider.patch(&acme.path("product-publishes"), edit()).await;
        if version == "module" {
            answer.ok();
        } else {
            answer.refused(422, "unsupported_by_agents", "/hostnames/1");
            assert!(answer.body.to_string().contains("wildcard_hosts"), "{}", answer.body);
        }
    }
}

/// A gateway's listener that names a host admits no wildcard.
#[tokio::test]
async fn a_listener_that_names_a_host_admits_no_wildcard() {
    let (_plane, operator, acme, _other) = two_shops(Kind::Sqlite).await;
    grant(&operator, &acme, "corp.org").await.ok();
    let narrow = json!({ "name": "narrow", "gateway_class": "envoy-gateway", "listeners": [
        { "name": "http", "port": 9999, "protocol": "HTTP", "hostname": "a.corp.org" },
    ]});
    let gateway: Value = acme.provider.make("gateways", narrow).await;
    let mut body = acme.publish("*.corp.org");
    body["gateway_id"] = gateway["id"].clone();
    let answer = acme.provider.post("/v1/product-publishes", body).await;
    answer.refused(422, "hostname_not_admitted", "/hostnames/0");
}
