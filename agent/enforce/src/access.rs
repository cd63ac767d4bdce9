//! What the engine knows of a publish.

use imp_proto::config as pb;

/// How callers prove who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthMode {
    /// Public.
    None,
    /// A key.
    ApiKey,
    /// A way that this engine does not know: every call is refused.
    Unsupported,
}

/// Who may call a publish, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishAccess {
    /// Its id.
    pub publish_id: String,
    /// Its owner.
    pub tenant_id: String,
    /// The product that it publishes.
    pub product_id: String,
    /// The environment that it is in.
    pub environment: String,
    /// How callers prove who they are.
    pub auth_mode: AuthMode,
    /// Answers 503 to everyone.
    pub suspended: bool,
}

impl From<&pb::Publish> for PublishAccess {
    fn from(publish: &pb::Publish) -> Self {
        let auth_mode = match publish.auth_mode() {
            pb::publish::AuthMode::None => AuthMode::None,
            pb::publish::AuthMode::ApiKey => AuthMode::ApiKey,
            _ => AuthMode::Unsupported,
        };
        Self {
            publish_id: publish.id.clone(),
            tenant_id: publish.tenant_id.clone(),
            product_id: publish.product_id.clone(),
            environment: publish.environment.clone(),
            auth_mode,
            suspended: publish.suspended,
        }
    }
}
