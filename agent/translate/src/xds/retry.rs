//! Retries. The virtual host has the policy of all backends without their own; routes of other
//! backends have a policy of their own.

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::route::v3 as envoy;
use envoy_types::pb::envoy::extensions::retry::host::previous_hosts::v3::PreviousHostsPredicate;

use super::canon::{any, header, milliseconds, uint};
use crate::ir;

/// Conditions under which no upstream has seen the call, whatever its method.
const UNSEEN: &str = "connect-failure,refused-stream,reset-before-request";

/// The policy of backends without their own.
pub(super) fn by_default() -> envoy::RetryPolicy {
    policy(ir::RETRIES)
}

/// If calls may go to several backends, the smallest number of retries applies.
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

/// Also retries safe methods when the connection broke before an answer, for example because the
/// upstream just closed a kept connection. Envoy's policies cannot depend on the method, but its
/// header can; the router removes it.
pub(super) fn of_safe_methods() -> core::HeaderValueOption {
    use core::header_value_option::HeaderAppendAction::OverwriteIfExistsOrAdd;
    let choice = "%CEL(request.method == 'GET' || request.method == 'HEAD' || \
                  request.method == 'OPTIONS' ? 'reset' : 'connect-failure')%";
    header("x-envoy-retry-on", choice, OverwriteIfExistsOrAdd)
}
