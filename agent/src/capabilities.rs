//! The capabilities of this build, in the words of the API.

use imp_grammar::features;
use imp_proto::{agent as pb, policies};

/// Supported ways of authenticating callers.
const AUTH_MODES: [&str; 2] = ["none", "api_key"];

/// Classes that this build renders as xDS.
const GATEWAY_CLASSES: [&str; 1] = ["envoy-gateway"];

/// Supported settings of gateways.
const GATEWAY_SETTINGS: [&str; 4] =
    ["escaped_slash", "underscore_headers", "http10", "trusted_hops"];

/// The capabilities for the heartbeat. This build handles every policy type of the contract in both
/// layers, or it would not compile. `has_module` says whether its Envoys have the module,
/// `by_gateway_api` which classes it serves by Gateway API.
pub(crate) fn capabilities(has_module: bool, by_gateway_api: &[&str]) -> pb::Capabilities {
    let words = |list: &[&str]| list.iter().map(|&word| word.to_owned()).collect();
    let mut features: Vec<String> = words(&features::ALL);
    features.extend(has_module.then(|| features::WILDCARD_HOSTS.to_owned()));
    let (xds, other): (Vec<&str>, Vec<&str>) =
        by_gateway_api.iter().partition(|class| GATEWAY_CLASSES.contains(class));
    features.extend((!xds.is_empty()).then(|| features::GATEWAY_API.to_owned()));
    pb::Capabilities {
        policy_types: words(&policies::TYPES),
        auth_modes: words(&AUTH_MODES),
        gateway_classes: words(&[&GATEWAY_CLASSES[..], &other].concat()),
        features,
        gateway_settings: words(&GATEWAY_SETTINGS),
    }
}

#[cfg(test)]
mod tests {
    use imp_enforce::{AuthMode, PublishAccess};
    use imp_proto::config as pb;

    use super::*;

    #[test]
    fn classes_are_those_of_this_build_and_those_of_the_cluster() {
        let said = |classes: &[&str]| {
            let said = capabilities(false, classes);
            (said.gateway_classes, said.features.contains(&features::GATEWAY_API.to_owned()))
        };
        let words = |list: &[&str]| list.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        assert_eq!(said(&[]), (words(&["envoy-gateway"]), false));
        assert_eq!(said(&["traefik"]), (words(&["envoy-gateway", "traefik"]), false));
        assert_eq!(said(&["envoy-gateway"]), (words(&["envoy-gateway"]), true));
    }

    #[test]
    fn each_auth_mode_that_is_reported_is_enforced_and_no_other_is() {
        let mut enforced = Vec::new();
        for number in 0..100 {
            let Ok(mode) = pb::publish::AuthMode::try_from(number) else { continue };
            let publish = pb::Publish { auth_mode: number, ..Default::default() };
            if PublishAccess::from(&publish).auth_mode() != AuthMode::Unsupported {
                enforced.push(mode.as_str_name().to_lowercase());
            }
        }
        assert_eq!(enforced, AUTH_MODES);
    }
}
