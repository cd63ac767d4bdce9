//! Problem documents for what Envoy itself answers. The door's own documents and direct responses
//! pass untouched.

use std::collections::BTreeMap;

use envoy_types::pb::envoy::config::accesslog::v3 as log;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::extensions::access_loggers::filters::cel::v3::ExpressionFilter;

use crate::xds::canon::{
    Fields, JsonFormat, LocalReplies, LocalReplyConfig, ResponseMapper, Text, any, header, uint,
};

use crate::xds::names::{ADDRESS_DENIED, FORBIDDEN, KEY_HOST, NO_DOOR, SPELLING};

/// The field `local_reply_config`; the first mapper that applies wins.
pub(super) fn mappers() -> LocalReplies {
    let quota = "response.code_details.contains('matched_policy[quota]')";
    let no_door = format!(
        "response.code_details == 'ext_authz_error' || \
         response.code_details.contains('matched_policy[{NO_DOOR}]')"
    );
    let address = format!("response.code_details.contains('matched_policy[{ADDRESS_DENIED}]')");
    let forbidden = format!("response.code_details.contains('matched_policy[{FORBIDDEN}]')");
    let rest = "response.code >= 400 && response.code_details != 'direct_response' && \
                !response.code_details.startsWith('imp_') && \
                !response.code_details.startsWith('ext_authz')";
    // Of our own routes: what an upstream says comes with other details.
    let method = "response.code == 405 && response.code_details == 'direct_response'";
    let timeout = flags(&["UT"]);
    let unavailable = flags(&["UF", "UH", "UC", "UR", "UO", "URX", "UPE", "LR", "NC", "DF"]);
    let spelling = format!("request.headers['{KEY_HOST}'] == '{SPELLING}'");
    let mappers = vec![
        mapper(cel(&spelling), Some(421), "host_spelling", "Write the host in lower case"),
        mapper(flags(&["NR"]), Some(404), "no_route", "No such route"),
        mapper(cel(method), None, "method_not_allowed", "Not with this method; see Allow"),
        retry(mapper(cel(quota), Some(429), "quota", "Quota exceeded"), "60"),
        retry(mapper(cel(&no_door), Some(503), "enforcement_unavailable", "Try again later"), "1"),
        mapper(
            cel(&address),
            Some(403),
            "address_not_allowed",
            "Calls from this address are not allowed",
        ),
        mapper(
            cel(&forbidden),
            Some(502),
            "upstream_forbidden",
            "The upstream is at an address that this gateway does not call",
        ),
        mapper(timeout, None, "upstream_timeout", "The upstream did not answer in time"),
        mapper(unavailable, None, "upstream_unavailable", "The upstream cannot be reached"),
        mapper(cel(rest), None, "gateway", "Request refused by the gateway"),
    ];
    LocalReplies { config: Some(LocalReplyConfig { mappers }) }
}

fn mapper(
    filter: log::access_log_filter::FilterSpecifier,
    status: Option<u32>,
    code: &str,
    title: &str,
) -> ResponseMapper {
    let pairs = [
        ("type", "about:blank"),
        ("title", title),
        ("status", "%RESPONSE_CODE%"),
        ("code", code),
        ("request_id", "%REQ(X-REQUEST-ID)%"),
    ];
    let field =
        |(name, text): (&str, &str)| (name.to_owned(), Text { string_value: text.to_owned() });
    let fields: BTreeMap<_, _> = pairs.into_iter().map(field).collect();
    ResponseMapper {
        filter: Some(log::AccessLogFilter { filter_specifier: Some(filter) }),
        status_code: status.and_then(uint),
        body_format_override: Some(JsonFormat {
            json_format: Some(Fields { fields }),
            content_type: "application/problem+json".to_owned(),
        }),
        headers_to_add: Vec::new(),
    }
}

fn retry(mut mapper: ResponseMapper, seconds: &str) -> ResponseMapper {
    use core::header_value_option::HeaderAppendAction::OverwriteIfExistsOrAdd;
    mapper.headers_to_add.push(header("retry-after", seconds, OverwriteIfExistsOrAdd));
    mapper
}

fn flags(any_of: &[&str]) -> log::access_log_filter::FilterSpecifier {
    log::access_log_filter::FilterSpecifier::ResponseFlagFilter(log::ResponseFlagFilter {
        flags: any_of.iter().map(|flag| (*flag).to_owned()).collect(),
    })
}

fn cel(expression: &str) -> log::access_log_filter::FilterSpecifier {
    let filter = ExpressionFilter { expression: expression.to_owned(), ..Default::default() };
    log::access_log_filter::FilterSpecifier::ExtensionFilter(log::ExtensionFilter {
        name: "cel".to_owned(),
        config_type: Some(log::extension_filter::ConfigType::TypedConfig(any(&filter))),
    })
}
