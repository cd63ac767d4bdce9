//! What a gateway does to every call before it looks for a route.

use imp_grammar::caps;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::stored::words;
use crate::{Check, Violations};

/// The same for all publishes of the gateway. A change of one of them updates the listener, which lets
/// open connections drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GatewaySettings {
    /// What becomes of `%2F` in a path.
    pub escaped_slash: EscapedSlash,
    /// What becomes of headers with `_` in their names.
    pub underscore_headers: UnderscoreHeaders,
    /// Whether HTTP/1.0 is served.
    pub http10: bool,
    /// Proxies in front of the gateway whose `x-forwarded-*` headers are believed.
    #[schema(maximum = 8)]
    pub trusted_hops: u32,
}

impl Default for GatewaySettings {
    fn default() -> Self {
        Self {
            escaped_slash: EscapedSlash::default(),
            underscore_headers: UnderscoreHeaders::default(),
            http10: true,
            trusted_hops: 0,
        }
    }
}

impl GatewaySettings {
    /// A word that this release does not know, and its field.
    pub fn newer_word(&self) -> Option<(&'static str, &'static str)> {
        let slash = self.escaped_slash.newer_word().map(|word| ("escaped_slash", word));
        let underscores = self.underscore_headers.newer_word();
        slash.or_else(|| underscores.map(|word| ("underscore_headers", word)))
    }

    /// Whether all is as when nothing is said.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// The settings that are not as when nothing is said. An agent must know them.
    pub fn changed(self) -> impl Iterator<Item = &'static str> {
        self.differences(Self::default())
    }

    /// The settings in which the two differ.
    pub fn differences(self, other: Self) -> impl Iterator<Item = &'static str> {
        let differ = [
            ("escaped_slash", self.escaped_slash != other.escaped_slash),
            ("underscore_headers", self.underscore_headers != other.underscore_headers),
            ("http10", self.http10 != other.http10),
            ("trusted_hops", self.trusted_hops != other.trusted_hops),
        ];
        differ.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name)
    }
}

words! {
    /// What becomes of `%2F` in a path.
    #[derive(Default)]
    pub enum EscapedSlash {
        /// The call is refused.
        #[default]
        Refuse = "refuse",
        /// It is a character of its segment, and the upstream gets it as it came. What an upstream that
        /// decodes it would read as a way to another place is refused.
        Keep = "keep",
        /// It is a slash, for the route and the upstream.
        Decode = "decode",
    }
}

words! {
    /// What becomes of headers with `_` in their names.
    #[derive(Default)]
    pub enum UnderscoreHeaders {
        /// The upstream gets them, but for other spellings of what the gateway itself says.
        #[default]
        Allow = "allow",
        /// The call is refused.
        Refuse = "refuse",
    }
}

impl Check for GatewaySettings {
    fn check(&self, v: &mut Violations) {
        let most = caps::TRUSTED_HOPS.value;
        if u64::from(self.trusted_hops) > most {
            v.add("trusted_hops", "out_of_range", format!("0 to {most}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_as_by_default() {
        let read: GatewaySettings = serde_json::from_str("{}").unwrap();
        assert!(read.is_default() && read.http10 && read.changed().next().is_none());
        let other: GatewaySettings =
            serde_json::from_str(r#"{"escaped_slash":"keep","http10":false}"#).unwrap();
        assert_eq!(other.changed().collect::<Vec<_>>(), ["escaped_slash", "http10"]);
        assert!(serde_json::from_str::<GatewaySettings>(r#"{"escaped_slash":"maybe"}"#).is_err());
    }
}
