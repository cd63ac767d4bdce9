//! The groups of an expression that count.

use regex_syntax::ast::{self, Ast, GroupKind, Span};

/// Those of a tree: the number of each, and where its parenthesis and name stand.
pub(super) fn of(tree: &Ast) -> Vec<(u32, Span)> {
    struct Groups(Vec<(u32, Span)>);
    impl ast::Visitor for Groups {
        type Output = Vec<(u32, Span)>;
        type Err = std::convert::Infallible;

        fn finish(self) -> Result<Self::Output, Self::Err> {
            Ok(self.0)
        }

        fn visit_pre(&mut self, tree: &Ast) -> Result<(), Self::Err> {
            let Ast::Group(group) = tree else { return Ok(()) };
            let index = match &group.kind {
                GroupKind::CaptureIndex(index) => *index,
                GroupKind::CaptureName { name, .. } => name.index,
                GroupKind::NonCapturing(_) => return Ok(()),
            };
            self.0.push((index, Span::new(group.span.start, group.ast.span().start)));
            Ok(())
        }
    }
    match ast::visit(tree, Groups(Vec::new())) {
        Ok(groups) => groups,
        Err(never) => match never {},
    }
}

/// A part of an expression, with groups that do not count.
pub(super) fn uncounted(text: &str, part: &Ast) -> String {
    let span = part.span();
    let (mut found, mut done) = (String::new(), span.start.offset);
    for (_, open) in of(part) {
        found.push_str(text.get(done..open.start.offset).unwrap_or_default());
        found.push_str("(?:");
        done = open.end.offset;
    }
    found + text.get(done..span.end.offset).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_stop_counting() {
        let text = r"(a)|(?P<x>b(c))|(?i:d)|\(()|(|e)[(]";
        let tree = ast::parse::Parser::new().parse(text).unwrap();
        assert_eq!(uncounted(text, &tree), r"(?:a)|(?:b(?:c))|(?i:d)|\((?:)|(?:|e)[(]");
    }
}
