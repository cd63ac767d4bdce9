//! What gateways of each class can do when they are configured by Gateway API.
//!
//! One table: the control plane refuses a publish that needs what its class lacks, agents refuse
//! the same once more, and `docs/gateway-classes.md` is written from it. What is not proven is not
//! in a class: neither by the published conformance report of its controller nor by tests of ours.
//!
//! To add a class: `CONTRIBUTING.md`, Add a gateway class.

/// Something that a publish may need of its gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Feature {
    /// The word in refusals.
    pub word: &'static str,
    /// What needs it, for people.
    pub what: &'static str,
}

macro_rules! features {
    ($($name:ident = $word:literal: $what:literal;)*) => {
        $(
            #[doc = $what]
            pub const $name: Feature = Feature { word: $word, what: $what };
        )*

        /// All of them.
        pub const FEATURES: &[Feature] = &[$($name),*];
    };
}

features! {
    DECISIONS = "decisions": "API keys, plans and `rate_limit`: the gateway asks the agent about each call";
    METHODS = "methods": "routes with `methods`";
    EXPRESSION_PATHS = "expression_paths": "`template` and `regex` paths, and text that callers may spell in several ways";
    ROUTE_ORDER = "route_order": "routes that are tried in another order than the precedence of Gateway API";
    HEADER_EXPRESSIONS = "header_expressions": "conditions `prefix`, `regex` and `present` on headers, and any on `host`";
    HEADER_ABSENCE = "header_absence": "the condition `present: false` on a header";
    QUERY_VALUES = "query_values": "conditions on query parameters by what the caller means (`exact`, `prefix`, `present`)";
    QUERY_EXPRESSIONS = "query_expressions": "the condition `regex` on a query parameter";
    WEIGHTS = "weights": "routes to several backends by weight";
    REWRITE_PATH = "rewrite_path": "`rewrite` with a fixed `path`";
    REWRITE_COMPUTED = "rewrite_computed": "`rewrite` with variables, or `strip_base_path`";
    REWRITE_HOST = "rewrite_host": "`rewrite` with a `host`";
    REQUEST_HEADERS = "request_headers": "policy `request_headers`";
    RESPONSE_HEADERS = "response_headers": "policy `response_headers`";
    IP_ACCESS = "ip_access": "policy `ip_access`";
    CORS = "cors": "policy `cors`";
    TIMEOUTS = "timeouts": "`timeout_ms` other than 15,000";
    STREAMS = "streams": "`stream` routes, and `upgrades`";
    CONNECT_TIMEOUT = "connect_timeout": "`connect_timeout_ms` other than 5,000";
    RETRIES = "retries": "`retries` other than 2";
    OUTLIER_DETECTION = "outlier_detection": "settings of `outlier_detection`";
    HEALTH_CHECK = "health_check": "`health_check` of a backend";
    LB_POLICY = "lb_policy": "`lb_policy` other than `round_robin`";
    UPSTREAM_TLS = "upstream_tls": "backends with TLS that have a name";
    UPSTREAM_TLS_UNVERIFIED = "upstream_tls_unverified": "backends whose certificate is not verified";
    HTTP2_BACKENDS = "http2_backends": "backends that speak HTTP/2";
    BACKEND_NAMES = "backend_names": "backends with names instead of addresses";
    NESTED_BASE_PATHS = "nested_base_paths": "two publishes of one host, one below the base path of the other";
    SUSPENSION = "suspension": "the answer 503 of a suspended publish (without it, its routes are removed)";
    WILDCARDS = "wildcard_hosts": "wildcards among `hostnames`";
    GATEWAY_SETTINGS = "gateway_settings": "`settings` of the gateway";
}

/// In which order a gateway tries the routes of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precedence {
    /// As Gateway API says: exact paths, then longer prefixes, then more conditions. Where it leaves
    /// the order to the controller, routes that could meet are refused.
    GatewayApi,
    /// Exact paths, then longer expressions, then longer prefixes, then more conditions on headers
    /// (of which the method is one), then on query parameters.
    EnvoyGateway,
}

/// A class of gateways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Class {
    /// The word of `gateway_class`, which is also the usual name of the `GatewayClass`.
    pub word: &'static str,
    /// The controller.
    pub controller: &'static str,
    pub precedence: Precedence,
    /// Whether its own kinds are used: Envoy Gateway's policies and backends.
    pub has_policies: bool,
    pub can: &'static [Feature],
    /// Where that comes from.
    pub source: &'static str,
    /// What people should know.
    pub notes: &'static [&'static str],
}

impl Class {
    /// Whether its gateways can do this.
    pub fn can(&self, feature: Feature) -> bool {
        self.can.contains(&feature)
    }
}

/// Envoy Gateway.
pub const ENVOY_GATEWAY: Class = Class {
    word: "envoy-gateway",
    controller: "Envoy Gateway 1.9",
    precedence: Precedence::EnvoyGateway,
    has_policies: true,
    can: &[
        DECISIONS,
        METHODS,
        EXPRESSION_PATHS,
        ROUTE_ORDER,
        HEADER_EXPRESSIONS,
        QUERY_EXPRESSIONS,
        WEIGHTS,
        REWRITE_PATH,
        REWRITE_COMPUTED,
        REWRITE_HOST,
        REQUEST_HEADERS,
        RESPONSE_HEADERS,
        IP_ACCESS,
        CORS,
        TIMEOUTS,
        STREAMS,
        CONNECT_TIMEOUT,
        RETRIES,
        OUTLIER_DETECTION,
        HEALTH_CHECK,
        LB_POLICY,
        UPSTREAM_TLS,
        UPSTREAM_TLS_UNVERIFIED,
        HTTP2_BACKENDS,
        BACKEND_NAMES,
        NESTED_BASE_PATHS,
        SUSPENSION,
        WILDCARDS,
        GATEWAY_SETTINGS,
    ],
    source: "the sources and CRDs of Envoy Gateway 1.9.1",
    notes: &[
        "Envoy Gateway must have `extensionApis.enableBackend: true`.",
        "Addresses are judged (`ip_access`) after the key, so a call from a refused address counts.",
        "A wrong method is 404, not 405.",
        "Routes whose order Gateway API would turn around become expressions whose length puts them \
         in order; an expression has at most 1,024 bytes.",
    ],
};

/// NGINX Gateway Fabric.
pub const NGINX: Class = Class {
    word: "nginx",
    controller: "NGINX Gateway Fabric",
    precedence: Precedence::GatewayApi,
    has_policies: false,
    can: &[
        METHODS,
        WEIGHTS,
        REWRITE_PATH,
        REWRITE_HOST,
        REQUEST_HEADERS,
        RESPONSE_HEADERS,
        CORS,
        UPSTREAM_TLS,
        WILDCARDS,
    ],
    source: "its conformance reports for Gateway API 1.2 and 1.6",
    notes: PORTABLE,
};

/// Kong.
pub const KONG: Class = Class {
    word: "kong",
    controller: "Kong Operator",
    precedence: Precedence::GatewayApi,
    has_policies: false,
    can: &[REWRITE_PATH, REWRITE_HOST, REQUEST_HEADERS, RESPONSE_HEADERS, WILDCARDS],
    source: "its conformance reports for Gateway API 1.2 and 1.6, what both say",
    notes: PORTABLE,
};

/// Traefik.
pub const TRAEFIK: Class = Class {
    word: "traefik",
    controller: "Traefik 3",
    precedence: Precedence::GatewayApi,
    has_policies: false,
    can: &[
        METHODS,
        WEIGHTS,
        REWRITE_PATH,
        REWRITE_HOST,
        REQUEST_HEADERS,
        RESPONSE_HEADERS,
        UPSTREAM_TLS,
        HTTP2_BACKENDS,
        WILDCARDS,
    ],
    source: "its conformance reports for Gateway API 1.2 and 1.6",
    notes: PORTABLE,
};

/// APISIX.
pub const APISIX: Class = Class {
    word: "apisix",
    controller: "APISIX Ingress Controller 2",
    precedence: Precedence::GatewayApi,
    has_policies: false,
    can: &[],
    source: "no conformance report was found: the core of Gateway API that the controller documents",
    notes: PORTABLE,
};

const PORTABLE: &[&str] = &[
    "Only routes that need no decision: public, without a limit. The class has no way to ask the agent \
     that works the same on all of them.",
    "Timeouts, retries and outlier detection are the class's own defaults.",
    "What no route takes is the class's own 404.",
    "The objects are those of Gateway API 1.2 to 1.6, either channel. Backends with TLS need 1.4, policy `cors` 1.5 (1.3 of the \
     experimental channel): an older one refuses such a publish (`gateway_api_refused`).",
];

/// All classes that have a driver.
pub const CLASSES: [&Class; 5] = [&ENVOY_GATEWAY, &NGINX, &KONG, &TRAEFIK, &APISIX];

/// The class of this name.
pub fn find(word: &str) -> Option<&'static Class> {
    CLASSES.into_iter().find(|class| class.word == word)
}

/// The document `docs/gateway-classes.md` from the marker on.
pub fn document() -> String {
    let mut text = String::from("| Needed by | Word |");
    CLASSES.iter().for_each(|class| text.push_str(&format!(" {} |", class.word)));
    text.push_str("\n|---|---|");
    text.push_str(&"---|".repeat(CLASSES.len()));
    text.push('\n');
    for feature in FEATURES {
        text.push_str(&format!("| {} | `{}` |", feature.what, feature.word));
        for class in CLASSES {
            text.push_str(if class.can(*feature) { " yes |" } else { " - |" });
        }
        text.push('\n');
    }
    for class in CLASSES {
        text.push_str(&format!("\n### {}\n\n", class.word));
        text.push_str(&format!("{}. From {}.\n\n", class.controller, class.source));
        class.notes.iter().for_each(|note| text.push_str(&format!("- {note}\n")));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_feature_has_a_word_of_its_own_and_every_class_can_what_is_listed() {
        let words: HashSet<_> = FEATURES.iter().map(|it| it.word).collect();
        assert_eq!(words.len(), FEATURES.len());
        for class in CLASSES {
            let can: HashSet<_> = class.can.iter().collect();
            assert_eq!(can.len(), class.can.len(), "{}: twice", class.word);
            assert!(class.can.iter().all(|it| FEATURES.contains(it)), "{}", class.word);
            assert_eq!(find(class.word), Some(class));
        }
    }

    #[test]
    fn a_class_that_cannot_ask_the_agent_has_no_policies_of_its_own() {
        for class in CLASSES {
            assert_eq!(class.can(DECISIONS), class.has_policies, "{}", class.word);
        }
    }
}
