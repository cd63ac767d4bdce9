//! Parse errors with their position.

use super::grammar::Fault;

/// The reason why a message was refused, and the field at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {fault}")]
pub struct ParseError {
    /// A path through the message, such as `api_services/0/routes/2/path`.
    pub field: String,
    /// What is wrong with it.
    pub fault: Fault,
}

impl ParseError {
    pub(super) fn new(field: impl Into<String>, fault: Fault) -> Self {
        Self { field: field.into(), fault }
    }

    /// Prepends a step to the path.
    pub(super) fn within(mut self, step: impl std::fmt::Display) -> Self {
        self.field = format!("{step}/{}", self.field);
        self
    }
}

/// Parses each item of a list; returns the first fault with its index.
pub(super) fn each<T>(
    list: &str,
    texts: &[String],
    parse: impl Fn(&str) -> Result<T, Fault>,
) -> Result<Vec<T>, ParseError> {
    let at = |index| move |fault| ParseError::new(format!("{list}/{index}"), fault);
    texts.iter().enumerate().map(|(index, text)| parse(text).map_err(at(index))).collect()
}
