//! An expression's cost is known before anything is compiled.

use std::time::{Duration, Instant};

use imp_grammar::caps;
use imp_grammar::regexes::{RegexFault, check};

#[test]
fn the_longest_expression_is_accepted_and_one_byte_more_is_refused() {
    // Flags are long to write but compile to nothing.
    let text = "(?i)".repeat(caps::REGEX_BYTES.size() / 4 - 1) + "abcd";
    assert_eq!((text.len(), check(&text)), (caps::REGEX_BYTES.size(), Ok(())));
    assert_eq!(check(&format!("{text}a")), Err(RegexFault::Length));
    assert_eq!(check(""), Err(RegexFault::Length));
}

#[test]
fn the_largest_program_is_accepted_and_one_instruction_more_is_refused() {
    let most = caps::REGEX_PROGRAM.value;
    assert_eq!(check(&format!("a{{{most}}}")), Ok(()));
    assert_eq!(check(&format!("a{{{}}}", most + 1)), Err(RegexFault::Size(most + 1)));
    assert_eq!(check(&format!("[a-z]{{{most}}}")), Ok(()));
    assert!(matches!(check(&format!("[a-z]{{{most}}}b")), Err(RegexFault::Size(_))));
}

#[test]
fn repetitions_multiply_however_they_are_nested() {
    for bomb in [
        r"\w{90}",
        r"\w{1000}",
        "(((a{10}){10}){10}){10}",
        "(?:(?:(?:a{0,99}){0,99}){0,99}){0,99}",
        r"(\pL{5}){20}",
        "(a{4294967295}){4294967295}",
        r"((((.{9}){9}){9}){9}){9}",
        "(x+x+){60}y{90,}z{90}",
        r"[^a]{100}",
    ] {
        assert!(matches!(check(bomb), Err(RegexFault::Size(_))), "{bomb}: {:?}", check(bomb));
    }
}

#[test]
fn expressions_of_real_apis_are_accepted() {
    for good in [
        "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
        r"/users/\d+(/orders/\d+)?",
        r"^(en|de|fr|ja|ko)(-[A-Z]{2})?$",
        r"Bearer [\w\-.]+",
        r"application/(json|xml|vnd\.[a-z.]+\+json)(;.*)?",
        "(?i)true|yes|1",
        r"v\d{1,3}\.\d{1,3}",
        r"[^/]+/files/.*",
        r"\p{Greek}+",
    ] {
        assert_eq!(check(good), Ok(()), "{good}");
    }
}

#[test]
fn what_cannot_be_read_is_said_in_one_line() {
    for bad in ["(", "[z-a]", "a{2,1}", r"\p{Nonsense}", "(?P<n>a)(?P<n>b)", "*a", r"\8", "(?=a)"] {
        let Err(RegexFault::Syntax(words)) = check(bad) else { panic!("{bad}: {:?}", check(bad)) };
        assert!(!words.is_empty() && !words.contains('\n'), "{bad}: {words}");
    }
    let deep = "(".repeat(200) + "a" + &")".repeat(200);
    assert!(matches!(check(&deep), Err(RegexFault::Syntax(_))));
}

/// The worst expressions that fit are parsed quickly. A tenth of a second allows for a debug build
/// on a busy machine; compiling each of these would take a hundred times as long.
#[test]
fn the_worst_expression_is_judged_quickly() {
    let fill = |unit: &str| unit.repeat(caps::REGEX_BYTES.size() / unit.len());
    let class = |unit: &str| format!("[{}]", unit.repeat(510 / unit.len()));
    let texts = [
        fill(r"\W"),
        fill(r"\pL"),
        format!("(?i){}", class(r"\w\W")),
        class(r"\pL"),
        format!("(?i){}", r"\pL".repeat(7)),
        format!("(?i)[{}]", r"\pL".repeat(7)),
        format!("(?i)[{}]", r"\w".repeat(70)),
        fill("(?:"),
        fill("[["),
        fill("a|"),
        fill("a{1}"),
    ];
    for text in texts {
        let began = Instant::now();
        let mut fastest = Duration::MAX;
        for _ in 0..5 {
            let began = Instant::now();
            let _judged = check(&text);
            fastest = fastest.min(began.elapsed());
        }
        assert!(
            fastest < Duration::from_millis(100),
            "{text}: {fastest:?} of {:?}",
            began.elapsed()
        );
    }
}

#[test]
fn an_expression_that_always_begins_with_a_text_is_told_from_one_that_may_not() {
    use imp_grammar::regexes::always_begins_with;
    for text in ["/v1/a", "/v1(?:/re[0-9]+/.*)", "/v1(?:/a|/b.*)", "(?:/v1)/[^/]+", "/v1/(?:a)?"] {
        assert!(always_begins_with(text, "/v1/"), "{text}");
    }
    for text in ["/v1.*", "/v1", "/v1(?:/a|1/b)", "(?:/v1/a)?", ".*", "/v11/", "(", ""] {
        assert!(!always_begins_with(text, "/v1/"), "{text}");
    }
    let long = "/a".repeat(200);
    assert!(always_begins_with(&format!("{long}/[^/]+"), &format!("{long}/")));
}
