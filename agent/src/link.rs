//! Towards the control plane: one channel, three conversations: who we are (registration, renewal),
//! what we hold (the delta stream, down), what became of it (the report stream, up).
//!
//! All of them are tried without end. Nothing that fails here stops what is served: an agent that has
//! something to serve serves it whether or not it is known who it is.

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

/// How it stands with the control plane, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkState {
    /// No identity yet.
    Registering,
    /// Trying; what is on disk is served.
    Disconnected,
    /// The delta stream is up.
    Connected,
    /// The control plane no longer wants this agent; what is on disk is served.
    Revoked,
    /// The control plane's database does not have what this agent has seen of it: a backup was
    /// restored. What is on disk is served until a person accepts that.
    ControlWentBack,
    /// The file that says who this agent is cannot be read; what is on disk is served.
    IdentityDamaged,
}

/// Why the agent cannot go on. Everything else is tried again.
#[derive(Debug, Error)]
pub enum LinkError {
    /// No identity and nothing to get one with.
    #[error(
        "this agent is not registered: give it a registration token (--registration-token or \
         IMP_REGISTRATION_TOKEN); POST /v1/clusters/{{id}}/registration-tokens makes one"
    )]
    NoToken,
    /// The control plane does not take the token.
    #[error(
        "the control plane refused the registration token: {0}. A token works once, for 15 minutes; \
         make a new one with POST /v1/clusters/{{id}}/registration-tokens"
    )]
    TokenRefused(String),
    /// Nobody knows who this agent is, and there is nothing to serve meanwhile.
    #[error(
        "{0}. Restore it, or give a registration token (--registration-token or \
         IMP_REGISTRATION_TOKEN) to register again"
    )]
    Identity(String),
}

/// What the link needs.
pub struct Link {
    /// To the control plane.
    pub channel: Channel,
    /// Its address, for messages.
    pub control: String,
    /// Of the first start.
    pub token: Option<String>,
    /// Where the identity is.
    pub file: IdentityFile,
    /// What was in it; an error: it cannot be read.
    pub identity: Result<Option<Identity>, String>,
    /// Takes what comes.
    pub held_resources: Arc<HeldResources>,
    /// Knows what became of it.
    pub fleet: Fleet,
    /// Knows who called.
    pub usage: crate::usage::Usage,
    /// Knows where the control plane's database was.
    pub seen: Seen,
    /// Is told how it stands.
    pub state: watch::Sender<LinkState>,
}

impl Link {
    /// Until cancelled, or until it cannot go on.
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
                // Nothing that was told to the former identity is taken behind what the next one hears.
                conversing.await;
            }
            match again {
                Some(again) => {
                    if again.identity.cluster_id != cluster {
                        // Whoever made the token means another resource set.
                        self.held_resources.accept_shrink(usize::MAX);
                    }
                    joined = again;
                }
                None => return Ok(()),
            }
        }
    }

    /// The three conversations, until cancelled.
    async fn converse(&self, joined: Joined, cancel: CancellationToken) {
        let Joined { identity, saved } = joined;
        self.usage.belongs_to(&identity.agent_id);
        let _ = self.state.send_replace(LinkState::Disconnected);
        let (channel, file, state) = (self.channel.clone(), self.file.clone(), self.state.clone());
        let session = Arc::new(Session::new(channel, identity, file, self.seen.clone(), state));
        if !saved {
            session.unsaved.notify_one();
        }
        // A task each: one that waits for the fleet must not hold up the others, least of all the
        // stream on which revocations come. They end with this one.
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

    /// Becomes somebody: by a token, or by a file that is mended. Without either there is an end,
    /// unless there is something to serve meanwhile.
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
        tracing::error!(%error, "IT IS NOT KNOWN WHO THIS AGENT IS: it goes on serving the last-known-good, and is told nothing new");
        Ok(self.mended().await)
    }

    /// Until somebody restores the file.
    async fn mended(&self) -> Joined {
        loop {
            tokio::time::sleep(LOOK_AGAIN).await;
            if let Ok(Some(identity)) = self.file.load() {
                tracing::warn!(agent = %identity.agent_id, "the identity is there again");
                return Joined { identity, saved: true };
            }
        }
    }

    /// An agent that is turned away and has a token registers once more; the token is good once. If it
    /// is refused, there is an end, unless there is something to serve.
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
                    tracing::error!(%error, "the agent stays out; it goes on serving what it holds");
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

/// Who this agent is now.
struct Joined {
    identity: Identity,
    /// The file knows it, too.
    saved: bool,
}

/// How often a file that could not be read is looked at.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Brings an identity to its file that the disk did not take at once: the token that it came from is
/// spent.
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

/// The delta stream.
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
            // What is told to be held must not change by what the former stream has brought.
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
        // What is under way was told to who had everything, and would count as heard.
        subscriber.settled().await;
        held_resources.ask_for_everything();
        session.keep_history();
    }
}
