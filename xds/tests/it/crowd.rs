//! Many clients at once, some of them faulty.

use std::collections::BTreeMap;
use std::time::Duration;

use imp_xds::testing::FakeClient;
use imp_xds::{Change, ResourceSet, ServerConfig, TypeUrl};
use tokio::task::JoinSet;

use crate::peer::{A, B, config, resource, resource_set};
use crate::puller::pull;
use crate::support::{Running, until};

fn everything(set: &ResourceSet) -> BTreeMap<(String, String), String> {
    let of_type = |type_url: &str| {
        let type_url = TypeUrl::from(type_url);
        let names = set.names(&type_url);
        let entry = |name: &std::sync::Arc<str>| {
            let version = set.get(&type_url, name)?.version().to_string();
            Some(((type_url.to_string(), name.to_string()), version))
        };
        names.iter().filter_map(entry).collect::<Vec<_>>()
    };
    of_type(A).into_iter().chain(of_type(B)).collect()
}

#[tokio::test]
async fn no_update_is_lost_among_clients_that_stall_refuse_and_come_back() {
    let config = ServerConfig { removal_grace: Duration::from_millis(20), ..config() };
    let mut running = Running::start(resource_set(&[(A, "first", "0")]), config.clone()).await;
    let good: Vec<_> = (0..8).map(|_| pull(running.address)).collect();
    let mut stalled =
        FakeClient::connect(running.channel().await, "stalled").await.expect("a stream");
    stalled.subscribe(A, &[]).await.expect("sent");
    let mut refuses = FakeClient::connect(running.channel().await, "no").await.expect("a stream");
    refuses.subscribe(A, &[]).await.expect("sent");
    let refuser = tokio::spawn(async move {
        let mut refused = 0;
        while let Ok(response) = refuses.next().await {
            refused += 1;
            if refuses.nack(&response, "never").await.is_err() {
                break;
            }
        }
        refused
    });
    for step in 0..600_u32 {
        let mut change = Change::default();
        let (type_url, name) = (if step % 3 == 0 { B } else { A }, format!("r{}", step * 7 % 40));
        if step % 5 == 4 {
            change.remove(type_url, name);
        } else {
            change.upsert(type_url, resource(&name, &step.to_string()));
        }
        running.set.apply(change);
        if step == 300 {
            // All clients lose the stream.
            let (address, set) = (running.address, running.set.clone());
            running.kill();
            running = Running::restart(address, set, config.clone()).await;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let last = everything(&running.set);
    for client in &good {
        until("every client holds the last state", || client.all() == last).await;
    }
    drop(running);
    let refused = refuser.await.expect("it ends");
    assert!(refused < 3_000, "{refused} responses to a client that takes nothing");
}

#[tokio::test]
async fn r82_a_storm_of_clients_is_filled_a_few_at_a_time() {
    let names: Vec<String> = (0..200).map(|n| format!("r{n}")).collect();
    let all: Vec<_> = names.iter().map(|name| (A, name.as_str(), "1")).collect();
    let config = ServerConfig { max_syncing: 4, sync_wait: Duration::from_secs(30), ..config() };
    let running = Running::start(resource_set(&all), config).await;
    let channel = running.channel().await;
    let mut clients = JoinSet::new();
    for n in 0..100 {
        let channel = channel.clone();
        clients.spawn(async move {
            let mut client = FakeClient::connect(channel, &n.to_string()).await.expect("a stream");
            client.subscribe(A, &[]).await.expect("sent");
            client.accept().await.expect("everything").0.len()
        });
    }
    assert!(clients.join_all().await.iter().all(|held| *held == 200));
}
