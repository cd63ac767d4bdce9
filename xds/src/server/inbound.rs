//! The parts of a request that a stream needs, in either protocol.

use bytes::Bytes;
use prost::{DecodeError, Message as _};
use tonic::Status;

use crate::stream::{Outcome, Stream, Variant};
use crate::wire::{DeltaDiscoveryRequest, DiscoveryRequest, Node};

/// A request of one of the two protocols.
pub(super) trait Inbound: prost::Message + Default + 'static {
    const VARIANT: Variant;

    /// The node alone, without decoding the rest.
    fn node(request: Bytes) -> Result<Option<Node>, DecodeError>;

    fn type_url(&mut self) -> &mut String;

    fn step(self, stream: &mut Stream) -> Result<Outcome, Status>;

    /// Sets the type, which requests to a single-type service may omit (R4).
    fn fill_type(&mut self, of_service: Option<&str>) -> Result<(), Status> {
        let Some(of_service) = of_service else { return Ok(()) };
        let type_url = self.type_url();
        if type_url.is_empty() {
            of_service.clone_into(type_url);
        }
        if type_url == of_service {
            Ok(())
        } else {
            Err(Status::invalid_argument("this service has another type_url"))
        }
    }
}

impl Inbound for DeltaDiscoveryRequest {
    const VARIANT: Variant = Variant::Delta;

    fn node(request: Bytes) -> Result<Option<Node>, DecodeError> {
        Ok(DeltaIntroduction::decode(request)?.node)
    }

    fn type_url(&mut self) -> &mut String {
        &mut self.type_url
    }

    fn step(self, stream: &mut Stream) -> Result<Outcome, Status> {
        stream.request(self)
    }
}

impl Inbound for DiscoveryRequest {
    const VARIANT: Variant = Variant::StateOfTheWorld;

    fn node(request: Bytes) -> Result<Option<Node>, DecodeError> {
        Ok(ListIntroduction::decode(request)?.node)
    }

    fn type_url(&mut self) -> &mut String {
        &mut self.type_url
    }

    fn step(self, stream: &mut Stream) -> Result<Outcome, Status> {
        stream.request_list(self)
    }
}

/// The part of a delta request with the node.
#[derive(Clone, PartialEq, prost::Message)]
struct DeltaIntroduction {
    #[prost(message, optional, tag = "1")]
    node: Option<Node>,
}

/// The part of a state-of-the-world request with the node.
#[derive(Clone, PartialEq, prost::Message)]
struct ListIntroduction {
    #[prost(message, optional, tag = "2")]
    node: Option<Node>,
}
