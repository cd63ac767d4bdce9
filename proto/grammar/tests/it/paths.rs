//! Which paths are accepted, and what their expressions match.

use imp_grammar::path::{Matcher, PathFault, Pattern, advice, matcher};
use imp_grammar::regexes::{self, RegexFault};

fn template(text: &str) -> Result<Pattern, PathFault> {
    let pattern = Pattern::template(text)?;
    advice::check(text, &pattern).map(|()| pattern)
}

#[test]
fn a_template_has_the_variables_that_openapi_has() {
    for good in [
        "/payments/{id}/refunds/{refund_id}",
        "/teams/{enterprise-team}/{user.name}",
        "/{사용자}/{user id}/{$x}",
        "/Accounts/{Sid}.json",
        "/compare/{base}...{head}",
        "/{project}/{location}/jobs/{name}:cancel",
        "/repos/{owner}/{repo}/contents/{path+}",
        "/a",
        "/",
        "/a/{b}/",
        "/caf%C3%A9/카페/{x}",
        "/100%25/{x}",
    ] {
        assert_eq!(template(good).err(), None, "{good}");
    }
}

#[test]
fn what_is_no_template_is_told_why() {
    for (bad, words) in [
        ("{id}", "begins with '/'"),
        ("/{id}/{id}", "'id' is there twice"),
        ("/{a}.{a}", "'a' is there twice"),
        ("/{a}/{a+}", "'a' is there twice"),
        ("/{}", "a name is text"),
        ("/{ a}", "a name is text"),
        ("/{a", "%7B"),
        ("/a}", "%7B"),
        ("/{a}{b}", "text stands between"),
        ("/{a+}/b", "last segment, alone"),
        ("/x{a+}", "last segment, alone"),
        ("/{a+}.json", "last segment, alone"),
        ("/{a*}", "{name+}"),
        ("/{*a}", "{name+}"),
        ("/{+a}", "{name+}"),
        ("/{id:[0-9]+}", "regex"),
        ("/{id:int}", "regex"),
        ("/{id?}", "never optional"),
        ("/files/*", "{name+}"),
        ("/files/**", "{name+}"),
        ("/files*", "{name+}"),
        ("/{id}*", "{name+}"),
        ("/a/:id", "{id}"),
        ("/a//{b}", "normalised"),
        ("/a/../{b}", "normalised"),
        ("/%2e%2E/{b}", "normalised"),
        ("/a%2Fb", "no encoded '/'"),
        ("/a%5cb", "no encoded '/'"),
        ("/a%00b", "no encoded '/'"),
        ("/a%7Fb", "no encoded '/'"),
        ("/a%zz", "two hex digits"),
        ("/a%2", "two hex digits"),
        ("/a%é", "two hex digits"),
        ("/a b", "%20"),
        ("/a?b", "%3F"),
        ("/a\"", "%22"),
        ("/[a]", "%5B"),
        ("/a;b", "no ';'"),
        ("/a%3Bb", "no ';'"),
        ("/a\u{a0}b", "%C2%A0"),
    ] {
        let told = template(bad).expect_err(bad).to_string();
        assert!(told.contains(words), "{bad}: {told}");
    }
}

/// Also in literal paths, where a star would be literal.
#[test]
fn a_literal_path_that_looks_like_a_template_is_told_how_to_write_it() {
    for (bad, words) in
        [("/files/*", "{name+}"), ("/a/:id", "{id}"), ("/a/{id}", "`template`"), ("/a}", "%7D")]
    {
        for read in [Pattern::exact, Pattern::prefix] {
            let told = read(bad).and_then(|pattern| advice::check(bad, &pattern)).expect_err(bad);
            assert!(told.to_string().contains(words), "{bad}: {told}");
        }
    }
    for good in ["/files/%2A", "/a/%3Aid", "/a:id", "/a*b", "/a/%7Bid%7D"] {
        let pattern = Pattern::exact(good).unwrap();
        assert_eq!(advice::check(good, &pattern), Ok(()), "{good}");
    }
}

/// An agent serves what the API of an earlier release accepted.
#[test]
fn what_is_stored_is_served_on() {
    for text in ["/files/*", "/a/:id", "/$&+,=:@/!'()*", "/a_b/~x", "/{a}/*/{b}"] {
        assert!(Pattern::template(text).is_ok(), "{text}");
    }
}

#[test]
fn text_that_has_one_spelling_costs_no_expression() {
    let of = |pattern: Result<Pattern, PathFault>| matcher("/v1", &pattern.unwrap());
    assert_eq!(of(Pattern::template("/a-b/c.d/~e_")), Matcher::Exact("/v1/a-b/c.d/~e_".into()));
    assert_eq!(of(Pattern::exact("/%61")), Matcher::Exact("/v1/a".into()));
    assert_eq!(of(Pattern::prefix("/a/")), Matcher::Prefix("/v1/a".into()));
    assert_eq!(of(Pattern::prefix("/")), Matcher::Prefix("/v1".into()));
    let Matcher::Expression { text, start } = of(Pattern::exact("/a%20결:")) else { panic!() };
    assert_eq!(start, "/v1/a");
    assert_eq!(text, "/v1/a(?i:%20%EA%B2%B0)(?::|(?i:%3A))");
}

fn full(expression: &str, text: &str) -> bool {
    regex::Regex::new(&format!("^(?:{expression})$")).unwrap().is_match(text)
}

#[test]
fn an_expression_means_the_same_below_a_base_path() {
    let expressions = [
        "^/e/f$|^/g/h$",
        "/e/f|/g/h",
        "(^/e/f|/g)/h$",
        "^(/e|^/g)$",
        "(?i)^/E/f|^/g$",
        "(?:^/e)?/f",
        "(?:^|/e)/f",
        "/e^/f",
        "(/e)*^/f",
        "(/e)*(?:^/g)?/f",
        "(^/e)+/f",
        "(^/e){2}",
        "(^/e|/f){2}",
        "(^|/e){2}/f",
        "(^/e){0}/f",
        r"\A/e\z",
        r"\B/e",
        r"\b/e",
        "/e$/f",
        "/[ef](/.*)?",
        "()/e^?",
        "(?i:^/E)",
        "(?P<n>^/e)/f",
        "^^/e",
        "/e|^",
    ];
    let words = ["/e", "/f", "/g", "/h", "/E"];
    let mut paths: Vec<String> = words.iter().map(|it| (*it).to_owned()).collect();
    for _ in 0..2 {
        let longer: Vec<_> =
            paths.iter().flat_map(|path| words.map(|word| format!("{path}{word}"))).collect();
        paths.extend(longer);
    }
    for expression in expressions {
        assert_eq!(regexes::check_path(expression), Ok(()), "{expression}");
        let below = regexes::below("/v1", expression);
        for path in &paths {
            let (alone, there) = (full(expression, path), full(&below, &format!("/v1{path}")));
            assert_eq!(alone, there, "{expression} is {below} at {path}");
        }
    }
}

#[test]
fn anchors_that_cannot_be_written_below_a_base_path_are_refused() {
    for odd in [r"(/e)*\b/f", r"/?(a\b)?/f", r"(/e|\b)*/f"] {
        assert_eq!(regexes::check_path(odd), Err(RegexFault::Anchors), "{odd}");
    }
    for fine in [r"/a\b.*", r"/a(/b)*\b", r"\b/a", r"/users/\w+\b"] {
        assert_eq!(regexes::check_path(fine), Ok(()), "{fine}");
    }
}

#[test]
fn anchors_that_would_grow_without_end_are_refused_and_served_as_before() {
    for bomb in
        ["(?:a?){1}".repeat(40) + "^", "((((((^a)*)*)*)*)*)*".repeat(12), "a?".repeat(140) + "^b"]
    {
        let began = std::time::Instant::now();
        let judged = regexes::check_path(&bomb);
        let known = matches!(judged, Ok(()) | Err(RegexFault::Anchors | RegexFault::Size(_)));
        assert!(known, "{bomb}: {judged:?}");
        assert!(regexes::below("/v1", &bomb).len() < 4_000, "{bomb}");
        assert!(began.elapsed().as_millis() < 2_000, "{bomb}: {:?}", began.elapsed());
    }
}

#[test]
fn an_expression_in_another_script_is_told_how_paths_arrive() {
    let told = regexes::check_path("/결제/.*").unwrap_err().to_string();
    assert!(told.contains("(?i:%EA%B2%B0)"), "{told}");
    assert_eq!(regexes::check("결제"), Ok(()), "as a header's value it may match");
}
