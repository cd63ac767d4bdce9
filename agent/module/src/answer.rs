//! What a caller sees of a refusal: the same as of the agent's (`agent/src/ext_authz.rs`).

use std::fmt::Write as _;

use imp_enforce::Denial;

use crate::envoy::Stream;

/// Begins the details of each refusal in access logs. The listener's reply mapper leaves answers
/// with such details as they are.
const DETAILS: &str = "imp_";

/// A refusal of a call, as it will be sent.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: u16,
    code: &'static str,
    /// For HTTP.
    body: String,
    /// For gRPC.
    reason: String,
    headers: Vec<(&'static str, String)>,
    is_grpc: bool,
}

impl Refusal {
    /// For the engine's reason.
    pub(crate) fn of(denial: &Denial, is_grpc: bool, request_id: &str) -> Self {
        Self {
            status: denial.status,
            code: denial.code,
            body: denial.problem(request_id),
            reason: denial.reason(),
            headers: denial.response_headers.clone(),
            is_grpc,
        }
    }

    /// For a reason of the module's own.
    pub(crate) fn own(own: &Own, is_grpc: bool, request_id: &str) -> Self {
        let body = serde_json::json!({
            "type": "about:blank",
            "title": own.title,
            "status": own.status,
            "code": own.code,
            "request_id": request_id,
        });
        let retry = own.retry_after.map(|seconds| ("retry-after", seconds.to_owned()));
        Self {
            status: own.status,
            code: own.code,
            body: body.to_string(),
            reason: format!("{}: {}", own.code, own.title),
            headers: retry.into_iter().collect(),
            is_grpc,
        }
    }

    pub(crate) fn send(&self, stream: Stream) {
        let mut headers: Vec<_> =
            self.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        if self.is_grpc {
            // Envoy makes `grpc-status: 0` of an answer with a body that a module gives.
            let (status, message) = (grpc_code(self.status).to_string(), quoted(&self.reason));
            headers.extend([
                (":status", "200"),
                ("content-type", "application/grpc"),
                ("grpc-status", &status),
                ("grpc-message", &message),
            ]);
            stream.respond_with_headers(&headers);
        } else {
            headers.push(("content-type", "application/problem+json"));
            stream.respond(self.status, &headers, &self.body, &format!("{DETAILS}{}", self.code));
        }
    }
}

/// A refusal that is not the engine's.
pub(crate) struct Own {
    status: u16,
    code: &'static str,
    title: &'static str,
    retry_after: Option<&'static str>,
}

/// No state has come yet, neither from the file nor from the agent; or a route is of a publish that
/// was never in what has come. The listener's mapper gives the same when the agent does not answer
/// (`agent/translate/src/xds/listener/refusals.rs`).
pub(crate) const UNAVAILABLE: Own = Own {
    status: 503,
    code: "enforcement_unavailable",
    title: "Try again later",
    retry_after: Some("1"),
};

/// There is no route, or one that nobody gave an owner and that leads nowhere.
pub(crate) const NO_ROUTE: Own =
    Own { status: 404, code: "no_route", title: "No such route", retry_after: None };

/// A fault of this module.
pub(crate) const INTERNAL: Own =
    Own { status: 500, code: "internal", title: "The gateway has failed", retry_after: None };

fn grpc_code(status: u16) -> u8 {
    match status {
        401 => 16,
        403 => 7,
        404 => 12,
        429 => 8,
        500 => 13,
        _ => 14,
    }
}

/// `grpc-message`: everything but printable ASCII is percent-encoded, and the percent sign.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => quoted.push(byte.into()),
            _ => {
                // Writing to a string does not fail.
                let _ok = write!(quoted, "%{byte:02X}");
            }
        }
    }
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_of_grpc_is_ascii() {
        assert_eq!(quoted("a: 100% ü\n"), "a: 100%25 %C3%BC%0A");
        assert_eq!([401, 403, 404, 429, 500, 503].map(grpc_code), [16, 7, 12, 8, 13, 14]);
    }
}
