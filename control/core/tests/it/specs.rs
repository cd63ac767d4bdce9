//! Which faults an input has.

use imp_core::Check;
use imp_core::api_service::ApiServiceSpec;
use imp_core::api_token::ApiTokenSpec;
use imp_core::gateway::GatewaySpec;
use imp_core::plan::{LimitWindow, PlanSpec};
use imp_core::product_publish::ProductPublishSpec;
use serde_json::{Value, json};

/// Every fault as `pointer code`.
fn faults<T: Check + serde::de::DeserializeOwned>(input: Value) -> Vec<String> {
    let spec: T = serde_json::from_value(input).unwrap();
    let found = spec.checked().err().unwrap_or_default();
    found.iter().map(|fault| format!("{} {}", fault.pointer, fault.code)).collect()
}

fn service(route: Value) -> Value {
    json!({
        "name": "payment-service",
        "backends": [{"name": "up", "endpoints": [{"host": "payment-svc.default.svc", "port": 8080}]}],
        "routes": [route],
    })
}

#[test]
fn a_good_service_has_no_faults() {
    let route = json!({"name": "payments", "path": {"prefix": "/payments"}, "backend_id": "up"});
    assert_eq!(faults::<ApiServiceSpec>(service(route)), Vec::<String>::new());
}

#[test]
fn every_fault_of_a_service_is_found_at_once_and_pointed_at() {
    let route = json!({
        "name": "", "path": {"regex": "("}, "methods": ["get"], "backend_id": "down",
        "headers": [{"name": "a b", "value": {"exact": "x"}}],
        "rewrite": {"path": "x"}, "timeout_ms": 0,
    });
    let mut input = service(route);
    input["policies"] = json!([
        {"name": "h", "type": "request_headers", "config": {"set": [{"name": "x a", "value": "100%"}], "remove": ["host"]}},
        {"name": "l", "type": "rate_limit", "config": {"requests": 0, "per": "minute"}, "route": "none"},
    ]);
    assert_eq!(
        faults::<ApiServiceSpec>(input),
        [
            "/routes/0/name invalid_name",
            "/routes/0/path/regex invalid_regex",
            "/routes/0/methods/0 invalid_method",
            "/routes/0/headers/0/name invalid_header_name",
            "/routes/0/rewrite/path invalid_path",
            "/routes/0/timeout_ms out_of_range",
            "/policies/0/config/set/0/name invalid_header_name",
            "/policies/0/config/set/0/value invalid_header_value",
            "/policies/0/config/remove/0 reserved_header",
            "/policies/1/config/requests out_of_range",
            "/routes/0/backend_id unknown_backend",
            "/policies/1/route unknown_route",
        ]
    );
}

#[test]
fn values_to_match_are_what_envoy_can_match() {
    let route = json!({
        "name": "payments", "path": {"prefix": "/payments"}, "backend_id": "up",
        "headers": [{"name": "a", "value": {"prefix": ""}}, {"name": "b", "value": {"exact": "x\n"}}],
        "query": [{"name": "c", "value": {"prefix": "\u{0}"}}, {"name": "d", "value": {"exact": ""}}],
    });
    assert_eq!(
        faults::<ApiServiceSpec>(service(route)),
        [
            "/routes/0/headers/0/value required",
            "/routes/0/headers/1/value invalid_value",
            "/routes/0/query/0/value invalid_value",
        ]
    );
}

#[test]
fn a_service_keeps_the_ids_of_parts_that_keep_their_names() {
    let spec = |path: &str| -> ApiServiceSpec {
        let route = json!({"name": "payments", "path": {"prefix": path}, "backend_id": "up"});
        serde_json::from_value(service(route)).unwrap()
    };
    let before = spec("/payments");
    let mut after = spec("/pay");
    after.keep_ids(&before);
    assert_eq!(after.routes.first().unwrap().id, before.routes.first().unwrap().id);
    assert_eq!(after.backends.first().unwrap().id, before.backends.first().unwrap().id);
}

#[test]
fn a_gateway_needs_distinct_ports() {
    let input = json!({"name": "g", "gateway_class": "envoy-gateway", "listeners": [
        {"name": "a", "port": 80, "protocol": "HTTP"},
        {"name": "a", "port": 80, "protocol": "HTTPS", "hostname": "*.example.com"},
    ]});
    assert_eq!(
        faults::<GatewaySpec>(input),
        [
            "/listeners/1/protocol unsupported_protocol",
            "/listeners/1/hostname unsupported_hostname",
            "/listeners/1/name duplicate_name",
            "/listeners/1/port duplicate_port",
        ]
    );
}

#[test]
fn a_publish_names_each_host_once_in_whatever_spelling() {
    let id = "0191b9a0-0000-7000-8000-000000000000";
    let input = json!({
        "product_id": id, "gateway_id": id, "cluster_id": id, "environment": "prod", "auth_mode": "oauth2",
        "hostnames": ["api.example.com", "API.example.com.", "*.example.com", "*.Example.com.", "*", "**"], "base_path": "/v1/",
    });
    assert_eq!(
        faults::<ProductPublishSpec>(input),
        [
            "/auth_mode unsupported_auth_mode",
            "/hostnames/1 duplicate_hostname",
            "/hostnames/3 duplicate_hostname",
            "/hostnames/5 invalid_hostname",
            "/base_path invalid_path",
        ]
    );
}

#[test]
fn roles_of_different_sides_need_tokens_of_their_own() {
    let input = json!({"name": "t", "roles": ["system-admin", "customer-admin"]});
    assert_eq!(
        faults::<ApiTokenSpec>(input),
        ["/roles mixed_roles", "/customer_id invalid_customer"]
    );
}

#[test]
fn only_a_calendar_window_has_a_midnight() {
    let limit = |window: &str, minutes: i32| {
        json!({"name": "p", "limits": [
            {"name": "l", "amount": 1, "window": window, "utc_offset_minutes": minutes}]})
    };
    let at = "/limits/0/utc_offset_minutes";
    for window in ["day", "week", "month"] {
        for minutes in [-720, 330, 840] {
            assert!(faults::<PlanSpec>(limit(window, minutes)).is_empty());
        }
        for minutes in [-721, 841] {
            assert_eq!(faults::<PlanSpec>(limit(window, minutes)), [format!("{at} out_of_range")]);
        }
    }
    assert_eq!(faults::<PlanSpec>(limit("hour", 60)), [format!("{at} conflict")]);
    let quota = json!({"requests": 1, "per": "week", "utc_offset_minutes": 900});
    let fault = "/quota/utc_offset_minutes out_of_range";
    assert_eq!(faults::<PlanSpec>(json!({"name": "p", "quota": quota})), [fault]);
}

#[test]
fn a_calendar_window_has_a_time_zone_or_an_offset() {
    let limit = |mut fields: serde_json::Value| {
        fields["name"] = json!("l");
        fields["amount"] = json!(1);
        faults::<PlanSpec>(json!({"name": "p", "limits": [fields]}))
    };
    let at = "/limits/0/time_zone";
    for window in ["day", "week", "month", "year"] {
        assert!(limit(json!({"window": window, "time_zone": "Europe/Berlin"})).is_empty());
        let both =
            json!({"window": window, "time_zone": "Asia/Kolkata", "utc_offset_minutes": 330});
        assert_eq!(limit(both), [format!("{at} conflict")]);
        let unknown = json!({"window": window, "time_zone": "europe/berlin"});
        assert_eq!(limit(unknown), [format!("{at} unknown_time_zone")]);
    }
    let hour = json!({"window": "hour", "time_zone": "Europe/Berlin"});
    assert_eq!(limit(hour), [format!("{at} conflict")]);
    let long = json!({"window": "day", "time_zone": "a".repeat(65)});
    assert_eq!(limit(long), [format!("{at} too_long")]);
    let quota = |zone: &str| {
        let quota = json!({"requests": 1, "per": "week", "time_zone": zone});
        faults::<PlanSpec>(json!({"name": "p", "quota": quota}))
    };
    assert!(quota("America/Sao_Paulo").is_empty());
    assert_eq!(quota("Mars/Olympus"), ["/quota/time_zone unknown_time_zone"]);
}

#[test]
fn only_weeks_months_and_years_begin_on_the_day_of_a_subscription() {
    let limit = |window: &str, anchor: &str| {
        let limit = json!({"name": "l", "amount": 1, "window": window, "anchor": anchor});
        faults::<PlanSpec>(json!({"name": "p", "limits": [limit]}))
    };
    let quota = |per: &str| {
        let quota = json!({"requests": 1, "per": per, "anchor": "subscription"});
        faults::<PlanSpec>(json!({"name": "p", "quota": quota}))
    };
    for window in ["week", "month", "year"] {
        assert!(limit(window, "subscription").is_empty() && quota(window).is_empty());
    }
    for window in ["second", "minute", "hour", "day"] {
        assert_eq!(limit(window, "subscription"), ["/limits/0/anchor conflict"]);
        assert!(limit(window, "calendar").is_empty());
    }
    assert_eq!(quota("day"), ["/quota/anchor conflict"]);
}

#[test]
fn a_plan_writes_its_short_forms_out() {
    let plan: PlanSpec = serde_json::from_value(json!({
        "name": "gold",
        "rate_limit": {"requests": 10, "per": "minute"},
        "quota": {"requests": 1000, "per": "month"},
        "limits": [{"name": "burst", "amount": 3, "window": "second"}],
    }))
    .unwrap();
    let limits: Vec<_> =
        plan.all_limits().into_iter().map(|l| (l.name, l.amount, l.window)).collect();
    assert_eq!(
        limits,
        [
            ("rate_limit".to_owned(), 10, LimitWindow::Minute),
            ("quota".to_owned(), 1000, LimitWindow::Month),
            ("burst".to_owned(), 3, LimitWindow::Second),
        ]
    );
}
