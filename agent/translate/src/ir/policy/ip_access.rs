//! `ip_access`.

use imp_grammar::network;
use imp_proto::config as pb;
use ipnet::IpNet;

use crate::ir::error::{ParseError, each};
use crate::ir::grammar::{self, Fault};

/// The addresses that calls may come from: those in `allow`, or all if that is empty, except those
/// in `deny`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct IpAccess {
    pub allow: Vec<IpNet>,
    pub deny: Vec<IpNet>,
}

/// Refuses a policy without networks: it would allow everybody, which nobody intends.
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
