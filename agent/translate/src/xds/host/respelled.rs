//! Paths that Envoy finds outside a base path and an upstream may read as inside: with `%2F` for a slash,
//! with `;` behind a segment, or with a character encoded that the base path has as it is. They would be
//! served through a publish above, which may ask for less.

use imp_grammar::path::spellings;
use imp_grammar::{caps, regexes};

use crate::xds::route::{self, Route};

/// What an upstream may read as a slash, with the segments behind it that it reads as nothing.
const SLASH: &str = r"(?:/|%2[Ff])(?:\.?;[^/]*(?:/|%2[Ff]))*";

/// What an upstream may cut off at the end of a segment.
const PARAMETERS: &str = "(?:;[^/]*)?";

/// Refuses what an upstream may read as one of these base paths or as below it.
pub(super) fn closed(bases: &[&str]) -> Vec<Route> {
    let refuse = |expression: String| {
        // Envoy looks for these first, so that other calls cost no expression.
        ["%2F", "%", ";"].map(|sign| route::respelled(expression.clone(), sign))
    };
    expressions(bases).into_iter().flat_map(refuse).collect()
}

/// One for many base paths costs less than one for each.
fn expressions(bases: &[&str]) -> Vec<String> {
    let mut expressions = Vec::new();
    let mut list: Vec<String> = Vec::new();
    let mut size = 0;
    for base in bases {
        let one = expression(base);
        let more = regexes::size(&one);
        if size + more > caps::PATH_PROGRAM.value && !list.is_empty() {
            expressions.push(all(&list));
            list.clear();
            size = 0;
        }
        size += more;
        list.push(one);
    }
    if !list.is_empty() {
        expressions.push(all(&list));
    }
    expressions
}

fn all(list: &[String]) -> String {
    format!("{SLASH}(?:{})(?:{SLASH}.*)?", list.join("|"))
}

/// Of a base path that is too large for Envoy the beginning is enough.
fn expression(base: &str) -> String {
    let mut expression = String::new();
    for segment in base.trim_start_matches('/').split('/') {
        let separator = if expression.is_empty() { "" } else { SLASH };
        let more = format!("{expression}{separator}{}{PARAMETERS}", spellings(segment.as_bytes()));
        if regexes::size(&more) > caps::PATH_PROGRAM.value {
            break;
        }
        expression = more;
    }
    expression
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_base_path_is_too_large_for_envoy() {
        let long = [
            "/a".repeat(512),
            format!("/{}", "$".repeat(1_023)),
            format!("/{}", "x".repeat(1_023)),
        ];
        let many: Vec<String> = (0..200).map(|n| format!("/base-{n}")).collect();
        let all: Vec<&str> = long.iter().chain(&many).map(String::as_str).collect();
        let expressions = expressions(&all);
        assert!(expressions.len() < 20, "{}", expressions.len());
        for expression in expressions {
            assert!(regexes::size(&expression) < caps::ENVOY_REGEX_PROGRAM.value, "{expression}");
        }
    }
}
