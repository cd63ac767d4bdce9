//! The audit trail: every change leaves a row, for every kind of actor.

use chrono::TimeDelta;
use imp_core::{ApiTokenId, TenantId};
use imp_store::audit::{self, Actor, Entry};
use imp_store::event::{self, Event, Reader};
use imp_store::job;
use imp_store::testing::Kind;
use reqwest::Method;
use rstest::rstest;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::agent::{Agent, register, registration_token, renew, shows, status};
use crate::control_plane::{Caller, ControlPlane, Shop};
use crate::jobs::{rests, worker_at};

pub async fn rows(plane: &ControlPlane, object: &Value) -> Vec<Entry> {
    let id: Uuid = object["id"].as_str().unwrap().parse().unwrap();
    audit::of_object(&plane.running.store, id).await.unwrap()
}

/// All events so far.
async fn events(plane: &ControlPlane) -> Vec<Event> {
    let store = &plane.running.store;
    let mut tx = store.begin().await.unwrap();
    event::follow(&mut tx, "test", 0, plane.now.get()).await.unwrap();
    tx.commit().await.unwrap();
    Reader::new("test").read(store, 1000).await.unwrap()
}

async fn actor(caller: &Caller) -> Actor {
    let me = caller.get("/v1/me").await.ok();
    Actor::Token(me["api_token_id"].as_str().unwrap().parse::<ApiTokenId>().unwrap())
}

#[tokio::test]
async fn the_first_token_is_in_the_trail() {
    let plane = ControlPlane::start().await;
    let me = plane.admin.get("/v1/me").await.ok();
    let rows = rows(&plane, &json!({ "id": me["api_token_id"] })).await;
    let deeds: Vec<_> = rows.iter().map(|row| (row.actor, row.operation.as_str())).collect();
    assert_eq!(deeds, [(Actor::Bootstrap, "api_tokens.bootstrap")]);
}

#[rstest]
#[tokio::test]
async fn each_object_of_the_shop_names_who_made_it(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let plane = ControlPlane::on(kind).await;
    let shop = Shop::open(&plane, "acme").await;
    let (admin, provider) = (actor(&plane.admin).await, actor(&shop.provider).await);
    let customer = actor(&shop.customer).await;
    let tenant: TenantId = shop.id("tenants").parse().unwrap();
    for (kind, object) in &shop.objects {
        let rows = rows(&plane, object).await;
        let expected = match *kind {
            "tenants" | "clusters" => admin,
            "subscriptions" | "client-apps" | "consumers" | "credentials" => customer,
            _ => provider,
        };
        let first = rows.first().unwrap();
        let operation = format!("{}.create", kind.replace('-', "_"));
        assert_eq!((first.actor, &first.operation), (expected, &operation));
        assert!(!first.request_id.is_empty(), "{kind}");
        if expected != admin {
            assert_eq!(first.tenant_id, Some(tenant), "{kind}");
        }
    }
}

#[rstest]
#[tokio::test]
async fn each_row_names_the_request_that_asked_for_it(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let plane = ControlPlane::on(kind).await;
    let request = plane.admin.request(Method::POST, "/v1/tenants");
    let body = json!({ "name": "acme", "slug": "acme" });
    let request = request.header("x-request-id", "order-7").json(&body);
    let tenant = Caller::finish(request).await.ok();
    let path = format!("/v1/tenants/{}", tenant["id"].as_str().unwrap());
    // An id that is not a plain word is replaced, and the answer has the new one.
    let request = plane.admin.request(Method::PATCH, &path).header("x-request-id", "two words");
    let renamed = Caller::finish(request.json(&json!({ "name": "ACME" }))).await;
    let deleted = plane.admin.delete(&path).await;
    assert_eq!((renamed.status.as_u16(), deleted.status.as_u16()), (200, 204));
    let told = ["order-7", renamed.header("x-request-id"), deleted.header("x-request-id")];
    let operations = ["tenants.create", "tenants.update", "tenants.delete"];
    let rows = rows(&plane, &tenant).await;
    let deeds: Vec<_> = rows.iter().map(|row| (&*row.operation, &*row.request_id)).collect();
    assert_eq!(deeds, operations.into_iter().zip(told).collect::<Vec<_>>());
    assert!(told[1] != told[2] && told[1] != "two words");
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_leaves_rows_from_its_registration_to_its_end(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let plane = ControlPlane::on(kind).await;
    let cluster = plane.admin.make("clusters", json!({ "name": "here" })).await;
    let cluster = cluster["id"].as_str().unwrap();
    let secret = registration_token(&plane.admin, cluster).await;
    let tokens = plane.admin.get(&format!("/v1/clusters/{cluster}/registration-tokens")).await;
    let token = tokens.ok()["items"][0].clone();
    let (registered, credential) = register(&plane, &secret).await.unwrap();
    renew(plane.running.agent_addr, &credential).await.unwrap();
    let path = format!("/v1/clusters/{cluster}/agents/{}", registered.agent_id);
    assert_eq!(plane.admin.delete(&path).await.status, 204);

    let (admin, id) = (actor(&plane.admin).await, registered.agent_id);
    let agent = Actor::Agent(id.parse().unwrap());
    let of = |rows: Vec<Entry>| -> Vec<(Actor, String, bool)> {
        rows.into_iter().map(|it| (it.actor, it.operation, it.request_id.is_empty())).collect()
    };
    let wanted = |deeds: &[(Actor, &str, bool)]| -> Vec<(Actor, String, bool)> {
        deeds.iter().map(|(actor, name, own)| (*actor, (*name).to_owned(), *own)).collect()
    };
    assert_eq!(
        of(rows(&plane, &token).await),
        wanted(&[
            (admin, "registration_tokens.create", false),
            (agent, "registration_tokens.use", true),
        ])
    );
    assert_eq!(
        of(rows(&plane, &json!({ "id": id })).await),
        wanted(&[
            (agent, "agents.register", true),
            (agent, audit::RENEWAL, true),
            (admin, "agents.revoke", false),
        ])
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_agents_brought_a_publish_to_is_in_the_trail() {
    let plane = ControlPlane::start().await;
    let shop = Shop::open(&plane, "acme").await;
    let agent = Agent::start(&plane, shop.id("clusters")).await;
    let report = agent.report().await;
    report.beat(&["envoy"]).await;
    report.statuses(vec![status(shop.id("product-publishes"), 1, [1, 0, 0])]).await;
    shows(&plane.admin, &shop.path("product-publishes"), |it| it["status"] == "active").await;
    let rows = rows(&plane, &shop.objects["product-publishes"]).await;
    let last = rows.last().unwrap();
    assert_eq!((last.actor, last.operation.as_str()), (Actor::Platform, audit::REPORT));
    assert!(last.detail.ends_with("-> active"), "{}", last.detail);
    let events = events(&plane).await;
    let event = events.iter().rfind(|it| it.entry.operation == audit::REPORT).unwrap();
    let of = |field: &str| event.payload[field].clone();
    assert_eq!((of("to"), of("revision")), (json!("active"), json!(1)));
    assert_eq!(of("cluster_id"), json!(shop.id("clusters")));
    assert_eq!(Some(&event.entry), rows.last());
    // An action without effect writes no row.
    let before = rows.len();
    report.statuses(vec![status(shop.id("product-publishes"), 1, [2, 0, 0])]).await;
    let twice = |it: &Value| it["nodes"]["acked"] == 2;
    shows(&plane.admin, &shop.path("product-publishes"), twice).await;
    assert_eq!(crate::audit::rows(&plane, &shop.objects["product-publishes"]).await.len(), before);
}

#[tokio::test]
async fn a_job_that_removes_rows_says_so() {
    let plane = ControlPlane::start().await;
    let _shop = Shop::open(&plane, "acme").await;
    let store = &plane.running.store;
    let later = plane.now.get() + TimeDelta::days(2);
    rests(store, "prune").await;
    for time in [later, later + TimeDelta::hours(1)] {
        assert_eq!(worker_at(store, time).run_due(&["prune"]).await.unwrap(), 1);
    }
    let rows = audit::of_object(store, Uuid::nil()).await.unwrap();
    let [row] = rows.as_slice() else { panic!("once: {rows:?}") };
    assert_eq!((row.actor, row.operation.as_str()), (Actor::Job, "jobs.prune"));
    assert!(row.detail.starts_with("prune: "), "{}", row.detail);
    let job = job::list(store, "prune").await.unwrap().remove(0);
    assert_eq!(row.request_id, job.id.to_string());
}

#[tokio::test]
async fn refusals_are_counted_and_are_no_rows() {
    let plane = ControlPlane::start().await;
    let shop = Shop::open(&plane, "acme").await;
    let refused = async |status: &str| {
        let request = plane.admin.request(reqwest::Method::GET, "/metrics");
        let text = request.send().await.unwrap().text().await.unwrap();
        let name = format!("imp_rest_refused_total{{status=\"{status}\"}} ");
        let line = text.lines().find_map(|line| line.strip_prefix(&name).map(str::to_owned));
        line.map_or(0, |count| count.parse::<u64>().unwrap())
    };
    let (unknown, forbidden) = (refused("401").await, refused("403").await);
    plane.nobody().get("/v1/me").await.refused(401, "unauthenticated", "");
    let before = rows(&plane, &shop.objects["gateways"]).await;
    shop.customer.delete(&shop.path("gateways")).await.refused(403, "forbidden", "");
    // Other tests of this process are refused, too.
    assert!(refused("401").await > unknown && refused("403").await > forbidden);
    assert_eq!(rows(&plane, &shop.objects["gateways"]).await, before);
}
