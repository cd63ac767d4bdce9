use super::*;

fn networks(allowed: &[&str]) -> Networks {
    let nets: Vec<IpNet> = allowed.iter().map(|text| parse(text).unwrap()).collect();
    Networks::allowing(&nets)
}

fn judge(networks: &Networks, address: &str) -> Result<(), &'static str> {
    networks.judge(address.parse().unwrap())
}

#[test]
fn every_network_that_is_not_public_is_refused_from_its_first_to_its_last_address() {
    let networks = Networks::default();
    let v4 = NOT_PUBLIC_V4
        .iter()
        .flat_map(|(net, _)| [net.network(), net.broadcast()].map(IpAddr::from));
    let v6 = NOT_PUBLIC_V6
        .iter()
        .flat_map(|(net, _)| [net.network(), net.broadcast()].map(IpAddr::from));
    for address in v4.chain(v6).chain(METADATA) {
        assert!(networks.judge(address).is_err(), "{address}");
    }
}

#[test]
fn what_is_public_passes() {
    for address in [
        "1.1.1.1",
        "8.8.8.8",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "168.63.129.15",
        "172.32.0.1",
        "192.0.1.1",
        "198.20.0.1",
        "223.255.255.255",
        "2001:200::1",
        "2606:4700::1111",
        "2a00:1450::1",
        "3ffe::1",
        "2003::1",
    ] {
        assert_eq!(judge(&Networks::default(), address), Ok(()), "{address}");
    }
}

#[test]
fn an_ipv4_address_inside_an_ipv6_address_does_not_hide() {
    for address in [
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:0:127.0.0.1",
        "64:ff9b::127.0.0.1",
        "64:ff9b:1::7f00:1",
        "2002:7f00:1::",
        "2001:0:7f00:1::",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
    ] {
        assert!(judge(&Networks::default(), address).is_err(), "{address}");
    }
}

#[test]
fn an_entry_opens_what_it_names_and_nothing_else() {
    let networks = networks(&["127.0.0.0/8", "10.1.2.3", "::1", "::ffff:192.168.7.0/120"]);
    for open in ["127.0.0.1", "10.1.2.3", "::1", "192.168.7.9"] {
        assert_eq!(judge(&networks, open), Ok(()), "{open}");
    }
    for closed in [
        "10.1.2.4",
        "::",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "64:ff9b::127.0.0.1",
        "192.168.8.1",
        "::2",
    ] {
        assert!(judge(&networks, closed).is_err(), "{closed}");
    }
}

#[test]
fn a_wide_entry_opens_neither_a_metadata_service_nor_what_carries_ipv4() {
    let wide = networks(&["0.0.0.0/0", "::/0"]);
    assert_eq!(judge(&wide, "10.0.0.1"), Ok(()));
    assert_eq!(judge(&wide, "fd00::1"), Ok(()));
    for host in METADATA {
        assert_eq!(wide.judge(host), Err("a metadata address"), "{host}");
    }
    for closed in
        ["::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::", "::a9fe:a9fe"]
    {
        assert!(judge(&wide, closed).is_err(), "{closed}");
    }
    let own = networks(&["169.254.169.254"]);
    assert_eq!(judge(&own, "169.254.169.254"), Ok(()));
}

#[test]
fn nat64_opens_for_public_addresses_only() {
    let networks = networks(&["64:ff9b::/96"]);
    assert_eq!(judge(&networks, "64:ff9b::8.8.8.8"), Ok(()));
    assert!(judge(&networks, "64:ff9b::127.0.0.1").is_err());
    assert!(judge(&networks, "64:ff9b::10.0.0.1").is_err());
}

#[test]
fn names_that_are_known_to_lead_inside_are_named_as_such() {
    for name in [
        "localhost",
        "a.localhost",
        "localhost.localdomain",
        "localhost6",
        "ip6-localhost",
        "ip6-loopback",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "metrics.kube-system.svc",
        "host.docker.internal",
        "gateway.docker.internal",
        "metadata.google.internal",
        "metadata",
        "vm",
        "runsc",
        "127.0.0.1.nip.io",
        "a.127-0-0-1.sslip.io",
        "localtest.me",
        "x.localtest.me",
    ] {
        assert!(leads_inside(name).is_some(), "{name}");
    }
    for name in ["api.example.com", "payment-svc.default.svc", "notlocalhost.example", "anip.io"] {
        assert_eq!(leads_inside(name), None, "{name}");
    }
}
