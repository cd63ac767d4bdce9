//! Errors of the control plane's messages.

use imp_grammar::caps;
use imp_grammar::time_zone::TimeZoneError;

use crate::id::Id;

/// The longest id.
const MAX_ID: usize = 128;

/// The reason why a message was refused. Callers must remove what they had under that id, so that
/// it fails closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// A required field is empty.
    #[error("{0}: missing")]
    Missing(&'static str),
    /// A text is not an id.
    #[error("{0}: longer than {MAX_ID} bytes, or with control characters")]
    NoId(&'static str),
    /// The hash of an active key has another length than SHA-256's.
    #[error("key_sha256: {0} bytes, not 32")]
    KeyHash(usize),
    /// A time zone cannot be read.
    #[error("time_zones: {0}")]
    TimeZone(#[from] TimeZoneError),
    #[error("time_zones: more than {}", caps::TIME_ZONES_PER_ENTITLEMENT.value)]
    TooManyTimeZones,
    /// A day after the year 9999.
    #[error("anchor_day: {0} is not a day")]
    AnchorDay(u32),
}

/// Checks an id, which may be empty.
pub(crate) fn checked<'a>(field: &'static str, text: &'a str) -> Result<&'a str, ParseError> {
    if text.len() > MAX_ID || text.chars().any(char::is_control) {
        return Err(ParseError::NoId(field));
    }
    Ok(text)
}

/// Parses an id, which may be empty.
pub(crate) fn id(field: &'static str, text: &str) -> Result<Id, ParseError> {
    checked(field, text).map(Into::into)
}

/// Parses a required id.
pub(crate) fn required(field: &'static str, text: &str) -> Result<Id, ParseError> {
    if text.is_empty() { Err(ParseError::Missing(field)) } else { id(field, text) }
}

#[cfg(test)]
mod tests {
    use imp_proto::config as pb;

    use super::*;
    use crate::{Credential, Entitlement};

    #[test]
    fn messages_without_an_id_or_with_what_is_none_are_refused() {
        use pb::entitlement::State;
        let good =
            pb::Entitlement { id: "sub".into(), state: State::Active.into(), ..Default::default() };
        assert!(Entitlement::parse(&good).is_ok());
        let unnamed = pb::Entitlement { id: String::new(), ..good.clone() };
        assert_eq!(Entitlement::parse(&unnamed), Err(ParseError::Missing("id")));
        for plan_id in ["p".repeat(MAX_ID + 1), "a\tb".to_owned()] {
            let strange = pb::Entitlement { plan_id, ..good.clone() };
            assert_eq!(Entitlement::parse(&strange), Err(ParseError::NoId("plan_id")));
        }
    }

    #[test]
    fn only_a_key_that_is_in_use_needs_a_hash() {
        use pb::credential::State;
        let short = pb::Credential {
            id: "key".into(),
            key_sha256: vec![0; 31].into(),
            state: State::Active.into(),
            ..Default::default()
        };
        assert_eq!(Credential::parse(&short), Err(ParseError::KeyHash(31)));
        let whole = pb::Credential { key_sha256: vec![0; 32].into(), ..short.clone() };
        assert!(Credential::parse(&whole).is_ok_and(|key| key.is_active()));
        for state in [State::Revoked as i32, 99] {
            let gone = pb::Credential { state, ..short.clone() };
            assert!(Credential::parse(&gone).is_ok_and(|key| !key.is_active()));
        }
    }
}
