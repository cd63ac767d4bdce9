//! TLS to upstreams.

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as tls;
use envoy_types::pb::envoy::r#type::matcher::v3 as matcher;

use super::canon::{any, inline};
use super::upstreams::Upstreams;
use crate::ir;

/// Where most systems have their certificate authorities.
const SYSTEM_AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// The transport socket of a backend with TLS.
pub(super) fn socket(
    backend: &ir::Backend,
    upstreams: &Upstreams,
) -> Option<core::TransportSocket> {
    let settings = backend.settings.tls.as_ref()?;
    let alpn = if backend.http2 { "h2" } else { "http/1.1" };
    let params = tls::TlsParameters {
        tls_minimum_protocol_version: tls::tls_parameters::TlsProtocol::TlSv12.into(),
        ..Default::default()
    };
    let context = tls::UpstreamTlsContext {
        sni: settings.sni.clone().unwrap_or_default(),
        common_tls_context: Some(tls::CommonTlsContext {
            tls_params: Some(params),
            alpn_protocols: vec![alpn.to_owned()],
            validation_context_type: validation(settings, backend, upstreams)
                .map(tls::common_tls_context::ValidationContextType::ValidationContext),
            ..Default::default()
        }),
        ..Default::default()
    };
    Some(core::TransportSocket {
        name: "envoy.transport_sockets.tls".to_owned(),
        config_type: Some(core::transport_socket::ConfigType::TypedConfig(any(&context))),
    })
}

fn validation(
    settings: &ir::Tls,
    backend: &ir::Backend,
    upstreams: &Upstreams,
) -> Option<tls::CertificateValidationContext> {
    let authorities = match &settings.trust {
        ir::Trust::Anyone => return None,
        ir::Trust::Authorities(pem) => inline(pem),
        ir::Trust::System => {
            let file = upstreams.authorities.as_deref().unwrap_or(SYSTEM_AUTHORITIES);
            core::DataSource {
                specifier: Some(core::data_source::Specifier::Filename(file.to_owned())),
                ..Default::default()
            }
        }
    };
    Some(tls::CertificateValidationContext {
        trusted_ca: Some(authorities),
        match_typed_subject_alt_names: names(settings, backend),
        ..Default::default()
    })
}

/// The names that the certificate may have. Envoy verifies only what it is told to.
fn names(settings: &ir::Tls, backend: &ir::Backend) -> Vec<tls::SubjectAltNameMatcher> {
    use tls::subject_alt_name_matcher::SanType;
    let one = |kind: SanType, name: String| tls::SubjectAltNameMatcher {
        san_type: kind.into(),
        matcher: Some(matcher::StringMatcher {
            match_pattern: Some(matcher::string_matcher::MatchPattern::Exact(name)),
            ..Default::default()
        }),
        ..Default::default()
    };
    if let Some(name) = &settings.sni {
        return vec![one(SanType::Dns, name.clone())];
    }
    let mut addresses: Vec<String> = backend
        .endpoints
        .iter()
        .filter_map(|endpoint| match &endpoint.host {
            ir::EndpointHost::Address(address) => Some(address.to_string()),
            ir::EndpointHost::Name(_) => None,
        })
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses.into_iter().map(|address| one(SanType::IpAddress, address)).collect()
}
