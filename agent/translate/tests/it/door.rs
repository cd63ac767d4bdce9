//! Claims about enforcement's place in Envoy.

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::extensions::filters::http::ext_authz::v3 as authz;
use imp_translate::xds::EXTENSION;
use imp_translate::{Delta, Rendered};
use prost::Message as _;

use crate::fixtures::{assembly, parsed_gateway};

/// Every ext_authz filter that is rendered, wherever it stands.
fn doors(delta: &Delta) -> Vec<authz::ExtAuthz> {
    let of_type = |resource: &&Rendered| resource.type_url == EXTENSION;
    let decode = |resource: &Rendered| {
        let slot = core::TypedExtensionConfig::decode(resource.value.clone()).unwrap();
        authz::ExtAuthz::decode(slot.typed_config.unwrap().value.as_slice()).unwrap()
    };
    delta.all.upserts.iter().filter(of_type).map(decode).collect()
}

#[test]
fn enforcement_fails_closed_and_soon_and_is_not_tried_twice() {
    let delta = assembly().set_gateway(parsed_gateway(8080));
    let doors = doors(&delta);
    assert_eq!(doors.len(), 1);
    for door in doors {
        assert!(!door.failure_mode_allow && !door.failure_mode_allow_header_add, "{door:?}");
        assert_eq!(door.status_on_error.map(|status| status.code), Some(503));
        let Some(authz::ext_authz::Services::GrpcService(service)) = door.services else {
            panic!("not gRPC")
        };
        let timeout = service.timeout.unwrap();
        assert!(timeout.seconds == 0 && timeout.nanos <= 500_000_000, "{timeout:?}");
        assert!(service.retry_policy.is_none(), "{:?}", service.retry_policy);
    }
    // Nowhere else: what is in the listener until the slot is filled refuses everyone.
    let fields = [b"failure_mode_allow".as_slice(), b"FailureModeAllow"];
    for resource in &delta.all.upserts {
        let named = |field: &&[u8]| resource.value.windows(field.len()).any(|at| at == *field);
        assert!(!fields.iter().any(named), "{}", resource.name);
    }
}
