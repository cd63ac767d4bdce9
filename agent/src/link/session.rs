//! The agent's session: the identity that every call carries, and its standing with the control
//! plane.

use std::sync::{Arc, Mutex, PoisonError};

use imp_proto::agent::agent_service_client::AgentServiceClient;
use imp_proto::method;
use tokio::sync::{Notify, watch};
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use super::LinkState;
use super::prover::Prover;
use super::seen::{self, Seen};
use crate::identity::{Identity, IdentityFile};

/// A registered agent's side of the link.
#[derive(Debug)]
pub struct Session {
    channel: Channel,
    identity: watch::Sender<Arc<Identity>>,
    prover: Prover,
    file: IdentityFile,
    seen: Seen,
    state: watch::Sender<LinkState>,
    /// Requests a new JWT at once.
    pub(super) stale: Notify,
    /// Signals that the file does not have the identity yet.
    pub(super) unsaved: Notify,
    /// The last refusal that was logged: one line per change, not one per attempt.
    said: Mutex<Option<Code>>,
}

impl Session {
    pub(super) fn new(
        channel: Channel,
        identity: Identity,
        file: IdentityFile,
        seen: Seen,
        state: watch::Sender<LinkState>,
    ) -> Self {
        let prover = Prover::new(&identity.key);
        let identity = watch::Sender::new(Arc::new(identity));
        let (stale, unsaved) = (Notify::new(), Notify::new());
        let said = Mutex::new(None);
        Self { channel, identity, prover, file, seen, state, stale, unsaved, said }
    }

    /// The current identity.
    pub fn identity(&self) -> Arc<Identity> {
        self.identity.borrow().clone()
    }

    /// The client; its calls must be made with [`Self::request`].
    pub fn client(&self) -> AgentServiceClient<Channel> {
        AgentServiceClient::new(self.channel.clone())
    }

    /// Adds the identity and the proof of its key to a message for this method.
    pub fn request<T>(&self, path: &str, message: T) -> Result<Request<T>, Status> {
        let mut request = Request::new(message);
        *request.metadata_mut() = self.metadata(path)?;
        Ok(request)
    }

    /// The control plane's time, as far as it is known.
    pub(super) fn now_ms(&self) -> i64 {
        self.prover.now_ms()
    }

    fn metadata(&self, path: &str) -> Result<MetadataMap, Status> {
        let mut metadata = self.prover.metadata(path, Some(&self.identity.borrow().jwt))?;
        if let Some(seen) = self.seen.header() {
            metadata.insert(seen::HEADER, seen);
        }
        Ok(metadata)
    }

    /// The metadata of the delta stream. Renews an expired JWT first.
    pub(super) async fn stream_metadata(&self) -> Result<(Channel, MetadataMap), Status> {
        if !self.identity.borrow().is_valid_at(self.now_ms()) {
            self.stale.notify_one();
            return Err(Status::unauthenticated("the JWT is over; a new one is asked for"));
        }
        Ok((self.channel.clone(), self.metadata(method::DELTA)?))
    }

    /// Takes a new JWT.
    pub(super) fn renewed(&self, jwt: String, expires_at_ms: i64, now_ms: i64) {
        let identity = Identity {
            jwt,
            expires_at_ms,
            issued_at_ms: now_ms,
            ..self.identity().as_ref().clone()
        };
        // The file first: after a crash the newest one must be found.
        let saved = self.file.save(&identity);
        self.identity.send_replace(Arc::new(identity));
        if let Err(error) = saved {
            self.not_saved(&error);
        }
        self.back_from(&[LinkState::Revoked]);
    }

    /// Writes the current identity to its file. Returns false if that must be retried.
    pub(super) fn save(&self) -> bool {
        let saved = self.file.save(&self.identity());
        saved.inspect_err(|error| self.not_saved(error)).is_ok()
    }

    fn not_saved(&self, error: &std::io::Error) {
        let path = self.file.path().display();
        tracing::error!(%path, %error, "the identity cannot be kept; it is tried again, and until then a restart does not know it");
        self.unsaved.notify_one();
    }

    /// Wakes on every new identity.
    pub(crate) fn watch(&self) -> watch::Receiver<Arc<Identity>> {
        self.identity.subscribe()
    }

    /// Learns from a refused call what it says about the identity.
    pub(crate) fn refused(&self, status: &Status) {
        if self.prover.learns_time(status) {
            return;
        }
        match status.code() {
            Code::Unauthenticated => self.stale.notify_one(),
            Code::PermissionDenied => self.turned_away(status),
            Code::FailedPrecondition if seen::went_back(status) => self.went_back(status),
            _ => {}
        }
    }

    /// Records the control plane's current point in history.
    pub(crate) fn told_history(&self, point: &str) {
        self.seen.told(point);
    }

    /// Stores the point again after the disk has lost it.
    pub(super) fn keep_history(&self) {
        self.seen.keep();
    }

    fn went_back(&self, status: &Status) {
        self.state.send_replace(LinkState::ControlWentBack);
        if self.is_new(status) {
            tracing::error!(
                reason = status.message(),
                "THE CONTROL PLANE WENT BACK IN TIME: this agent accepts nothing from it and keeps serving the last-known-good until the operator runs `imp-control accept-restore`"
            );
        }
    }

    fn is_new(&self, status: &Status) -> bool {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.replace(status.code()) != Some(status.code())
    }

    /// Like [`Self::refused`], for a refused renewal.
    pub(super) fn refused_renewal(&self, status: &Status) {
        if self.prover.learns_time(status) {
            self.stale.notify_one();
            return;
        }
        if matches!(status.code(), Code::Unauthenticated | Code::PermissionDenied) {
            self.turned_away(status);
        }
    }

    fn turned_away(&self, status: &Status) {
        self.state.send_replace(LinkState::Revoked);
        if self.is_new(status) {
            tracing::error!(agent = %self.identity().agent_id, reason = status.message(), "the control plane no longer takes this agent; it keeps serving the last-known-good. To register it again, start it with a new registration token");
        }
    }

    /// Records that the control plane accepts the identity.
    pub(crate) fn welcome(&self) {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.back_from(&[LinkState::Revoked, LinkState::ControlWentBack]);
    }

    fn back_from(&self, states: &[LinkState]) {
        let back = |state: &mut LinkState| {
            let was = states.contains(state);
            if was {
                *state = LinkState::Disconnected;
            }
            was
        };
        self.state.send_if_modified(back);
    }

    /// Records that the delta stream came up or went down.
    pub(super) fn connected(&self, connected: bool) {
        let keep = |state: &mut LinkState| {
            let next = match (connected, *state) {
                (true, _) => LinkState::Connected,
                (false, out @ (LinkState::Revoked | LinkState::ControlWentBack)) => out,
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
