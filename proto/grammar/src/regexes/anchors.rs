//! Rewrites an expression for use below a base path: assertions about the start of the path then
//! mean the position after the base, which no RE2 assertion can express. So these assertions are
//! resolved here.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

use regex_syntax::ast::{Assertion, AssertionKind, Ast, Concat, Repetition, RepetitionKind};
use regex_syntax::ast::{GroupKind, RepetitionRange};

use super::groups;

/// Matches nowhere.
const NEVER: &str = r"\b\B";

/// Where an expression is matched.
#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    /// At the start of the path, before its first slash.
    Start,
    /// After the start.
    Within,
}

/// The expression without assertions about the start, for a path that starts there. `None` if it
/// cannot be written without them.
pub(super) fn without_start(text: &str, tree: &Ast) -> Option<String> {
    if is_unclear(tree) {
        return None;
    }
    Some(Source::new(text).at(tree, At::Start))
}

/// The groups that would stand in it more than once. Only one place of each has its number, which need not
/// be the one that matched.
pub(super) fn copied_groups(text: &str, tree: &Ast) -> BTreeSet<u32> {
    let source = Source::new(text);
    if !is_unclear(tree) {
        source.at(tree, At::Start);
    }
    source.copied.into_inner()
}

/// Whether a word boundary follows something that may be empty, so that the base may precede it.
fn is_unclear(tree: &Ast) -> bool {
    match tree {
        Ast::Group(group) => is_unclear(&group.ast),
        Ast::Alternation(list) => list.asts.iter().any(is_unclear),
        Ast::Repetition(repetition) => {
            let again = is_nullable(&repetition.ast) && is_consuming(&repetition.ast);
            is_unclear(&repetition.ast) || again && asks_for_word(&repetition.ast)
        }
        Ast::Concat(list) => {
            let optional = list.asts.iter().position(|it| is_consuming(it) && is_nullable(it));
            let first = list.asts.iter().position(|it| !is_nullable(it)).unwrap_or(list.asts.len());
            let within = |place: usize| optional.is_some_and(|at| at < place && place <= first);
            let unclear = |(place, it): (usize, &Ast)| within(place) && asks_for_word(it);
            list.asts.iter().enumerate().any(unclear) || list.asts.iter().any(is_unclear)
        }
        _ => false,
    }
}

fn asks_for_word(tree: &Ast) -> bool {
    match tree {
        Ast::Assertion(assertion) => !is_start(assertion) && asks(tree, At::Start),
        Ast::Group(group) => asks_for_word(&group.ast),
        Ast::Repetition(repetition) => asks_for_word(&repetition.ast),
        Ast::Alternation(list) => list.asts.iter().any(asks_for_word),
        Ast::Concat(list) => list.asts.iter().any(asks_for_word),
        _ => false,
    }
}

struct Source<'a> {
    text: &'a str,
    copying: Cell<bool>,
    copied: RefCell<BTreeSet<u32>>,
}

impl<'a> Source<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, copying: Cell::default(), copied: RefCell::default() }
    }

    /// A second place for what these are: without groups that count, so that the others keep their
    /// numbers.
    fn copy(&self, of: &[Ast], write: impl FnOnce() -> String) -> String {
        if self.copying.get() {
            return write();
        }
        let groups = of.iter().flat_map(groups::of);
        self.copied.borrow_mut().extend(groups.map(|(index, _)| index));
        self.copying.set(true);
        let text = write();
        self.copying.set(false);
        text
    }

    fn at(&self, tree: &Ast, at: At) -> String {
        if !asks(tree, at) {
            return self.written(tree);
        }
        match tree {
            Ast::Assertion(assertion) => match (is_start(assertion), at) {
                (true, At::Start) => String::new(),
                (true, At::Within) => NEVER.to_owned(),
                // At the start, before a slash, there is no word boundary.
                (false, _) if assertion.kind == AssertionKind::NotWordBoundary => String::new(),
                (false, _) => NEVER.to_owned(),
            },
            Ast::Group(group) => {
                let open = match &group.kind {
                    GroupKind::NonCapturing(flags) => self
                        .text
                        .get(flags.span.start.offset..flags.span.end.offset)
                        .map_or("(?:".to_owned(), |flags| format!("(?{flags}:")),
                    _ if self.copying.get() => "(?:".to_owned(),
                    GroupKind::CaptureIndex(_) => "(".to_owned(),
                    GroupKind::CaptureName { name, .. } => format!("(?P<{}>", name.name),
                };
                format!("{open}{})", self.at(&group.ast, at))
            }
            Ast::Alternation(list) => {
                list.asts.iter().map(|one| self.at(one, at)).collect::<Vec<_>>().join("|")
            }
            Ast::Concat(list) => self.concat(list, at),
            Ast::Repetition(repetition) => self.repetition(repetition, at),
            _ => self.written(tree),
        }
    }

    fn written(&self, tree: &Ast) -> String {
        if self.copying.get() {
            return groups::uncounted(self.text, tree);
        }
        let span = tree.span();
        self.text.get(span.start.offset..span.end.offset).unwrap_or(NEVER).to_owned()
    }

    fn concat(&self, list: &Concat, mut at: At) -> String {
        let mut text = String::new();
        for (place, one) in list.asts.iter().enumerate() {
            let rest = list.asts.split_at(place).1;
            let written = self.at(one, at);
            if at == At::Within || !is_consuming(one) {
                text.push_str(&written);
                continue;
            }
            at = At::Within;
            let behind = rest.split_first().map_or(&[][..], |(_, behind)| behind);
            if is_nullable(one) && behind.iter().any(|it| asks(it, At::Start)) {
                // It may be empty, in which case the rest begins at the start.
                let behind = Concat { span: list.span, asts: behind.to_vec() };
                let skipped = self.copy(&behind.asts, || self.concat(&behind, At::Start));
                let taken = self.concat(&behind, at);
                text.push_str(&format!("(?:{skipped}|{written}{taken})"));
                return text;
            }
            text.push_str(&written);
        }
        text
    }

    /// Only the first repetition may begin at the start.
    fn repetition(&self, repetition: &Repetition, at: At) -> String {
        if at == At::Within {
            let later = self.at(&repetition.ast, at);
            let operator = &repetition.op.span;
            let operator = self.text.get(operator.start.offset..operator.end.offset);
            return format!("(?:{later}){}", operator.unwrap_or_default());
        }
        let first = self.at(&repetition.ast, at);
        let again = std::slice::from_ref(&*repetition.ast);
        let later = self.copy(again, || self.at(&repetition.ast, At::Within));
        let lazy = if repetition.greedy { "" } else { "?" };
        let nullable = is_nullable(&repetition.ast);
        let (least, more) = match &repetition.op.kind {
            RepetitionKind::ZeroOrOne => (0, "{0}".to_owned()),
            RepetitionKind::ZeroOrMore => (0, "*".to_owned()),
            RepetitionKind::OneOrMore => (1, "*".to_owned()),
            RepetitionKind::Range(RepetitionRange::Exactly(n)) => (*n, counted(nullable, *n, *n)),
            RepetitionKind::Range(RepetitionRange::AtLeast(n)) => {
                let least = if nullable { 0 } else { n.saturating_sub(1) };
                (*n, format!("{{{least},}}"))
            }
            RepetitionKind::Range(RepetitionRange::Bounded(n, m)) => {
                (*n, counted(nullable, *n, *m))
            }
        };
        let once = format!("(?:(?:{first})(?:{later}){more}{lazy})");
        if more.is_empty() {
            return String::new();
        }
        if least == 0 { format!("{once}?{lazy}") } else { once }
    }
}

/// The rest of `{n,m}` after the first repetition; empty if there is none.
fn counted(nullable: bool, least: u32, most: u32) -> String {
    if most == 0 {
        return String::new();
    }
    let least = if nullable { 0 } else { least.saturating_sub(1) };
    format!("{{{least},{}}}", most.saturating_sub(1))
}

fn is_start(assertion: &Assertion) -> bool {
    matches!(assertion.kind, AssertionKind::StartLine | AssertionKind::StartText)
}

/// Whether its meaning at this place depends on where the path starts.
fn asks(tree: &Ast, at: At) -> bool {
    use AssertionKind::{NotWordBoundary, WordBoundary};
    match tree {
        Ast::Assertion(assertion) => {
            is_start(assertion)
                || at == At::Start && matches!(assertion.kind, WordBoundary | NotWordBoundary)
        }
        Ast::Group(group) => asks(&group.ast, at),
        Ast::Repetition(repetition) => asks(&repetition.ast, at),
        Ast::Alternation(list) => list.asts.iter().any(|it| asks(it, at)),
        Ast::Concat(list) => list.asts.iter().any(|it| asks(it, at)),
        _ => false,
    }
}

/// Whether it may match a byte.
fn is_consuming(tree: &Ast) -> bool {
    match tree {
        Ast::Empty(_) | Ast::Flags(_) | Ast::Assertion(_) => false,
        Ast::Group(group) => is_consuming(&group.ast),
        Ast::Repetition(repetition) => is_consuming(&repetition.ast),
        Ast::Alternation(list) => list.asts.iter().any(is_consuming),
        Ast::Concat(list) => list.asts.iter().any(is_consuming),
        _ => true,
    }
}

/// Whether it may match nothing.
fn is_nullable(tree: &Ast) -> bool {
    match tree {
        Ast::Empty(_) | Ast::Flags(_) | Ast::Assertion(_) => true,
        Ast::Group(group) => is_nullable(&group.ast),
        Ast::Repetition(repetition) => {
            let least = match &repetition.op.kind {
                RepetitionKind::ZeroOrOne | RepetitionKind::ZeroOrMore => 0,
                RepetitionKind::OneOrMore => 1,
                RepetitionKind::Range(
                    RepetitionRange::Exactly(n)
                    | RepetitionRange::AtLeast(n)
                    | RepetitionRange::Bounded(n, _),
                ) => *n,
            };
            least == 0 || is_nullable(&repetition.ast)
        }
        Ast::Alternation(list) => list.asts.iter().any(is_nullable),
        Ast::Concat(list) => list.asts.iter().all(is_nullable),
        _ => false,
    }
}
