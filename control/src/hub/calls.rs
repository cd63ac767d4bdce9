//! Dispatches every call of the agents' port; unknown methods are refused. Callers are
//! authenticated by the headers, before the body is read.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http_body_util::Limited;
use hyper::body::Incoming;
use imp_grammar::caps;
use imp_proto::agent::agent_service_server::AgentServiceServer;
use imp_proto::method;
use imp_xds::AdsServer;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::{Code, Status};

use super::agent_auth::{AgentAuth, Identity, Refused};
use super::ending::Ending;
use super::presence::{Kind, Presence, Present};
use super::refusals::Refusals;
use super::service::Agents;

/// The calls that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Turns a key and a registration token into an identity.
    Register,
    /// Exchanges a JWT for a newer one.
    Renew,
    /// Statuses and usage.
    Report,
    /// Resources.
    Delta,
}

impl Method {
    /// All methods.
    pub const ALL: [Self; 4] = [Self::Register, Self::Renew, Self::Report, Self::Delta];

    /// The exact path of the call.
    pub fn path(self) -> &'static str {
        match self {
            Self::Register => method::REGISTER,
            Self::Renew => method::RENEW,
            Self::Report => method::REPORT,
            Self::Delta => method::DELTA,
        }
    }

    fn of(path: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.path() == path)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::Renew => "renew",
            Self::Report => "report",
            Self::Delta => "delta",
        }
    }
}

/// The agents' port. Cheap to clone.
#[derive(Clone)]
pub struct Calls {
    shared: Arc<Shared>,
}

struct Shared {
    auth: Arc<AgentAuth>,
    /// Serves calls of one small message.
    small: AgentServiceServer<Agents>,
    report: AgentServiceServer<Agents>,
    ads: AdsServer,
    presence: Arc<Presence>,
    refusals: Refusals,
    registrations: Semaphore,
    stop: CancellationToken,
}

impl Calls {
    pub fn new(
        auth: Arc<AgentAuth>,
        agents: Agents,
        ads: AdsServer,
        presence: Arc<Presence>,
        refusals: Refusals,
        stop: CancellationToken,
    ) -> Self {
        let agents = Arc::new(agents);
        let service = |limit: usize| {
            AgentServiceServer::from_arc(agents.clone()).max_decoding_message_size(limit)
        };
        let shared = Shared {
            auth,
            small: service(caps::HUB_CALL_BYTES.size()),
            report: service(caps::HUB_REPORT_BYTES.size()),
            ads,
            presence,
            refusals,
            registrations: Semaphore::new(caps::HUB_REGISTRATIONS.size()),
            stop,
        };
        Self { shared: Arc::new(shared) }
    }

    async fn answer(&self, request: http::Request<Body>) -> Result<Answer, Refusal> {
        let method = Method::of(request.uri().path());
        let method = method.ok_or_else(|| Status::unimplemented("no such method"))?;
        let (mut parts, body) = request.into_parts();
        let Shared { auth, small, report, ads, .. } = &*self.shared;
        match method {
            Method::Register => {
                let full = |_| Status::resource_exhausted("too many registrations; try again");
                let _turn = self.shared.registrations.try_acquire().map_err(full)?;
                let holder = auth.enter_to_register(&parts).map_err(|why| (method, why))?;
                parts.extensions.insert(holder);
                let answer = at_once(small.clone(), parts, body).await?;
                let status = Status::from_header_map(answer.headers());
                if status.is_some_and(|status| status.code() == Code::Unauthenticated) {
                    self.tell_of_token().await;
                }
                Ok(answer)
            }
            Method::Renew => {
                let entered = auth.enter_to_renew(&parts).await;
                parts.extensions.insert(entered.map_err(|why| (method, why))?);
                at_once(small.clone(), parts, body).await
            }
            Method::Report => {
                let present = self.enter(method, Kind::Report, &mut parts).await?;
                let answer = call(report.clone(), http::Request::from_parts(parts, body)).await;
                Ok(self.lasting(answer, present))
            }
            Method::Delta => {
                let present = self.enter(method, Kind::Delta, &mut parts).await?;
                let answer = call(ads.clone(), http::Request::from_parts(parts, body)).await;
                Ok(self.lasting(answer, present))
            }
        }
    }

    /// Records a registration token that was refused, as refused identities are.
    async fn tell_of_token(&self) {
        let status = Status::unauthenticated("invalid registration token");
        let refused = Refused { status, reason: "registration_token", agent: None };
        self.shared.refusals.tell(Method::Register.name(), &refused).await;
    }

    /// Admits a stream: authenticates it and checks that the agent may open one more.
    async fn enter(
        &self,
        method: Method,
        kind: Kind,
        parts: &mut http::request::Parts,
    ) -> Result<Present, Refusal> {
        let entered = self.shared.auth.enter(parts).await;
        let identity: Identity = entered.map_err(|why| (method, why))?;
        let Identity { agent, instance, .. } = &identity;
        let present = self.shared.presence.join(*agent, instance, kind, Instant::now());
        let present = present.map_err(|status| {
            (method, Refused { status, reason: "duplicate", agent: Some(*agent) })
        })?;
        parts.extensions.insert(identity);
        Ok(present)
    }

    /// Runs until the stream ends, the program stops, or the agent's right to be there ends.
    fn lasting(&self, answer: Answer, present: Present) -> Answer {
        answer.map(|body| Body::new(Ending::new(body, self.shared.stop.clone(), present)))
    }
}

type Answer = http::Response<Body>;

/// A status in place of an answer; with the call if an identity was refused.
struct Refusal(Status, Option<(Method, Refused)>);

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        Self(status, None)
    }
}

impl From<(Method, Refused)> for Refusal {
    fn from((method, refused): (Method, Refused)) -> Self {
        Self(refused.status.clone(), Some((method, refused)))
    }
}

impl tower::Service<http::Request<Incoming>> for Calls {
    type Response = Answer;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Incoming>) -> Self::Future {
        let calls = self.clone();
        Box::pin(async move {
            let Refusal(status, why) = match calls.answer(request.map(Body::new)).await {
                Ok(answer) => return Ok(answer),
                Err(refusal) => refusal,
            };
            if let Some((method, refused)) = why {
                calls.shared.refusals.tell(method.name(), &refused).await;
            }
            Ok(status.into_http())
        })
    }
}

/// Handles a call of one message and one answer, both small.
async fn at_once(
    service: AgentServiceServer<Agents>,
    parts: http::request::Parts,
    body: Body,
) -> Result<Answer, Refusal> {
    // Nothing follows the message that would have to be read.
    let body = Body::new(Limited::new(body, caps::HUB_CALL_BYTES.size() + GRPC_HEAD));
    let answer = call(service, http::Request::from_parts(parts, body));
    let answer = tokio::time::timeout(caps::HUB_CALL_TIME.time(), answer).await;
    answer.map_err(|_| Status::deadline_exceeded("the call took too long").into())
}

/// The prefix of a gRPC message: a compression flag and its length.
const GRPC_HEAD: usize = 5;

async fn call<S>(mut service: S, request: http::Request<Body>) -> Answer
where
    S: tower::Service<http::Request<Body>, Response = Answer, Error = Infallible>,
{
    match service.call(request).await {
        Ok(answer) => answer,
        Err(never) => match never {},
    }
}
