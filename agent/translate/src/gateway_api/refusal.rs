//! Why there are no objects for a publish or a gateway.

use imp_grammar::classes::{Class, Feature};
use thiserror::Error;

/// What cannot be said in Gateway API, or not to this class.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Refusal {
    #[error("{at} needs '{feature}', which gateways of class '{class}' cannot do")]
    Lacks { at: String, feature: &'static str, class: &'static str },
    #[error(
        "route {first} comes before route {second}, and gateways of class '{class}' would try them the other way round"
    )]
    Order { first: String, second: String, class: &'static str },
    #[error("{at}: {why}")]
    Unsaid { at: String, why: &'static str },
    #[error(
        "on {host} it would take calls of another publish, which has a longer or shorter base path ({base_path})"
    )]
    Nested { host: String, base_path: String },
    #[error("the agent has no gateway {0}")]
    NoGateway(String),
}

impl Refusal {
    pub(super) fn unsaid(at: impl Into<String>, why: &'static str) -> Self {
        Self::Unsaid { at: at.into(), why }
    }
}

/// Refuses what the class lacks.
pub(super) fn need(
    class: &Class,
    feature: Feature,
    at: impl FnOnce() -> String,
) -> Result<(), Refusal> {
    if class.can(feature) {
        return Ok(());
    }
    Err(Refusal::Lacks { at: at(), feature: feature.word, class: class_word(class) })
}

/// The word of a class, which all live as long as the program.
pub(super) fn class_word(class: &Class) -> &'static str {
    class.word
}
