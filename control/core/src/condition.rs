//! Conditions of routes on headers and query parameters.

use imp_grammar::query::{self, Rule};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::check::Fault;
use crate::stored::{NewerChoice, choice};
use crate::{Violations, grammar};

/// Matches one header or query parameter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ValueMatch {
    /// The name of the header or parameter.
    pub name: String,
    /// The rule for its value.
    pub value: ValueRule,
}

/// A rule for a value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", remote = "Self")]
pub enum ValueRule {
    /// The value is equal.
    Exact(String),
    /// The value begins with this.
    Prefix(String),
    /// RE2 syntax, matching the whole value; for a query parameter the raw, percent-encoded value.
    Regex(String),
    /// True: must be present. False: must be absent.
    Present(bool),
    /// Stored by a newer release; not allowed in requests.
    #[serde(skip)]
    Newer(NewerChoice),
}
choice!(ValueRule);

impl ValueRule {
    fn check(&self) -> Result<(), Fault> {
        match self {
            Self::Prefix(value) if value.is_empty() => {
                Err(Fault::new("required", "a prefix is not empty; `present` matches any value"))
            }
            Self::Exact(value) | Self::Prefix(value) => grammar::match_value(value),
            Self::Regex(regex) => grammar::regex(regex),
            Self::Present(_) => Ok(()),
            Self::Newer(newer) => Err(unknown(newer)),
        }
    }
}

/// The fault for a rule that this release does not know.
pub(crate) fn unknown(newer: &NewerChoice) -> Fault {
    Fault::new("unknown_value", format!("this release does not know '{}'", newer.word()))
}

fn never(why: impl Into<String>) -> Fault {
    Fault::new("never_matches", why)
}

/// Checks a header's rule: Envoy compares values without blanks at their ends.
pub(crate) fn check_header(v: &mut Violations, header: &ValueMatch) {
    v.take("name", grammar::matched_header(&header.name));
    if v.take("value", header.value.check()).is_none() {
        return;
    }
    let blank = |text: &str| matches!(text, " " | "\t");
    let (exact, text) = match &header.value {
        ValueRule::Exact(text) => (true, text),
        ValueRule::Prefix(text) => (false, text),
        ValueRule::Regex(_) | ValueRule::Present(_) | ValueRule::Newer(_) => return,
    };
    let at_end = exact && text.get(text.len().saturating_sub(1)..).is_some_and(blank);
    if text.get(..1).is_some_and(blank) || at_end {
        v.add("value", "never_matches", "a header's value has no blanks at its ends");
    }
    if exact
        && header.name.eq_ignore_ascii_case("host")
        && grammar::hostname(text).as_ref() != Ok(text)
    {
        v.add("value", "never_matches", "the host in lower case, without a port");
    }
}

/// Checks a query parameter's rule.
pub(crate) fn check_parameter(v: &mut Violations, parameter: &ValueMatch) {
    v.take("name", grammar::name(&parameter.name));
    if v.take("value", parameter.value.check()).is_some() {
        v.take("value", spelled(parameter));
    }
}

fn spelled(parameter: &ValueMatch) -> Result<(), Fault> {
    let rule = match &parameter.value {
        ValueRule::Exact(text) => Rule::Exact(text),
        ValueRule::Prefix(text) => Rule::Prefix(text),
        ValueRule::Present(_) => Rule::Present,
        ValueRule::Regex(regex) => return as_sent(&parameter.name, regex),
        ValueRule::Newer(newer) => return Err(unknown(newer)),
    };
    if query::fits(&parameter.name, rule) {
        return Ok(());
    }
    Err(Fault::new("too_long", "name and value together are at most 450 bytes"))
}

/// Checks name and expression, which Envoy compares with the raw query.
fn as_sent(name: &str, regex: &str) -> Result<(), Fault> {
    let sent = |c: char| c.is_ascii_graphic() && !matches!(c, '&' | '=' | '#');
    if let Some(c) = name.chars().find(|c| !sent(*c)) {
        let why =
            format!("with `regex` names are compared as they are sent, and no caller sends '{c}'");
        return Err(never(why));
    }
    match query::never_sent(regex) {
        None => Ok(()),
        Some(c) => Err(never(format!(
            "no caller sends '{c}' as it is; write its encoding, or use `exact` or `prefix`"
        ))),
    }
}
