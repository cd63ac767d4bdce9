//! Every bound on an input, in one table: bytes, counts, compile cost, time.
//!
//! A bound is a [`Cap`] in this file and nowhere else. Each row says what it bounds, who enforces
//! it, and which test shows its edge: exactly at the cap is accepted, one more is the typed error.
//! `docs/limits.md` is this table; a test compares the two, and looks for every edge test by name.
//!
//! To add a row: write it here, name a test, run `UPDATE_LIMITS=1 cargo test -p imp-grammar`.

use std::time::Duration;

/// One bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cap {
    /// The name of its constant.
    pub name: &'static str,
    /// The largest accepted amount.
    pub value: u64,
    pub unit: Unit,
    /// What it bounds, for people.
    pub bounds: &'static str,
    /// The components that enforce it.
    pub held_by: &'static [Holder],
    /// The test at its edge: `path/of/the/file.rs::name_of_the_function`.
    pub test: &'static str,
}

/// The unit of a cap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Pieces.
    Count,
    /// Characters of Unicode.
    Characters,
    /// Instructions of an RE2 program, as Envoy counts them.
    Instructions,
    /// Milliseconds.
    Milliseconds,
    /// Per second.
    PerSecond,
}

/// A component that refuses what exceeds a cap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// The control plane's REST API, with a problem document.
    Api,
    /// The control plane's port for agents, with a gRPC status.
    Hub,
    /// The agent: refuses and reports only the resource in question.
    Agent,
    /// Envoy, by its configuration.
    Envoy,
}

impl Cap {
    /// The value as a length of lists and buffers.
    pub const fn size(&self) -> usize {
        self.value as usize
    }

    /// The value as a time limit.
    pub const fn time(&self) -> Duration {
        Duration::from_millis(self.value)
    }

    /// Whether this amount is within the cap.
    pub const fn admits(&self, found: usize) -> bool {
        found as u64 <= self.value
    }

    /// The value in words, for error messages.
    pub fn words(&self) -> String {
        format!("at most {} {}", self.value, self.unit.words())
    }
}

impl Unit {
    /// The unit in sentences and in `docs/limits.md`.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::Count => "pieces",
            Self::Characters => "characters",
            Self::Instructions => "RE2 instructions",
            Self::Milliseconds => "ms",
            Self::PerSecond => "per second",
        }
    }
}

impl Holder {
    /// The component in `docs/limits.md`.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Api => "API",
            Self::Hub => "hub",
            Self::Agent => "agent",
            Self::Envoy => "Envoy",
        }
    }
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

macro_rules! caps {
    ($($(#[doc = $title:literal])? @$section:ident { $(
        $name:ident = $value:expr, $unit:ident, [$($holder:ident),+], $bounds:literal, $test:literal;
    )+ })+) => {
        $($(
            #[doc = $bounds]
            pub const $name: Cap = Cap {
                name: stringify!($name),
                value: $value,
                unit: Unit::$unit,
                bounds: $bounds,
                held_by: &[$(Holder::$holder),+],
                test: $test,
            };
        )+)+

        /// The table, in the order of this file: sections with their rows.
        pub const ALL: &[(&str, &[Cap])] = &[$((stringify!($section), &[$($name),+])),+];
    };
}

caps! {
@services {
    SERVICE_BYTES = 512 * KIB, Bytes, [Api, Agent],
        "One API service, encoded as agents get it.",
        "control/tests/it/caps.rs::a_service_of_the_most_bytes_is_accepted_and_one_more_is_refused";
    ROUTES_PER_SERVICE = 2_000, Count, [Api, Agent],
        "Routes of one API service.",
        "control/core/tests/it/caps.rs::lists_of_a_service_end_at_their_caps";
    BACKENDS_PER_SERVICE = 100, Count, [Api, Agent],
        "Backends of one API service.",
        "control/core/tests/it/caps.rs::lists_of_a_service_end_at_their_caps";
    ENDPOINTS_PER_BACKEND = 256, Count, [Api, Agent],
        "Endpoints of one backend.",
        "control/core/tests/it/caps.rs::lists_of_a_service_end_at_their_caps";
    POLICIES_PER_SERVICE = 500, Count, [Api, Agent],
        "Policies of one API service, those of its routes included.",
        "control/core/tests/it/caps.rs::lists_of_a_service_end_at_their_caps";
    REGEXES_PER_SERVICE = 64, Count, [Api, Agent],
        "Regular expressions of one API service: paths, headers and query parameters.",
        "control/core/tests/it/caps.rs::the_expressions_of_a_service_are_counted_before_any_is_read";
    MATCHERS_PER_ROUTE = 16, Count, [Api, Agent],
        "Header and query matchers of one route, together.",
        "control/core/tests/it/caps.rs::lists_of_a_route_end_at_their_caps";
    METHODS_PER_ROUTE = 7, Count, [Api, Agent],
        "Methods of one route; there are no more that a gateway routes.",
        "control/core/tests/it/caps.rs::lists_of_a_route_end_at_their_caps";
    BACKENDS_PER_ROUTE = 16, Count, [Api, Agent],
        "Backends that one route splits its calls over.",
        "control/core/tests/it/caps.rs::lists_of_a_route_end_at_their_caps";
    NETWORKS_PER_POLICY = 256, Count, [Api, Agent],
        "Networks that one policy allows and denies, together.",
        "control/core/tests/it/caps.rs::access_and_cors_policies_end_at_their_caps";
    ORIGINS_PER_POLICY = 32, Count, [Api, Agent],
        "Origins that one policy allows.",
        "control/core/tests/it/caps.rs::access_and_cors_policies_end_at_their_caps";
    HEADERS_PER_POLICY = 64, Count, [Api, Agent],
        "Headers that one policy sets, adds and removes, together.",
        "control/core/tests/it/caps.rs::a_header_policy_ends_at_its_cap";
}
@text {
    NAME_CHARACTERS = 100, Characters, [Api],
        "Names of objects and of their parts.",
        "control/core/tests/it/caps.rs::texts_end_at_their_caps";
    DESCRIPTION_CHARACTERS = 4_000, Characters, [Api],
        "Descriptions.",
        "control/core/tests/it/caps.rs::texts_end_at_their_caps";
    PATH_BYTES = 1_024, Bytes, [Api, Agent],
        "A path, a path template, a base path.",
        "control/core/tests/it/caps.rs::texts_end_at_their_caps";
    PATH_PROGRAM = 2_000, Instructions, [Api],
        "The compiled form of a path or path template that is an expression for Envoy because it has variables, or characters that callers may send plain or encoded.",
        "control/core/tests/it/paths.rs::a_path_ends_at_its_program";
    VARIABLE_CHARACTERS = 64, Characters, [Api, Agent],
        "The name of a variable of a path template.",
        "control/core/tests/it/paths.rs::a_variable_ends_at_its_characters";
    REGEX_BYTES = 512, Bytes, [Api, Agent],
        "The text of a regular expression.",
        "proto/grammar/tests/it/regexes.rs::the_longest_expression_is_accepted_and_one_byte_more_is_refused";
    REGEX_PROGRAM = 300, Instructions, [Api, Agent],
        "The compiled form of a regular expression, as estimated before anything is compiled.",
        "proto/grammar/tests/it/regexes.rs::the_largest_program_is_accepted_and_one_instruction_more_is_refused";
    ENVOY_REGEX_PROGRAM = 4_096, Instructions, [Envoy],
        "Every expression that Envoy compiles, including path templates (`re2.max_program_size.error_level` of the bootstrap).",
        "agent/translate/tests/it/envoy.rs::the_largest_expressions_and_templates_are_served";
    HEADER_NAME_BYTES = 128, Bytes, [Api, Agent],
        "A header's name.",
        "control/core/tests/it/caps.rs::texts_end_at_their_caps";
    HEADER_VALUE_BYTES = 4 * KIB, Bytes, [Api, Agent],
        "A header's value in a policy.",
        "control/core/tests/it/caps.rs::texts_end_at_their_caps";
    CA_BYTES = 32 * KIB, Bytes, [Api, Agent],
        "The certificates of authorities that a backend's TLS is verified with.",
        "proto/grammar/src/pem.rs::certificates_and_nothing_else";
    UPGRADES_PER_ROUTE = 4, Count, [Api, Agent],
        "Protocols that calls of one route may upgrade to.",
        "control/core/tests/it/calls.rs::a_stream_has_no_total_limit_and_may_upgrade";
    MATCH_VALUE_CHARACTERS = 1_024, Characters, [Api],
        "The text that a header or query parameter is compared with.",
        "control/core/tests/it/caps.rs::texts_end_at_their_caps";
}
@publishes {
    PUBLISH_BYTES = MIB, Bytes, [Api, Agent],
        "One publish with the services frozen in it, encoded as agents get it, each policy once.",
        "control/tests/it/caps.rs::a_publish_of_the_most_bytes_is_accepted_and_one_more_is_refused";
    PUBLISH_SERVED_BYTES = 4 * MIB, Bytes, [Api],
        "One publish as its gateway holds it: every route (512 bytes and its text, a path as the expression that it becomes, 256 more if it names methods, 128 for each byte of a condition on a query parameter, 1,024 for a rewrite with variables, 256 for one that takes the base path off, twice if it answers preflights) with the policies that apply to it (128 bytes for each header, network and origin, 2,048 for an origin with a wildcard, and the text), 64 KiB for a backend with TLS, and 8 KiB for each endpoint that is checked, once per hostname.",
        "proto/tests/it/bounds.rs::what_a_gateway_would_hold_of_a_publish_is_bounded";
    PUBLISH_HELD_BYTES = 256 * MIB, Bytes, [Agent],
        "The same for an agent: more than the API accepts, so that publishes accepted under looser rules are still served.",
        "proto/tests/it/bounds.rs::an_agent_takes_more_of_a_publish_than_the_api_accepts";
    TENANT_CLUSTER_BYTES = 64 * MIB, Bytes, [Api],
        "All publishes of one tenant in one cluster, as its gateways hold them.",
        "control/tests/it/caps.rs::a_tenant_has_its_share_of_a_cluster_and_no_more";
    SERVICES_PER_PUBLISH = 100, Count, [Api, Agent],
        "API services in one product, and in one publish.",
        "control/core/tests/it/caps.rs::lists_of_products_publishes_and_gateways_end_at_their_caps";
    ROUTES_PER_PUBLISH = 4_000, Count, [Api, Agent],
        "Routes of all services of one publish.",
        "proto/tests/it/bounds.rs::each_list_of_a_publish_ends_at_its_cap";
    REGEXES_PER_PUBLISH = 256, Count, [Api, Agent],
        "Regular expressions of all services of one publish.",
        "proto/tests/it/bounds.rs::each_list_of_a_publish_ends_at_its_cap";
    ENDPOINTS_PER_PUBLISH = 2_000, Count, [Api, Agent],
        "Endpoints of all backends of one publish.",
        "proto/tests/it/bounds.rs::each_list_of_a_publish_ends_at_its_cap";
    CHECKED_ENDPOINTS_PER_PUBLISH = 50, Count, [Api],
        "Endpoints of one publish whose backends have a health check: every Envoy asks each of them.",
        "proto/tests/it/bounds.rs::checked_endpoints_weigh_and_end_at_their_cap";
    HOSTNAMES_PER_PUBLISH = 32, Count, [Api, Agent],
        "Hostnames of one publish.",
        "control/core/tests/it/caps.rs::lists_of_products_publishes_and_gateways_end_at_their_caps";
    KEPT_OUT_HOSTS_PER_PUBLISH = 10_000, Count, [Api, Agent],
        "Names below the wildcards of one publish that other tenants hold; a domain is two, itself and what is below it.",
        "proto/tests/it/bounds.rs::hosts_that_are_kept_out_end_at_their_cap";
    TENANT_CLUSTER_REGEXES = 1_000, Count, [Api],
        "Regular expressions in all publishes of one tenant in one cluster.",
        "control/tests/it/caps.rs::a_tenant_has_its_share_of_a_cluster_and_no_more";
    REVISIONS_KEPT = 50, Count, [Api],
        "Newest revisions of one publish that are kept; the desired and the acknowledged one always are.",
        "control/tests/it/revisions.rs::only_the_newest_revisions_are_kept_and_what_serves_is_among_them";
}
@catalog {
    LISTENERS_PER_GATEWAY = 16, Count, [Api, Agent],
        "Listeners of one gateway.",
        "control/core/tests/it/caps.rs::lists_of_products_publishes_and_gateways_end_at_their_caps";
    TRUSTED_HOPS = 8, Count, [Api, Agent],
        "Proxies in front of a gateway whose `x-forwarded-*` headers are trusted.",
        "control/core/tests/it/caps.rs::lists_of_products_publishes_and_gateways_end_at_their_caps";
    CATEGORIES_PER_PRODUCT = 20, Count, [Api],
        "Categories of one product.",
        "control/core/tests/it/caps.rs::lists_of_products_publishes_and_gateways_end_at_their_caps";
    LIMITS_PER_PLAN = 16, Count, [Api],
        "Limits of one plan, in addition to the two short forms.",
        "control/core/tests/it/caps.rs::lists_of_products_publishes_and_gateways_end_at_their_caps";
    TIME_ZONE_NAME_BYTES = 64, Bytes, [Api, Agent],
        "The name of a time zone.",
        "proto/grammar/src/time_zone.rs::names_rules_and_changes_end_at_their_caps";
    TIME_ZONE_RULE_BYTES = 64, Bytes, [Agent],
        "The yearly rule of a time zone.",
        "proto/grammar/src/time_zone.rs::names_rules_and_changes_end_at_their_caps";
    OFFSET_CHANGES_PER_TIME_ZONE = 128, Count, [Agent],
        "Changes of the offset of a time zone that its rule does not cover; the control plane sends the first ones.",
        "proto/grammar/src/time_zone.rs::names_rules_and_changes_end_at_their_caps";
    TIME_ZONES_PER_ENTITLEMENT = 32, Count, [Agent],
        "Time zones of the limits of one subscription.",
        "agent/enforce/tests/it/time_zones.rs::what_names_no_time_zone_is_refused";
    SUBSCRIPTIONS_PER_CUSTOMER = 100, Count, [Api],
        "Living subscriptions of one customer to one product in one environment that a plan may allow.",
        "control/core/tests/it/caps.rs::lists_of_products_publishes_and_gateways_end_at_their_caps";
    ROLES_PER_TOKEN = 16, Count, [Api],
        "Roles of one API token.",
        "control/core/tests/it/caps.rs::lists_of_products_publishes_and_gateways_end_at_their_caps";
    LABELS_PER_CLUSTER = 64, Count, [Api],
        "Labels of one cluster.",
        "control/core/tests/it/caps.rs::lists_of_products_publishes_and_gateways_end_at_their_caps";
    PORT_RANGES_PER_CLUSTER = 64, Count, [Api],
        "Port ranges of one cluster.",
        "control/core/tests/it/caps.rs::lists_of_products_publishes_and_gateways_end_at_their_caps";
}
@tenants {
    SERVICES_PER_TENANT = 2_000, Count, [Api],
        "API services of one tenant.",
        "control/tests/it/object_caps.rs::every_kind_of_object_ends_at_its_cap";
    GATEWAYS_PER_TENANT = 200, Count, [Api],
        "Gateways of one tenant.",
        "control/tests/it/object_caps.rs::every_kind_of_object_ends_at_its_cap";
    PRODUCTS_PER_TENANT = 2_000, Count, [Api],
        "Products of one tenant.",
        "control/tests/it/object_caps.rs::every_kind_of_object_ends_at_its_cap";
    PLANS_PER_TENANT = 5_000, Count, [Api],
        "Plans of one tenant.",
        "control/tests/it/object_caps.rs::every_kind_of_object_ends_at_its_cap";
    PUBLISHES_PER_TENANT = 5_000, Count, [Api],
        "Product publishes of one tenant.",
        "control/tests/it/object_caps.rs::every_kind_of_object_ends_at_its_cap";
    CUSTOMERS_PER_TENANT = 100_000, Count, [Api],
        "Customers of one tenant.",
        "control/tests/it/object_caps.rs::every_kind_of_object_ends_at_its_cap";
    SUBSCRIPTIONS_PER_TENANT = 200_000, Count, [Api],
        "Subscriptions of one tenant's customers, ended ones included.",
        "control/tests/it/object_caps.rs::every_kind_of_object_ends_at_its_cap";
    APPS_PER_TENANT = 200_000, Count, [Api],
        "Client apps of one tenant's customers.",
        "control/tests/it/object_caps.rs::every_kind_of_object_ends_at_its_cap";
    CONSUMERS_PER_TENANT = 200_000, Count, [Api],
        "Consumers of one tenant's customers.",
        "control/tests/it/object_caps.rs::every_kind_of_object_ends_at_its_cap";
    CREDENTIALS_PER_TENANT = 200_000, Count, [Api],
        "Credentials of one tenant's customers, revoked ones included.",
        "control/tests/it/object_caps.rs::every_kind_of_object_ends_at_its_cap";
    DOMAINS_PER_TENANT = 1_000, Count, [Api],
        "Domains of one tenant, proven or not.",
        "control/tests/it/object_caps.rs::every_kind_of_object_ends_at_its_cap";
    API_TOKENS_PER_TENANT = 1_000, Count, [Api],
        "API tokens of one tenant, revoked ones included.",
        "control/tests/it/object_caps.rs::every_kind_of_object_ends_at_its_cap";
}
@rest {
    BODY_BYTES = MIB, Bytes, [Api],
        "The body of a request.",
        "control/tests/it/request_caps.rs::a_body_of_the_most_bytes_is_read_and_one_more_is_refused";
    FAULTS_TOLD = 100, Count, [Api],
        "Faults in one answer; the others appear when these are fixed.",
        "control/core/tests/it/caps.rs::an_answer_tells_so_many_faults_and_no_more";
    JSON_DEPTH = 32, Count, [Api],
        "Nesting depth of objects and lists in a body.",
        "control/tests/it/request_caps.rs::a_body_of_the_greatest_depth_is_read_and_one_more_is_refused";
    QUERY_PARAMETERS = 32, Count, [Api],
        "Query parameters of a request.",
        "control/tests/it/request_caps.rs::as_many_query_parameters_are_read_and_one_more_is_refused";
    PAGE_ITEMS = 200, Count, [Api],
        "Objects on one page of a list, even if more are requested.",
        "control/tests/it/request_caps.rs::a_page_ends_at_its_items_and_at_its_bytes";
    PAGE_BYTES = 2 * MIB, Bytes, [Api],
        "One page of a list, which has fewer objects than requested if they are large, but at least one.",
        "control/tests/it/request_caps.rs::a_page_ends_at_its_items_and_at_its_bytes";
    TOKEN_RATE = 200, PerSecond, [Api],
        "Requests with one API token, refilled evenly, twice as many at once (--token-rate).",
        "control/tests/it/request_caps.rs::a_token_that_asks_too_fast_is_told_when_to_come_again";
    TENANT_RATE = 400, PerSecond, [Api],
        "Requests with all API tokens of one tenant, refilled evenly, twice as many at once (--tenant-rate).",
        "control/tests/it/request_caps.rs::many_tokens_of_a_tenant_share_its_rate";
    RATE_BYTES = 16 * KIB, Bytes, [Api],
        "Bytes of a body, an answer or a publish's content that count as one more request, which delays the next ones.",
        "control/tests/it/request_caps.rs::what_is_large_counts_as_many_requests";
    BODY_BYTES_IN_FLIGHT = 64 * MIB, Bytes, [Api],
        "Bodies of all requests being read or handled; beyond that, requests are refused.",
        "control/tests/it/request_caps.rs::bodies_in_flight_are_bounded";
    TENANT_BYTES_IN_FLIGHT = 8 * MIB, Bytes, [Api],
        "The same for one tenant.",
        "control/tests/it/request_caps.rs::bodies_in_flight_are_bounded";
    LARGE_AT_A_TIME = 2, Count, [Api],
        "Requests of one tenant's people, or of one customer, handled at a time, of those with a body over 16 KiB or a list as answer; the next one waits up to 10 s.",
        "control/src/admission.rs::so_many_large_requests_of_a_tenant_are_worked_on_and_one_more_waits";
    QUEUE_PLACES = 32, Count, [Api],
        "Requests of one tenant's people, or of one customer, that have such a turn or wait for it; one more is refused.",
        "control/src/admission.rs::so_many_stand_in_a_queue_and_one_more_is_refused_at_once";
    WRITES_AT_A_TIME = 1, Count, [Api],
        "Writing transactions of one tenant's people, or of one customer, at a time, and as many that revoke or remove something; the next one waits up to 10 s.",
        "control/src/admission.rs::writes_of_one_tenant_take_turns_and_another_does_not_wait_for_them";
}
@dns {
    DNS_LOOKUPS = 16, Count, [Api],
        "Look-ups of domains' proofs at a time; one more is refused.",
        "control/src/dns.rs::so_many_look_ups_run_and_one_more_is_told_to_come_again";
    TENANT_DNS_LOOKUPS = 4, Count, [Api],
        "The same for one tenant.",
        "control/src/dns.rs::so_many_look_ups_run_and_one_more_is_told_to_come_again";
    DNS_RECORDS = 64, Count, [Api],
        "Records of an answer that are examined.",
        "control/tests/it/domains.rs::a_proof_is_found_among_as_many_records_as_are_looked_at";
    DNS_TIME = 5_000, Milliseconds, [Api],
        "The time of one look-up.",
        "control/tests/it/domains.rs::dns_that_fails_is_told_so_in_time_and_holds_nobody_else_up";
}
@connections {
    REST_CONNECTIONS = 1_024, Count, [Api],
        "Connections to the REST port; one more closes the one that is idle longest, unauthenticated ones first.",
        "control/tests/it/connections.rs::the_connection_that_is_idle_longest_gives_way";
    HEADER_TIME = 10_000, Milliseconds, [Api],
        "From the first byte of a request to the end of its head; also from connecting to the first request.",
        "control/tests/it/connections.rs::slow_heads_and_silent_connections_are_closed";
    BODY_TIME = 30_000, Milliseconds, [Api],
        "From the end of a request's head to the end of its body.",
        "control/src/rest/call.rs::a_body_that_trickles_in_is_given_up_at_its_time";
    IDLE_TIME = 60_000, Milliseconds, [Api],
        "A connection without a request.",
        "control/tests/it/connections.rs::an_idle_connection_is_closed";
    WRITE_TIME = 30_000, Milliseconds, [Api],
        "A caller that takes no byte of its answer.",
        "control/tests/it/connections.rs::a_caller_that_does_not_read_is_cut_off";
    HANDSHAKE_TIME = 10_000, Milliseconds, [Api, Hub, Agent],
        "From connecting to the end of the TLS handshake.",
        "control/tests/it/connections.rs::a_handshake_that_does_not_end_is_cut_off";
    REQUEST_HEAD_BYTES = 32 * KIB, Bytes, [Api],
        "Request line and headers.",
        "control/tests/it/connections.rs::a_head_of_too_many_bytes_is_refused";
    REST_STREAMS = 64, Count, [Api],
        "Requests at once on one HTTP/2 connection to the REST port.",
        "control/tests/it/connections.rs::streams_of_a_connection_are_bounded";
}
@nodes {
    NODE_CONNECTIONS = 4_096, Count, [Agent],
        "Connections to the agent's port for Envoys.",
        "agent/src/port.rs::so_many_connections_and_no_more";
    NODE_CONNECTIONS_EACH = 1_024, Count, [Agent],
        "Connections of one user or node certificate. An Envoy has one for its configuration and one for each worker.",
        "agent/src/port/caller.rs::what_one_identity_uses_up_another_still_has";
    NODE_GREETING_TIME = 10_000, Milliseconds, [Agent],
        "From connecting to the first frame of HTTP/2, the TLS handshake apart; later silence is found by pings.",
        "agent/tests/it/port.rs::who_does_not_begin_to_speak_is_let_go";
    NODE_CALLS = 10_000, Count, [Agent],
        "Concurrent ext_authz calls and streams on one connection; the printed bootstrap lets Envoy have as many.",
        "agent/tests/it/port.rs::a_connection_has_so_many_calls";
    NODE_CALL_TIME = 10_000, Milliseconds, [Agent],
        "From the head of an ext_authz call to its end. Envoy gives up after 5 s.",
        "agent/tests/it/port.rs::unfinished_questions_hold_a_bounded_amount";
    NODE_QUESTION_BYTES = 160 * KIB, Bytes, [Agent],
        "One ext_authz request. The listener limits all headers of a call and its path to 64 KB; the request has the path twice and some of the headers.",
        "agent/tests/it/port.rs::a_question_of_the_most_bytes_is_answered_and_one_more_is_refused";
    NODE_BYTES_IN_FLIGHT = 16 * MIB, Bytes, [Agent],
        "Ext_authz requests of one user or node certificate that are being read.",
        "agent/src/port/caller.rs::what_one_identity_uses_up_another_still_has";
    NODE_STREAMS = 1_000, Count, [Agent],
        "Configuration streams of all Envoys.",
        "xds/tests/it/sockets.rs::r83_streams_are_bounded_and_so_are_those_that_are_being_filled";
    NODE_REQUEST_BYTES = 16 * MIB, Bytes, [Agent],
        "One request on a configuration stream: the first after a reconnect has some 90 bytes for each host.",
        "xds/tests/it/sockets.rs::r86_a_large_request_is_read_and_a_larger_one_is_refused";
    NODES_WAITING = 1_000, Count, [Agent],
        "Unknown gateways that Envoys wait for.",
        "agent/src/fleet/sets.rs::so_many_may_wait_and_no_more";
}
@agents {
    HUB_CONNECTIONS = 4_096, Count, [Hub],
        "Connections to the agents' port; one more closes the one that is idle longest, unauthenticated ones first.",
        "control/tests/it/hub_bounds.rs::the_bounds_of_the_port_are_those_of_the_table";
    HUB_STREAMS = 16, Count, [Hub],
        "Calls at once on one connection of an agent, which needs three.",
        "control/tests/it/hub_bounds.rs::calls_of_a_connection_are_bounded";
    HUB_HEAD_BYTES = 16 * KIB, Bytes, [Hub],
        "Headers of an agent's call.",
        "control/tests/it/hub_bounds.rs::the_bounds_of_the_port_are_those_of_the_table";
    HUB_IDLE_TIME = 30_000, Milliseconds, [Hub],
        "A connection to the agents' port without a call; agents have one all the time.",
        "control/tests/it/hub_bounds.rs::the_bounds_of_the_port_are_those_of_the_table";
    HUB_CALL_BYTES = 16 * KIB, Bytes, [Hub],
        "The message of Register and of Renew.",
        "control/tests/it/hub_bounds.rs::messages_end_at_their_caps";
    HUB_CALL_TIME = 10_000, Milliseconds, [Hub],
        "Register and Renew from their heads to their answers.",
        "control/tests/it/hub_bounds.rs::a_registration_that_is_never_finished_ends";
    HUB_REPORT_BYTES = MIB, Bytes, [Hub],
        "One message of a report stream; agents send several.",
        "control/tests/it/hub_bounds.rs::messages_end_at_their_caps";
    HUB_REGISTRATIONS = 256, Count, [Hub],
        "Registrations at a time, from their heads to their answers.",
        "control/tests/it/hub_bounds.rs::registrations_at_a_time_are_bounded";
    AGENT_PROOFS = 1_024, Count, [Hub],
        "Calls of one agent within two minutes, each with a proof that is remembered as used.",
        "control/src/hub/replay.rs::what_is_remembered_is_bounded_and_forgotten";
    AGENT_PROCESSES = 4, Count, [Hub],
        "Processes that are served with one agent's identity, unless the second is refused (--duplicate-agents).",
        "control/src/hub/presence.rs::processes_of_one_identity_are_bounded";
}
}
