//! What happens to a call before its route is looked up: removes headers that only a trusted proxy
//! may set, and writes the key that the scope is found by.
//!
//! With the module the last part is the module's, which reads every spelling of a host. Without it the
//! host is compared as it was sent, and capitals are refused.
//!
//! No later filter may clear the route cache: filters that the first route left out would stay out.
//! A call that must be refused gets a key that no scope has, and the reply mapper gives the reason.

use envoy_types::pb::envoy::config::common::mutation_rules::v3 as rules;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::extensions::http::early_header_mutation::dynamic_modules::v3::DynamicModuleEarlyHeaderMutation;
use envoy_types::pb::envoy::extensions::http::early_header_mutation::header_mutation::v3 as early;
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_types::pb::google::protobuf::StringValue;
use rules::header_mutation::Action;

use imp_grammar::headers::{CREDENTIAL, FOREIGN_NAMES, FOREIGN_PREFIXES, OURS};

use super::limits::{HEADERS, HEADERS_BYTES};
use super::mutation::{mutation, removed, starts_with};
use crate::ir::{Edge, EscapedSlash};
use crate::xds::Module;
use crate::xds::canon::{any, extension, header};
use crate::xds::door::library;
use crate::xds::names::{KEY_HOST, KEY_PORT, no_scope};
use crate::xds::path::regex_matcher;

/// `hops` proxies wrote the last addresses in `x-forwarded-for`: one more than the gateway trusts if another
/// listener of this Envoy is in front.
pub(super) fn mutations(
    port: u16,
    edge: &Edge,
    module: Option<&Module>,
    hops: u32,
) -> Vec<core::TypedExtensionConfig> {
    let list = |mutations| early::HeaderMutation { mutations };
    let key = match module {
        None => scope_key(port, edge, &[(CAPITALS, no_scope::SPELLING)], AS_SENT),
        Some(_) => scope_key(port, edge, &[], NOBODYS),
    };
    let mut all =
        vec![extension("strip", &list(strip(edge, hops))), extension("canon", &list(key))];
    all.extend(module.map(|module| extension("host", &host(port, module))));
    all
}

/// The module's part: the key of the host, unless a word says why the call is refused.
fn host(port: u16, module: &Module) -> DynamicModuleEarlyHeaderMutation {
    let config = format!("{{\"state\":{},\"port\":{port}}}", module.state);
    DynamicModuleEarlyHeaderMutation {
        dynamic_module_config: Some(library(module)),
        early_header_mutation_name: "host".to_owned(),
        early_header_mutation_config: Some(any(&StringValue { value: config })),
    }
}

/// A key that no scope has, until the module has written another.
const NOBODYS: &str = "'-'";

/// A host that no scope has as it was sent.
const CAPITALS: &str = "request.host.matches('[A-Z]')";

/// The host with or without a port: the key ends at the colon.
const AS_SENT: &str = "request.host.matches('^[^:@]*(:[0-9]{1,5})?$') ? request.host : '-'";

/// Removes headers that only the gateway may set, and those that only trusted proxies may set
/// unless they did.
fn strip(edge: &Edge, hops: u32) -> Vec<rules::HeaderMutation> {
    let remove = |name: &&str| mutation(Action::Remove((*name).to_owned()));
    let mut mutations = vec![starts_with(OURS)];
    if !edge.refuse_underscores {
        mutations.push(other_spellings());
    }
    let trusted = trusted(hops, edge.trusted_hops);
    mutations.extend(trusted.iter().map(|(_, kept, said)| set(kept, said)));
    mutations.extend(FOREIGN_PREFIXES.map(starts_with));
    mutations.extend(FOREIGN_NAMES.iter().map(remove));
    mutations.extend(trusted.iter().map(|(name, kept, _)| set(name, &format!("%REQ({kept})%"))));
    mutations.extend(trusted.iter().map(|(_, kept, _)| remove(kept)));
    mutations
}

/// Removes other spellings: many servers read `x_imp_plan` as `x-imp-plan`.
fn other_spellings() -> rules::HeaderMutation {
    let families = [&[OURS], &FOREIGN_PREFIXES[..]].concat();
    let mut all: Vec<String> = Vec::new();
    all.extend(families.iter().flat_map(|family| with_underscores(family)).map(|it| it + ".*"));
    all.extend(FOREIGN_NAMES.iter().chain([&CREDENTIAL]).flat_map(|name| with_underscores(name)));
    removed(MatchPattern::SafeRegex(regex_matcher(all.join("|"))))
}

/// Expressions for the spellings with at least one `_`, by the position of the first one.
fn with_underscores(name: &str) -> Vec<String> {
    let dashes = name.match_indices('-');
    let spelled = |(place, _)| {
        let (before, after) = name.split_at(place);
        format!("{before}{}", after.replacen('-', "_", 1).replace('-', "[-_]"))
    };
    dashes.map(spelled).collect()
}

/// What proxies report about the caller: the header, where it is saved meanwhile, and which part of
/// it. Of the addresses the last `hops`, which those proxies wrote; what a caller wrote comes
/// before them. Of the host and port only what a proxy of the operator says (`proxies`): another listener of
/// this Envoy passes on a caller's.
fn trusted(hops: u32, proxies: u32) -> Vec<(&'static str, &'static str, String)> {
    let last = hops.saturating_sub(1);
    let plain = |name: &str, form: &str| {
        let said = format!("request.headers['{name}']");
        format!("%CEL({said}.matches('^(?:{form})$') ? {said} : '')%")
    };
    let addresses = format!(
        "%CEL(re.extract(request.headers['x-forwarded-for'], \
         '^(?:.*,)?[ ]*((?:{ADDRESS},){{{last}}}{ADDRESS})$', '\\\\1'))%"
    );
    let all = [
        ("x-forwarded-for", "x-imp-for", addresses),
        ("x-forwarded-proto", "x-imp-proto", plain("x-forwarded-proto", "https?")),
        ("x-forwarded-host", "x-imp-fhost", plain("x-forwarded-host", "[a-zA-Z0-9.:_-]+")),
        ("x-forwarded-port", "x-imp-fport", plain("x-forwarded-port", "[0-9]+")),
    ];
    let many = match (hops, proxies) {
        (0, _) => 0,
        (_, 0) => 2,
        _ => all.len(),
    };
    all.into_iter().take(many).collect()
}

/// Printable, without comma and dash: a class that takes few of the 100 instructions of a CEL
/// expression.
const ADDRESS: &str = "[ -+.-~]*";

/// The number of headers before those with `_` were removed.
const BEFORE: &str = "x-imp-count";

/// Pseudo-headers, and ours.
const BESIDES: u32 = 5;

/// Writes the key that the scope is found by: a word for a call that must be refused, or else `host`.
fn scope_key(
    port: u16,
    edge: &Edge,
    spelling: &[(&str, &'static str)],
    host: &str,
) -> Vec<rules::HeaderMutation> {
    let mut judges = vec![
        (format!("size(request.headers) > {}", HEADERS + BESIDES), no_scope::TOO_MANY_HEADERS),
        (format!("request.total_size > {HEADERS_BYTES}"), no_scope::HEADERS_TOO_LARGE),
    ];
    let mut mutations = Vec::new();
    if edge.refuse_underscores {
        mutations.push(set(BEFORE, "%CEL(size(request.headers))%"));
        mutations.push(removed(MatchPattern::SafeRegex(regex_matcher(".*_.*".to_owned()))));
        let fewer = format!("int(request.headers['{BEFORE}']) + 1 != size(request.headers)");
        judges.push((fewer, no_scope::UNDERSCORE));
    }
    if edge.escaped_slash == EscapedSlash::Keep {
        judges.push((format!("request.url_path.matches('{CONFUSING}')"), no_scope::SLASH));
    }
    judges.extend(spelling.iter().map(|(judge, word)| ((*judge).to_owned(), *word)));
    judges.push(("request.method == 'TRACE'".to_owned(), no_scope::TRACE));
    let judged = judges.iter().map(|(judge, word)| format!("{judge} ? '{word}' : "));
    let key = format!("%CEL({}{host})%", judged.collect::<String>());
    mutations.push(set(KEY_HOST, &key));
    if edge.refuse_underscores {
        mutations.push(mutation(Action::Remove(BEFORE.to_owned())));
    }
    mutations.push(set(KEY_PORT, &port.to_string()));
    mutations
}

/// A kept `%2F` that an upstream could decode to a different location: beside another slash or at
/// the path's end (an empty segment), or beside `.` or `..`; and every `%5C`. A percent sign would
/// end the expression, so it is written `\x25`.
const CONFUSING: &str =
    r"(?i)\\x255c|(?:/|\\x252f)(?:\\.|\\x252e){0,2}\\x252f|\\x252f(?:\\.|\\x252e){0,2}(?:/|;|$)";

fn set(key: &str, value: &str) -> rules::HeaderMutation {
    use core::header_value_option::HeaderAppendAction::OverwriteIfExistsOrAdd;
    mutation(Action::Append(header(key, value, OverwriteIfExistsOrAdd)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_with_an_underscore_is_another_spelling() {
        let all = |name: &str| with_underscores(name).join("|");
        assert_eq!(all("x-imp-"), "x_imp[-_]|x-imp_");
        assert_eq!(all("x-real-ip"), "x_real[-_]ip|x-real_ip");
        assert_eq!(all("proxy"), "");
    }
}
