//! Why a request to the API server failed, and whether it is worth trying again.

use kube::core::Status;
use thiserror::Error;

/// A failed request.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Fault {
    /// No answer, or one that says "later".
    #[error("the API server does not answer: {0}")]
    Away(String),
    /// Our identity may not do this.
    #[error("forbidden: {0}")]
    Forbidden(String),
    /// The API server doesn't have the kind: its CRD is not installed.
    #[error("{0} is not installed in this cluster")]
    KindMissing(String),
    /// The namespace does not exist.
    #[error("{0}")]
    NamespaceMissing(String),
    /// Others own fields that we would set: each field with its manager.
    #[error("owned by others: {0}")]
    Conflict(String),
    /// An admission webhook refuses the object.
    #[error("refused by an admission webhook: {0}")]
    Webhook(String),
    /// The API server refuses the object itself: schema, limits, rules of the CRD.
    #[error("refused by the API server: {0}")]
    Invalid(String),
    /// What we asked to continue from is not kept any more (410): list again.
    #[error("the version to continue from has expired")]
    Expired,
}

impl Fault {
    /// Whether the same request may succeed later without a change of the object.
    ///
    /// All but `Invalid` may: roles, CRDs, webhooks and owners change.
    pub fn is_temporary(&self) -> bool {
        !matches!(self, Self::Invalid(_))
    }

    /// Of a request about an object of `kind`.
    pub(crate) fn of(error: kube::Error, kind: &str) -> Self {
        match error {
            kube::Error::Api(status) => Self::of_status(&status, kind),
            other => Self::Away(chain(&other)),
        }
    }

    fn of_status(status: &Status, kind: &str) -> Self {
        let message = line(&status.message);
        match status.code {
            401 => Self::Forbidden(format!("the identity is not accepted: {message}")),
            403 if status.message.contains("being terminated") => Self::NamespaceMissing(message),
            _ if status.message.contains("admission webhook") => Self::Webhook(message),
            403 => Self::Forbidden(message),
            404 if is_namespace(status) => Self::NamespaceMissing(message),
            404 => Self::KindMissing(kind.to_owned()),
            409 => Self::Conflict(message),
            410 => Self::Expired,
            // A field that the schema lacks: the API server calls it an error of its own.
            500 if status.message.contains("failed to create typed patch object") => {
                Self::Invalid(message)
            }
            400 | 413 | 415 | 422 => Self::Invalid(message),
            _ => Self::Away(format!("{} {message}", status.code)),
        }
    }
}

fn is_namespace(status: &Status) -> bool {
    status.details.as_ref().is_some_and(|details| details.kind == "namespaces")
}

/// The longest message that is kept: the API server repeats whole objects.
const LONGEST: usize = 600;

fn line(text: &str) -> String {
    let mut line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.len() > LONGEST {
        line.truncate(line.floor_char_boundary(LONGEST));
        line.push_str("...");
    }
    line
}

/// An error and what caused it, without repeating what the former one said.
fn chain(error: &dyn std::error::Error) -> String {
    let mut said = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if !said.contains(&text) {
            said.push_str(": ");
            said.push_str(&text);
        }
        next = cause.source();
    }
    line(&said)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(code: u16, message: &str) -> Fault {
        let status = Status { code, message: message.to_owned(), ..Status::default() };
        Fault::of_status(&status, "HTTPRoute")
    }

    #[test]
    fn refusals_of_the_object_are_final_and_all_others_are_not() {
        let typed = "failed to create typed patch object (...): .spec.bogus: field not declared";
        for (code, message) in [(422, "Too many: 17"), (400, "bad"), (413, "large"), (500, typed)] {
            assert!(matches!(fault(code, message), Fault::Invalid(_)), "{code} {message}");
            assert!(!fault(code, message).is_temporary());
        }
        let webhook = "admission webhook \"a.b.c\" denied the request: no";
        let later = [(403, "no"), (404, "not found"), (409, "x"), (429, "busy"), (500, "etcd")];
        for (code, message) in later.into_iter().chain([(403, webhook), (422, webhook)]) {
            assert!(fault(code, message).is_temporary(), "{code} {message}");
        }
    }

    #[test]
    fn a_webhook_is_named_whatever_its_code() {
        let denied = "admission webhook \"policy.example.com\" denied the request: no";
        for code in [400, 403, 422, 500] {
            assert_eq!(fault(code, denied), Fault::Webhook(denied.to_owned()));
        }
    }

    #[test]
    fn messages_are_one_line_and_bounded() {
        let Fault::Invalid(text) = fault(422, &"a\n b".repeat(1000)) else {
            unreachable!("422 is invalid")
        };
        assert!(!text.contains('\n') && text.len() <= LONGEST + 3, "{}", text.len());
    }
}
