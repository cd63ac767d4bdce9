//! Rewrites of requests before they reach the upstream.

use imp_grammar::regexes;
use imp_grammar::rewrite::{self, Part, RewriteFault, Source};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::check::Fault;
use crate::stored::is_default;
use crate::{Violations, grammar};

/// How the request is rewritten for the upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rewrite {
    /// Replaces base path and matched prefix, or the whole path. `{name}` stands for a variable of
    /// the template or a named group of the expression, `{1}` for a group.
    #[serde(default)]
    #[schema(example = "/v2/payments/{id}")]
    pub path: Option<String>,
    /// Replaces the `Host` header; the caller's is in `x-forwarded-host`.
    #[serde(default)]
    pub host: Option<String>,
    /// Removes the publish's base path from the path; cannot be combined with `path`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub strip_base_path: bool,
}

impl Rewrite {
    pub(crate) fn check(&self, v: &mut Violations, source: Source<'_>) {
        if let Some(target) = &self.path {
            v.take("path", check_target(target, source));
            if self.strip_base_path {
                let why = "`path` takes the place of the base path, too";
                v.add("strip_base_path", "conflict", why);
            }
        }
        self.host.as_deref().map(|host| v.take("host", grammar::hostname(host)));
    }

    /// Whether the target has variables, which agents must support.
    pub fn is_computed(&self) -> bool {
        self.strip_base_path || self.path.as_ref().is_some_and(|path| path.contains('{'))
    }
}

fn check_target(target: &str, source: Source<'_>) -> Result<(), Fault> {
    let code = |fault: &RewriteFault| match fault {
        RewriteFault::Unknown(_) => "unknown_variable",
        RewriteFault::Brace | RewriteFault::TooMany => "invalid_path",
    };
    let read = rewrite::read(target, source);
    let read = read.map_err(|fault| Fault::new(code(&fault), fault.to_string()))?;
    if let Source::Regex(regex) = source {
        let copied = regexes::copied_groups(regex);
        let named = |part: &Part<'_>| matches!(part, Part::Group(group) if copied.contains(group));
        if read.parts.iter().any(named) {
            let detail = "a group that repeats, or stands behind what may be missing, beside '^' or '\\b' has no value below a base path: write '^' at the beginning only";
            return Err(Fault::new("unknown_variable", detail));
        }
    }
    grammar::path(&read.sample())
}
