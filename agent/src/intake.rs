//! Parses resources of the control plane. Parsed items can be served.

mod parser;
mod wire;

use std::sync::Arc;

use imp_enforce::{Credential, Entitlement, PublishAccess};
use imp_process::traces;
use imp_proto::cause;
use imp_proto::config::{self as pb, ResourceType};
use imp_translate::ir;
use imp_xds::{Resource, TypeUrl};
use tracing::Span;

pub use parser::Parser;
pub(crate) use wire::Contents;
pub use wire::Wire;

/// Whether a type is rendered for Envoy. The others are only for decisions.
pub fn is_rendered(of: ResourceType) -> bool {
    match of {
        ResourceType::Gateway | ResourceType::Publish => true,
        ResourceType::Entitlement | ResourceType::Credential => false,
    }
}

/// The types to subscribe to.
pub fn type_urls() -> Vec<TypeUrl> {
    ResourceType::ALL.iter().map(|of| TypeUrl::from(of.type_url())).collect()
}

/// A resource that can be served.
#[derive(Clone, Debug)]
pub enum Item {
    /// Parsed for Envoy.
    Gateway(ir::Gateway),
    /// Parsed for Envoy and for decisions.
    Publish(Box<Publish>),
    /// For decisions.
    Entitlement(Entitlement),
    /// For decisions.
    Credential(Credential),
}

/// One revision of a publish.
#[derive(Clone, Debug)]
pub struct Publish {
    /// The part for Envoy.
    pub routes: ir::Publish,
    /// The part for decisions.
    pub access: PublishAccess,
    /// The encoded message.
    pub wire: Wire,
    /// A part of the trace of the request that caused it; open until Envoys have it.
    pub span: Span,
}

/// A resource that cannot be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    pub reason: String,
    /// For a publish, its revision if that could be read.
    pub revision: Option<u64>,
}

impl Rejected {
    fn new(reason: impl ToString) -> Self {
        Self { reason: reason.to_string(), revision: None }
    }
}

/// Parses a resource of this kind.
pub fn parse(kind: ResourceType, resource: &Resource) -> Result<Item, Rejected> {
    Parser::default().parse(kind, resource)
}

impl Parser {
    /// Parses a resource of this kind.
    pub fn parse(&mut self, kind: ResourceType, resource: &Resource) -> Result<Item, Rejected> {
        match kind {
            ResourceType::Gateway => {
                let message: pb::Gateway = decode(resource)?;
                ir::Gateway::parse(&message).map(Item::Gateway).map_err(Rejected::new)
            }
            ResourceType::Publish => {
                let span = span(resource);
                let _inside = span.enter();
                let parsed = self.publish(resource.value(), resource.name())?;
                Ok(Item::Publish(Box::new(Publish { span: span.clone(), ..parsed })))
            }
            ResourceType::Entitlement => entitlement(resource).map(Item::Entitlement),
            ResourceType::Credential => credential(resource).map(Item::Credential),
        }
    }

    /// Parses only the part that decisions need.
    pub(crate) fn parse_access(
        &mut self,
        kind: ResourceType,
        resource: &Resource,
    ) -> Result<Access, Rejected> {
        Ok(match kind {
            ResourceType::Gateway => Access::None,
            ResourceType::Publish => {
                let (access, revision) = self.access(resource)?;
                Access::Publish(access, revision)
            }
            ResourceType::Entitlement => Access::Entitlement(entitlement(resource)?),
            ResourceType::Credential => Access::Credential(credential(resource)?),
        })
    }
}

/// Restored resources and those of a first response have no cause.
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

/// The part of a resource that decisions need.
pub(crate) enum Access {
    /// The access rules of a publish, and their revision.
    Publish(PublishAccess, u64),
    /// What a subscription may do.
    Entitlement(Entitlement),
    /// A key.
    Credential(Credential),
    /// Not needed by decisions.
    None,
}

/// Parses a publish with this id.
pub fn publish(wire: &bytes::Bytes, id: &Arc<str>) -> Result<Publish, Rejected> {
    Parser::default().publish(wire, id)
}

/// Requires that a resource is named by its own id, so that removing the name removes the object.
fn decode<M: pb::Resource>(resource: &Resource) -> Result<M, Rejected> {
    let message = M::decode(resource.value().clone())
        .map_err(|fault| Rejected::new(format!("not a {}: {fault}", M::TYPE.name())))?;
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
        let rejected = parse(ResourceType::Entitlement, &resource).unwrap_err();
        assert_eq!(rejected.reason, "named b, but its id is a");
    }

    #[test]
    fn a_publish_that_is_wrong_still_says_its_revision() {
        let wire = pb::Publish { id: "a".into(), revision: 7, ..Default::default() };
        let rejected = publish(&wire.encode_to_vec().into(), &"a".into()).unwrap_err();
        assert_eq!(rejected.revision, Some(7));
        let garbage = publish(&bytes::Bytes::from_static(b"\xff\xff"), &"a".into()).unwrap_err();
        assert_eq!(garbage.revision, None);
        assert!(garbage.reason.starts_with("not a Publish"), "{garbage:?}");
    }
}
