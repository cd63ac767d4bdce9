//! A client of the agent's ADS that accepts everything except what a test makes it reject.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use imp_agent::port::Address;
use imp_translate::xds::names::is_holder;
use imp_translate::xds::{CLUSTER, EXTENSION, LISTENER, ROUTES, SCOPE};
use imp_xds::client::{ClientConfig, DeltaClient, Subscriber, Update};
use imp_xds::{Resource, TypeUrl};
use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, Endpoint};

/// The error message for a rejected resource, if any.
pub(crate) type Taste = Box<dyn Fn(&str, &Resource) -> Option<String> + Send + Sync>;

/// Type URL and name -> version.
pub(crate) type Held = BTreeMap<(String, String), String>;

struct Memory {
    held: Mutex<Held>,
    /// The bytes of its scopes and tables.
    scopes: Mutex<BTreeMap<String, bytes::Bytes>>,
    /// The bytes that it rejected, each time.
    refused: Mutex<Vec<bytes::Bytes>>,
    /// The number of resources received, upserts and removals, but for the slot of enforcement: it
    /// comes when all others have.
    received: Mutex<usize>,
    connections: Mutex<usize>,
    taste: Taste,
}

pub(crate) struct FakeEnvoy {
    memory: Arc<Memory>,
    cancel: CancellationToken,
}

/// A channel to the agent.
pub(crate) async fn dial(agent: &Address) -> Result<Channel, tonic::transport::Error> {
    let url = match agent {
        Address::Unix(path) => format!("unix://{}", path.display()),
        Address::Tcp(address) => format!("http://{address}"),
    };
    Endpoint::from_shared(url).unwrap().connect().await
}

impl FakeEnvoy {
    /// Serves all gateways and accepts everything.
    pub(crate) fn start(agent: &Address, node: &str) -> Self {
        Self::picky(agent, node, "all", Box::new(|_, _| None))
    }

    pub(crate) fn picky(agent: &Address, node: &str, cluster: &str, taste: Taste) -> Self {
        Self::of_version("1.40.0", agent, node, cluster, taste)
    }

    pub(crate) fn of_version(
        version: &str,
        agent: &Address,
        node: &str,
        cluster: &str,
        taste: Taste,
    ) -> Self {
        // Envoy asks for tables by name; this one asks for all of them.
        let types = [CLUSTER, EXTENSION, LISTENER, ROUTES, SCOPE].map(TypeUrl::from).to_vec();
        let mut config = ClientConfig::new(node, types);
        config.node_cluster = cluster.to_owned();
        config.version = version.to_owned();
        config.backoff = (Duration::from_millis(10), Duration::from_millis(100));
        let memory = Arc::new(Memory {
            held: Mutex::default(),
            scopes: Mutex::default(),
            refused: Mutex::default(),
            received: Mutex::default(),
            connections: Mutex::default(),
            taste,
        });
        let cancel = CancellationToken::new();
        let (client, stop) = (DeltaClient::new(config, memory.clone()), cancel.clone());
        let agent = agent.clone();
        tokio::spawn(async move {
            let connect = || async {
                let channel = dial(&agent).await;
                let channel = channel.map_err(|e| tonic::Status::unavailable(e.to_string()))?;
                Ok((channel, MetadataMap::new()))
            };
            client.run(connect, stop).await;
        });
        Self { memory, cancel }
    }

    pub(crate) fn held(&self) -> Held {
        self.memory.held.lock().unwrap().clone()
    }

    /// The names of the scopes of hosts.
    pub(crate) fn scopes(&self) -> Vec<String> {
        let scopes = self.held().into_keys().filter(|(url, _)| url == SCOPE);
        scopes.map(|(_, name)| name).filter(|name| !is_holder(SCOPE, name)).collect()
    }

    /// Whether one of its routes contains this text.
    pub(crate) fn runs(&self, text: &str) -> bool {
        let scopes = self.memory.scopes.lock().unwrap();
        scopes.values().any(|scope| scope.windows(text.len()).any(|at| at == text.as_bytes()))
    }

    pub(crate) fn refused(&self) -> Vec<bytes::Bytes> {
        self.memory.refused.lock().unwrap().clone()
    }

    pub(crate) fn received(&self) -> usize {
        *self.memory.received.lock().unwrap()
    }

    pub(crate) fn connections(&self) -> usize {
        *self.memory.connections.lock().unwrap()
    }
}

impl Drop for FakeEnvoy {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

impl Subscriber for Memory {
    fn held(&self, type_url: &TypeUrl) -> Vec<(String, String)> {
        let held = self.held.lock().unwrap();
        let of_type = held.iter().filter(|((url, _), _)| url == type_url.as_str());
        of_type.map(|((_, name), version)| (name.clone(), version.clone())).collect()
    }

    fn apply(&self, update: Update) -> Vec<(String, String)> {
        let url = update.type_url.as_str();
        if url != EXTENSION {
            *self.received.lock().unwrap() += update.upserts.len() + update.removals.len();
        }
        let taste = |resource: &Resource| {
            let words = (self.taste)(url, resource)?;
            self.refused.lock().unwrap().push(resource.value().clone());
            Some((resource.name().to_string(), words))
        };
        let refused: Vec<_> = update.upserts.iter().filter_map(taste).collect();
        // Like Envoy: a message is rejected as a whole.
        if refused.is_empty() {
            let mut held = self.held.lock().unwrap();
            let mut scopes = self.scopes.lock().unwrap();
            for name in &update.removals {
                held.remove(&(url.to_owned(), name.clone()));
                scopes.remove(name);
            }
            for resource in &update.upserts {
                let key = (url.to_owned(), resource.name().to_string());
                held.insert(key, resource.version().to_string());
                if [SCOPE, ROUTES].contains(&url) {
                    scopes.insert(resource.name().to_string(), resource.value().clone());
                }
            }
        }
        refused
    }

    fn connected(&self, connected: bool) {
        *self.connections.lock().unwrap() += usize::from(connected);
    }
}
