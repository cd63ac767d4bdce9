//! Policies.

use imp_core::policy::{Header, Headers, Policy, PolicyConfig};
use imp_proto::config as pb;

/// Converts a policy with its settings.
pub(super) fn policy(policy: &Policy) -> pb::Policy {
    use pb::policy::Kind;
    let kind = match &policy.config {
        // Refused above; an agent accepts no policy without a kind.
        PolicyConfig::Unknown(_) => return pb::Policy { id: policy.id.to_string(), kind: None },
        PolicyConfig::RateLimit(limit) => Kind::RateLimit(pb::RateLimit {
            requests: limit.requests,
            window_seconds: limit.per.seconds(),
        }),
        PolicyConfig::RequestHeaders(list) => Kind::RequestHeaders(headers(list)),
        PolicyConfig::ResponseHeaders(list) => Kind::ResponseHeaders(headers(list)),
        PolicyConfig::IpAccess(access) => {
            Kind::IpAccess(pb::IpAccess { allow: access.allow.clone(), deny: access.deny.clone() })
        }
        PolicyConfig::Cors(cors) => Kind::Cors(pb::Cors {
            allow_origins: cors.allow_origins.clone(),
            allow_methods: cors.allow_methods.clone(),
            allow_headers: cors.allow_headers.clone(),
            expose_headers: cors.expose_headers.clone(),
            max_age_seconds: cors.max_age_seconds,
            allow_credentials: cors.allow_credentials,
        }),
    };
    pb::Policy { id: policy.id.to_string(), kind: Some(kind) }
}

fn headers(headers: &Headers) -> pb::Headers {
    let pairs = |list: &[Header]| {
        let pair =
            |header: &Header| pb::Header { name: header.name.clone(), value: header.value.clone() };
        list.iter().map(pair).collect()
    };
    pb::Headers {
        set: pairs(&headers.set),
        add: pairs(&headers.add),
        remove: headers.remove.clone(),
    }
}
