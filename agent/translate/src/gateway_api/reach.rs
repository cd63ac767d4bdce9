//! Which paths a route may take, to find routes that one call could meet.

use imp_grammar::path::{Part, Pattern, Segment, Segments};

/// The paths of a pattern below a base path, or more than these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reach {
    list: Vec<Segment>,
    open: bool,
}

impl Reach {
    /// What a pattern takes. An expression may take anything below the base path.
    pub(super) fn of(base: &str, pattern: &Pattern) -> Self {
        let below = match pattern {
            Pattern::Segments(segments) => segments.clone(),
            Pattern::Expression(_) => Segments { list: Vec::new(), open: true },
        };
        let mut reach = Self::below(base);
        let is_base = base != "/" && below.list == [Segment::Literal(Vec::new())];
        // A base path itself is taken with and without a slash.
        reach.list.extend(below.list.into_iter().filter(|_| !is_base));
        reach.open = below.open;
        reach
    }

    /// Everything below a base path.
    pub(super) fn below(base: &str) -> Self {
        let segments = base.split('/').filter(|segment| !segment.is_empty());
        let list = segments.map(|segment| Segment::Literal(segment.into())).collect();
        Self { list, open: true }
    }

    /// Whether a path could be of both. Says so wrongly rather than not.
    pub(super) fn meets(&self, other: &Self) -> bool {
        let mut place = 0;
        loop {
            match (self.list.get(place), other.list.get(place)) {
                (None, None) => return true,
                (None, Some(_)) => return self.open,
                (Some(_), None) => return other.open,
                (Some(Segment::Tail(_)), Some(_)) | (Some(_), Some(Segment::Tail(_))) => {
                    return true;
                }
                (Some(a), Some(b)) if !segments_meet(a, b) => return false,
                (Some(_), Some(_)) => place += 1,
            }
        }
    }
}

fn segments_meet(a: &Segment, b: &Segment) -> bool {
    match (a, b) {
        (Segment::Literal(a), Segment::Literal(b)) => a == b,
        (Segment::Literal(text), Segment::Mixed(parts))
        | (Segment::Mixed(parts), Segment::Literal(text)) => may_be(text, parts),
        (Segment::Literal(text), _) | (_, Segment::Literal(text)) => !text.is_empty(),
        _ => true,
    }
}

/// Whether the text has the ends of a mixed segment.
fn may_be(text: &[u8], parts: &[Part]) -> bool {
    let start = match parts.first() {
        Some(Part::Literal(start)) => text.starts_with(start),
        _ => true,
    };
    let end = match parts.last() {
        Some(Part::Literal(end)) => text.ends_with(end),
        _ => true,
    };
    start && end
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meet(a: (&str, &str), b: (&str, &str)) -> bool {
        let reach = |(base, path): (&str, &str)| {
            let pattern = match path.strip_suffix("/**") {
                Some(prefix) => Pattern::prefix(&format!("{prefix}/")),
                None => Pattern::template(path),
            };
            Reach::of(base, &pattern.unwrap())
        };
        let (a, b) = (reach(a), reach(b));
        assert_eq!(a.meets(&b), b.meets(&a));
        a.meets(&b)
    }

    #[test]
    fn routes_meet_where_a_path_could_be_of_both() {
        assert!(meet(("/", "/a/{x}"), ("/", "/{y}/b")));
        assert!(meet(("/", "/a/**"), ("/", "/a/{x}")));
        assert!(meet(("/", "/a/**"), ("/a", "/b/c")));
        assert!(meet(("/v1", "/"), ("/", "/v1")), "with and without a slash");
        assert!(meet(("/", "/{x}.json"), ("/", "/a.json")));
        assert!(meet(("/", "/c/{rest+}"), ("/", "/c/d/e")));
        assert!(!meet(("/", "/a/{x}"), ("/", "/a/{x}/b")));
        assert!(!meet(("/", "/a"), ("/", "/b")));
        assert!(!meet(("/", "/a"), ("/", "/a/")));
        assert!(!meet(("/", "/{x}.json"), ("/", "/a.xml")));
        assert!(!meet(("/v1", "/**"), ("/v2", "/a")));
    }
}
