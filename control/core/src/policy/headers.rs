//! `request_headers` and `response_headers`: changes to what the upstream and the caller see.

use std::collections::HashSet;

use imp_grammar::caps;
use imp_grammar::headers::{Change, is_undone};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Check, Violations, grammar};

/// Headers to set, to add and to remove, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Headers {
    /// Replaces existing values.
    #[serde(default)]
    pub set: Vec<Header>,
    /// Appends to existing values.
    #[serde(default)]
    pub add: Vec<Header>,
    /// Names of headers to remove.
    #[serde(default)]
    pub remove: Vec<String>,
}

/// One header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// Must not be a header that the gateway itself sets.
    #[schema(example = "x-team")]
    pub name: String,
    /// Literal; a percent sign is written `%%`.
    #[schema(example = "payments")]
    pub value: String,
}

impl Check for Headers {
    fn check(&self, v: &mut Violations) {
        let lists =
            [("set", self.set.len()), ("add", self.add.len()), ("remove", self.remove.len())];
        let together = lists.iter().map(|(_, length)| length).sum();
        let longest =
            lists.iter().max_by_key(|(_, length)| *length).map_or("set", |(name, _)| *name);
        if !v.at_most(longest, together, &caps::HEADERS_PER_POLICY) {
            return;
        }
        let header = |v: &mut Violations, header: &Header| {
            v.take("name", grammar::writable_header(&header.name));
            v.take("value", grammar::header_value(&header.value));
        };
        v.each("set", &self.set, header);
        v.each("add", &self.add, header);
        v.each("remove", &self.remove, |v, name| {
            v.take("", grammar::writable_header(name));
        });
        self.check_effect(v);
    }
}

impl Headers {
    /// Refuses changes without any effect.
    fn check_effect(&self, v: &mut Violations) {
        let removed: HashSet<_> = self.remove.iter().map(|it| it.to_ascii_lowercase()).collect();
        let mut last = HashSet::new();
        for (index, header) in self.set.iter().enumerate().rev() {
            let name = header.name.to_ascii_lowercase();
            let why = match (removed.contains(&name), last.insert(name)) {
                (true, _) => "it is removed, too; removing comes last",
                (_, false) => "it is set again, further down",
                _ => continue,
            };
            v.within("set", |v| v.within(index, |v| v.add("name", "without_effect", why)));
        }
        v.each("add", &self.add, |v, header| {
            if removed.contains(&header.name.to_ascii_lowercase()) {
                v.add("name", "without_effect", "it is removed, too; removing comes last");
            }
        });
    }

    /// Refuses changes that the listener would undo in every answer.
    pub(super) fn check_answers(&self, v: &mut Violations) {
        let refuse = |v: &mut Violations, at: &str, name: &str, change: Change| {
            let name = name.to_ascii_lowercase();
            if is_undone(&name, change) {
                let detail = format!("the gateway writes {name} into every answer");
                v.add(at, "reserved_header", detail);
            }
        };
        v.each("set", &self.set, |v, it| refuse(v, "name", &it.name, Change::Write));
        v.each("add", &self.add, |v, it| refuse(v, "name", &it.name, Change::Write));
        v.each("remove", &self.remove, |v, name| refuse(v, "", name, Change::Remove));
    }

    /// The number of headers it names.
    pub fn len(&self) -> usize {
        self.set.len() + self.add.len() + self.remove.len()
    }

    /// Whether it names no headers.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
