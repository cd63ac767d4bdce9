//! The contract between control plane and agent, as generated from `imp/**/*.proto`.
//!
//! Two halves: [`config`] has the xDS resources for agents, [`agent`] the service that agents call.
//! Each side parses these messages into its own types. What both sides must do equally is here:
//! measuring them ([`bounds`]), and reading the policies of a publish ([`policies`]).

pub mod bounds;
pub mod policies;

/// The resources of a cluster, `imp.config.v1`.
pub mod config {
    tonic::include_proto!("imp.config.v1");

    /// A message that is a resource of the delta stream.
    pub trait Resource: prost::Message + prost::Name + Default {
        const TYPE: ResourceType;

        /// The resource's name on the stream: the object's id.
        fn resource_name(&self) -> &str;
    }

    /// The list of resource types, ordered by dependency.
    macro_rules! resource_types {
        ($($(#[$doc:meta])* $message:ident),* $(,)?) => {
            /// A resource type that control plane and agent exchange.
            #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
            pub enum ResourceType {
                $($(#[$doc])* $message),*
            }

            impl ResourceType {
                /// All types, each after those that it depends on.
                pub const ALL: &[Self] = &[$(Self::$message),*];

                /// The type URL on the stream.
                pub const fn type_url(self) -> &'static str {
                    match self {
                        $(Self::$message => concat!(
                            "type.googleapis.com/imp.config.v1.",
                            stringify!($message),
                        )),*
                    }
                }

                /// The message's name, for display.
                pub const fn name(self) -> &'static str {
                    match self {
                        $(Self::$message => stringify!($message)),*
                    }
                }
            }

            $(impl Resource for $message {
                const TYPE: ResourceType = ResourceType::$message;

                fn resource_name(&self) -> &str {
                    &self.id
                }
            })*

            #[cfg(test)]
            mod tests {
                use prost::Name as _;

                #[test]
                fn a_type_has_the_url_of_its_message() {
                    let urls = [$(super::$message::type_url()),*];
                    let types = super::ResourceType::ALL.iter();
                    assert!(types.clone().map(|of| of.type_url()).eq(urls.iter().map(|url| &**url)));
                    for of in types {
                        assert_eq!(super::ResourceType::of(of.type_url()), Some(*of));
                    }
                }
            }
        };
    }

    impl ResourceType {
        /// The type of a type URL; `None` if this release does not know it.
        pub fn of(type_url: &str) -> Option<Self> {
            Self::ALL.iter().copied().find(|of| of.type_url() == type_url)
        }
    }

    resource_types! {
        /// A template of listeners.
        Gateway,
        /// What a gateway serves.
        Publish,
        /// What a subscription may do.
        Entitlement,
        /// A key.
        Credential,
    }

    /// The type URL of every resource type, in the order of [`ResourceType::ALL`].
    pub fn type_urls() -> Vec<String> {
        ResourceType::ALL.iter().map(|of| of.type_url().to_owned()).collect()
    }
}

/// The version of a resource: a hash of its encoding, which has no maps and is therefore unique.
/// Equal on every replica; agents also use it to verify the bytes on their disk.
pub fn content_version(encoded: &[u8]) -> String {
    use sha2::{Digest as _, Sha256};
    let digest = Sha256::digest(encoded);
    digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// The cause of a resource's state, in the `metadata` of `envoy.service.discovery.v3.Resource`:
/// outside of the content, so that versions depend on the content alone.
pub mod cause {
    /// The namespace of both texts.
    pub const NAMESPACE: &str = "imp.cause";
    /// The id of the request, or of the job.
    pub const REQUEST_ID: &str = "request_id";
    /// The W3C trace context.
    pub const TRACEPARENT: &str = "traceparent";
}

/// The agent service, `imp.agent.v1`.
pub mod agent {
    tonic::include_proto!("imp.agent.v1");
}

/// The methods of the agents' port, by their paths, which proofs of possession contain.
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
