//! A domain: a name below which a tenant may claim hostnames, once the tenant has proven it by a
//! DNS record or an operator has granted it.

use chrono::{DateTime, Utc};
use imp_grammar::hosts::CATCH_ALL;
use rand::distr::{Alphanumeric, SampleString as _};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::hostname::{Reserved, reserved, reserved_fault};
use crate::stored::states;
use crate::{Check, DomainId, Meta, TenantId, Violations, grammar};

/// The writable fields of a domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DomainSpec {
    /// Unique in the tenant. Covers the name itself and everything below it. `*`, which only operators
    /// create and grant, covers the hostname `*` alone.
    #[schema(example = "example.com")]
    pub name: String,
}

impl Check for DomainSpec {
    fn check(&self, v: &mut Violations) {
        // The catch-all is left to the handler, too.
        if self.name == CATCH_ALL {
            return;
        }
        if let Some(name) = v.take("name", grammar::hostname(&self.name)) {
            // Local names are left to the handler, which knows whether the caller is an operator.
            if reserved(&name) == Some(Reserved::Always) {
                let fault = reserved_fault();
                v.add("name", fault.code, fault.detail);
            }
        }
    }

    fn canonicalise(&mut self) {
        if let Ok(name) = grammar::hostname(&self.name) {
            self.name = name;
        }
    }
}

/// A domain of a tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Domain {
    /// The domain's unique id.
    pub id: DomainId,
    /// The tenant that claims or holds it.
    pub tenant_id: TenantId,
    #[serde(flatten)]
    pub spec: DomainSpec,
    /// Whether it is pending, verified or granted.
    pub status: DomainStatus,
    /// The DNS record that proves it.
    pub challenge: Challenge,
    /// Since when the tenant holds it.
    pub held_since: Option<DateTime<Utc>>,
    #[serde(flatten)]
    pub meta: Meta,
}

/// A TXT record that only the owner of the domain can create. It is not secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Challenge {
    /// The name of the TXT record.
    #[schema(example = "_imp-challenge.example.com")]
    pub record: String,
    /// The exact text of the record.
    #[schema(example = "imp-domain-verification=fQ0vN2kX7bYtR4mWzL1cS9dH")]
    pub value: String,
}

impl Challenge {
    /// Creates a challenge with a random token.
    pub fn new(name: &str) -> Self {
        Self::with_token(name, &Alphanumeric.sample_string(&mut crate::secret::rng(), 32))
    }

    /// The challenge with this token.
    pub fn with_token(name: &str, token: &str) -> Self {
        Self { record: format!("_imp-challenge.{name}"), value: format!("{}{token}", Self::PREFIX) }
    }

    /// The random part of the text.
    pub fn token(&self) -> &str {
        self.value.strip_prefix(Self::PREFIX).unwrap_or(&self.value)
    }

    const PREFIX: &'static str = "imp-domain-verification=";
}

states! {
    /// pending -> verified | granted; verified -> granted.
    pub enum DomainStatus {
        /// Claimed but not proven. Several tenants may claim the same domain.
        Pending,
        /// Proven by its DNS record.
        Verified,
        /// Granted by an operator.
        Granted,
    }
}

impl DomainStatus {
    /// The word in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Verified => "verified",
            Self::Granted => "granted",
            Self::Newer(word) => word.as_str(),
        }
    }
}

impl DomainStatus {
    /// Whether hostnames below it may be used.
    pub fn is_held(self) -> bool {
        self != Self::Pending
    }
}

impl Domain {
    /// Marks it as proven or granted. `held_since` stays if it was held before.
    #[must_use]
    pub fn held_as(self, status: DomainStatus, now: DateTime<Utc>) -> Self {
        let mut meta = self.meta;
        meta.touch(now);
        let held_since = self.held_since.or(Some(meta.updated_at));
        Self { status, held_since, meta, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_is_random_and_read_back_from_its_token() {
        let challenge = Challenge::new("example.com");
        assert_ne!(challenge, Challenge::new("example.com"));
        assert_eq!(challenge.record, "_imp-challenge.example.com");
        assert_eq!(Challenge::with_token("example.com", challenge.token()), challenge);
    }

    #[test]
    fn a_domain_is_a_name_that_somebody_can_have() {
        let code = |name: &str| {
            let spec = DomainSpec { name: name.to_owned() };
            spec.checked().err().and_then(|faults| faults.first().map(|fault| fault.code))
        };
        for (name, expected) in [
            ("Example.COM.", None),
            ("corp.internal", None),
            ("localhost", None),
            ("com", Some("reserved_hostname")),
            ("co.uk", Some("reserved_hostname")),
            ("10.0.0.1", Some("reserved_hostname")),
            ("*.example.com", Some("unsupported_hostname")),
            ("a b", Some("invalid_hostname")),
        ] {
            assert_eq!(code(name), expected, "{name}");
        }
    }
}
