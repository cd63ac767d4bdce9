//! `request_headers` and `response_headers`: what the upstream and the caller see.

use imp_grammar::caps;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Check, Violations, grammar};

/// Headers to set (replacing), to add (beside), to remove; in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Headers {
    /// Replaces what is there.
    #[serde(default)]
    pub set: Vec<Header>,
    /// Stands beside what is there.
    #[serde(default)]
    pub add: Vec<Header>,
    /// Names.
    #[serde(default)]
    pub remove: Vec<String>,
}

/// One header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// Not one of the gateway's own.
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
    }
}

impl Headers {
    /// How many headers it names.
    pub fn len(&self) -> usize {
        self.set.len() + self.add.len() + self.remove.len()
    }

    /// Whether it names none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
