//! What the API refuses although it could be served: text with a meaning in other gateways' paths
//! that would be taken literally here. Agents accept it, so that stored paths are still served.

use super::{PathFault, Pattern, Segment};
use crate::{caps, regexes};

/// Checks a path from a caller: in `/files/*` the star would be literal.
pub fn check(text: &str, pattern: &Pattern) -> Result<(), PathFault> {
    for (segment, parsed) in text.split('/').skip(1).zip(segments(pattern)) {
        if segment.starts_with('*') || segment.ends_with('*') {
            return Err(star(segment));
        }
        let name = segment.strip_prefix(':').filter(|name| !name.is_empty());
        if let (Some(name), Segment::Literal(_)) = (name, parsed) {
            return Err(PathFault::Foreign(format!(
                "'{segment}': a variable is written {{{name}}} in a `template`; as text it is %3A{name}"
            )));
        }
        if matches!(parsed, Segment::Mixed(_)) && segment.contains('*') {
            return Err(star(segment));
        }
    }
    let size = regexes::size(&super::matcher("/", pattern).expression());
    if size > caps::PATH_PROGRAM.value {
        return Err(PathFault::Size(size));
    }
    Ok(())
}

fn segments(pattern: &Pattern) -> &[Segment] {
    match pattern {
        Pattern::Segments(segments) => &segments.list,
        Pattern::Expression(_) => &[],
    }
}

fn star(segment: &str) -> PathFault {
    PathFault::Foreign(format!(
        "'{segment}': in a `template` one segment is {{name}} and the rest of a path {{name+}}; as text a star is %2A"
    ))
}
