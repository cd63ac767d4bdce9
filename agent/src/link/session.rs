//! Who speaks: the identity that every call carries, and how it stands with the control plane.

use std::sync::{Arc, Mutex, PoisonError};

use imp_proto::agent::agent_service_client::AgentServiceClient;
use tokio::sync::{Notify, watch};
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use super::LinkState;
use crate::identity::{Identity, IdentityFile};

/// A registered agent's side of the link.
#[derive(Debug)]
pub struct Session {
    channel: Channel,
    identity: watch::Sender<Arc<Identity>>,
    file: IdentityFile,
    state: watch::Sender<LinkState>,
    /// Asks for a new JWT at once.
    pub(super) stale: Notify,
    /// The last refusal that was logged: one line per change, not one per try.
    said: Mutex<Option<Code>>,
}

impl Session {
    pub(super) fn new(
        channel: Channel,
        identity: Identity,
        file: IdentityFile,
        state: watch::Sender<LinkState>,
    ) -> Self {
        let identity = watch::Sender::new(Arc::new(identity));
        Self { channel, identity, file, state, stale: Notify::new(), said: Mutex::new(None) }
    }

    /// Who this agent is now.
    pub fn identity(&self) -> Arc<Identity> {
        self.identity.borrow().clone()
    }

    /// The service, to be called with [`Self::request`].
    pub fn client(&self) -> AgentServiceClient<Channel> {
        AgentServiceClient::new(self.channel.clone())
    }

    /// A message with the identity on it.
    pub fn request<T>(&self, message: T) -> Result<Request<T>, Status> {
        let mut request = Request::new(message);
        *request.metadata_mut() = self.metadata()?;
        Ok(request)
    }

    fn metadata(&self) -> Result<MetadataMap, Status> {
        let mut metadata = MetadataMap::new();
        let bearer = format!("Bearer {}", self.identity.borrow().jwt);
        let bearer = bearer.parse().map_err(|_| Status::internal("the JWT is no header value"))?;
        metadata.insert("authorization", bearer);
        Ok(metadata)
    }

    /// For the delta stream. A JWT that is over is renewed first.
    pub(super) async fn stream_metadata(&self) -> Result<(Channel, MetadataMap), Status> {
        if !self.identity.borrow().is_valid_at(chrono::Utc::now().timestamp_millis()) {
            self.stale.notify_one();
            return Err(Status::unauthenticated("the JWT is over; a new one is asked for"));
        }
        Ok((self.channel.clone(), self.metadata()?))
    }

    /// A new JWT.
    pub(super) fn renewed(&self, jwt: String, expires_at_ms: i64, now_ms: i64) {
        let identity = Identity {
            jwt,
            expires_at_ms,
            issued_at_ms: now_ms,
            ..self.identity().as_ref().clone()
        };
        if let Err(error) = self.file.save(&identity) {
            let path = self.file.path().display();
            tracing::error!(%path, %error, "cannot keep the new JWT; a restart goes on with the old one");
        }
        self.identity.send_replace(Arc::new(identity));
        self.welcome();
    }

    /// Wakes at every new identity.
    pub(crate) fn watch(&self) -> watch::Receiver<Arc<Identity>> {
        self.identity.subscribe()
    }

    /// A call was refused: learns from it what it says about the identity.
    pub(crate) fn refused(&self, status: &Status) {
        match status.code() {
            Code::Unauthenticated => self.stale.notify_one(),
            Code::PermissionDenied => self.turned_away(status),
            _ => {}
        }
    }

    /// The same when it was the call that should have mended it.
    pub(super) fn refused_renewal(&self, status: &Status) {
        if matches!(status.code(), Code::Unauthenticated | Code::PermissionDenied) {
            self.turned_away(status);
        }
    }

    fn turned_away(&self, status: &Status) {
        self.state.send_replace(LinkState::Revoked);
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.replace(status.code()) != Some(status.code()) {
            tracing::error!(agent = %self.identity().agent_id, reason = status.message(), "the control plane no longer takes this agent; it goes on serving what it holds. To register it anew, start it with an empty state directory and a registration token");
        }
    }

    /// The control plane takes us for what we are.
    pub(crate) fn welcome(&self) {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).take();
        let back = |state: &mut LinkState| {
            let was = *state == LinkState::Revoked;
            if was {
                *state = LinkState::Disconnected;
            }
            was
        };
        self.state.send_if_modified(back);
    }

    /// The delta stream came up or went down.
    pub(super) fn connected(&self, connected: bool) {
        let keep = |state: &mut LinkState| {
            let next = match (connected, *state) {
                (true, _) => LinkState::Connected,
                (false, LinkState::Revoked) => LinkState::Revoked,
                (false, _) => LinkState::Disconnected,
            };
            std::mem::replace(state, next) != next
        };
        if self.state.send_if_modified(keep) {
            metrics::gauge!("imp_link_connected").set(if connected { 1.0 } else { 0.0 });
            tracing::info!(connected, "the link to the control plane");
        }
    }
}
