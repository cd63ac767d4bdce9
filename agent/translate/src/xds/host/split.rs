//! Many routes under one base path: questions about single segments of a path that lead to the few routes
//! that may take it, in place of a list that Envoy walks.
//!
//! Each list at the end has every route that may take a path which leads there, in the order of all of
//! them. So it does not matter for the order where the questions cut.

#[cfg(test)]
mod tests;

use crate::xds::reach::Asked;
use crate::xds::route::Route;

/// So many routes need no question.
const LIST: usize = 12;

/// Each question is some five messages in another, of which protobuf reads 100.
const DEPTH: usize = 16;

/// Segments that are asked about.
const PLACES: usize = 16;

/// Routes, or a question that leads to fewer.
#[derive(Debug)]
pub(super) enum Choice<'a> {
    /// In order.
    List(Vec<&'a Route>),
    Split {
        cut: Cut<'a>,
        /// The segment is not there, or smaller.
        below: Box<Choice<'a>>,
        /// It is as large, or larger.
        above: Box<Choice<'a>>,
    },
}

/// Whether a segment, by its bytes, is as large as this text or larger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cut<'a> {
    /// Below the base path, from 0.
    pub(super) place: usize,
    /// Not empty.
    pub(super) from: &'a str,
}

/// Routes that stand on both sides of a cut make it a half more at most than there are.
pub(super) fn split(routes: Vec<&Route>) -> Choice<'_> {
    let spare = routes.len() / 2;
    choose(routes, DEPTH, spare)
}

/// `spare`: so many routes may stand in more than one list.
fn choose<'a>(routes: Vec<&'a Route>, depth: usize, spare: usize) -> Choice<'a> {
    if routes.len() <= LIST || depth == 0 {
        return Choice::List(routes);
    }
    let Some(Found { cut, both, .. }) = best(&routes, spare) else { return Choice::List(routes) };
    let below: Vec<_> = routes.iter().filter(|it| cut.leaves_below(it)).copied().collect();
    let above: Vec<_> = routes.iter().filter(|it| cut.leaves_above(it)).copied().collect();
    // What is left is shared by size.
    let left = spare.saturating_sub(both);
    let of_below = left * below.len() / (below.len() + above.len()).max(1);
    Choice::Split {
        cut,
        below: Box::new(choose(below, depth - 1, of_below)),
        above: Box::new(choose(above, depth - 1, left - of_below)),
    }
}

impl Cut<'_> {
    /// Whether the route may take a path whose segment is not there, or smaller.
    fn leaves_below(&self, route: &Route) -> bool {
        match route.reach.asks(self.place) {
            Asked::Nothing | Asked::Any => true,
            Asked::Text(text) => text < self.from,
        }
    }

    /// Whether it may take one whose segment is as large, or larger.
    fn leaves_above(&self, route: &Route) -> bool {
        match route.reach.asks(self.place) {
            Asked::Nothing => false,
            Asked::Any => true,
            Asked::Text(text) => text >= self.from,
        }
    }
}

struct Found<'a> {
    cut: Cut<'a>,
    /// Routes on the larger side.
    larger: usize,
    /// Routes that stand on both sides.
    both: usize,
}

impl Found<'_> {
    /// What is left to look at, and what it costs.
    fn price(&self) -> usize {
        self.larger + 2 * self.both
    }
}

/// The best cut, if it is worth a question: a quarter of the routes is left behind, or an eighth at no cost.
fn best<'a>(routes: &[&'a Route], spare: usize) -> Option<Found<'a>> {
    let all = routes.len();
    let places = routes.iter().map(|route| route.reach.len()).max().unwrap_or_default();
    let mut best: Option<Found<'a>> = None;
    for place in 0..places.min(PLACES) {
        let Some(found) = cut_at(routes, place) else { continue };
        let is_worth = found.larger * 4 <= all * 3 && found.both <= spare
            || found.larger * 8 <= all * 7 && found.both == 0;
        if is_worth && best.as_ref().is_none_or(|best| found.price() < best.price()) {
            best = Some(found);
        }
        // Good enough: the next places are not looked at.
        if best.as_ref().is_some_and(|best| best.price() * 8 <= all * 5) {
            break;
        }
    }
    best
}

/// The most even cut at this place.
fn cut_at<'a>(routes: &[&'a Route], place: usize) -> Option<Found<'a>> {
    let mut asked: Vec<_> = routes.iter().map(|route| route.reach.asks(place)).collect();
    asked.sort_unstable();
    let both = asked.len() - asked.partition_point(|it| *it < Asked::Any);
    asked.truncate(asked.len() - both);
    let middle = asked.len() / 2;
    let here = asked.get(middle)?;
    // Where the text in the middle begins and where it ends.
    let ends = [asked.partition_point(|it| it < here), asked.partition_point(|it| it <= here)];
    let cut = |at: usize| {
        let Some(Asked::Text(text)) = asked.get(at) else { return None };
        let before = match asked.get(at.checked_sub(1)?) {
            Some(Asked::Text(before)) => before,
            _ => "",
        };
        let from = shortest(before, text)?;
        let larger = at.max(asked.len() - at) + both;
        Some(Found { cut: Cut { place, from }, larger, both })
    };
    ends.into_iter().filter_map(cut).min_by_key(|found| found.larger)
}

/// The shortest beginning of `text` that is larger than what is before it.
fn shortest<'a>(before: &str, text: &'a str) -> Option<&'a str> {
    (1..=text.len()).filter_map(|end| text.get(..end)).find(|start| *start > before)
}

/// An expression for paths, with their query, whose segment at `place` is as large as `from` or larger.
/// Bytes of a path are ASCII, and a segment ends where no byte is.
pub(super) fn expression(place: usize, from: &str) -> String {
    let mut larger = r"\C*".to_owned();
    for byte in from.bytes().rev() {
        let text = regex::escape(&char::from(byte).to_string());
        let above: String = [(b'!', b'.'), (b'0', b'>'), (b'@', b'~')]
            .into_iter()
            .map(|(first, last)| (first.max(byte + 1), last))
            .filter(|(first, last)| first <= last)
            .map(|(first, last)| format!(r"\x{first:02x}-\x{last:02x}"))
            .collect();
        larger = match above.is_empty() {
            true => format!("{text}{larger}"),
            false => format!(r"(?:[{above}]\C*|{text}{larger})"),
        };
    }
    format!("(?:/[^/?]*){{{place}}}/{larger}")
}
