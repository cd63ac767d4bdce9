//! The grammars of names, hosts, paths and headers, checked as Envoy and the RFCs define them.

use imp_grammar::hosts::{self, HostFault};
use imp_grammar::{caps, headers, regexes, texts};

use crate::check::Fault;

/// 1-100 visible characters, no blank at either end. People compare names, so characters that are
/// invisible, change the direction of text or look like a plain blank are refused.
pub fn name(text: &str) -> Result<(), Fault> {
    let length = text.chars().count();
    if length == 0 || !caps::NAME_CHARACTERS.admits(length) || text.trim() != text {
        let detail =
            format!("1 to {} characters, no blank at the ends", caps::NAME_CHARACTERS.value);
        return Err(Fault::new("invalid_name", detail));
    }
    match text.chars().find(|c| !texts::is_visible(*c)) {
        None => Ok(()),
        Some(c) => Err(hidden("invalid_name", c)),
    }
}

fn hidden(code: &'static str, c: char) -> Fault {
    Fault::new(code, format!("U+{:04X} cannot be seen and is not accepted here", u32::from(c)))
}

/// `[a-z0-9]([a-z0-9-]*[a-z0-9])?`, at most 63 characters (a DNS label).
pub fn slug(text: &str) -> Result<(), Fault> {
    if hosts::is_label(text) {
        return Ok(());
    }
    Err(Fault::new(
        "invalid_slug",
        "1 to 63 of a-z, 0-9 and '-', beginning and ending with a letter or digit",
    ))
}

/// At most `max` characters of text for people: lines and tabs are allowed, hidden characters are
/// not.
pub fn text(value: &str, max: usize) -> Result<(), Fault> {
    if value.chars().count() > max {
        return Err(Fault::new("too_long", format!("at most {max} characters")));
    }
    match value.chars().find(|c| !texts::is_plain(*c)) {
        None => Ok(()),
        Some(c) => Err(hidden("invalid_text", c)),
    }
}

/// A description: like [`text`], with the cap of descriptions.
pub fn description(value: &str) -> Result<(), Fault> {
    text(value, caps::DESCRIPTION_CHARACTERS.size())
}

/// A value to compare a caller's value with: anything but control characters.
pub fn match_value(value: &str) -> Result<(), Fault> {
    if value.chars().any(char::is_control) {
        return Err(Fault::new("invalid_value", "no control characters"));
    }
    if !caps::MATCH_VALUE_CHARACTERS.admits(value.chars().count()) {
        return Err(Fault::new("too_long", caps::MATCH_VALUE_CHARACTERS.words()));
    }
    Ok(())
}

/// Converts a hostname to its canonical form, as [`hosts::canonical`] defines it and agents expect
/// it. Labels of non-ASCII text must be valid A-labels (RFC 5891).
pub fn hostname(text: &str) -> Result<String, Fault> {
    hosts::canonical(text).and_then(decodable).map_err(host_fault)
}

/// The same for a hostname or a wildcard: `*.example.com`, `*`.
pub fn hostname_pattern(text: &str) -> Result<String, Fault> {
    hosts::canonical_pattern(text).and_then(decodable).map_err(host_fault)
}

fn decodable(pattern: String) -> Result<String, HostFault> {
    let name = hosts::below_wildcard(&pattern).unwrap_or(&pattern);
    if a_labels_decode(name) { Ok(pattern) } else { Err(HostFault::NotAName) }
}

fn host_fault(fault: HostFault) -> Fault {
    let code = match fault {
        HostFault::Wildcard => "unsupported_hostname",
        HostFault::NotAName | HostFault::NotAWildcard => "invalid_hostname",
    };
    Fault::new(code, fault.to_string())
}

/// Checks that every `xn--` label is the canonical encoding of a Unicode label.
fn a_labels_decode(name: &str) -> bool {
    if !name.split('.').any(|label| label.starts_with("xn--")) {
        return true;
    }
    let (unicode, decoded) = idna::domain_to_unicode(name);
    decoded.is_ok() && idna::domain_to_ascii(&unicode).is_ok_and(|ascii| ascii == name)
}

/// A base path or the target of a rewrite: begins with '/', of characters that need no escaping in a URI (RFC 3986 `pchar`
/// without percent-encoding and ';'), without empty, `.` or `..` segments: Envoy normalises these
/// away before it matches, so a rule that has one would never match.
pub fn path(text: &str) -> Result<(), Fault> {
    let fault = |why: &str| Err(Fault::new("invalid_path", why));
    let Some(rest) = text.strip_prefix('/') else {
        return fault("a path begins with '/'");
    };
    if !caps::PATH_BYTES.admits(text.len()) {
        return Err(Fault::new("invalid_path", caps::PATH_BYTES.words()));
    }
    if !text.bytes().all(|b| b.is_ascii_alphanumeric() || b"/-._~!$&'()*+,=:@".contains(&b)) {
        return fault(
            "only unescaped path characters: letters, digits, - . _ ~ ! $ & ' ( ) * + , = : @ and '/'",
        );
    }
    let segments: Vec<&str> = rest.split('/').collect();
    let (last, inner) = segments.split_last().map_or(("", &[][..]), |(last, inner)| (*last, inner));
    let odd = |segment: &&str| matches!(*segment, "." | "..");
    if inner.iter().any(|s| s.is_empty()) || segments.iter().any(odd) || last == "." {
        return fault("no empty, '.' or '..' segment: they are normalised away before matching");
    }
    Ok(())
}

/// A base path: "/" or a [`path`] without a trailing slash.
pub fn base_path(text: &str) -> Result<(), Fault> {
    path(text)?;
    if text == "/" || !text.ends_with('/') {
        return Ok(());
    }
    Err(Fault::new("invalid_path", "a base path has no trailing slash"))
}

/// A base path that was not there before: of characters that have one spelling. An upstream reads
/// `/a%3Ab` as `/a:b`; the edge does not.
pub fn new_base_path(text: &str) -> Result<(), Fault> {
    base_path(text)?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "/-._~".contains(c);
    let Some(c) = text.chars().find(|c| !plain(*c)) else { return Ok(()) };
    let detail = format!(
        "'{c}' has several spellings: a base path has letters, digits, - . _ ~ and '/'; write the others in paths of routes"
    );
    Err(Fault::new("invalid_path", detail))
}

/// A regular expression that can be read and is small once compiled. Necessary, not sufficient: Envoy
/// compiles it with RE2 and has the last word.
pub fn regex(text: &str) -> Result<(), Fault> {
    regexes::check(text).map_err(|fault| Fault::new("invalid_regex", fault.to_string()))
}

/// Like [`regex`], for a path, which arrives percent-encoded.
pub fn path_regex(text: &str) -> Result<(), Fault> {
    regexes::check_path(text).map_err(|fault| Fault::new("invalid_regex", fault.to_string()))
}

/// A method token (RFC 9110, section 5.6.2), upper case. CONNECT and TRACE are never routed.
pub fn method(text: &str) -> Result<(), Fault> {
    let known = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    if known.contains(&text) {
        return Ok(());
    }
    Err(Fault::new("invalid_method", format!("one of {}", known.join(", "))))
}

/// A header name (RFC 9110, section 5.1) that a tenant may match or write.
pub fn header_name(text: &str) -> Result<(), Fault> {
    if !caps::HEADER_NAME_BYTES.admits(text.len())
        || http::HeaderName::from_bytes(text.as_bytes()).is_err()
    {
        return Err(Fault::new(
            "invalid_header_name",
            "a token: letters, digits and ! # $ % & ' * + - . ^ _ ` | ~",
        ));
    }
    if text.contains('_') {
        return Err(Fault::new(
            "invalid_header_name",
            "no underscore: many servers take it for a dash",
        ));
    }
    Ok(())
}

/// A header that policies may set, add or remove: not one that frames or routes a message, nor one
/// of the platform's own.
pub fn writable_header(text: &str) -> Result<(), Fault> {
    header_name(text)?;
    let lower = text.to_ascii_lowercase();
    if headers::is_reserved(&lower) { Err(reserved(&lower)) } else { Ok(()) }
}

/// A header that a route may match.
pub fn matched_header(text: &str) -> Result<(), Fault> {
    header_name(text)?;
    let lower = text.to_ascii_lowercase();
    if !headers::is_hidden_from_routes(&lower) {
        return Ok(());
    }
    let detail = format!("the gateway removes or rewrites {lower} before it looks for a route");
    Err(Fault::new("reserved_header", detail))
}

fn reserved(name: &str) -> Fault {
    Fault::new("reserved_header", format!("{name} belongs to the gateway"))
}

/// A literal header value: visible ASCII, blanks and tabs. Envoy reads '%' as the start of a
/// command (`%REQ(..)%`), which tenants may not write; a literal percent sign is "%%".
pub fn header_value(text: &str) -> Result<(), Fault> {
    let visible = text.bytes().all(|b| (0x20..0x7f).contains(&b) || b == b'\t');
    if !visible || !caps::HEADER_VALUE_BYTES.admits(text.len()) || text.trim() != text {
        let most = caps::HEADER_VALUE_BYTES.value;
        return Err(Fault::new(
            "invalid_header_value",
            format!("at most {most} visible ASCII characters, no blank at the ends"),
        ));
    }
    if text.replace("%%", "").contains('%') {
        return Err(Fault::new("invalid_header_value", "write a percent sign as %%"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostname_becomes_canonical() {
        assert_eq!(hostname("Api.Example.COM.").as_deref(), Ok("api.example.com"));
    }

    #[test]
    fn an_a_label_decodes_and_has_one_spelling() {
        assert_eq!(hostname("XN--BCHER-KVA.de").as_deref(), Ok("xn--bcher-kva.de"));
        for bad in ["xn--a.com", "xn--.com", "xn--0.com", "a.xn--zzzzzzzzzzz99999.com"] {
            assert_eq!(hostname(bad).map_err(|f| f.code), Err("invalid_hostname"), "{bad}");
        }
    }

    #[test]
    fn what_is_no_hostname_is_refused() {
        for bad in
            ["", ".", "a..b", "a b", "a:80", "-a.com", "a_b.com", "bücher.de", "a,b", "[::1]"]
        {
            assert_eq!(hostname(bad).map_err(|f| f.code), Err("invalid_hostname"), "{bad}");
        }
        assert_eq!(hostname("*.example.com").map_err(|f| f.code), Err("unsupported_hostname"));
    }

    #[test]
    fn a_path_is_what_envoy_would_still_match_after_normalising() {
        for good in ["/", "/a", "/a/b", "/a/b/", "/v1.0/x~y"] {
            assert!(path(good).is_ok(), "{good}");
        }
        for bad in
            ["", "a", "//", "/a//b", "/a/../b", "/.", "/..", "/a%20b", "/a;b", "/a?b", "/a#b", "/ä"]
        {
            assert!(path(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_new_base_path_has_one_spelling() {
        for good in ["/", "/a", "/a/b", "/v1.0/x~y_z-1"] {
            assert!(new_base_path(good).is_ok(), "{good}");
        }
        for delimiter in "!$&'()*+,=:@".chars() {
            let text = format!("/a{delimiter}b");
            assert!(base_path(&text).is_ok(), "{text}");
            let fault = new_base_path(&text).unwrap_err();
            assert!(fault.code == "invalid_path" && fault.detail.contains(delimiter), "{fault:?}");
        }
    }

    #[test]
    fn a_lone_percent_sign_never_reaches_envoy() {
        assert!(header_value("100%%").is_ok());
        for bad in ["100%", "%REQ(x)%", "%%%", "a\nb", " a"] {
            assert!(header_value(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn policies_cannot_write_the_headers_of_the_gateway() {
        assert!(writable_header("x-team").is_ok());
        for bad in [
            "x imp",
            "Host",
            "X-Imp-Consumer",
            "x-envoy-retry-on",
            "content-length",
            "a_b",
            ":path",
        ] {
            assert!(writable_header(bad).is_err(), "{bad}");
        }
    }
}
