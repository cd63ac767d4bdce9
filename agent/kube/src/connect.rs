//! How the API server is found and who we are to it.

use std::path::PathBuf;
use std::time::Duration;

use kube::Config;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use thiserror::Error;

use crate::cluster::Cluster;

/// Where the API server's address and our identity come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// The pod's service account.
    InCluster,
    /// The current context of a kubeconfig.
    Kubeconfig(PathBuf),
}

/// The API server cannot be asked at all. One line, which names the file.
#[derive(Debug, Error)]
pub enum ConnectError {
    #[error("cannot use the kubeconfig {}: {why}", path.display())]
    Kubeconfig { path: PathBuf, why: String },
    #[error("not in a pod with a service account: {0}")]
    InCluster(String),
    #[error("cannot make a client for the API server: {0}")]
    Client(String),
}

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);

impl Access {
    /// Reads the configuration and makes the client. Sends nothing yet: an API server that is away
    /// is found by the first request.
    pub async fn connect(&self) -> Result<Cluster, ConnectError> {
        let mut config = match self {
            Self::InCluster => {
                Config::incluster().map_err(|why| ConnectError::InCluster(why.to_string()))?
            }
            Self::Kubeconfig(path) => from_file(path.clone()).await?,
        };
        config.connect_timeout = Some(CONNECT);
        // Who asks knows better whether a second try is worth it.
        config.default_retry = false;
        let client =
            kube::Client::try_from(config).map_err(|why| ConnectError::Client(why.to_string()))?;
        Ok(Cluster::new(client))
    }
}

async fn from_file(path: PathBuf) -> Result<Config, ConnectError> {
    let refuse = |why: KubeconfigError| ConnectError::Kubeconfig {
        path: path.clone(),
        why: match why {
            // The name of the file is said already.
            KubeconfigError::ReadConfig(why, _) => why.to_string(),
            KubeconfigError::Parse(why) => {
                let text = why.to_string();
                format!("no YAML of a kubeconfig: {}", text.lines().next().unwrap_or_default())
            }
            why => why.to_string(),
        },
    };
    let kubeconfig = Kubeconfig::read_from(&path).map_err(refuse)?;
    let options = KubeConfigOptions::default();
    Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(refuse)
}
