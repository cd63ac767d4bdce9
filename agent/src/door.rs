//! The door: Envoy asks about every call, and forwards none without an answer.
//!
//! ext_authz over gRPC, on the port where Envoy gets its configuration. Publish and route come from
//! the route itself (`context_extensions`), never from the caller. The decision is
//! [`imp_enforce::Engine`]'s; here it is put into Envoy's words.

use std::collections::HashMap;

use chrono::Utc;
use envoy_types::pb::envoy::config::core::v3::{HeaderValue, HeaderValueOption};
use envoy_types::pb::envoy::service::auth::v3 as auth;
use envoy_types::pb::envoy::r#type::v3::HttpStatus;
use envoy_types::pb::google::rpc;
use imp_enforce::{Admission, Call, Decision, Denial, Engine};
use imp_grammar::caps::NODE_QUESTION_BYTES;
use imp_translate::xds::door::KEY_HEADER;
use metrics::Counter;
use tonic::{Code, Request, Response, Status};

use crate::fleet::Fleet;
use crate::port::Caller;
use auth::attribute_context::HttpRequest;
use auth::authorization_server::{Authorization, AuthorizationServer};
use auth::check_response::HttpResponse;

/// Identity headers: set by the door or not there at all.
const IDENTITY: [&str; 4] =
    ["x-imp-consumer", "x-imp-subscription", "x-imp-customer", "x-imp-plan"];

/// Envoy's ext_authz service.
pub struct Door {
    engine: Engine,
    fleet: Fleet,
    counters: Counters,
}

/// Looked up once: a call costs an addition each.
struct Counters {
    allowed: Counter,
    unauthenticated: Counter,
    forbidden: Counter,
    limited: Counter,
    unavailable: Counter,
}

impl Counters {
    fn new() -> Self {
        let of =
            |outcome: &'static str| metrics::counter!("imp_door_calls_total", "outcome" => outcome);
        Self {
            allowed: of("allowed"),
            unauthenticated: of("unauthenticated"),
            forbidden: of("forbidden"),
            limited: of("limited"),
            unavailable: of("unavailable"),
        }
    }

    fn of(&self, status: u16) -> &Counter {
        match status {
            401 => &self.unauthenticated,
            403 => &self.forbidden,
            429 => &self.limited,
            _ => &self.unavailable,
        }
    }
}

impl Door {
    /// Closed until the fleet is open: an engine that has not loaded its world knows nobody.
    pub fn service(engine: Engine, fleet: Fleet) -> AuthorizationServer<Self> {
        let door = Self { engine, fleet, counters: Counters::new() };
        AuthorizationServer::new(door).max_decoding_message_size(NODE_QUESTION_BYTES.size())
    }

    fn answer(&self, caller: &Caller, request: auth::CheckRequest) -> auth::CheckResponse {
        let attributes = request.attributes.unwrap_or_default();
        let http = attributes.request.and_then(|request| request.http).unwrap_or_default();
        let context = &attributes.context_extensions;
        let decision = self.engine.decide(&call(caller.gateway(), context, &http));
        let request_id = http.headers.get("x-request-id").map_or("", String::as_str);
        match decision {
            Decision::Allow(admission) => {
                self.counters.allowed.increment(1);
                allow(admission)
            }
            Decision::Deny(denial) => {
                self.counters.of(denial.status).increment(1);
                tracing::debug!(
                    publish = text(context, "publish"),
                    route = text(context, "route"),
                    request_id,
                    status = denial.status,
                    reason = denial.log_reason,
                    "a call was refused"
                );
                deny(&denial, request_id)
            }
        }
    }
}

#[tonic::async_trait]
impl Authorization for Door {
    async fn check(
        &self,
        request: Request<auth::CheckRequest>,
    ) -> Result<Response<auth::CheckResponse>, Status> {
        let caller = Caller::of(request.extensions())?.clone();
        if !self.fleet.decides() {
            self.counters.unavailable.increment(1);
            return Err(Status::unavailable("not loaded yet"));
        }
        Ok(Response::new(self.answer(&caller, request.into_inner())))
    }
}

fn text<'a>(context: &'a HashMap<String, String>, key: &str) -> &'a str {
    context.get(key).map_or("", String::as_str)
}

/// Envoy joins repeated headers with a comma, which no key contains.
fn call<'a>(
    gateway_id: Option<&'a str>,
    context: &'a HashMap<String, String>,
    http: &'a HttpRequest,
) -> Call<'a> {
    let api_key = http.headers.get(KEY_HEADER).map(String::as_str);
    Call {
        publish_id: text(context, "publish"),
        route_id: text(context, "route"),
        gateway_id,
        api_key,
        duplicate_key: api_key.is_some_and(|key| key.contains(',')),
        now: Utc::now(),
    }
}

fn allow(admission: Admission) -> auth::CheckResponse {
    let absent =
        IDENTITY.iter().filter(|name| !admission.identity.iter().any(|(set, _)| set == *name));
    let ok = auth::OkHttpResponse {
        headers_to_remove: absent.chain([&KEY_HEADER]).map(|name| (*name).to_owned()).collect(),
        headers: admission.identity.into_iter().map(set).collect(),
        response_headers_to_add: admission.response_headers.into_iter().map(set).collect(),
        ..Default::default()
    };
    response(Code::Ok, HttpResponse::OkResponse(ok))
}

fn deny(denial: &Denial, request_id: &str) -> auth::CheckResponse {
    let mut headers = vec![set(("content-type", "application/problem+json".to_owned()))];
    headers.extend(denial.response_headers.iter().cloned().map(set));
    let refusal = auth::DeniedHttpResponse {
        status: Some(HttpStatus { code: i32::from(denial.status) }),
        headers,
        body: denial.problem(request_id),
    };
    response(Code::PermissionDenied, HttpResponse::DeniedResponse(refusal))
}

fn response(code: Code, http: HttpResponse) -> auth::CheckResponse {
    auth::CheckResponse {
        status: Some(rpc::Status { code: code.into(), ..Default::default() }),
        http_response: Some(http),
        ..Default::default()
    }
}

/// Whatever the caller or the upstream said under this name is overwritten.
fn set((key, value): (&'static str, String)) -> HeaderValueOption {
    use envoy_types::pb::envoy::config::core::v3::header_value_option::HeaderAppendAction;
    HeaderValueOption {
        header: Some(HeaderValue { key: key.to_owned(), value, ..Default::default() }),
        append_action: HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_door_does_not_say_of_the_caller_nobody_says() {
        let identity = vec![("x-imp-consumer", "c".to_owned())];
        let answer = allow(Admission { identity, response_headers: vec![] });
        let Some(HttpResponse::OkResponse(ok)) = answer.http_response else { panic!("{answer:?}") };
        let mut removed = ok.headers_to_remove;
        removed.sort();
        assert_eq!(removed, ["x-api-key", "x-imp-customer", "x-imp-plan", "x-imp-subscription"]);
        assert_eq!(ok.headers.len(), 1);
    }

    #[test]
    fn two_keys_are_seen() {
        let headers = HashMap::from([(KEY_HEADER.to_owned(), "one,two".to_owned())]);
        let http = HttpRequest { headers, ..Default::default() };
        assert!(call(None, &HashMap::new(), &http).duplicate_key);
    }
}
