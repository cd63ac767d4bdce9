use std::path::Path;

use imp_grammar::path::Pattern;
use regex::Regex;

use super::*;

fn templates(paths: impl IntoIterator<Item = String>) -> Vec<Route> {
    paths.into_iter().map(|path| Route::reaching(&Pattern::template(&path).unwrap())).collect()
}

fn definition(name: &str) -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../bench/tests/data/paths");
    let text = std::fs::read_to_string(folder.join(format!("{name}.txt"))).unwrap();
    text.lines()
        .filter_map(|line| line.split_once(" /"))
        .map(|(_, path)| format!("/{path}"))
        .collect()
}

fn lists<'a>(choice: &'a Choice<'a>) -> Vec<&'a [&'a Route]> {
    match choice {
        Choice::List(list) => vec![list],
        Choice::Split { below, above, .. } => [lists(below), lists(above)].concat(),
    }
}

/// Which list a path leads to.
fn found<'a>(choice: &'a Choice<'a>, path: &str) -> &'a [&'a Route] {
    match choice {
        Choice::List(list) => list,
        Choice::Split { cut, below, above } => {
            let segment = path.split('/').nth(cut.place + 1).unwrap_or_default();
            found(if segment >= cut.from { above } else { below }, path)
        }
    }
}

#[test]
fn a_question_compares_one_segment() {
    let words =
        ["", "a", "ab", "abc", "abd", "b", "~", "~a", "-", ".", "0", "Z", "a-b", "%41", "a%2Fb"];
    for from in ["a", "ab", "abc", "b", "~", "-", ".", "0a", "Z"] {
        let at = |place| {
            let expression = expression(place, from).replace(r"\C", "(?s:.)");
            Regex::new(&format!("^(?:{expression})$")).unwrap()
        };
        for word in words {
            for end in ["", "/", "/z/y", "?q=/z", "/?q=/~"] {
                let path = format!("/{word}{end}");
                assert_eq!(at(0).is_match(&path), word >= from, "{path} from {from}");
                let path = format!("/x//{word}{end}");
                assert_eq!(at(2).is_match(&path), word >= from, "{path} from {from}");
            }
        }
        assert!(!at(1).is_match("/z"), "there is no such segment");
        assert!(!at(1).is_match("/z?q=/~"), "it is of the query");
    }
}

#[test]
fn a_path_leads_to_its_routes_in_their_order() {
    for name in ["github", "kubernetes", "twilio"] {
        let paths = definition(name);
        let mut routes = templates(paths.clone());
        // Takes any path, last.
        routes.push(Route::reaching(&Pattern::prefix("/").unwrap()));
        let choice = split(routes.iter().collect());
        for (path, own) in paths.iter().zip(&routes) {
            let list = found(&choice, &path.replace(['{', '}'], ""));
            let place = list.iter().position(|route| std::ptr::eq(*route, own));
            assert!(place.is_some_and(|place| place + 1 < list.len()), "{name}: {path}");
            let order = |route: &&Route| routes.iter().position(|it| std::ptr::eq(it, *route));
            assert!(list.is_sorted_by_key(order), "{name}: {path}");
        }
    }
}

#[test]
fn definitions_are_divided_into_short_lists_and_little_is_there_twice() {
    for (name, longest) in [("github", 20), ("kubernetes", 20)] {
        let routes = templates(definition(name));
        let choice = split(routes.iter().collect());
        let lists = lists(&choice);
        let most = lists.iter().map(|list| list.len()).max().unwrap();
        assert!(most <= longest, "{name}: {most} routes in a list");
        let all: usize = lists.iter().map(|list| list.len()).sum();
        assert!(all * 4 <= routes.len() * 5, "{name}: {all} of {}", routes.len());
    }
}

#[test]
fn what_no_question_tells_apart_stays_a_list() {
    let routes = templates((0..100).map(|n| format!("/{{tenant}}/{{kind}}-{n}")));
    assert!(matches!(split(routes.iter().collect()), Choice::List(list) if list.len() == 100));
    let few = templates((0..LIST).map(|n| format!("/a{n}")));
    assert!(matches!(split(few.iter().collect()), Choice::List(_)));
}
