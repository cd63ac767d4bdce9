//! A port opens when its enforcement filter has arrived.

use std::time::{Duration, Instant};

use envoy_types::pb::google::protobuf;
use imp_translate::xds::{EXTENSION, LISTENER};
use imp_translate::{Delta, Layout, Rendered};
use prost::Message as _;

use super::HOST;
use super::rig::Rig;
use crate::fixtures::{self, parsed};
use crate::golden;

#[tokio::test]
async fn a_port_opens_when_the_door_is_there() {
    let mut rig = Rig::start(Layout::ScopedRoutes).await;
    let mut delta = rig.assembly.set_gateway(fixtures::parsed_gateway(rig.port));
    let is_door = |resource: &mut Rendered| resource.type_url == EXTENSION;
    let door: Vec<_> = delta.all.upserts.extract_if(.., is_door).collect();
    rig.apply(&delta);
    let delta = rig.assembly.set_publish(parsed(&golden::rich("p1", HOST, rig.upstream)));
    rig.apply(&delta);
    rig.active("p1").await;
    let port = rig.port;
    let is_open = async || tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!is_open().await, "nobody would be let in");
    let mut delta = Delta::default();
    delta.all.upserts = door;
    rig.apply(&delta);
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_open().await {
        assert!(Instant::now() < deadline, "the port stays closed");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(rig.with_key(HOST, "GET /v1/pay").await.status, 200);
}

/// The same listener, whose filters may take that long to arrive.
fn warming_for(listener: &Rendered, milliseconds: i32) -> Rendered {
    use envoy_types::pb::envoy::config::listener::v3::{Listener, filter};
    use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
    let mut message = Listener::decode(listener.value.clone()).unwrap();
    for filter in message.filter_chains.iter_mut().flat_map(|chain| &mut chain.filters) {
        let Some(filter::ConfigType::TypedConfig(any)) = &mut filter.config_type else { continue };
        let mut manager = hcm::HttpConnectionManager::decode(any.value.as_slice()).unwrap();
        for filter in &mut manager.http_filters {
            if let Some(hcm::http_filter::ConfigType::ConfigDiscovery(slot)) =
                &mut filter.config_type
                && let Some(source) = &mut slot.config_source
            {
                let nanos = milliseconds * 1_000_000;
                source.initial_fetch_timeout = Some(protobuf::Duration { seconds: 0, nanos });
            }
        }
        any.value = manager.encode_to_vec();
    }
    Rendered { value: message.encode_to_vec().into(), ..listener.clone() }
}

#[tokio::test]
async fn without_the_door_every_call_is_503() {
    let mut rig = Rig::start(Layout::ScopedRoutes).await;
    let mut delta = rig.assembly.set_gateway(fixtures::parsed_gateway(rig.port));
    delta.all.upserts.retain(|resource| resource.type_url != EXTENSION);
    for resource in &mut delta.all.upserts {
        if resource.type_url == LISTENER {
            *resource = warming_for(resource, 100);
        }
    }
    rig.apply(&delta);
    let delta = rig.assembly.set_publish(parsed(&golden::rich("p1", HOST, rig.upstream)));
    rig.apply(&delta);
    rig.active("p1").await;
    rig.opens().await;
    let answer = rig.with_key(HOST, "GET /v1/pay").await;
    assert_eq!(answer.status, 503, "{answer:?}");
    assert_eq!(answer.problem().as_deref(), Some("enforcement_unavailable"), "{answer:?}");
}
