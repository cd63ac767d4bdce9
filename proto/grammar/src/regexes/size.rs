//! The size of a compiled expression.

use regex_syntax::ast::{self, Ast, ClassPerlKind, RepetitionKind, RepetitionRange};

/// RE2's instruction count, estimated from the syntax: a byte is one, a class the sum of its parts,
/// a repetition as many copies as it may repeat.
pub(super) fn instructions(tree: &Ast) -> u64 {
    match tree {
        Ast::Empty(_) | Ast::Flags(_) => 0,
        Ast::Assertion(_) => 1,
        Ast::Literal(literal) => literal.c.len_utf8() as u64,
        // ASCII, and the lead and continuation bytes of the rest of Unicode.
        Ast::Dot(_) => OUTSIDE_ASCII + 2,
        Ast::ClassUnicode(_) => UNICODE_CLASS,
        Ast::ClassPerl(class) => perl(&class.kind, class.negated),
        Ast::ClassBracketed(class) => {
            let outside = if class.negated { OUTSIDE_ASCII } else { 0 };
            set_size(&class.kind).saturating_add(outside)
        }
        Ast::Repetition(repetition) => {
            let (copies, branches) = copies(&repetition.op.kind);
            instructions(&repetition.ast).saturating_mul(copies).saturating_add(branches)
        }
        Ast::Group(group) => {
            let marks = if group.is_capturing() { 2 } else { 0 };
            instructions(&group.ast).saturating_add(marks)
        }
        Ast::Alternation(list) => sum(&list.asts).saturating_add(list.asts.len() as u64),
        Ast::Concat(list) => sum(&list.asts),
    }
}

const OUTSIDE_ASCII: u64 = 6;
/// `\p{Greek}`: tens to hundreds of ranges.
const UNICODE_CLASS: u64 = 40;

fn sum(parts: &[Ast]) -> u64 {
    parts.iter().map(instructions).fold(0, u64::saturating_add)
}

/// In RE2 these are ASCII only.
fn perl(kind: &ClassPerlKind, negated: bool) -> u64 {
    let ranges = match kind {
        ClassPerlKind::Digit => 1,
        ClassPerlKind::Space => 3,
        ClassPerlKind::Word => 4,
    };
    if negated { ranges + 1 + OUTSIDE_ASCII } else { ranges }
}

fn set_size(set: &ast::ClassSet) -> u64 {
    match set {
        ast::ClassSet::Item(item) => item_size(item),
        ast::ClassSet::BinaryOp(op) => set_size(&op.lhs).saturating_add(set_size(&op.rhs)),
    }
}

fn item_size(item: &ast::ClassSetItem) -> u64 {
    use ast::ClassSetItem as Item;
    match item {
        Item::Empty(_) => 0,
        Item::Literal(literal) => literal.c.len_utf8() as u64,
        Item::Range(range) => range.end.c.len_utf8() as u64,
        Item::Ascii(_) => 3,
        Item::Unicode(_) => UNICODE_CLASS,
        Item::Perl(class) => perl(&class.kind, class.negated),
        Item::Bracketed(class) => set_size(&class.kind),
        Item::Union(union) => union.items.iter().map(item_size).fold(0, u64::saturating_add),
    }
}

/// How often the repeated part is copied, and how many branches join the copies.
fn copies(kind: &RepetitionKind) -> (u64, u64) {
    match kind {
        RepetitionKind::ZeroOrOne => (1, 1),
        RepetitionKind::ZeroOrMore | RepetitionKind::OneOrMore => (1, 2),
        RepetitionKind::Range(RepetitionRange::Exactly(n)) => (u64::from(*n), 0),
        RepetitionKind::Range(RepetitionRange::AtLeast(n)) => (u64::from(*n).max(1), 1),
        RepetitionKind::Range(RepetitionRange::Bounded(least, most)) => {
            (u64::from(*most), u64::from(most.saturating_sub(*least)))
        }
    }
}
