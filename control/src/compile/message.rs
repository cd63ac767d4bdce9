//! Converts entities to messages of the contract, and messages to resources.

mod backend;
mod entitlement;
mod policy;
mod publish;

use bytes::Bytes;
use imp_core::credential::CredentialStatus;
use imp_core::gateway::{
    EscapedSlash, Gateway, GatewaySettings, Listener, ListenerProtocol, UnderscoreHeaders,
};
use imp_proto::config as pb;
use imp_store::compile::IssuedCredential;
use imp_xds::Resource;

pub use entitlement::entitlement;
pub use publish::{MessageError, api_service, publish, served};

/// Converts the message to a resource. Its version is a hash of its encoding: equal on every
/// replica, before and after a restart.
pub fn resource<M: pb::Resource>(message: &M) -> Resource {
    let bytes = message.encode_to_vec();
    let version = imp_proto::content_version(&bytes);
    Resource::new(message.resource_name(), version, Bytes::from(bytes))
}

/// Refuses words that a newer release stored: this release cannot know what they mean.
fn refuse(newer: Option<(&'static str, &'static str)>) -> Result<(), MessageError> {
    newer.map_or(Ok(()), |(field, word)| Err(MessageError::UnknownWord { field, word }))
}

/// A gateway template.
pub fn gateway(gateway: &Gateway) -> Result<pb::Gateway, MessageError> {
    refuse(gateway.spec.newer_word())?;
    Ok(pb::Gateway {
        id: gateway.id.to_string(),
        tenant_id: gateway.tenant_id.to_string(),
        name: gateway.spec.name.clone(),
        gateway_class: gateway.spec.gateway_class.as_str().to_owned(),
        listeners: gateway.spec.listeners.iter().map(listener).collect(),
        // Left out when default, so that gateways from before there were settings encode to the
        // same resource.
        settings: (!gateway.spec.settings.is_default()).then(|| settings(&gateway.spec.settings)),
    })
}

fn settings(settings: &GatewaySettings) -> pb::GatewaySettings {
    use pb::gateway_settings as words;
    let escaped_slash = match settings.escaped_slash {
        EscapedSlash::Refuse => words::EscapedSlash::Refuse,
        EscapedSlash::Keep => words::EscapedSlash::Keep,
        EscapedSlash::Decode => words::EscapedSlash::Decode,
        // Refused above.
        EscapedSlash::Newer(_) => words::EscapedSlash::Refuse,
    };
    let underscore_headers = match settings.underscore_headers {
        UnderscoreHeaders::Allow => words::UnderscoreHeaders::Allow,
        UnderscoreHeaders::Refuse => words::UnderscoreHeaders::Refuse,
        UnderscoreHeaders::Newer(_) => words::UnderscoreHeaders::Refuse,
    };
    pb::GatewaySettings {
        escaped_slash: escaped_slash.into(),
        underscore_headers: underscore_headers.into(),
        refuse_http10: !settings.http10,
        trusted_hops: settings.trusted_hops,
    }
}

fn listener(listener: &Listener) -> pb::Listener {
    use pb::listener::Protocol;
    let protocol = match listener.protocol {
        ListenerProtocol::Http => Protocol::Http,
        ListenerProtocol::Https => Protocol::Https,
        // Refused above, and by agents.
        ListenerProtocol::Newer(_) => Protocol::Unspecified,
    };
    pb::Listener {
        name: listener.name.clone(),
        port: listener.port.into(),
        protocol: protocol.into(),
        hostname: listener.hostname.clone().map(canonical).unwrap_or_default(),
    }
}

/// Converts a hostname to the form that the contract wants. The API also accepts other spellings
/// (`A.Example.`); an agent that receives one refuses the whole publish.
fn canonical(hostname: String) -> String {
    imp_core::grammar::hostname_pattern(&hostname).unwrap_or(hostname)
}

/// The hash of a key. A revoked key is sent as revoked for as long as its row exists: unlike a
/// removal, that is never held back on the stream.
pub fn credential(credential: &IssuedCredential) -> pb::Credential {
    use pb::credential::State;
    let state = match credential.status {
        CredentialStatus::Active => State::Active,
        CredentialStatus::Revoked | CredentialStatus::Newer(_) => State::Revoked,
    };
    pb::Credential {
        id: credential.id.to_string(),
        consumer_id: credential.consumer_id.to_string(),
        client_app_id: credential.client_app_id.to_string(),
        subscription_id: credential.subscription_id.to_string(),
        key_sha256: credential.key_hash.0.to_vec().into(),
        state: state.into(),
        expires_at_ms: credential.expires_at.map_or(0, |at| at.timestamp_millis()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(name: &str) -> pb::Gateway {
        pb::Gateway { id: "g".into(), name: name.into(), ..Default::default() }
    }

    #[test]
    fn a_version_follows_from_the_content_alone() {
        let (one, same, other) = (message("a"), message("a"), message("b"));
        assert_eq!(resource(&one).version(), resource(&same).version());
        assert_ne!(resource(&one).version(), resource(&other).version());
        // The version that earlier releases computed: changing it re-sends everything to every
        // agent.
        assert_eq!(&**resource(&one).version(), "9a32f54676eb859ad5e41d782f325047");
    }
}
