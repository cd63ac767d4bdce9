//! Segments of a template: text, `{name}`s beside text, `{name+}` for the rest.

use std::collections::HashSet;

use super::literal::decode;
use super::{Part, PathFault, Segment};
use crate::caps;

pub(super) fn segment(text: &str) -> Result<Segment, PathFault> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('{') {
        if !before.is_empty() {
            parts.push(Part::Literal(decode(before)?));
        }
        let (variable, behind) = behind.split_once('}').ok_or(PathFault::Brace)?;
        if let Some(name) = variable.strip_suffix('+') {
            let alone = parts.is_empty() && behind.is_empty();
            check_name(name, variable)?;
            return if alone { Ok(Segment::Tail(name.into())) } else { Err(tail(name)) };
        }
        check_name(variable, variable)?;
        if let Some(Part::Variable(_)) = parts.last() {
            return Err(PathFault::Adjacent(variable.to_owned()));
        }
        parts.push(Part::Variable(variable.to_owned()));
        rest = behind;
    }
    if !rest.is_empty() {
        parts.push(Part::Literal(decode(rest)?));
    }
    Ok(match (parts.pop(), parts.is_empty()) {
        (None, _) => Segment::Literal(Vec::new()),
        (Some(Part::Literal(text)), true) => Segment::Literal(text),
        (Some(Part::Variable(name)), true) => Segment::Variable(name),
        (Some(last), false) => {
            parts.push(last);
            Segment::Mixed(parts)
        }
    })
}

fn tail(name: &str) -> PathFault {
    PathFault::Tail(name.to_owned())
}

/// Accepts any name that OpenAPI allows, except syntax of other gateways' templates.
fn check_name(name: &str, written: &str) -> Result<(), PathFault> {
    let fault = |why| Err(PathFault::Name(written.chars().take(64).collect(), why));
    if name.starts_with(['*', '+']) || name.ends_with(['*', '+']) {
        return fault("a tail of several segments is written {name+}");
    }
    if name.contains(':') {
        return fault("a variable has no pattern; write a `regex` to bound what it takes");
    }
    if name.ends_with('?') {
        return fault("a variable is never optional; write two routes");
    }
    let odd = |c: char| c.is_control() || "{}?#*+,;%\\\"<>`|^".contains(c);
    let blank = name.trim() != name;
    if name.is_empty() || blank || name.contains(odd) {
        return fault("a name is text without blanks at its ends and without any of * + , ; ? # %");
    }
    if !caps::VARIABLE_CHARACTERS.admits(name.chars().count()) {
        return fault("a name has at most 64 characters");
    }
    Ok(())
}

/// A tail must be the last segment, and names must be unique.
pub(super) fn refuse_misplaced(list: &[Segment]) -> Result<(), PathFault> {
    let inner = list.split_last().map_or(&[][..], |(_, inner)| inner);
    if let Some(Segment::Tail(name)) = inner.iter().find(|it| matches!(it, Segment::Tail(_))) {
        return Err(tail(name));
    }
    let mut seen = HashSet::new();
    match names(list).find(|name| !seen.insert(*name)) {
        Some(name) => Err(PathFault::Duplicate(name.to_owned())),
        None => Ok(()),
    }
}

/// The names of the variables, from the left.
pub(super) fn names(list: &[Segment]) -> impl Iterator<Item = &str> {
    list.iter().flat_map(|segment| match segment {
        Segment::Literal(_) => Vec::new(),
        Segment::Variable(name) | Segment::Tail(name) => vec![name.as_str()],
        Segment::Mixed(parts) => parts
            .iter()
            .filter_map(|part| match part {
                Part::Variable(name) => Some(name.as_str()),
                Part::Literal(_) => None,
            })
            .collect(),
    })
}
