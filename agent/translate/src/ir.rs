//! The intermediate form: what both renderers (xDS now, Gateway API later) start from.

use imp_proto::config as pb;

/// A gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// Its id, which names its scopes and listeners.
    pub id: String,
}

/// One revision of a publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// Its id.
    pub id: String,
    /// The gateway that it is on.
    pub gateway_id: String,
    /// Which revision.
    pub revision: u64,
}

/// Why a message was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {why}")]
pub struct ParseError {
    /// Where, as a path through the message.
    pub field: String,
    /// What is wrong with it.
    pub why: String,
}

impl Gateway {
    /// Checks everything that a renderer relies on.
    pub fn parse(message: &pb::Gateway) -> Result<Self, ParseError> {
        Ok(Self { id: message.id.clone() })
    }
}

impl Publish {
    /// Checks everything that a renderer relies on.
    pub fn parse(message: &pb::Publish) -> Result<Self, ParseError> {
        Ok(Self {
            id: message.id.clone(),
            gateway_id: message.gateway_id.clone(),
            revision: message.revision,
        })
    }
}
