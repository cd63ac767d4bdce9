//! Envoy's own answers: a problem document that names the rule that refused the call, or the same
//! for gRPC. The agent's documents and direct responses pass unchanged.

use std::collections::BTreeMap;

use envoy_types::pb::envoy::config::accesslog::v3 as log;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::route::v3 as route;
use envoy_types::pb::envoy::extensions::access_loggers::filters::cel::v3::ExpressionFilter;
use envoy_types::pb::envoy::r#type::matcher::v3 as matcher;
use log::access_log_filter::FilterSpecifier;

use super::refusals::{BY_MODULE, REFUSALS, Refusal, When};
use crate::xds::canon::{
    BodyFormat, Fields, LocalReplies, LocalReplyConfig, ResponseMapper, Text, any, header, inline,
    uint,
};
use crate::xds::names::KEY_HOST;
use crate::xds::path::regex_matcher;

/// The header with the id of the request.
const REQUEST_ID: &str = "x-request-id";

/// The id of the request, or of the answer if Envoy failed before it assigned one.
const ID: &str =
    r#"%COALESCE({"operators":[{"command":"REQ","param":"X-REQUEST-ID"},"UNIQUE_ID"]})%"#;

/// The field `local_reply_config`; the first matching mapper applies. Refusals by the agent are the
/// most frequent and come first. With the module the words of hosts are the module's.
pub(super) fn mappers(with_module: bool) -> LocalReplies {
    let door = cel("response.code_details == 'ext_authz_denied'".to_owned());
    let mut mappers = vec![ResponseMapper { filter: Some(door), ..Default::default() }];
    let of_hosts = if with_module { &BY_MODULE[..] } else { &[] };
    let all = || of_hosts.iter().chain(&REFUSALS);
    mappers.extend(all().map(grpc));
    mappers.extend(all().filter(|it| it.when != When::DirectResponse(503)).map(http));
    LocalReplies { config: Some(LocalReplyConfig { mappers }) }
}

/// The problem document of RFC 9457.
fn http(refusal: &Refusal) -> ResponseMapper {
    let pairs = [
        ("type", "about:blank"),
        ("title", refusal.title),
        ("status", "%RESPONSE_CODE%"),
        ("code", refusal.code),
        ("request_id", "%RESP(X-REQUEST-ID)%"),
    ];
    let field =
        |(name, text): (&str, &str)| (name.to_owned(), Text { string_value: text.to_owned() });
    let fields: BTreeMap<_, _> = pairs.into_iter().map(field).collect();
    ResponseMapper {
        filter: Some(filter(&refusal.when)),
        status_code: refusal.status.and_then(uint),
        body_format_override: Some(BodyFormat {
            json_format: Some(Fields { fields }),
            content_type: "application/problem+json".to_owned(),
            ..Default::default()
        }),
        headers_to_add: headers(refusal).collect(),
    }
}

/// The body becomes `grpc-message`; the HTTP status is 200, whatever is set here. Envoy maps 429 to
/// UNAVAILABLE, which clients retry at once.
fn grpc(refusal: &Refusal) -> ResponseMapper {
    let filters = vec![is_grpc(), filter(&refusal.when)];
    let both = FilterSpecifier::AndFilter(log::AndFilter { filters });
    let text = format!("{}: {}", refusal.code, refusal.title);
    let status = overwritten("grpc-status", &refusal.grpc_status.to_string());
    ResponseMapper {
        filter: Some(log::AccessLogFilter { filter_specifier: Some(both) }),
        body_format_override: Some(BodyFormat {
            text_format_source: Some(inline(&text)),
            ..Default::default()
        }),
        headers_to_add: headers(refusal).chain([status]).collect(),
        ..Default::default()
    }
}

fn headers(refusal: &Refusal) -> impl Iterator<Item = core::HeaderValueOption> {
    let retry = refusal.retry_after.map(|seconds| overwritten("retry-after", seconds));
    [overwritten(REQUEST_ID, ID)].into_iter().chain(retry)
}

fn overwritten(key: &str, value: &str) -> core::HeaderValueOption {
    use core::header_value_option::HeaderAppendAction::OverwriteIfExistsOrAdd;
    header(key, value, OverwriteIfExistsOrAdd)
}

fn filter(when: &When) -> log::AccessLogFilter {
    let details = |test: String| cel(format!("response.code_details{test}"));
    match when {
        When::NoScope(word) => cel(format!("request.headers['{KEY_HOST}'] == '{word}'")),
        When::Details(words) => {
            let words: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
            details(format!(" in [{}]", words.join(", ")))
        }
        When::DetailsAndPath(word, path) => {
            cel(format!("response.code_details == '{word}' && request.path.matches('{path}')"))
        }
        When::DetailsBegin(start) => details(format!(".matches('^({start})')")),
        When::Policy(name) => details(format!(".contains('matched_policy[{name}]')")),
        // For our own routes only: an upstream's answer has other details.
        When::DirectResponse(code) => {
            cel(format!("response.code == {code} && response.code_details == 'direct_response'"))
        }
        When::Flags(flags) => {
            specified(FilterSpecifier::ResponseFlagFilter(log::ResponseFlagFilter {
                flags: flags.iter().map(|&flag| flag.to_owned()).collect(),
            }))
        }
        When::Rest => cel("response.code >= 400 && response.code_details != 'direct_response' && \
             !response.code_details.startsWith('imp_')"
            .to_owned()),
    }
}

/// What Envoy takes for gRPC, and writes in its form. Not `application/grpc-web`.
const GRPC: &str = r"application/grpc(?:\+.*)?";

fn is_grpc() -> log::AccessLogFilter {
    use route::header_matcher::HeaderMatchSpecifier::StringMatch;
    let pattern = matcher::string_matcher::MatchPattern::SafeRegex(regex_matcher(GRPC.to_owned()));
    let header = route::HeaderMatcher {
        name: "content-type".to_owned(),
        header_match_specifier: Some(StringMatch(matcher::StringMatcher {
            match_pattern: Some(pattern),
            ..Default::default()
        })),
        ..Default::default()
    };
    specified(FilterSpecifier::HeaderFilter(log::HeaderFilter { header: Some(header) }))
}

fn cel(expression: String) -> log::AccessLogFilter {
    let filter = ExpressionFilter { expression, ..Default::default() };
    specified(FilterSpecifier::ExtensionFilter(log::ExtensionFilter {
        name: "cel".to_owned(),
        config_type: Some(log::extension_filter::ConfigType::TypedConfig(any(&filter))),
    }))
}

fn specified(filter: FilterSpecifier) -> log::AccessLogFilter {
    log::AccessLogFilter { filter_specifier: Some(filter) }
}
