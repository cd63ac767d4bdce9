//! The features of an agent's build besides policies: words of its heartbeat, with which the API
//! refuses a publish that a connected agent would serve wrongly.

/// Paths that the first grammar of paths did not have ([`crate::path::first`]).
pub const PATHS: &str = "paths";
/// Services of more routes or bytes than former releases take.
pub const LARGE_SERVICES: &str = "large_services";
/// Rewrites with variables, and without the base path.
pub const REWRITES: &str = "rewrites";
/// Calls without a total time limit, and upgrades.
pub const STREAMS: &str = "streams";
/// The number of retries of a backend.
pub const RETRIES: &str = "retries";
/// The settings of outlier detection of a backend.
pub const OUTLIER_DETECTION: &str = "outlier_detection";
/// Active health checks.
pub const HEALTH_CHECK: &str = "health_check";
/// TLS to a backend.
pub const UPSTREAM_TLS: &str = "upstream_tls";

/// API keys in places that a publish names.
pub const KEY_LOCATIONS: &str = "key_locations";

/// Quotas in a time zone; other agents would count by its standard time.
pub const TIME_ZONES: &str = "time_zones";

/// Quotas by the year; other agents would let as much pass in each month.
pub const YEAR_QUOTAS: &str = "year_quotas";

/// Quotas whose windows begin on the day of the subscription; other agents would count by the calendar.
pub const ANCHORED_QUOTAS: &str = "anchored_quotas";

/// Wildcards among the hostnames of a publish: of an agent whose Envoys have the module, which finds them.
pub const WILDCARD_HOSTS: &str = "wildcard_hosts";

/// Gateways of class envoy-gateway by Gateway API: of an agent that has an API server. Other classes
/// are served so alone; an agent that can names them among its classes.
pub const GATEWAY_API: &str = "gateway_api";

/// Those of every agent of this release.
pub const ALL: [&str; 12] = [
    PATHS,
    LARGE_SERVICES,
    REWRITES,
    STREAMS,
    RETRIES,
    OUTLIER_DETECTION,
    HEALTH_CHECK,
    UPSTREAM_TLS,
    KEY_LOCATIONS,
    TIME_ZONES,
    YEAR_QUOTAS,
    ANCHORED_QUOTAS,
];
