//! How many publishes are accepted per second, and how long a start takes with them. It measures
//! and checks nothing, so it runs only when asked for:
//! `cargo test --release -p imp-control --test it pace -- --ignored --nocapture --test-threads 1`

use std::time::Instant;

use futures::{StreamExt as _, stream};
use imp_control::config::Config;
use imp_proto::config as pb;
use imp_store::testing::{Database, Kind};
use rstest::rstest;

use crate::agent::{Agent, eventually};
use crate::control_plane::{ControlPlane, Shop};

const PUBLISHES: usize = 5_000;
const CALLERS: usize = 4;

fn unlimited(config: Config) -> Config {
    Config { token_rate: 1_000_000, tenant_rate: 1_000_000, ..config }
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures"]
async fn publishes_per_second(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let database = Database::fresh(kind).await.unwrap();
    let plane = ControlPlane::start_as(Some(database.url()), unlimited).await;
    let shop = Shop::open(&plane, "acme").await;
    let started = Instant::now();
    let post = async |number| {
        let spec = shop.publish(&format!("h{number}.example.com"));
        shop.provider.make("product-publishes", spec).await;
    };
    stream::iter(0..PUBLISHES).map(post).buffer_unordered(CALLERS).collect::<Vec<()>>().await;
    let rate = PUBLISHES as f64 / started.elapsed().as_secs_f64();
    eprintln!("{kind:?}: {rate:.0} publishes a second, {CALLERS} callers of one tenant");

    let started = Instant::now();
    let plane = plane.restart(Some(database.url())).await;
    let agent = Agent::start(&plane, shop.id("clusters")).await;
    let all = async || (agent.held.all::<pb::Publish>().len() > PUBLISHES).then_some(());
    eventually("all publishes", all).await;
    let took = started.elapsed();
    eprintln!("{kind:?}: a new agent has all of them {took:?} after a restart began");
}
