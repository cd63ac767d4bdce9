//! Hostnames belong to the tenant that has proven them, or was granted them by an operator.

use std::time::{Duration, Instant};

use chrono::TimeDelta;
use imp_control::config::ClaimFlags;
use imp_store::testing::Kind;
use rstest::rstest;
use serde_json::{Value, json};

use crate::control_plane::{Answer, Caller, ControlPlane, Shop};
use crate::dns::{Dns, Says};

/// A control plane whose tenants share `apps.example.com`, with our DNS server; and two shops, each
/// of which serves a host of the shared domain.
async fn two_shops(kind: Kind) -> (ControlPlane, Dns, Shop, Shop) {
    let dns = Dns::start().await;
    let flags = ClaimFlags {
        shared_domains: vec!["example.com".to_owned()],
        dns_server: Some(dns.address),
        ..ClaimFlags::in_process()
    };
    let plane = ControlPlane::ruled(kind, flags).await;
    let (acme, other) = (Shop::open(&plane, "acme").await, Shop::open(&plane, "other").await);
    other.listen_on(8081).await;
    (plane, dns, acme, other)
}

async fn publish(shop: &Shop, host: &str) -> Answer {
    shop.provider.post("/v1/product-publishes", shop.publish(host)).await
}

async fn want(shop: &Shop, name: &str) -> Value {
    shop.provider.make("domains", json!({ "name": name })).await
}

async fn step(caller: &Caller, domain: &Value, verb: &str) -> Answer {
    caller.step(&format!("/v1/domains/{}/{verb}", domain["id"].as_str().unwrap())).await
}

async fn proven(dns: &Dns, shop: &Shop, name: &str) -> Value {
    let domain = want(shop, name).await;
    dns.prove(&domain);
    step(&shop.provider, &domain, "verify").await.ok()
}

fn path(object: &Value) -> String {
    format!("/v1/product-publishes/{}", object["id"].as_str().unwrap())
}

#[rstest]
#[tokio::test]
async fn a_tenant_publishes_below_a_domain_once_its_dns_record_is_found(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let (_control_plane, dns, acme, other) = two_shops(kind).await;
    let domain = acme.objects["domains"].clone();
    assert_eq!((&domain["status"], &domain["held_since"]), (&json!("pending"), &Value::Null));
    assert_eq!(domain["challenge"]["record"], "_imp-challenge.acme.shop");
    let refused = async || {
        let answer = publish(&acme, "api.acme.shop").await;
        answer.refused(422, "hostname_not_verified", "/hostnames/0");
    };
    refused().await;
    step(&acme.provider, &domain, "verify").await.refused(409, "proof_not_found", "");
    let record = domain["challenge"]["record"].as_str().unwrap();
    // Another domain's proof, and a text that only begins like the right one.
    let value = domain["challenge"]["value"].as_str().unwrap();
    let theirs = other.objects["domains"]["challenge"]["value"].as_str().unwrap();
    for wrong in [theirs.to_owned(), format!("{value}x"), value.to_uppercase()] {
        dns.say(record, Says::Texts(vec![vec![wrong]]));
        let answer = step(&acme.provider, &domain, "verify").await;
        answer.refused(409, "proof_not_found", "");
        let told = answer.body.to_string();
        assert!(!told.contains(theirs), "what stands in DNS is told to nobody: {told}");
    }
    refused().await;
    dns.prove(&domain);
    let held = step(&acme.provider, &domain, "verify").await.ok();
    assert_eq!((&held["status"], &held["version"]), (&json!("verified"), &json!(2)));
    assert!(held["held_since"].is_string(), "{held:#}");
    assert_eq!(step(&acme.provider, &domain, "verify").await.ok(), held, "once is enough");
    for host in ["acme.shop", "api.acme.shop", "A.B.Acme.Shop."] {
        assert_eq!(publish(&acme, host).await.status, 201, "{host}");
    }
    for host in ["badacme.shop", "shop", "acme.shop.evil.org"] {
        assert_eq!(publish(&acme, host).await.status, 422, "{host}");
    }
}

#[tokio::test]
async fn a_proof_may_stand_behind_an_alias() {
    let (_control_plane, dns, acme, _other) = two_shops(Kind::Sqlite).await;
    let domain = &acme.objects["domains"];
    let value = domain["challenge"]["value"].as_str().unwrap().to_owned();
    dns.say("_imp-challenge.acme.shop", Says::Alias("proofs.dns.example.", vec![value]));
    assert_eq!(step(&acme.provider, domain, "verify").await.ok()["status"], "verified");
}

#[tokio::test]
async fn a_proof_is_found_among_as_many_records_as_are_looked_at() {
    let (_control_plane, dns, acme, _other) = two_shops(Kind::Sqlite).await;
    let domain = &acme.objects["domains"];
    let value = domain["challenge"]["value"].as_str().unwrap();
    let cap = imp_grammar::caps::DNS_RECORDS.size();
    let behind = |others: usize| {
        let mut texts: Vec<_> = (0..others).map(|n| vec![n.to_string()]).collect();
        texts.push(vec![value.to_owned()]);
        dns.say("_imp-challenge.acme.shop", Says::Texts(texts));
    };
    behind(cap);
    step(&acme.provider, domain, "verify").await.refused(409, "proof_not_found", "");
    behind(cap - 1);
    assert_eq!(step(&acme.provider, domain, "verify").await.ok()["status"], "verified");
}

/// A tenant cannot take names that belong to nobody or to the operators.
#[tokio::test]
async fn addresses_reserved_names_and_names_of_nobody_are_refused() {
    let (plane, _dns, acme, _other) = two_shops(Kind::Sqlite).await;
    let before = plane.everything().await;
    for (host, code) in [
        ("127.0.0.1", "reserved_hostname"),
        ("10.0.0.1", "reserved_hostname"),
        ("169.254.169.254", "reserved_hostname"),
        ("127.1", "reserved_hostname"),
        ("0x7f.0.0.1", "reserved_hostname"),
        ("2130706433", "reserved_hostname"),
        ("localhost", "reserved_hostname"),
        ("LocalHost.", "reserved_hostname"),
        ("api.localhost", "reserved_hostname"),
        ("printer.local", "reserved_hostname"),
        ("kubernetes", "reserved_hostname"),
        ("kubernetes.default", "reserved_hostname"),
        ("kubernetes.default.svc", "reserved_hostname"),
        ("kubernetes.default.svc.cluster.local", "reserved_hostname"),
        ("metadata.google.internal", "reserved_hostname"),
        ("router.home.arpa", "reserved_hostname"),
        ("com", "reserved_hostname"),
        ("co.uk", "reserved_hostname"),
        ("www.google.com", "hostname_not_verified"),
        ("xn--bcher-kva.de", "hostname_not_verified"),
        ("example.com", "hostname_not_verified"),
        ("xn--a.example.com", "invalid_hostname"),
        ("[::1]", "invalid_hostname"),
        ("a.example.com:80", "invalid_hostname"),
        ("*.example.com", "hostname_not_verified"),
        ("*.co.uk", "reserved_hostname"),
        ("*.com", "reserved_hostname"),
        ("*.127.0.0.1", "reserved_hostname"),
        ("*.svc", "reserved_hostname"),
        ("*", "hostname_not_verified"),
        ("*a.example.com", "invalid_hostname"),
        ("a.*.example.com", "invalid_hostname"),
        ("*.*.example.com", "invalid_hostname"),
        ("*.", "invalid_hostname"),
    ] {
        let mut body = acme.publish("fine.example.com");
        body["hostnames"] = json!(["fine.example.com", host]);
        let answer = acme.provider.post("/v1/product-publishes", body.clone()).await;
        answer.refused(422, code, "/hostnames/1");
        // Nor by editing an existing one.
        let edit = json!({ "hostnames": body["hostnames"] });
        let answer = acme.provider.patch(&acme.path("product-publishes"), edit).await;
        answer.refused(422, code, "/hostnames/1");
    }
    assert_eq!(plane.everything().await, before);
}

#[rstest]
#[tokio::test]
async fn another_tenants_domain_and_nobodys_get_the_same_answer(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let (_control_plane, dns, acme, other) = two_shops(kind).await;
    proven(&dns, &acme, "held.org").await;
    publish(&acme, "api.held.org").await.ok();
    let mut told = Vec::new();
    for host in ["api.held.org", "new.held.org", "held.org", "api.free.org"] {
        let answer = publish(&other, host).await;
        answer.refused(422, "hostname_not_verified", "/hostnames/0");
        let mut body = answer.body;
        body["request_id"] = Value::Null;
        told.push(body.to_string().replace(host, "HOST"));
    }
    told.dedup();
    assert_eq!(told.len(), 1, "{told:#?}");
    // Claiming a domain reveals nothing, either.
    let (held, free) = (want(&other, "held.org").await, want(&other, "free.org").await);
    for domain in [held, free] {
        assert_eq!(domain["status"], "pending");
        step(&other.provider, &domain, "verify").await.refused(409, "proof_not_found", "");
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_who_want_a_domain_at_once_one_gets_it(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let (plane, dns, acme, other) = two_shops(kind).await;
    let mut wants = vec![want(&acme, "race.org").await, want(&other, "race.org").await];
    for index in 0..18 {
        let tenant = json!({ "name": "x", "slug": format!("t{index}") });
        let tenant = plane.admin.make("tenants", tenant).await;
        let domain = json!({ "tenant_id": tenant["id"], "name": "race.org" });
        wants.push(plane.admin.make("domains", domain).await);
    }
    let values = wants.iter().map(|it| it["challenge"]["value"].as_str().unwrap().to_owned());
    let texts = values.map(|value| vec![value]).collect();
    dns.say("_imp-challenge.race.org", Says::Texts(texts));
    let calls = wants.iter().enumerate().map(|(index, domain)| {
        let (admin, domain) = (plane.admin.clone(), domain.clone());
        let verb = if index % 2 == 0 { "verify" } else { "grant" };
        tokio::spawn(async move { step(&admin, &domain, verb).await })
    });
    let (mut won, mut busy) = (0, 0);
    for call in calls.collect::<Vec<_>>() {
        let answer = call.await.unwrap();
        match (answer.status.as_u16(), answer.code()) {
            (200, _) => won += 1,
            (503, "dns_unavailable") => busy += 1,
            _ => answer.refused(409, "domain_taken", "/name"),
        }
    }
    assert_eq!(won, 1, "{busy} were told to come again");
}

#[rstest]
#[tokio::test]
async fn a_host_of_one_tenant_is_no_other_tenants_in_any_cluster_or_path(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let (plane, _dns, acme, other) = two_shops(kind).await;
    let before = plane.everything().await;
    for cluster in [acme.id("clusters"), other.id("clusters")] {
        for base_path in ["/", "/v1", "/payments", "/payments/x", "/zzz"] {
            for host in [acme.host.clone(), acme.host.to_uppercase(), format!("{}.", acme.host)] {
                let mut body = other.publish(&host);
                (body["cluster_id"], body["base_path"]) = (json!(cluster), json!(base_path));
                let answer = other.provider.post("/v1/product-publishes", body).await;
                answer.refused(409, "hostname_taken", "/hostnames/0");
                let told = answer.body.to_string();
                assert!(!told.contains(acme.id("tenants")), "{told}");
                assert!(!told.contains(acme.id("product-publishes")), "{told}");
            }
        }
    }
    assert_eq!(plane.everything().await, before);
    // The same tenant may have it in another cluster.
    let mut body = acme.publish(&acme.host);
    body["cluster_id"] = json!(other.id("clusters"));
    acme.provider.make("product-publishes", body).await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_tenants_that_race_for_a_host_in_different_clusters_one_gets_it(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let (_control_plane, _dns, acme, other) = two_shops(kind).await;
    let calls = (0..20).map(|index| {
        let shop = if index % 2 == 0 { &acme } else { &other };
        let (caller, mut body) = (shop.provider.clone(), shop.publish("race.example.com"));
        body["base_path"] = json!(format!("/p{index}"));
        tokio::spawn(async move { caller.post("/v1/product-publishes", body).await })
    });
    let mut winners = Vec::new();
    for call in calls.collect::<Vec<_>>() {
        let answer = call.await.unwrap();
        match answer.status.as_u16() {
            201 => winners.push(answer.body["tenant_id"].clone()),
            _ => answer.refused(409, "hostname_taken", "/hostnames/0"),
        }
    }
    assert_eq!(winners.len(), 10, "each of the winner's base paths is free");
    winners.dedup();
    assert_eq!(winners.len(), 1, "{winners:?}");
}

#[rstest]
#[tokio::test]
async fn a_host_that_is_given_up_waits_a_day_for_its_tenant(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let (plane, _dns, acme, other) = two_shops(kind).await;
    let publish_path = acme.path("product-publishes");
    acme.provider.patch(&publish_path, json!({ "hostnames": ["new.example.com"] })).await.ok();
    publish(&other, &acme.host).await.refused(409, "hostname_taken", "/hostnames/0");
    // The same tenant takes it back without waiting, and releases it once more.
    let back = publish(&acme, &acme.host).await.ok();
    assert_eq!(acme.provider.delete(&path(&back)).await.status, 204);
    plane.now.advance(TimeDelta::hours(24) - TimeDelta::seconds(1));
    publish(&other, &acme.host).await.refused(409, "hostname_taken", "/hostnames/0");
    plane.now.advance(TimeDelta::seconds(1));
    publish(&other, &acme.host).await.ok();
    let rollback = json!({ "revision": 1 });
    let answer = acme.provider.post(&format!("{publish_path}/rollback"), rollback).await;
    answer.refused(409, "hostname_taken", "/hostnames/0");
}

#[rstest]
#[tokio::test]
async fn who_proves_a_part_of_a_domain_has_that_part(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let (_control_plane, dns, acme, other) = two_shops(kind).await;
    proven(&dns, &acme, "corp.org").await;
    let before = publish(&acme, "old.team.corp.org").await.ok();
    proven(&dns, &other, "team.corp.org").await;
    publish(&other, "new.team.corp.org").await.ok();
    let answer = publish(&acme, "more.team.corp.org").await;
    answer.refused(422, "hostname_not_verified", "/hostnames/0");
    publish(&acme, "api.corp.org").await.ok();
    publish(&other, "x.corp.org").await.refused(422, "hostname_not_verified", "/hostnames/0");
    // It is still served and belongs to nobody else, but cannot be published again.
    publish(&other, "old.team.corp.org").await.refused(409, "hostname_taken", "/hostnames/0");
    let answer = acme.provider.step(&format!("{}/redeploy", path(&before))).await;
    answer.refused(422, "hostname_not_verified", "/hostnames/0");
    // A shared domain does not weaken one that is held below it.
    proven(&dns, &acme, "acme.example.com").await;
    let answer = publish(&other, "x.acme.example.com").await;
    answer.refused(422, "hostname_not_verified", "/hostnames/0");
    publish(&other, "x.example.com").await.ok();
}

#[rstest]
#[tokio::test]
async fn an_operator_grants_what_cannot_be_proven(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let (plane, _dns, acme, other) = two_shops(kind).await;
    let operator = plane.token(None, None, &["sre-operator"]).await;
    for name in ["corp.internal", "localhost"] {
        let answer = acme.provider.post("/v1/domains", json!({ "name": name })).await;
        answer.refused(422, "reserved_hostname", "/name");
        let body = json!({ "tenant_id": acme.id("tenants"), "name": name });
        let domain = operator.make("domains", body).await;
        let host = format!("api.{name}");
        publish(&acme, &host).await.refused(422, "reserved_hostname", "/hostnames/0");
        step(&acme.provider, &domain, "grant").await.refused(403, "forbidden", "");
        let held = step(&operator, &domain, "grant").await.ok();
        assert_eq!(held["status"], "granted");
        publish(&acme, &host).await.ok();
        publish(&other, &format!("b.{name}")).await.refused(
            422,
            "reserved_hostname",
            "/hostnames/0",
        );
    }
    for name in ["com", "co.uk", "10.0.0.1"] {
        let body = json!({ "tenant_id": acme.id("tenants"), "name": name });
        let answer = operator.post("/v1/domains", body).await;
        answer.refused(422, "reserved_hostname", "/name");
    }
}

#[rstest]
#[tokio::test]
async fn a_domain_is_given_up_when_nothing_is_served_below_it(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let (_control_plane, dns, acme, _other) = two_shops(kind).await;
    let domain = proven(&dns, &acme, "corp.org").await;
    let served = publish(&acme, "api.corp.org").await.ok();
    let at = format!("/v1/domains/{}", domain["id"].as_str().unwrap());
    acme.provider.delete(&at).await.refused(409, "in_use", "");
    acme.provider.patch(&path(&served), json!({ "hostnames": ["b.example.com"] })).await.ok();
    assert_eq!(acme.provider.delete(&at).await.status, 204);
    publish(&acme, "api.corp.org").await.refused(422, "hostname_not_verified", "/hostnames/0");
    let rollback = json!({ "revision": 1 });
    let answer = acme.provider.post(&format!("{}/rollback", path(&served)), rollback).await;
    answer.refused(422, "hostname_not_verified", "/hostnames/0");
}

/// Publishing and releasing the domain concurrently: one of the two is refused.
#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_published_below_a_domain_that_goes_at_the_same_time(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let (_control_plane, dns, acme, _other) = two_shops(kind).await;
    for round in 0..6 {
        let name = format!("r{round}.org");
        let domain = proven(&dns, &acme, &name).await;
        let at = format!("/v1/domains/{}", domain["id"].as_str().unwrap());
        let host = format!("api.{name}");
        let (served, gone) = tokio::join!(publish(&acme, &host), acme.provider.delete(&at));
        match served.status.as_u16() {
            201 => gone.refused(409, "in_use", ""),
            _ => {
                served.refused(422, "hostname_not_verified", "/hostnames/0");
                assert_eq!(gone.status, 204);
            }
        }
    }
}

#[tokio::test]
async fn dns_that_fails_is_told_so_in_time_and_holds_nobody_else_up() {
    let (_control_plane, dns, acme, other) = two_shops(Kind::Sqlite).await;
    let domain = acme.objects["domains"].clone();
    let record = domain["challenge"]["record"].as_str().unwrap();
    for says in [Says::Failure, Says::Nonsense, Says::Silence] {
        dns.say(record, says);
        let asked = Instant::now();
        let answer = step(&acme.provider, &domain, "verify").await;
        answer.refused(503, "dns_unavailable", "");
        assert!(asked.elapsed() < Duration::from_secs(20), "{:?}", asked.elapsed());
    }
    // A flood of slow look-ups: those over the bound are refused with a time to retry, writes
    // continue.
    let calls: Vec<_> = (0..40)
        .map(|_| {
            let (caller, domain) = (acme.provider.clone(), domain.clone());
            tokio::spawn(async move { step(&caller, &domain, "verify").await })
        })
        .collect();
    publish(&acme, "beside.example.com").await.ok();
    // One tenant's flood leaves capacity for another's look-up.
    dns.prove(&other.objects["domains"]);
    let held = step(&other.provider, &other.objects["domains"], "verify").await.ok();
    assert_eq!(held["status"], "verified");
    for call in calls {
        call.await.unwrap().refused(503, "dns_unavailable", "");
    }
    dns.prove(&domain);
    assert_eq!(step(&acme.provider, &domain, "verify").await.ok()["status"], "verified");
}
