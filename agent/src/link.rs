//! Towards the control plane: one channel, three conversations: who we are (registration, renewal),
//! what we hold (the delta stream, down), what became of it (the report stream, up).
//!
//! All of them are tried for ever. Nothing that fails here stops what is served.

mod endpoint;
mod register;
mod renew;
mod session;
mod subscriber;

use std::sync::Arc;
use std::time::Duration;

use imp_xds::client::{ClientConfig, DeltaClient};
use thiserror::Error;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

pub use endpoint::{EndpointError, channel};
pub use session::Session;
pub use subscriber::Holdings;

use crate::identity::{Identity, IdentityFile};
use crate::{fleet::Fleet, intake, report};

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
    /// The identity cannot be kept.
    #[error(
        "cannot write {path}: {why}. The registration token is spent; make the state directory (--state-dir) writable and register with a new one"
    )]
    Identity {
        /// The file.
        path: String,
        /// In words.
        why: std::io::Error,
    },
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
    /// What was in it.
    pub identity: Option<Identity>,
    /// Takes what comes.
    pub holdings: Arc<Holdings>,
    /// Knows what became of it.
    pub fleet: Fleet,
    /// Knows who called.
    pub usage: crate::usage::Usage,
    /// Is told how it stands.
    pub state: watch::Sender<LinkState>,
}

impl Link {
    /// Until cancelled, or until it cannot go on.
    pub async fn run(self, cancel: CancellationToken) -> Result<(), LinkError> {
        let identity = match self.identity.clone() {
            Some(identity) => identity,
            None => {
                let registered = tokio::select! {
                    () = cancel.cancelled() => return Ok(()),
                    registered = self.register() => registered?,
                };
                tracing::info!(agent = %registered.agent_id, cluster = %registered.cluster_id, "registered");
                registered
            }
        };
        let _ = self.state.send_replace(LinkState::Disconnected);
        let session = Arc::new(Session::new(self.channel, identity, self.file, self.state));
        tokio::join!(
            renew::run(session.clone(), cancel.clone()),
            follow(session.clone(), self.holdings, cancel.clone()),
            report::run(session, self.fleet, self.usage, cancel),
        );
        Ok(())
    }

    async fn register(&self) -> Result<Identity, LinkError> {
        let token = self.token.as_deref().filter(|token| !token.is_empty());
        let token = token.ok_or(LinkError::NoToken)?;
        register::register(self.channel.clone(), &self.control, token, &self.file).await
    }
}

/// The delta stream.
async fn follow(session: Arc<Session>, holdings: Arc<Holdings>, cancel: CancellationToken) {
    let identity = session.identity();
    let mut config = ClientConfig::new(identity.agent_id.clone(), intake::type_urls());
    config.node_cluster.clone_from(&identity.cluster_id);
    config.version = env!("CARGO_PKG_VERSION").to_owned();
    // A restarted control plane should find its agents within a second or two.
    config.backoff = (Duration::from_millis(10), Duration::from_secs(5));
    let subscriber = Arc::new(subscriber::Stream { holdings, session: session.clone() });
    let connect = || {
        let session = session.clone();
        async move { session.stream_metadata().await }
    };
    DeltaClient::new(config, subscriber).run(connect, cancel).await;
}
