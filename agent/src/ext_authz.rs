//! The authorization service: Envoy asks it about every call and forwards none without an answer.
//!
//! ext_authz over gRPC, on the port where Envoy gets its configuration. Route and access rules come
//! from the route itself (`context_extensions`), the host from the header that the scope was found
//! by, nothing from the caller. [`imp_enforce::Engine`] decides; this module translates to and from
//! Envoy's messages.

mod context;

use std::collections::HashMap;
use std::net::IpAddr;

use envoy_types::pb::envoy::config::core::v3::{HeaderValue, HeaderValueOption};
use envoy_types::pb::envoy::service::auth::v3 as auth;
use envoy_types::pb::envoy::r#type::v3::HttpStatus;
use envoy_types::pb::google::rpc;
use imp_enforce::{Admission, Call, Denial, Engine, KeyLocations, PublishKey};
use imp_grammar::caps::NODE_QUESTION_BYTES;
use imp_process::clock;
use imp_translate::xds::door::{KEY_HEADER, context::KEYS};
use metrics::Counter;
use tonic::{Code, Request, Response, Status};

use crate::fleet::Fleet;
use crate::port::Caller;
use auth::attribute_context::HttpRequest;
use auth::authorization_server::{Authorization, AuthorizationServer};
use auth::check_response::HttpResponse;

/// Identity headers: set by this service or removed.
const IDENTITY: [&str; 4] =
    ["x-imp-consumer", "x-imp-subscription", "x-imp-customer", "x-imp-plan"];

/// Envoy's ext_authz service.
pub struct ExtAuthz {
    engine: Engine,
    fleet: Fleet,
    counters: Counters,
}

/// Metric handles, looked up once, so that a call only increments them.
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
            403 | 404 => &self.forbidden,
            429 => &self.limited,
            _ => &self.unavailable,
        }
    }
}

impl ExtAuthz {
    /// Refuses until the fleet is open: an engine without its resource set knows no credentials.
    pub fn service(engine: Engine, fleet: Fleet) -> AuthorizationServer<Self> {
        let door = Self { engine, fleet, counters: Counters::new() };
        AuthorizationServer::new(door).max_decoding_message_size(NODE_QUESTION_BYTES.size())
    }

    fn answer(
        &self,
        caller: &Caller,
        request: auth::CheckRequest,
    ) -> Result<auth::CheckResponse, Status> {
        let mut attributes = request.attributes.unwrap_or_default();
        let http = attributes.request.take().and_then(|request| request.http).unwrap_or_default();
        let said = &context::of(&attributes);
        let client = attributes.source.as_ref().and_then(address);
        let call = Call { client, ..call(caller.gateway(), said, &http) };
        let request_id = http.headers.get("x-request-id").map_or("", String::as_str);
        match self.engine.decide(&call) {
            // Nothing here reports how the call ends, so dropping the permit ends it.
            Ok(permit) => {
                self.counters.allowed.increment(1);
                Ok(allow(permit.admission(), keys(said), &http.path))
            }
            // Envoy has the route, so an agent knows the publish: it asks again, another one if there
            // is one. In the end the call is refused.
            Err(denial) if denial.may_be_known_elsewhere() => {
                self.counters.unavailable.increment(1);
                Err(Status::unavailable("the publish of this route is not known here yet"))
            }
            Err(denial) => {
                self.counters.of(denial.status).increment(1);
                let (publish, host, base_path) = match call.publish {
                    PublishKey::Id(id) => (id, "", ""),
                    PublishKey::Place { host, base_path } => ("", host, base_path),
                };
                tracing::debug!(
                    publish,
                    host,
                    base_path,
                    route = call.route_id,
                    client = call.client.map(tracing::field::display),
                    request_id,
                    status = denial.status,
                    reason = denial.log_reason,
                    "a call was refused"
                );
                Ok(match is_grpc(&http) {
                    true => deny_grpc(&denial),
                    false => deny(&denial, request_id),
                })
            }
        }
    }
}

#[tonic::async_trait]
impl Authorization for ExtAuthz {
    async fn check(
        &self,
        request: Request<auth::CheckRequest>,
    ) -> Result<Response<auth::CheckResponse>, Status> {
        let caller = Caller::of(request.extensions())?.clone();
        if !self.fleet.decides() {
            self.counters.unavailable.increment(1);
            return Err(Status::unavailable("not loaded yet"));
        }
        self.answer(&caller, request.into_inner()).map(Response::new)
    }
}

fn call<'a>(
    gateway_id: Option<&'a str>,
    said: &'a HashMap<String, String>,
    http: &'a HttpRequest,
) -> Call<'a> {
    let header = |name: &str| http.headers.get(name).map(String::as_str);
    let context::Said { publish, route_id, access } = context::read(said, &http.headers);
    Call {
        publish,
        route_id,
        access,
        gateway_id,
        credential: keys(said).credential(header, &http.path),
        client: None,
        now: clock::now(),
    }
}

/// Where callers of the route may send their key.
fn keys(said: &HashMap<String, String>) -> KeyLocations<'_> {
    said.get(KEYS).map(|text| KeyLocations::parse(text)).unwrap_or_default()
}

/// The caller's address.
fn address(peer: &auth::attribute_context::Peer) -> Option<IpAddr> {
    use envoy_types::pb::envoy::config::core::v3::address::Address::SocketAddress;
    match peer.address.as_ref()?.address.as_ref()? {
        SocketAddress(socket) => socket.address.parse().ok(),
        _ => None,
    }
}

/// Sets who calls, and takes the key out of the call, wherever it may be. Envoy sorts the parameters
/// of a query from which it removes one, so it is told so only if there is one.
fn allow(admission: &Admission, keys: KeyLocations<'_>, path: &str) -> auth::CheckResponse {
    let absent =
        IDENTITY.iter().filter(|name| !admission.identity.iter().any(|(set, _)| set == *name));
    let ok = auth::OkHttpResponse {
        headers_to_remove: absent
            .copied()
            .chain([KEY_HEADER])
            .chain(keys.header)
            .map(str::to_owned)
            .collect(),
        query_parameters_to_remove: keys.query_in(path).map(str::to_owned).into_iter().collect(),
        headers: admission.identity.iter().map(|(name, id)| set((*name, id.to_string()))).collect(),
        response_headers_to_add: admission
            .response_headers
            .iter()
            .map(|(name, value)| set((*name, value.as_str().to_owned())))
            .collect(),
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

/// As Envoy knows it, which writes the answer.
fn is_grpc(http: &HttpRequest) -> bool {
    let said =
        http.headers.get("content-type").and_then(|said| said.strip_prefix("application/grpc"));
    said.is_some_and(|behind| behind.is_empty() || behind.starts_with('+'))
}

/// Envoy makes `grpc-message` of the body and replaces its own status by this one: by default it
/// answers UNAVAILABLE for 429, which clients retry at once.
fn deny_grpc(denial: &Denial) -> auth::CheckResponse {
    let mut headers = vec![set(("grpc-status", i32::from(grpc_code(denial.status)).to_string()))];
    headers.extend(denial.response_headers.iter().cloned().map(set));
    let refusal = auth::DeniedHttpResponse {
        status: Some(HttpStatus { code: i32::from(denial.status) }),
        headers,
        body: denial.reason(),
    };
    response(Code::PermissionDenied, HttpResponse::DeniedResponse(refusal))
}

fn grpc_code(status: u16) -> Code {
    match status {
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::Unimplemented,
        429 => Code::ResourceExhausted,
        _ => Code::Unavailable,
    }
}

fn response(code: Code, http: HttpResponse) -> auth::CheckResponse {
    auth::CheckResponse {
        status: Some(rpc::Status { code: code.into(), ..Default::default() }),
        http_response: Some(http),
        ..Default::default()
    }
}

/// Overwrites whatever the caller or the upstream sent under this name.
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
        let identity = [("x-imp-consumer", "c".into())].into_iter().collect();
        let keys = KeyLocations::parse("apikey?key");
        let admission = Admission { identity, ..Admission::default() };
        let ok = |path: &str| match allow(&admission, keys, path).http_response {
            Some(HttpResponse::OkResponse(ok)) => ok,
            other => panic!("{other:?}"),
        };
        let unchanged = ok("/?b=1&a=2&keys=3").query_parameters_to_remove;
        assert!(unchanged.is_empty(), "Envoy would sort the query");
        let ok = ok("/?b=1&key=k");
        let mut removed = ok.headers_to_remove;
        removed.sort();
        assert_eq!(
            removed,
            ["apikey", "x-api-key", "x-imp-customer", "x-imp-plan", "x-imp-subscription"]
        );
        assert_eq!(ok.query_parameters_to_remove, ["key"]);
        assert_eq!(ok.headers.len(), 1);
    }

    #[test]
    fn grpc_web_is_not_grpc() {
        let said = |kind: &str| {
            let headers = [("content-type".to_owned(), kind.to_owned())].into();
            is_grpc(&HttpRequest { headers, ..Default::default() })
        };
        for kind in ["application/grpc", "application/grpc+proto"] {
            assert!(said(kind), "{kind}");
        }
        for kind in
            ["application/grpc-web", "application/grpc-web+proto", "application/grpc;a=b", ""]
        {
            assert!(!said(kind), "{kind}");
        }
    }

    #[test]
    fn a_status_of_http_is_one_of_grpc() {
        let codes = [401, 403, 404, 429, 503].map(|status| i32::from(grpc_code(status)));
        assert_eq!(codes, [16, 7, 12, 8, 14]);
    }
}
