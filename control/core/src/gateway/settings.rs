//! What a gateway does to every call before it looks for a route.

use imp_grammar::caps;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::stored::words;
use crate::{Check, Violations};

/// Settings for all publishes of the gateway. Changing one updates the listener, which drains open
/// connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GatewaySettings {
    /// How `%2F` in a path is handled.
    pub escaped_slash: EscapedSlash,
    /// How headers with `_` in their names are handled.
    pub underscore_headers: UnderscoreHeaders,
    /// Whether HTTP/1.0 is served.
    pub http10: bool,
    /// The number of proxies in front of the gateway whose `x-forwarded-*` headers are trusted.
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
    /// A word that this release does not know, with its field.
    pub fn newer_word(&self) -> Option<(&'static str, &'static str)> {
        let slash = self.escaped_slash.newer_word().map(|word| ("escaped_slash", word));
        let underscores = self.underscore_headers.newer_word();
        slash.or_else(|| underscores.map(|word| ("underscore_headers", word)))
    }

    /// Whether all settings have their defaults.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// The settings that differ from their defaults. An agent must support them.
    pub fn changed(self) -> impl Iterator<Item = &'static str> {
        self.differences(Self::default())
    }

    /// The settings that differ.
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
    /// How `%2F` in a path is handled.
    #[derive(Default)]
    pub enum EscapedSlash {
        /// Refuse the call.
        #[default]
        Refuse = "refuse",
        /// Treat it as a character of its segment and forward it unchanged. Paths that an upstream
        /// could decode to a different location are refused.
        Keep = "keep",
        /// Decode it to a slash, for routing and for the upstream.
        Decode = "decode",
    }
}

words! {
    /// How headers with `_` in their names are handled.
    #[derive(Default)]
    pub enum UnderscoreHeaders {
        /// Forward them, except other spellings of headers that the gateway itself sets.
        #[default]
        Allow = "allow",
        /// Refuse the call.
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
