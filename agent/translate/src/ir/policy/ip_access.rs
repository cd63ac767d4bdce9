//! `ip_access`.

use imp_grammar::network;
use imp_proto::config as pb;
use ipnet::IpNet;

use crate::ir::error::{ParseError, each};
use crate::ir::grammar::{self, Fault};

/// From which addresses calls may come: from `allow`, or anywhere when that is empty, and not from
/// `deny`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpAccess {
    /// Networks.
    pub allow: Vec<IpNet>,
    /// Networks.
    pub deny: Vec<IpNet>,
}

/// A policy that names no network would let everybody in, which nobody asks for.
pub(super) fn parse(message: &pb::IpAccess) -> Result<IpAccess, ParseError> {
    let net = |text: &str| network::parse(text).ok_or_else(|| Fault::Host(grammar::short(text)));
    let access = IpAccess {
        allow: each("allow", &message.allow, net)?,
        deny: each("deny", &message.deny, net)?,
    };
    if access.allow.is_empty() && access.deny.is_empty() {
        return Err(ParseError::new("allow", Fault::Missing));
    }
    Ok(access)
}
