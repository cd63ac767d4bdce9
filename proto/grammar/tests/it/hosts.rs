//! One canonical spelling of a host.

use imp_grammar::hosts::{
    EndpointFault, EndpointHost, HostFault, canonical, endpoint, is_canonical, is_label, port,
};

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
