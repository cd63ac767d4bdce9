//! One canonical spelling of a host.

use imp_grammar::hosts::{
    EndpointFault, EndpointHost, HostFault, below_wildcard, canonical, canonical_pattern, endpoint,
    is_canonical, is_canonical_pattern, is_label, is_wildcard, port,
};
use proptest::prelude::*;

#[test]
fn every_spelling_of_a_hostname_becomes_the_one_that_agents_take() {
    for (text, expected) in [
        ("Shop.Example.ORG", "shop.example.org"),
        ("shop.example.org.", "shop.example.org"),
        ("XN--BCHER-KVA.de", "xn--bcher-kva.de"),
        ("a", "a"),
        ("1.2", "1.2"),
    ] {
        assert_eq!(canonical(text).as_deref(), Ok(expected));
        assert!(is_canonical(expected) && canonical(expected).as_deref() == Ok(expected));
        assert!(text == expected || !is_canonical(text), "{text} is one spelling too many");
    }
    let label = "a".repeat(63);
    let longest = [&label[..], &label, &label, &label[..61]].join(".");
    assert_eq!(longest.len(), 253);
    assert!(canonical(&format!("{longest}.")).is_ok_and(|name| is_canonical(&name)));
    for bad in [
        "",
        ".",
        "..",
        "a..b",
        "a b",
        "a:80",
        "-a.com",
        "a-.com",
        "a_b.com",
        "bücher.de",
        "a,b",
        "[::1]",
        &format!("{longest}a"),
        &format!("{label}a.com"),
        "a..",
        " a.com",
        "a.com\n",
        "a.*.com",
    ] {
        assert_eq!(canonical(bad), Err(HostFault::NotAName), "{bad}");
        assert!(!is_canonical(bad), "{bad}");
    }
    for bad in ["*", "*.example.com", "*a"] {
        assert_eq!(canonical(bad), Err(HostFault::Wildcard), "{bad}");
    }
    assert!(is_label("http-2") && !is_label("HTTP") && !is_label("a.b") && !is_label(""));
}

#[test]
fn a_wildcard_is_a_star_before_a_name_or_alone() {
    for (text, expected, below) in [
        ("*.Example.COM.", "*.example.com", Some("example.com")),
        ("*.a", "*.a", Some("a")),
        ("*", "*", None),
    ] {
        assert_eq!(canonical_pattern(text).as_deref(), Ok(expected));
        assert!(is_canonical_pattern(expected) && is_wildcard(expected));
        assert_eq!(below_wildcard(expected), below);
        assert!(!is_canonical(expected), "no name of one host: {expected}");
    }
    assert_eq!(canonical_pattern("A.example.com.").as_deref(), Ok("a.example.com"));
    assert!(!is_wildcard("a.example.com") && below_wildcard("a.example.com").is_none());
    for bad in [
        "**",
        "*.",
        "*..",
        "*a.com",
        "a*.com",
        "*.*.com",
        "a.*.com",
        "*.*",
        "*:80",
        "*.a:80",
        "*.-a.com",
        " *",
        "*.a b",
        "*.bücher.de",
        "[*]",
        "*.[::1]",
    ] {
        assert_eq!(canonical_pattern(bad), Err(HostFault::NotAWildcard), "{bad}");
        assert!(!is_canonical_pattern(bad), "{bad}");
    }
    // As long as a name, so that some host below it is one.
    let label = "a".repeat(63);
    let longest = [&label[..], &label, &label, &label[..59]].join(".");
    assert!(canonical_pattern(&format!("*.{longest}")).is_ok());
    assert!(canonical_pattern(&format!("*.{longest}a")).is_err());
}

proptest! {
    #[test]
    fn what_the_api_makes_of_a_hostname_is_what_agents_take(
        text in prop_oneof![r"\PC{0,24}", r"(\*\.?)?[a-zA-Z0-9*.-]{0,16}\.?", r"\*\.[a-z]{1,8}(\.[a-z]{1,8}){0,3}"]
    ) {
        match canonical_pattern(&text) {
            Ok(made) => {
                prop_assert!(is_canonical_pattern(&made), "{text:?} became {made:?}");
                prop_assert_eq!(canonical_pattern(&made), Ok(made.clone()));
                prop_assert_eq!(is_wildcard(&made), text.contains('*'));
                prop_assert!(made == text || !is_canonical_pattern(&text), "{text:?} is one too many");
                // The host of a call never is a wildcard.
                prop_assert_eq!(is_canonical(&made), !is_wildcard(&made));
            }
            Err(_) => prop_assert!(!is_canonical_pattern(&text), "{text:?}"),
        }
    }
}

#[test]
fn an_endpoint_is_an_address_or_a_name_in_one_spelling() {
    for (text, expected) in
        [("Api.Example.", "api.example"), ("svc.default.svc", "svc.default.svc")]
    {
        assert_eq!(endpoint(text), Ok(EndpointHost::Name(expected.to_owned())));
    }
    for text in ["10.0.0.1", "::1", "[::1]", "::ffff:10.0.0.1"] {
        let bare = text.trim_matches(['[', ']']);
        assert_eq!(endpoint(text), Ok(EndpointHost::Address(bare.parse().unwrap())), "{text}");
    }
    for text in ["2130706433", "0x7f000001", "127.1", "0177.0.0.1", "a.0x1", "1.2.3.4."] {
        assert_eq!(endpoint(text), Err(EndpointFault::Numeric), "{text}");
    }
    for text in ["", "a b", "a/b", "a:80", "*.example.com", "::1]", "[a]"] {
        assert_eq!(endpoint(text), Err(EndpointFault::Neither), "{text}");
    }
}

#[test]
fn a_port_can_be_listened_on() {
    assert_eq!([0, 1, 65_535, 65_536].map(port), [None, Some(1), Some(65_535), None]);
}
