//! Targets of rewrites: paths with variables of the template (`/v2/{id}`), or groups of the expression
//! (`/v2/{1}`, `/v2/{name}`).

use regex_syntax::ast::{self, Ast, GroupKind};
use thiserror::Error;

/// The source of a target's variables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source<'a> {
    /// A path template.
    Template(&'a str),
    /// A regular expression.
    Regex(&'a str),
    /// A literal path.
    Literal,
}

/// A part of a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// Literal text.
    Text(&'a str),
    /// The text that this group matched, from 1 on.
    Group(usize),
}

/// A parsed target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    pub parts: Vec<Part<'a>>,
    /// The template's variables that are used, in the order of their groups.
    pub used: Vec<&'a str>,
}

/// Why a target is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RewriteFault {
    /// An unpaired brace.
    #[error("'{{' and '}}' stand around the name of a variable")]
    Brace,
    /// An unknown variable or group.
    #[error("the route's path has no '{0}'")]
    Unknown(String),
    /// More groups than RE2's nine.
    #[error("at most {MOST} variables, and groups up to {{{MOST}}}")]
    TooMany,
}

/// The number of groups that an RE2 substitution can name.
const MOST: usize = 9;

/// Parses a target.
pub fn read<'a>(target: &'a str, source: Source<'_>) -> Result<Target<'a>, RewriteFault> {
    let mut parts = Vec::new();
    let mut names = Vec::new();
    let mut rest = target;
    while let Some((text, behind)) = rest.split_once('{') {
        let (name, behind) = behind.split_once('}').ok_or(RewriteFault::Brace)?;
        if text.contains('}') || name.contains('{') {
            return Err(RewriteFault::Brace);
        }
        parts.push(Part::Text(text));
        names.push((parts.len(), name));
        parts.push(Part::Group(0));
        rest = behind;
    }
    if rest.contains('}') {
        return Err(RewriteFault::Brace);
    }
    parts.push(Part::Text(rest));
    parts.retain(|part| *part != Part::Text("") || names.is_empty());
    resolve(parts, names.into_iter().map(|(_, name)| name).collect(), source)
}

fn resolve<'a>(
    mut parts: Vec<Part<'a>>,
    names: Vec<&'a str>,
    source: Source<'_>,
) -> Result<Target<'a>, RewriteFault> {
    let known = match source {
        Source::Template(template) => variables(template).map(|it| Some(it.to_owned())).collect(),
        Source::Regex(regex) => groups(regex).into_iter().map(|(name, _)| name).collect(),
        Source::Literal => Vec::new(),
    };
    let is_template = matches!(source, Source::Template(_));
    let place = |name: &str| {
        let number = name.parse().ok().filter(|_| !is_template);
        let named = || known.iter().position(|it| it.as_deref() == Some(name)).map(|at| at + 1);
        let found = number.filter(|at| (1..=known.len()).contains(at)).or_else(named);
        found.ok_or_else(|| RewriteFault::Unknown(name.to_owned()))
    };
    let places = names.iter().map(|name| place(name)).collect::<Result<Vec<_>, _>>()?;
    // Only used variables of a template become groups.
    let mut used: Vec<(usize, &str)> = places.iter().copied().zip(names).collect();
    used.sort_unstable();
    used.dedup();
    let group = |place: &usize| match is_template {
        true => used.iter().position(|(used, _)| used == place).unwrap_or_default() + 1,
        false => *place,
    };
    let groups: Vec<usize> = places.iter().map(group).collect();
    if groups.iter().any(|group| *group > MOST) {
        return Err(RewriteFault::TooMany);
    }
    let slots = parts.iter_mut().filter(|part| matches!(part, Part::Group(_)));
    slots.zip(groups).for_each(|(slot, group)| *slot = Part::Group(group));
    let used = if is_template { used.into_iter().map(|(_, name)| name).collect() } else { vec![] };
    Ok(Target { parts, used })
}

impl Target<'_> {
    /// Whether it has no variables.
    pub fn is_literal(&self) -> bool {
        !self.parts.iter().any(|part| matches!(part, Part::Group(_)))
    }

    /// An example of a resulting path.
    pub fn sample(&self) -> String {
        self.parts.iter().map(|part| if let Part::Text(text) = part { text } else { "x" }).collect()
    }

    /// The groups in segments that have nothing but them and dots, and whether the segment is the last.
    pub fn bare_groups(&self) -> Vec<(usize, bool)> {
        let (mut found, mut segment, mut is_bare) = (Vec::new(), Vec::new(), true);
        for part in &self.parts {
            match part {
                Part::Group(number) => segment.push(*number),
                Part::Text(text) => {
                    let mut pieces = text.split('/');
                    is_bare &= pieces.next().is_none_or(is_dots);
                    for piece in pieces {
                        found.extend(segment.drain(..).filter(|_| is_bare).map(|it| (it, false)));
                        is_bare = is_dots(piece);
                    }
                }
            }
        }
        found.extend(segment.into_iter().filter(|_| is_bare).map(|it| (it, true)));
        found.sort_unstable();
        found.dedup_by_key(|(number, _)| *number);
        found
    }

    /// As RE2 writes substitutions.
    pub fn substitution(&self) -> String {
        let part = |part: &Part<'_>| match part {
            Part::Text(text) => text.replace('\\', r"\\"),
            Part::Group(number) => format!(r"\{number}"),
        };
        self.parts.iter().map(part).collect()
    }
}

fn is_dots(text: &str) -> bool {
    text.bytes().all(|byte| byte == b'.')
}

/// The expression for paths in which this group leaves the directory that it is written into, or is
/// empty where that would double a slash. It may take paths that the group itself does not.
pub fn leaving(regex: &str, group: usize, is_last: bool) -> Option<String> {
    const DOTS: &str = r"(?:\.|%2[Ee]){1,2}";
    let span = groups(regex).into_iter().nth(group.checked_sub(1)?)?.1;
    let (before, behind) = (regex.get(..span.start.offset)?, regex.get(span.end.offset..)?);
    let empty = if is_last { "" } else { "|" };
    Some(format!("{before}(?:{DOTS}(?:(?:/|%2[Ff]|;).*)?|.*(?:/|%2[Ff]){DOTS}{empty}){behind}"))
}

/// The names of a template's variables, in order; of a tail (`{path+}`) without its sign.
pub fn variables(template: &str) -> impl Iterator<Item = &str> {
    let inside = template.split('{').skip(1);
    inside.filter_map(|text| text.split_once('}')).map(|(name, _)| name.trim_end_matches('+'))
}

/// The groups of an expression, in order, with their names and places.
fn groups(regex: &str) -> Vec<(Option<String>, ast::Span)> {
    struct Groups(Vec<(Option<String>, ast::Span)>);
    impl ast::Visitor for Groups {
        type Output = Vec<(Option<String>, ast::Span)>;
        type Err = std::convert::Infallible;

        fn finish(self) -> Result<Self::Output, Self::Err> {
            Ok(self.0)
        }

        fn visit_pre(&mut self, ast: &Ast) -> Result<(), Self::Err> {
            if let Ast::Group(group) = ast {
                match &group.kind {
                    GroupKind::CaptureIndex(_) => self.0.push((None, group.span)),
                    GroupKind::CaptureName { name, .. } => {
                        self.0.push((Some(name.name.clone()), group.span))
                    }
                    GroupKind::NonCapturing(_) => {}
                }
            }
            Ok(())
        }
    }
    let Ok(tree) = ast::parse::Parser::new().parse(regex) else { return Vec::new() };
    match ast::visit(&tree, Groups(Vec::new())) {
        Ok(groups) => groups,
        Err(never) => match never {},
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_become_groups_in_the_order_of_the_template() {
        let template = Source::Template("/a/{x}/{unused}/{y}.json/{rest+}");
        let target = read("/v2/{rest}/{x}-{y}/{x}", template).unwrap();
        assert_eq!(target.used, ["x", "y", "rest"]);
        assert_eq!(target.substitution(), r"/v2/\3/\1-\2/\1");
        assert_eq!(target.sample(), "/v2/x/x-x/x");
        assert!(read("/v2", template).unwrap().is_literal());
        let regex = Source::Regex(r"/(?:a|b)/(\d+)/(?P<rest>.*)");
        assert_eq!(read("/{rest}/{1}/{2}", regex).unwrap().substitution(), r"/\2/\1/\2");
    }

    #[test]
    fn a_group_that_is_a_segment_is_bare() {
        let bare = |target| read(target, Source::Regex("(a)(b)(c)")).unwrap().bare_groups();
        assert_eq!(bare("/x/{1}/y{2}/{3}"), [(1, false), (3, true)]);
        assert_eq!(bare("/.{1}/{2}{3}"), [(1, false), (2, true), (3, true)]);
        assert_eq!(bare("/x-{1}/{2}-/{3}/"), [(3, false)]);
        assert_eq!(bare("/{1}/{1}"), [(1, false)]);
    }

    #[test]
    fn what_the_path_does_not_have_is_refused() {
        let fault = |target, source| read(target, source).map(drop);
        let unknown = |name: &str| Err(RewriteFault::Unknown(name.to_owned()));
        assert_eq!(fault("/{y}", Source::Template("/{x}")), unknown("y"));
        assert_eq!(fault("/{1}", Source::Template("/{x}")), unknown("1"));
        assert_eq!(fault("/{2}", Source::Regex("(.*)")), unknown("2"));
        assert_eq!(fault("/{0}", Source::Regex("(.*)")), unknown("0"));
        assert_eq!(fault("/{x}", Source::Literal), unknown("x"));
        for bad in ["/{x", "/x}", "/{{x}}", "/}{x}"] {
            assert_eq!(fault(bad, Source::Template("/{x}")), Err(RewriteFault::Brace), "{bad}");
        }
        let many: String = (0..10).map(|n| format!("/{{v{n}}}")).collect();
        assert_eq!(fault(&many, Source::Template(&many)), Err(RewriteFault::TooMany));
        let groups = "(a)".repeat(10);
        assert_eq!(fault("/{10}", Source::Regex(&groups)), Err(RewriteFault::TooMany));
    }
}
