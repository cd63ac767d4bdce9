//! Calls that are tried again. The virtual host has the policy of all backends that don't say; a route of
//! others has its own.

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::route::v3 as envoy;
use envoy_types::pb::envoy::extensions::retry::host::previous_hosts::v3::PreviousHostsPredicate;

use super::canon::{any, header, milliseconds, uint};
use crate::ir;

/// No upstream has seen the call, whatever its method.
const UNSEEN: &str = "connect-failure,refused-stream,reset-before-request";

/// Of the backends that don't say.
pub(super) fn by_default() -> envoy::RetryPolicy {
    policy(ir::RETRIES)
}

/// Where calls may go to several backends, the one that wants the fewest is right for all.
pub(super) fn of_route(route: &ir::Route) -> Option<envoy::RetryPolicy> {
    let attempts = route.backends.iter().map(|it| it.backend.settings.retries).min();
    attempts.filter(|attempts| *attempts != ir::RETRIES).map(policy)
}

fn policy(attempts: u32) -> envoy::RetryPolicy {
    use envoy::retry_policy::{RetryBackOff, RetryHostPredicate, retry_host_predicate::ConfigType};
    let elsewhere = RetryHostPredicate {
        name: "envoy.retry_host_predicates.previous_hosts".to_owned(),
        config_type: Some(ConfigType::TypedConfig(any(&PreviousHostsPredicate {}))),
    };
    envoy::RetryPolicy {
        retry_on: UNSEEN.to_owned(),
        num_retries: uint(attempts),
        retry_host_predicate: vec![elsewhere],
        host_selection_retry_max_attempts: 5,
        retry_back_off: Some(RetryBackOff {
            base_interval: milliseconds(5),
            max_interval: milliseconds(100),
        }),
        ..Default::default()
    }
}

/// Calls that change nothing are tried again, too, when the connection broke before an answer: as when
/// an upstream closes a kept connection just then. Envoy's policies don't look at methods, its header
/// does; the router takes it away.
pub(super) fn of_safe_methods() -> core::HeaderValueOption {
    use core::header_value_option::HeaderAppendAction::OverwriteIfExistsOrAdd;
    let choice = "%CEL(request.method == 'GET' || request.method == 'HEAD' || \
                  request.method == 'OPTIONS' ? 'reset' : 'connect-failure')%";
    header("x-envoy-retry-on", choice, OverwriteIfExistsOrAdd)
}
