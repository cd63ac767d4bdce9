//! The bindings beside what was read in Envoy's header.

use std::collections::BTreeMap;

use super::*;

const HEADER: &str = include_str!("../../tests/data/abi.txt");

/// Functions of this kind: arguments and result by name.
pub(crate) fn functions(kind: &str) -> BTreeMap<String, (Vec<String>, String)> {
    let lines = HEADER.lines().filter_map(|line| line.strip_prefix(kind)?.strip_prefix(' '));
    let read = |line: &str| {
        let (name, rest) = line.split_once('(').unwrap();
        let (arguments, result) = rest.split_once(')').unwrap();
        let arguments = arguments.split(", ").filter(|it| !it.is_empty()).map(str::to_owned);
        let result = result.strip_prefix(" -> ").unwrap_or_default();
        (name.to_owned(), (arguments.collect(), result.to_owned()))
    };
    lines.map(read).collect()
}

/// What a type of ours is in C, as far as a call goes.
fn in_c(own: &str) -> &'static [&'static str] {
    match own {
        "Pointer" => &["pointer"],
        "u32" => &["enum", "u32"],
        "Buffer" => &["bytes"],
        "*mut Buffer" => &["*bytes"],
        "*const Header" | "*mut Header" => &["*header"],
        "*mut usize" => &["*size"],
        "*mut u64" => &["*u64"],
        "usize" => &["size"],
        "bool" => &["bool"],
        "" => &[""],
        other => panic!("{other} has no equal"),
    }
}

#[test]
fn each_callback_is_called_as_envoy_has_it() {
    let mut known = functions("callback");
    for (name, arguments, result) in TYPES.iter().chain(EARLY_TYPES) {
        let name = name.strip_prefix("envoy_dynamic_module_callback_").unwrap();
        let (theirs, their_result) = known.remove(name).unwrap_or_else(|| panic!("{name}?"));
        assert_eq!(arguments.len(), theirs.len(), "{name}");
        for (own, their) in arguments.iter().zip(&theirs) {
            assert!(in_c(own).contains(&their.as_str()), "{name}: {own} is no {their}");
        }
        assert!(in_c(result).contains(&their_result.as_str()), "{name}: {result}");
    }
    assert!(known.is_empty(), "not bound: {known:?}");
}

#[test]
fn each_structure_has_the_layout_of_envoys() {
    let word = size_of::<usize>();
    assert_eq!((size_of::<Buffer>(), align_of::<Buffer>()), (2 * word, word));
    assert_eq!((size_of::<Header>(), align_of::<Header>()), (4 * word, word));
    let offsets = [std::mem::offset_of!(Buffer, data), std::mem::offset_of!(Buffer, length)];
    assert_eq!(offsets, [0, word]);
    let offsets = [std::mem::offset_of!(Header, name), std::mem::offset_of!(Header, value)];
    assert_eq!(offsets, [0, 2 * word]);
}

#[test]
fn each_number_is_envoys() {
    let lines = HEADER.lines().filter_map(|line| line.strip_prefix("number "));
    let theirs: BTreeMap<_, u32> = lines
        .filter_map(|line| line.split_once(' '))
        .map(|(name, number)| (name, number.parse().unwrap()))
        .collect();
    let own = [
        ("map::REQUEST", map::REQUEST),
        ("map::RESPONSE", map::RESPONSE),
        ("status::CONTINUE", status::CONTINUE),
        ("status::STOP", status::STOP),
        ("body_status::CONTINUE", body_status::CONTINUE),
        ("body_status::DISCARD", body_status::DISCARD),
        ("RECEIVED_REQUEST", RECEIVED_REQUEST),
        ("OF_ROUTE", OF_ROUTE),
        ("attribute::PROTOCOL", attribute::PROTOCOL),
        ("attribute::REQUEST_SIZE", attribute::REQUEST_SIZE),
        ("attribute::RESPONSE_CODE", attribute::RESPONSE_CODE),
        ("attribute::RESPONSE_SIZE", attribute::RESPONSE_SIZE),
        ("attribute::SERVER_NAME", attribute::SERVER_NAME),
        ("level::INFO", level::INFO),
        ("level::WARN", level::WARN),
        ("level::ERROR", level::ERROR),
    ];
    assert_eq!(BTreeMap::from(own), theirs);
}

#[test]
fn a_process_without_the_callbacks_is_no_envoy() {
    assert_eq!(Callbacks::resolve().err(), NAMES.first().copied());
    assert_eq!(EarlyCallbacks::resolve().err(), EARLY_NAMES.first().copied());
}

#[test]
fn nothing_that_selects_another_route_is_bound() {
    // Filters are chosen with the first route: one that it switches off would stay off.
    let selects = |name: &&&str| name.contains("clear_route") || name.contains("recreate");
    assert_eq!(NAMES.iter().chain(EARLY_NAMES).find(selects), None);
}
