//! Which paths a route may take, as far as it takes no expression to tell.

use imp_grammar::path::{Pattern, Segment, Segments, is_unreserved};

/// Segment by segment, below the base path. It may say more than the route takes, never less.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reach {
    /// Text that has one spelling; None: any.
    segments: Vec<Option<String>>,
    /// Whether more segments may follow.
    open: bool,
}

/// What a route asks of one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Asked<'a> {
    /// That it is not there.
    Nothing,
    /// This text.
    Text(&'a str),
    /// Anything.
    Any,
}

impl Reach {
    /// Every path.
    pub(super) fn all() -> Self {
        Self { segments: Vec::new(), open: true }
    }

    pub(super) fn of(pattern: &Pattern) -> Self {
        let Pattern::Segments(Segments { list, open }) = pattern else { return Self::all() };
        let text = |segment: &Segment| match segment {
            Segment::Literal(text) if text.iter().copied().all(is_unreserved) => {
                Some(String::from_utf8_lossy(text).into_owned())
            }
            Segment::Literal(_) | Segment::Mixed(_) | Segment::Variable(_) | Segment::Tail(_) => {
                None
            }
        };
        let tail = matches!(list.last(), Some(Segment::Tail(_)));
        Self { segments: list.iter().map(text).collect(), open: *open || tail }
    }

    pub(super) fn len(&self) -> usize {
        self.segments.len()
    }

    /// Of the segment at this place, from 0. A slash at the end has an empty segment behind it.
    pub(super) fn asks(&self, place: usize) -> Asked<'_> {
        match self.segments.get(place) {
            Some(Some(text)) => Asked::Text(text),
            Some(None) => Asked::Any,
            None if self.open => Asked::Any,
            None => Asked::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_with_one_spelling_tells_paths_apart() {
        let template = Reach::of(&Pattern::template("/a/{x}/b%20c/{y}.json/d").unwrap());
        let asked: Vec<_> = (0..6).map(|place| template.asks(place)).collect();
        let [text, any] = [Asked::Text, |_: &'static str| Asked::Any];
        assert_eq!(asked, [text("a"), any(""), any(""), any(""), text("d"), Asked::Nothing]);
        let prefix = Reach::of(&Pattern::prefix("/a").unwrap());
        assert_eq!([prefix.asks(0), prefix.asks(1)], [Asked::Text("a"), Asked::Any]);
        let tail = Reach::of(&Pattern::template("/a/{rest+}").unwrap());
        assert_eq!([tail.asks(1), tail.asks(2)], [Asked::Any; 2]);
        let slash = Reach::of(&Pattern::exact("/a/").unwrap());
        assert_eq!([slash.asks(1), slash.asks(2)], [Asked::Text(""), Asked::Nothing]);
        assert_eq!(Reach::of(&Pattern::Expression("/a".into())), Reach::all());
    }
}
