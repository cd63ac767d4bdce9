use envoy_types::pb::envoy::config::listener::v3 as listener;

use super::json::{from_json, to_json};
use crate::ir::Edge;
use crate::xds::listener::inner::inner;
use crate::{Layout, Options};

fn options() -> Options {
    Options {
        bind_address: "127.0.0.1".into(),
        layout: Layout::InlineScopes,
        agent_cluster: "agent".into(),
        upstreams: crate::Upstreams::default(),
        door: crate::Door::default(),
        tells_hosts: true,
    }
}

#[test]
fn a_listener_is_the_same_after_its_way_through_json() {
    for edge in
        [Edge::default(), Edge { trusted_hops: 2, refuse_underscores: true, ..Edge::default() }]
    {
        let listener = inner("imp/inner-80", 80, &edge, &options());
        let json = to_json(&listener).unwrap();
        let back: listener::Listener = from_json(&json).unwrap();
        assert_eq!(to_json(&back).unwrap(), json);
        assert!(!json.to_string().contains("\"value\":\"C"), "an Any is not expanded: {json}");
    }
}
