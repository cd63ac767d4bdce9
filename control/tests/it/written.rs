//! A committed change is answered as a success, whatever cannot be read afterwards.

use imp_store::testing::{Kind, execute};
use rstest::rstest;
use serde_json::json;

use crate::control_plane::{ControlPlane, Shop};

/// No view can read the agents until [`MEND`]; what a write itself needs of them stays.
const BREAK: &str = "ALTER TABLE agents RENAME COLUMN nodes TO nodes_away";
const MEND: &str = "ALTER TABLE agents RENAME COLUMN nodes_away TO nodes";

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_view_that_cannot_be_read_fails_no_write(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let plane = ControlPlane::on(kind).await;
    let shop = Shop::open(&plane, "acme").await;
    let (cluster, publish) = (shop.path("clusters"), shop.path("product-publishes"));
    execute(&plane.running.store, BREAK).await.unwrap();
    // A read fails, so the view cannot be complete.
    assert_eq!(plane.admin.get(&cluster).await.status, 500);
    assert_eq!(shop.provider.get(&publish).await.status, 500);

    let made = plane.admin.post("/v1/clusters", json!({ "name": "made" })).await;
    assert_eq!(made.status, 201, "{:#}", made.body);
    assert_eq!((&made.body["name"], made.body.get("agents")), (&json!("made"), None));
    let renamed = plane.admin.patch(&cluster, json!({ "name": "renamed" })).await;
    assert_eq!(renamed.status, 200, "{:#}", renamed.body);
    let second = shop.provider.post("/v1/product-publishes", shop.publish("b.example.com")).await;
    assert_eq!(second.status, 201, "{:#}", second.body);
    assert_eq!(second.body["status"], "pending");
    let moved = json!({ "hostnames": ["c.example.com"] });
    let moved = shop.provider.patch(&publish, moved).await;
    assert_eq!(moved.status, 200, "{:#}", moved.body);
    let step = shop.provider.step(&format!("{publish}/redeploy")).await;
    assert_eq!((step.status.as_u16(), &step.body["desired_revision"]), (200, &json!(3)));

    execute(&plane.running.store, MEND).await.unwrap();
    let shown = plane.admin.get(&cluster).await.ok();
    assert_eq!((&shown["name"], &shown["agents"]["registered"]), (&json!("renamed"), &json!(0)));
    let shown = shop.provider.get(&publish).await.ok();
    assert_eq!(shown["hostnames"], json!(["c.example.com"]));
    assert_eq!(shown["desired_revision"], 3);
}
