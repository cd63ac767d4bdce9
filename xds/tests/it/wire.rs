//! Our few messages compared with envoy-types: the same bytes have the same meaning.

use std::collections::HashMap;

use envoy_types::pb::envoy::service::discovery::v3 as envoy;
use imp_xds::wire;
use prost::Message as _;

fn any() -> wire::Any {
    wire::Any { type_url: "type.test/A".to_owned(), value: b"value".to_vec().into() }
}

#[test]
fn a_delta_response_is_envoys() {
    let ours = wire::DeltaDiscoveryResponse {
        system_version_info: "7".to_owned(),
        resources: vec![wire::Resource {
            version: "v".to_owned(),
            resource: Some(any()),
            name: "n".to_owned(),
            aliases: vec!["m".to_owned()],
            ttl: Some(std::time::Duration::from_millis(1_500).into()),
            metadata: Some(wire::Metadata::of("imp.test", [("cause", "request 7")])),
        }],
        type_url: "type.test/A".to_owned(),
        nonce: "12".to_owned(),
        removed_resources: vec!["gone".to_owned()],
        more: false,
    };
    let bytes = ours.encode_to_vec();
    let theirs = envoy::DeltaDiscoveryResponse::decode(&bytes[..]).expect("Envoy's");
    assert_eq!(theirs.system_version_info, "7");
    assert_eq!(theirs.resources[0].version, "v");
    assert_eq!(theirs.resources[0].name, "n");
    assert_eq!(theirs.resources[0].aliases, ["m"]);
    let ttl = theirs.resources[0].ttl.as_ref().expect("a TTL");
    assert_eq!((ttl.seconds, ttl.nanos), (1, 500_000_000));
    assert_eq!(theirs.resources[0].resource.as_ref().expect("any").value, b"value");
    let metadata = theirs.resources[0].metadata.as_ref().expect("metadata");
    let value = &metadata.filter_metadata["imp.test"].fields["cause"];
    let text = envoy_types::pb::google::protobuf::value::Kind::StringValue("request 7".to_owned());
    assert_eq!(value.kind, Some(text));
    assert_eq!(theirs.type_url, "type.test/A");
    assert_eq!(theirs.nonce, "12");
    assert_eq!(theirs.removed_resources, ["gone"]);
    assert_eq!(wire::DeltaDiscoveryResponse::decode(&theirs.encode_to_vec()[..]), Ok(ours));
}

#[test]
fn metadata_of_many_resources_is_as_large_as_its_texts() {
    let cause = wire::Metadata::of("imp.test", [("cause", "request 7"), ("trace", "8")]);
    let [namespace] = &cause.filter_metadata[..] else { panic!("{cause:?}") };
    let fields = &namespace.value.as_ref().expect("fields").fields;
    assert_eq!((fields.len(), fields.capacity()), (2, 2));
    let kept = size_of_val(namespace) + size_of_val(&fields[..]);
    assert!(kept <= 150, "{kept} bytes beside the texts");
    // Envoy's maps read it, and ours reads theirs, in whatever order.
    let theirs =
        envoy_types::pb::envoy::config::core::v3::Metadata::decode(&cause.encode_to_vec()[..])
            .expect("Envoy's");
    assert_eq!(theirs.filter_metadata["imp.test"].fields.len(), 2);
    let again = wire::Metadata::decode(&theirs.encode_to_vec()[..]).expect("ours");
    assert_eq!(again.text("imp.test", "cause"), Some("request 7"));
    assert_eq!(again.text("imp.test", "trace"), Some("8"));
    assert_eq!(again.text("other", "trace"), None);
    let twice = wire::Metadata {
        filter_metadata: [cause, wire::Metadata::of("imp.test", [("cause", "last")])]
            .into_iter()
            .flat_map(|one| one.filter_metadata)
            .collect(),
    };
    assert_eq!(twice.text("imp.test", "cause"), Some("last"));
}

#[test]
fn a_delta_request_is_envoys() {
    use envoy_types::pb::envoy::config::core::v3 as core;
    use envoy_types::pb::envoy::r#type::v3::SemanticVersion;
    let version = SemanticVersion { major_number: 1, minor_number: 40, patch: 2 };
    let build = core::BuildVersion { version: Some(version), metadata: None };
    let theirs = envoy::DeltaDiscoveryRequest {
        node: Some(core::Node {
            id: "node".to_owned(),
            cluster: "cluster".to_owned(),
            user_agent_name: "envoy".to_owned(),
            user_agent_version_type: Some(core::node::UserAgentVersionType::UserAgentBuildVersion(
                build,
            )),
            client_features: vec!["one".to_owned(), "two".to_owned()],
            ..Default::default()
        }),
        type_url: "t".to_owned(),
        resource_names_subscribe: vec!["a".to_owned()],
        resource_names_unsubscribe: vec!["b".to_owned()],
        initial_resource_versions: HashMap::from([("c".to_owned(), "1".to_owned())]),
        response_nonce: "9".to_owned(),
        error_detail: Some(envoy_types::pb::google::rpc::Status {
            code: 13,
            message: "bad".to_owned(),
            details: Vec::new(),
        }),
        ..Default::default()
    };
    let ours = wire::DeltaDiscoveryRequest::decode(&theirs.encode_to_vec()[..]).expect("ours");
    let node = ours.node.expect("node");
    assert_eq!((node.id.as_str(), node.cluster.as_str()), ("node", "cluster"));
    assert_eq!((node.user_agent_name.as_str(), node.version_text().as_str()), ("envoy", "1.40.2"));
    assert_eq!(node.client_features, ["one", "two"]);
    assert_eq!(ours.type_url, "t");
    assert_eq!(ours.resource_names_subscribe, ["a"]);
    assert_eq!(ours.resource_names_unsubscribe, ["b"]);
    assert_eq!(ours.initial_resource_versions["c"], "1");
    assert_eq!(ours.response_nonce, "9");
    assert_eq!(ours.error_detail, Some(wire::Status { code: 13, message: "bad".to_owned() }));
}

#[test]
fn the_state_of_the_world_is_envoys() {
    let theirs = envoy::DiscoveryRequest {
        version_info: "3".to_owned(),
        resource_names: vec!["a".to_owned()],
        type_url: "t".to_owned(),
        response_nonce: "9".to_owned(),
        error_detail: Some(envoy_types::pb::google::rpc::Status {
            code: 13,
            message: "bad".to_owned(),
            details: Vec::new(),
        }),
        ..Default::default()
    };
    let ours = wire::DiscoveryRequest::decode(&theirs.encode_to_vec()[..]).expect("ours");
    assert_eq!((ours.version_info.as_str(), ours.type_url.as_str()), ("3", "t"));
    assert_eq!((ours.resource_names, ours.response_nonce.as_str()), (vec!["a".to_owned()], "9"));
    assert_eq!(ours.error_detail, Some(wire::Status { code: 13, message: "bad".to_owned() }));
    let ours = wire::DiscoveryResponse {
        version_info: "4".to_owned(),
        resources: vec![any()],
        type_url: "t".to_owned(),
        nonce: "10".to_owned(),
    };
    let theirs = envoy::DiscoveryResponse::decode(&ours.encode_to_vec()[..]).expect("Envoy's");
    assert_eq!((theirs.version_info.as_str(), theirs.nonce.as_str()), ("4", "10"));
    assert_eq!(
        (theirs.resources[0].value.as_slice(), theirs.type_url.as_str()),
        (&b"value"[..], "t")
    );
}
