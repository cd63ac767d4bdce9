//! The contract between control plane and agent, as generated from `imp/**/*.proto`.
//!
//! Two halves: [`config`] is what travels down as xDS resources, [`agent`] is the service an
//! agent calls. Each side parses these messages into its own types. What both sides must do alike is
//! done here: to measure them ([`bounds`]), and to read the policies of a publish ([`policies`]).

pub mod bounds;
pub mod policies;

/// The resources of a cluster, `imp.config.v1`.
pub mod config {
    tonic::include_proto!("imp.config.v1");

    use prost::Name as _;

    /// A message that is a resource of the delta stream.
    pub trait Resource: prost::Message + prost::Name + Default {
        /// The resource's name on the stream: the object's id.
        fn resource_name(&self) -> &str;
    }

    macro_rules! resources {
        ($($message:ident),*) => {
            $(impl Resource for $message {
                fn resource_name(&self) -> &str {
                    &self.id
                }
            })*

            /// The type URL of every resource type, in the order in which they depend on each other.
            pub fn type_urls() -> Vec<String> {
                vec![$($message::type_url()),*]
            }
        };
    }

    resources!(Gateway, Publish, Entitlement, Credential);
}

/// The version of a resource: a hash of its encoding, which has no maps and so one form only. Equal on
/// every replica, and what an agent compares the bytes on its disk with.
pub fn content_version(encoded: &[u8]) -> String {
    use sha2::{Digest as _, Sha256};
    let digest = Sha256::digest(encoded);
    digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// The agent service, `imp.agent.v1`.
pub mod agent {
    tonic::include_proto!("imp.agent.v1");
}

/// The calls of the agents' port, by their paths: what a proof of possession is made for.
pub mod method {
    /// `imp.agent.v1.AgentService.Register`.
    pub const REGISTER: &str = "/imp.agent.v1.AgentService/Register";
    /// `imp.agent.v1.AgentService.Renew`.
    pub const RENEW: &str = "/imp.agent.v1.AgentService/Renew";
    /// `imp.agent.v1.AgentService.Report`.
    pub const REPORT: &str = "/imp.agent.v1.AgentService/Report";
    /// The delta stream, Envoy's own method.
    pub const DELTA: &str =
        "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";
}

#[cfg(test)]
mod tests {
    use super::config;

    #[test]
    fn type_urls_are_what_xds_expects() {
        assert_eq!(
            config::type_urls().first().map(String::as_str),
            Some("type.googleapis.com/imp.config.v1.Gateway")
        );
    }
}
