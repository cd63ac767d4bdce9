//! Several gateways share a port if their listeners' settings agree.

use imp_core::ClusterId;
use imp_core::cluster::Cluster;
use imp_core::gateway::{Gateway, ListenerProtocol, ListenerSettings};
use imp_store::Record as _;
use imp_store::Writable as _;
use imp_store::listener_port::{self as table, Port};
use imp_store::testing::Kind;
use imp_store::{Result, Store, StoreError};
use rstest::rstest;

use crate::shop::{Shop, all, store, write};

const HTTP: ListenerProtocol = ListenerProtocol::Http;
const HTTPS: ListenerProtocol = ListenerProtocol::Https;

fn port(port: u16, protocol: ListenerProtocol) -> Port {
    Port { port, settings: ListenerSettings { protocol, gateway: Default::default() } }
}

async fn claim(store: &Store, gateway: &Gateway, cluster: ClusterId, it: &[Port]) -> Result<()> {
    write(store, async |tx| table::replace(tx, gateway, cluster, it).await).await
}

#[track_caller]
fn taken(done: Result<()>) {
    assert!(matches!(done, Err(StoreError::Taken { field: "listeners" })), "{done:?}");
}

#[rstest]
#[tokio::test]
async fn listeners_share_a_port_when_their_settings_agree(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let (_database, store) = store(kind).await;
    let (acme, other) = (Shop::open(&store, "acme").await, Shop::open(&store, "other").await);
    let cluster = acme.cluster.id;
    let http = [port(80, HTTP), port(8080, HTTP)];
    claim(&store, &acme.gateway, cluster, &http).await.unwrap();
    claim(&store, &other.gateway, cluster, &http[1..]).await.unwrap();
    taken(claim(&store, &other.gateway, cluster, &[port(80, HTTPS)]).await);
    taken(claim(&store, &acme.gateway, cluster, &[port(8080, HTTPS)]).await);
    claim(&store, &other.gateway, other.cluster.id, &[port(80, HTTPS)]).await.unwrap();
    let claimed = async |gateway: &Gateway| {
        write(&store, async |tx| table::claimed_by(tx, gateway.id, cluster).await).await.unwrap()
    };
    assert_eq!(claimed(&acme.gateway).await, http, "a refusal changes nothing");
    let ports = [80, 443, 8080].into();
    let ask = async |tx: &mut _| table::others_on(tx, acme.gateway.id, cluster, &ports).await;
    assert_eq!(write(&store, ask).await.unwrap(), http[1..]);
    let all_ports = write(&store, async |tx| table::claimed_in(tx, cluster).await).await.unwrap();
    assert_eq!(all_ports, [80, 8080].into());

    // Alone on its port, a gateway may change its protocol; once released, anyone can claim the
    // port.
    claim(&store, &acme.gateway, cluster, &[port(80, HTTPS)]).await.unwrap();
    claim(&store, &acme.gateway, cluster, &[]).await.unwrap();
    claim(&store, &other.gateway, cluster, &[port(80, HTTP)]).await.unwrap();
}

#[rstest]
#[tokio::test]
async fn claims_go_with_their_gateway_and_their_cluster(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let (_database, store) = store(kind).await;
    let shop = Shop::open(&store, "acme").await;
    let (mut idle, spare) = (Shop::new("acme").gateway, Shop::new("spare").cluster);
    (idle.tenant_id, idle.spec.name) = (shop.tenant.id, "idle".to_owned());
    let add = async |tx: &mut _| {
        idle.insert(tx).await?;
        spare.insert(tx).await
    };
    write(&store, add).await.unwrap();
    for cluster in [shop.cluster.id, spare.id] {
        claim(&store, &idle, cluster, &[port(80, HTTP)]).await.unwrap();
    }
    let gone = async |tx: &mut _| Cluster::delete(tx, &all(), spare.id).await;
    assert!(write(&store, gone).await.unwrap());
    let gone = async |tx: &mut _| Gateway::delete(tx, &all(), idle.id).await;
    assert!(write(&store, gone).await.unwrap());
    // Its former claims block nobody.
    claim(&store, &shop.gateway, shop.cluster.id, &[port(80, HTTPS)]).await.unwrap();
}

/// Twenty gateways claim one port concurrently, half of them with another protocol: those that
/// succeed agree.
#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_gateways_that_race_for_a_port_those_that_agree_get_it(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let (_database, store) = store(kind).await;
    let shop = Shop::open(&store, "acme").await;
    let mut gateways = Vec::new();
    for index in 0..20 {
        let mut another = crate::shop::gateway(shop.tenant.id);
        another.spec.name = format!("g{index}");
        write(&store, async |tx| another.insert(tx).await).await.unwrap();
        gateways.push(another);
    }
    let cluster = shop.cluster.id;
    let calls = gateways.into_iter().enumerate().map(|(index, gateway)| {
        let (store, protocol) = (store.clone(), if index % 2 == 0 { HTTP } else { HTTPS });
        tokio::spawn(async move {
            let done = claim(&store, &gateway, cluster, &[port(8080, protocol)]).await;
            (protocol, done)
        })
    });
    let mut won = Vec::new();
    for call in calls.collect::<Vec<_>>() {
        match call.await.unwrap() {
            (protocol, Ok(())) => won.push(protocol),
            (_, done) => taken(done),
        }
    }
    assert_eq!(won.len(), 10, "{won:?}");
    assert!(won.windows(2).all(|pair| pair[0] == pair[1]), "{won:?}");
}
