//! Resources of the control plane, parsed. What comes out of here can be served.

use imp_enforce::{Credential, Entitlement, PublishAccess};
use imp_process::traces;
use imp_proto::{cause, config as pb};
use imp_translate::ir;
use imp_xds::{Resource, TypeUrl};
use prost::Name as _;
use tracing::Span;

/// One of the four types.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Where Envoy listens.
    Gateway,
    /// What is served there.
    Publish,
    /// What a subscription may do.
    Entitlement,
    /// A key.
    Credential,
}

impl Kind {
    /// All of them, in the order in which they depend on each other.
    pub const ALL: [Self; 4] = [Self::Gateway, Self::Publish, Self::Entitlement, Self::Credential];

    /// The type of a type URL.
    pub fn of(type_url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.type_url() == type_url)
    }

    /// On the stream.
    pub fn type_url(self) -> String {
        match self {
            Self::Gateway => pb::Gateway::type_url(),
            Self::Publish => pb::Publish::type_url(),
            Self::Entitlement => pb::Entitlement::type_url(),
            Self::Credential => pb::Credential::type_url(),
        }
    }
}

/// What is subscribed to.
pub fn type_urls() -> Vec<TypeUrl> {
    Kind::ALL.iter().map(|kind| TypeUrl::from(kind.type_url())).collect()
}

/// A resource that can be served.
#[derive(Clone, Debug)]
pub enum Item {
    /// Parsed for Envoy.
    Gateway(ir::Gateway),
    /// Parsed for Envoy and for the door.
    Publish(Box<Publish>),
    /// For the door.
    Entitlement(Entitlement),
    /// For the door.
    Credential(Credential),
}

/// One revision of a publish.
#[derive(Clone, Debug)]
pub struct Publish {
    /// For Envoy.
    pub routes: ir::Publish,
    /// For the door.
    pub access: PublishAccess,
    /// As it came.
    pub wire: bytes::Bytes,
    /// From here until Envoys have it: a part of the trace of the request that made it so.
    pub span: Span,
}

/// A resource that cannot be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// In one line.
    pub reason: String,
    /// Of a publish: the revision, if that much could be read.
    pub revision: Option<u64>,
}

impl Rejected {
    fn new(reason: impl ToString) -> Self {
        Self { reason: reason.to_string(), revision: None }
    }
}

/// Parses a resource of this kind.
pub fn parse(kind: Kind, resource: &Resource) -> Result<Item, Rejected> {
    match kind {
        Kind::Gateway => {
            let message: pb::Gateway = decode(resource)?;
            ir::Gateway::parse(&message).map(Item::Gateway).map_err(Rejected::new)
        }
        Kind::Publish => {
            let span = span(resource);
            let _inside = span.enter();
            let parsed = publish(resource.value().clone(), resource.name())?;
            Ok(Item::Publish(Box::new(Publish { span: span.clone(), ..parsed })))
        }
        Kind::Entitlement => entitlement(resource).map(Item::Entitlement),
        Kind::Credential => credential(resource).map(Item::Credential),
    }
}

/// What is restored, or came with a first answer, has no cause.
fn span(resource: &Resource) -> Span {
    let Some(metadata) = resource.metadata() else { return Span::none() };
    let text = |name| metadata.text(cause::NAMESPACE, name).unwrap_or_default();
    let (publish, request_id) = (resource.name(), text(cause::REQUEST_ID));
    let span = tracing::info_span!("serve", %publish, request_id);
    traces::follow(&span, text(cause::TRACEPARENT));
    span
}

fn entitlement(resource: &Resource) -> Result<Entitlement, Rejected> {
    Entitlement::parse(&decode(resource)?).map_err(Rejected::new)
}

fn credential(resource: &Resource) -> Result<Credential, Rejected> {
    Credential::parse(&decode(resource)?).map_err(Rejected::new)
}

/// What a decision needs of a resource.
pub(crate) enum Access {
    /// Who may call, and the revision that says so.
    Publish(PublishAccess, u64),
    /// What a subscription may do.
    Entitlement(Entitlement),
    /// A key.
    Credential(Credential),
    /// Nothing.
    None,
}

/// Reads what a decision needs, and no more.
pub(crate) fn access(kind: Kind, resource: &Resource) -> Result<Access, Rejected> {
    Ok(match kind {
        Kind::Gateway => Access::None,
        Kind::Publish => {
            let message: pb::Publish = decode(resource)?;
            Access::Publish(PublishAccess::from(&message), message.revision)
        }
        Kind::Entitlement => Access::Entitlement(entitlement(resource)?),
        Kind::Credential => Access::Credential(credential(resource)?),
    })
}

/// Parses a publish of this id.
pub fn publish(wire: bytes::Bytes, id: &str) -> Result<Publish, Rejected> {
    let message: pb::Publish = decode(&Resource::new(id, "", wire.clone()))?;
    let revision = Some(message.revision);
    let routes = ir::Publish::parse(&message)
        .map_err(|fault| Rejected { reason: fault.to_string(), revision })?;
    // Only now: the parser has counted how much there is.
    let access = PublishAccess::from(&message);
    // Its routes name the rules that their calls are judged by.
    let routes = ir::Publish { access: access.digest(), ..routes };
    Ok(Publish { routes, access, wire, span: Span::none() })
}

/// A resource stands under its own id, so that taking away the name takes away the object.
fn decode<M: pb::Resource>(resource: &Resource) -> Result<M, Rejected> {
    let message = M::decode(resource.value().clone())
        .map_err(|fault| Rejected::new(format!("not a {}: {fault}", M::NAME)))?;
    if message.resource_name() != resource.name().as_ref() {
        let fault = format!("named {}, but its id is {}", resource.name(), message.resource_name());
        return Err(Rejected::new(fault));
    }
    Ok(message)
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    #[test]
    fn a_resource_under_another_name_is_rejected() {
        let wire = pb::Entitlement { id: "a".into(), ..Default::default() }.encode_to_vec();
        let resource = Resource::new("b", "1", wire.into());
        let rejected = parse(Kind::Entitlement, &resource).unwrap_err();
        assert_eq!(rejected.reason, "named b, but its id is a");
    }

    #[test]
    fn a_publish_that_is_wrong_still_says_its_revision() {
        let wire = pb::Publish { id: "a".into(), revision: 7, ..Default::default() };
        let rejected = publish(wire.encode_to_vec().into(), "a").unwrap_err();
        assert_eq!(rejected.revision, Some(7));
        let garbage = publish(bytes::Bytes::from_static(b"\xff\xff"), "a").unwrap_err();
        assert_eq!(garbage.revision, None);
        assert!(garbage.reason.starts_with("not a Publish"), "{garbage:?}");
    }

    #[test]
    fn every_type_of_the_contract_is_taken() {
        assert_eq!(Kind::ALL.map(Kind::type_url).to_vec(), pb::type_urls());
    }
}
