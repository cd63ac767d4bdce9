//! `cors`: which web pages may call from a browser (Fetch standard, section 3.2).

use imp_grammar::{caps, origin};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Check, Violations, grammar};

/// What browsers are told about calls from pages of other origins. The gateway answers preflights,
/// without credentials; origins that are not allowed get no CORS headers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Cors {
    /// `https://app.example.com`, `https://*.example.com`, or `*` for any.
    #[schema(example = json!(["https://app.example.com"]))]
    pub allow_origins: Vec<String>,
    /// Allowed methods; when empty, all that the gateway routes.
    #[serde(default)]
    #[schema(example = json!(["GET", "POST"]))]
    pub allow_methods: Vec<String>,
    /// Allowed request headers besides the CORS-safelisted ones.
    #[serde(default)]
    #[schema(example = json!(["content-type", "x-api-key"]))]
    pub allow_headers: Vec<String>,
    /// Response headers that a page may read besides the CORS-safelisted ones.
    #[serde(default)]
    pub expose_headers: Vec<String>,
    /// How many seconds a browser may cache the answer to a preflight; the browser's default when
    /// absent.
    #[serde(default)]
    #[schema(example = 600)]
    pub max_age_seconds: Option<u32>,
    /// Whether a page may send cookies and read the answer. Cannot be combined with the origin `*`.
    #[serde(default)]
    pub allow_credentials: bool,
}

/// Chromium caps it at two hours, Firefox at a day.
const LONGEST_AGE: u32 = 86_400;

impl Cors {
    /// The number of words in it.
    pub fn len(&self) -> usize {
        self.allow_origins.len()
            + self.allow_methods.len()
            + self.allow_headers.len()
            + self.expose_headers.len()
    }

    /// Whether it has no words.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Check for Cors {
    fn check(&self, v: &mut Violations) {
        if self.allow_origins.is_empty() {
            v.add("allow_origins", "required", "without an origin it does nothing");
        }
        let within = [
            v.at_most("allow_origins", self.allow_origins.len(), &caps::ORIGINS_PER_POLICY),
            v.at_most("allow_methods", self.allow_methods.len(), &caps::METHODS_PER_ROUTE),
            v.at_most("allow_headers", self.allow_headers.len(), &caps::HEADERS_PER_POLICY),
            v.at_most("expose_headers", self.expose_headers.len(), &caps::HEADERS_PER_POLICY),
        ];
        if within.contains(&false) {
            return;
        }
        v.each("allow_origins", &self.allow_origins, |v, text| {
            if let Err(why) = origin::parse(text) {
                v.add("", "invalid_origin", why);
            }
        });
        v.each("allow_methods", &self.allow_methods, |v, method| {
            v.take("", grammar::method(method));
        });
        v.each("allow_headers", &self.allow_headers, |v, name| {
            v.take("", grammar::header_name(name));
        });
        v.each("expose_headers", &self.expose_headers, |v, name| {
            v.take("", grammar::header_name(name));
        });
        if self.max_age_seconds.is_some_and(|age| age > LONGEST_AGE) {
            v.add("max_age_seconds", "out_of_range", "0 to 86,400");
        }
        if self.allow_credentials && self.allow_origins.iter().any(|origin| origin == origin::ANY) {
            let detail = "with the origin '*', any page could act for a user who is logged in";
            v.add("allow_credentials", "credentials_for_any_origin", detail);
        }
    }
}
