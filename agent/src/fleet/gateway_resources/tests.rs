use imp_grammar::caps::NODES_WAITING;
use tonic::Code;

use super::*;

fn gateways() -> impl Iterator<Item = String> {
    (0..).map(|number| format!("00000000-0000-7000-8000-{number:012x}"))
}

#[test]
fn a_resource_set_of_an_unknown_gateway_is_gone_with_its_envoys() {
    let gateway_resources = GatewayResources::default();
    gateway_resources.open();
    for gateway in gateways().take(20_000) {
        assert!(gateway_resources.of(Some(&gateway), Kind::Rendered).unwrap().is_ready());
    }
    let held = gateway_resources.shared.read().unwrap().rendered.waiting.len();
    assert!(held <= NODES_WAITING.size(), "{held}");
}

#[test]
fn so_many_may_wait_and_no_more() {
    let gateway_resources = GatewayResources::default();
    let names: Vec<_> = gateways().take(NODES_WAITING.size() + 1).collect();
    let (last, others) = names.split_last().unwrap();
    let mut held: Vec<_> =
        others.iter().map(|g| gateway_resources.of(Some(g), Kind::Rendered).unwrap()).collect();
    assert_eq!(
        gateway_resources.of(Some(last), Kind::Rendered).unwrap_err().code(),
        Code::ResourceExhausted
    );
    assert!(
        gateway_resources.of(others.first().map(String::as_str), Kind::Rendered).is_ok(),
        "who waits already may"
    );
    assert!(gateway_resources.of(None, Kind::Rendered).is_ok());
    held.pop();
    assert!(gateway_resources.of(Some(last), Kind::Rendered).is_ok(), "a place is free again");
}

#[test]
fn who_waited_gets_what_comes_and_who_stays_sees_the_gateway_come_back() {
    let gateway_resources = GatewayResources::default();
    gateway_resources.open();
    let scope = |name: &str| Rendered {
        type_url: SCOPE,
        name: name.into(),
        version: "1".into(),
        value: bytes::Bytes::new(),
        table: None,
        plain: None,
    };
    let put = || {
        let mut delta = Delta::default();
        delta.gateways.entry("g".into()).or_default().upserts.push(scope("g/h"));
        delta
    };
    let seen = |set: &ResourceSet| set.names(&TypeUrl::from(SCOPE)).len();
    let early = gateway_resources.of(Some("g"), Kind::Rendered).unwrap();
    let mut staged = Staged::default();
    staged.add(put());
    gateway_resources.commit(&mut staged);
    assert_eq!(seen(&early), 1);
    gateway_resources.forget("g");
    assert_eq!(
        gateway_resources.shared.read().unwrap().rendered.by_gateway.len(),
        1,
        "it is not empty"
    );

    let mut gone = Delta::default();
    gone.gateways.entry("g".into()).or_default().removals.push((SCOPE, "g/h".into()));
    staged.add(gone);
    gateway_resources.commit(&mut staged);
    gateway_resources.forget("g");
    assert_eq!(gateway_resources.shared.read().unwrap().rendered.by_gateway.len(), 0);
    staged.add(put());
    gateway_resources.commit(&mut staged);
    assert_eq!(seen(&early), 1, "it is the same resource set");
}

#[test]
fn an_envoy_without_the_module_sees_the_same_with_another_filter_and_without_wildcards() {
    let rendered = |type_url, name: &str, version: &str| Rendered {
        type_url,
        name: name.into(),
        version: version.into(),
        value: bytes::Bytes::new(),
        table: None,
        plain: None,
    };
    let with_plain = |of, name: &str, version: &str, plain: &str| Rendered {
        plain: Some(rendered(of, name, plain).into()),
        ..rendered(of, name, version)
    };
    let all = GatewayResources::default();
    all.open();
    let put = |resources: Vec<Rendered>| {
        let mut delta = Delta::default();
        delta.gateways.entry("g".into()).or_default().upserts.extend(resources.clone());
        delta.all.upserts.extend(resources);
        let mut staged = Staged::default();
        staged.add(delta);
        all.commit(&mut staged);
    };
    let seen = |gateway, kind| {
        let set = all.of(gateway, kind).unwrap();
        let version =
            |of: &str, name| set.get(&TypeUrl::from(of), name).map(|it| it.version().to_string());
        let of = [(EXTENSION, "imp.door"), (LISTENER, "l"), (SCOPE, "g/a"), (SCOPE, "g/*")];
        of.map(|(of, name)| version(of, name).unwrap_or_default())
    };
    let wildcard = |version: &str| {
        // A key of two fragments, as Envoy has it.
        let fragment = |text: &str| {
            let string = [&[10, text.len() as u8], text.as_bytes()].concat();
            [&[10, string.len() as u8], &*string].concat()
        };
        let key = [fragment("8080"), fragment("*.b")].concat();
        let value = [&[26, key.len() as u8], &*key].concat();
        Rendered { value: value.into(), ..rendered(SCOPE, "g/*", version) }
    };
    let door = with_plain(EXTENSION, "imp.door", "module", "asks");
    let listener = |number: u8| {
        with_plain(LISTENER, "l", &format!("module {number}"), &format!("plain {number}"))
    };
    put(vec![door.clone(), listener(1), rendered(SCOPE, "g/a", "1"), wildcard("1")]);
    assert!(!all.are_separate() && all.of(None, Kind::Plain).is_err());
    let plain = [door, listener(1)].map(|it| it.plain.unwrap());
    let plain = || plain.iter().map(|it| &**it);
    assert!(all.separate(plain()) && !all.separate(plain()));
    for gateway in [None, Some("g")] {
        assert_eq!(seen(gateway, Kind::Plain), ["asks", "plain 1", "1", ""]);
        assert_eq!(seen(gateway, Kind::Rendered), ["module", "module 1", "1", "1"]);
    }
    put(vec![listener(2), rendered(SCOPE, "g/a", "2"), wildcard("2")]);
    for gateway in [None, Some("g")] {
        assert_eq!(seen(gateway, Kind::Plain), ["asks", "plain 2", "2", ""]);
        assert_eq!(seen(gateway, Kind::Rendered), ["module", "module 2", "2", "2"]);
    }
}
