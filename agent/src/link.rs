//! The side to the control plane: one channel for identity (registration, renewal), resources (the
//! delta stream) and status and usage (the report stream).
//!
//! All of them are retried without limit. No failure here stops serving: an agent that has
//! something to serve serves it even while its identity is unknown.

mod endpoint;
mod prover;
mod publish_worker;
mod register;
mod renew;
mod report;
mod seen;
mod session;
mod shrink;
mod subscriber;
mod versions;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use imp_xds::client::{ClientConfig, DeltaClient};
use thiserror::Error;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

pub use endpoint::{EndpointError, channel};
pub use seen::Seen;
pub use session::Session;
pub use shrink::Withheld;
pub use subscriber::HeldResources;

use crate::backoff::Backoff;
use crate::identity::{Identity, IdentityFile};
use crate::{fleet::Fleet, intake};

/// The state of the link, for display.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkState {
    /// No identity yet.
    Registering,
    /// Reconnecting; what is on disk is served.
    Disconnected,
    /// The delta stream is up.
    Connected,
    /// The control plane revoked this agent; what is on disk is served.
    Revoked,
    /// The control plane's database lacks what this agent has seen of it: a backup was restored.
    /// What is on disk is served until the operator accepts that.
    ControlWentBack,
    /// The identity file cannot be read; what is on disk is served.
    IdentityDamaged,
}

/// An error that stops the agent. Everything else is retried.
#[derive(Debug, Error)]
pub enum LinkError {
    /// No identity and no token to register with.
    #[error(
        "this agent is not registered: give it a registration token (--registration-token or \
         IMP_REGISTRATION_TOKEN); POST /v1/clusters/{{id}}/registration-tokens makes one"
    )]
    NoToken,
    /// The control plane refused the token.
    #[error(
        "the control plane refused the registration token: {0}. A token works once, for 15 minutes; \
         make a new one with POST /v1/clusters/{{id}}/registration-tokens"
    )]
    TokenRefused(String),
    /// The identity cannot be read, and there is nothing to serve meanwhile.
    #[error(
        "{0}. Restore it, or give a registration token (--registration-token or \
         IMP_REGISTRATION_TOKEN) to register again"
    )]
    Identity(String),
}

/// What the link needs.
pub struct Link {
    /// The channel to the control plane.
    pub channel: Channel,
    /// Its address, for messages.
    pub control: String,
    /// The token for the first start.
    pub token: Option<String>,
    /// The identity file.
    pub file: IdentityFile,
    /// Its content, or the error when reading it.
    pub identity: Result<Option<Identity>, String>,
    /// Takes resources.
    pub held_resources: Arc<HeldResources>,
    /// Has the statuses.
    pub fleet: Fleet,
    /// Has the usage counts.
    pub usage: crate::usage::Usage,
    /// Has the last seen point of the control plane's history.
    pub seen: Seen,
    /// Receives the state of the link.
    pub state: watch::Sender<LinkState>,
}

impl Link {
    /// Runs until cancelled, or until an error stops it.
    pub async fn run(self, cancel: CancellationToken) -> Result<(), LinkError> {
        let known = self.identity.clone().ok().flatten();
        let mut joined = match known {
            Some(identity) => Joined { identity, saved: true },
            None => tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                joined = self.join() => joined?,
            },
        };
        let mut token = self.token.clone();
        loop {
            let ended = cancel.child_token();
            let cluster = joined.identity.cluster_id.clone();
            let mut conversing = pin!(self.converse(joined, ended.clone()));
            let again = tokio::select! {
                () = &mut conversing => None,
                again = self.join_again(&mut token) => Some(again?),
            };
            if again.is_some() {
                ended.cancel();
                // Waits, so that nothing from the former identity's streams mixes with the next
                // one's.
                conversing.await;
            }
            match again {
                Some(again) => {
                    if again.identity.cluster_id != cluster {
                        // Whoever created the token intends another resource set.
                        self.held_resources.accept_shrink(usize::MAX);
                    }
                    joined = again;
                }
                None => return Ok(()),
            }
        }
    }

    /// Runs renewal, delta stream and report stream until cancelled.
    async fn converse(&self, joined: Joined, cancel: CancellationToken) {
        let Joined { identity, saved } = joined;
        self.usage.belongs_to(&identity.agent_id);
        let _ = self.state.send_replace(LinkState::Disconnected);
        let (channel, file, state) = (self.channel.clone(), self.file.clone(), self.state.clone());
        let session = Arc::new(Session::new(channel, identity, file, self.seen.clone(), state));
        if !saved {
            session.unsaved.notify_one();
        }
        // A task each: one that waits for the fleet must not delay the others, least of all the
        // stream with revocations. They end with this one.
        let mut conversations = JoinSet::new();
        conversations.spawn(renew::run(session.clone(), cancel.clone()));
        conversations.spawn(keep(session.clone(), cancel.clone()));
        conversations.spawn(follow(session.clone(), self.held_resources.clone(), cancel.clone()));
        let news = report::News {
            fleet: self.fleet.clone(),
            usage: self.usage.clone(),
            withheld: self.held_resources.withheld(),
        };
        conversations.spawn(report::run(session, news, cancel));
        while let Some(ended) = conversations.join_next().await {
            if let Err(error) = ended
                && error.is_panic()
            {
                std::panic::resume_unwind(error.into_panic());
            }
        }
    }

    /// Gets an identity: by a token, or once the file is repaired. Without either it fails, unless
    /// there is something to serve meanwhile.
    async fn join(&self) -> Result<Joined, LinkError> {
        let error = match self.register(self.token.as_deref()).await {
            Ok(joined) => return Ok(joined),
            Err(error) => error,
        };
        let error = match (&self.identity, error) {
            (Err(why), LinkError::NoToken) => LinkError::Identity(why.clone()),
            (_, error) => error,
        };
        if !self.fleet.is_open() {
            return Err(error);
        }
        tracing::error!(%error, "THE AGENT'S IDENTITY CANNOT BE READ: it keeps serving the last-known-good and gets no changes");
        Ok(self.mended().await)
    }

    /// Waits until the identity file is restored.
    async fn mended(&self) -> Joined {
        loop {
            tokio::time::sleep(LOOK_AGAIN).await;
            if let Ok(Some(identity)) = self.file.load() {
                tracing::warn!(agent = %identity.agent_id, "the identity is there again");
                return Joined { identity, saved: true };
            }
        }
    }

    /// Registers a revoked agent again if it has a token, which can be used once. If that is
    /// refused it fails, unless there is something to serve.
    async fn join_again(&self, token: &mut Option<String>) -> Result<Joined, LinkError> {
        let mut state = self.state.subscribe();
        loop {
            if state.wait_for(|state| *state == LinkState::Revoked).await.is_err() {
                return std::future::pending().await;
            }
            let Some(token) = token.take() else { return std::future::pending().await };
            match self.register(Some(&token)).await {
                Ok(joined) => return Ok(joined),
                Err(error) if !self.fleet.is_open() => return Err(error),
                Err(error) => {
                    tracing::error!(%error, "the agent stays unregistered; it keeps serving the last-known-good");
                }
            }
        }
    }

    async fn register(&self, token: Option<&str>) -> Result<Joined, LinkError> {
        let token = token.filter(|token| !token.is_empty()).ok_or(LinkError::NoToken)?;
        let identity = register::register(self.channel.clone(), &self.control, token).await?;
        tracing::info!(agent = %identity.agent_id, cluster = %identity.cluster_id, "registered");
        if self.file.path().exists() {
            match self.file.move_aside() {
                Ok(kept) => tracing::warn!(kept = %kept.display(), "the former identity is kept"),
                Err(error) => tracing::warn!(%error, "the former identity is written over"),
            }
        }
        let saved = self.file.save(&identity).is_ok();
        Ok(Joined { identity, saved })
    }
}

/// The agent's current identity.
struct Joined {
    identity: Identity,
    /// Whether the file has it, too.
    saved: bool,
}

/// How often an unreadable file is checked.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Retries writing an identity to its file: the token that it came from is used up.
async fn keep(session: Arc<Session>, cancel: CancellationToken) {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            () = session.unsaved.notified() => {}
        }
        if session.save() {
            backoff.reset();
            continue;
        }
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(backoff.next()) => {}
        }
    }
}

/// Runs the delta stream.
async fn follow(
    session: Arc<Session>,
    held_resources: Arc<HeldResources>,
    cancel: CancellationToken,
) {
    let identity = session.identity();
    let mut config = ClientConfig::new(identity.agent_id.clone(), intake::type_urls());
    config.node_cluster.clone_from(&identity.cluster_id);
    config.version = env!("CARGO_PKG_VERSION").to_owned();
    // A restarted control plane should find its agents within a second or two.
    config.backoff = (Duration::from_millis(10), Duration::from_secs(5));
    let subscriber = Arc::new(subscriber::Stream::new(held_resources.clone(), session.clone()));
    let connect = || {
        let (session, subscriber) = (session.clone(), subscriber.clone());
        async move {
            // Messages of the former stream must not change what is reported as held.
            subscriber.settled().await;
            session.stream_metadata().await
        }
    };
    let client = DeltaClient::new(config, subscriber.clone());
    let mut lost = 0;
    loop {
        tokio::select! {
            () = client.run(connect, cancel.clone()) => return subscriber.settled().await,
            times = held_resources.lost(lost) => lost = times,
            () = held_resources.accepted() => continue,
            () = subscriber.settle() => continue,
        }
        tracing::warn!("what was on disk is gone: everything is asked for again");
        // Messages still in work are from before the reset, and would count as heard.
        subscriber.settled().await;
        held_resources.ask_for_everything();
        session.keep_history();
    }
}
