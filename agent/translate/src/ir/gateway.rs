//! Parses gateways.

use std::collections::HashSet;

use imp_grammar::classes;
use imp_proto::{bounds, config as pb};

use super::grammar::{self, Fault};
use super::{Edge, EscapedSlash, Gateway, Listener, ParseError};

impl Gateway {
    /// Checks everything that a renderer relies on.
    pub fn parse(message: &pb::Gateway) -> Result<Self, ParseError> {
        let id = grammar::id(&message.id).map_err(|fault| ParseError::new("id", fault))?;
        bounds::gateway(message).map_err(super::publish::exceeded)?;
        if message.listeners.is_empty() {
            return Err(ParseError::new("listeners", Fault::Missing));
        }
        let (mut names, mut ports) = (HashSet::new(), HashSet::new());
        let mut listeners = Vec::with_capacity(message.listeners.len());
        for (index, listener) in message.listeners.iter().enumerate() {
            let at = format!("listeners/{index}");
            let listener = parse_listener(listener).map_err(|e| e.within(&at))?;
            if !names.insert(listener.name.clone()) {
                return Err(ParseError::new(at, Fault::Duplicate(listener.name)));
            }
            if !ports.insert(listener.port) {
                return Err(ParseError::new(at, Fault::Duplicate(listener.port.to_string())));
            }
            listeners.push(listener);
        }
        let edge = parse_settings(message.settings.unwrap_or_default());
        let edge = edge.map_err(|error| error.within("settings"))?;
        let class = match message.gateway_class.as_str() {
            "" => classes::ENVOY_GATEWAY.word.to_owned(),
            word => word.to_owned(),
        };
        Ok(Self { id, listeners, edge, class })
    }
}

fn parse_settings(message: pb::GatewaySettings) -> Result<Edge, ParseError> {
    use pb::gateway_settings as words;
    let unknown = |field: &str, number| ParseError::new(field, grammar::unknown(number));
    let escaped_slash = match words::EscapedSlash::try_from(message.escaped_slash) {
        Ok(words::EscapedSlash::Refuse) => EscapedSlash::Refuse,
        Ok(words::EscapedSlash::Keep) => EscapedSlash::Keep,
        Ok(words::EscapedSlash::Decode) => EscapedSlash::Decode,
        Err(_) => return Err(unknown("escaped_slash", message.escaped_slash)),
    };
    let refuse_underscores = match words::UnderscoreHeaders::try_from(message.underscore_headers) {
        Ok(words::UnderscoreHeaders::Allow) => false,
        Ok(words::UnderscoreHeaders::Refuse) => true,
        Err(_) => return Err(unknown("underscore_headers", message.underscore_headers)),
    };
    Ok(Edge {
        escaped_slash,
        refuse_underscores,
        refuse_http10: message.refuse_http10,
        trusted_hops: message.trusted_hops,
    })
}

fn parse_listener(message: &pb::Listener) -> Result<Listener, ParseError> {
    let name = grammar::name(&message.name).map_err(|f| ParseError::new("name", f))?;
    match message.protocol() {
        pb::listener::Protocol::Http => {}
        pb::listener::Protocol::Https => {
            return Err(ParseError::new("protocol", Fault::Unsupported("HTTPS")));
        }
        pb::listener::Protocol::Unspecified => {
            return Err(ParseError::new("protocol", grammar::unknown(message.protocol)));
        }
    }
    let hostname = match message.hostname.as_str() {
        "" => None,
        host => Some(grammar::hostname(host).map_err(|f| ParseError::new("hostname", f))?),
    };
    let port = grammar::port(message.port).map_err(|f| ParseError::new("port", f))?;
    Ok(Listener { name, port, hostname })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gateway(listeners: Vec<pb::Listener>) -> pb::Gateway {
        pb::Gateway { id: "g".into(), listeners, ..Default::default() }
    }

    fn listener(name: &str, port: u32) -> pb::Listener {
        let protocol = pb::listener::Protocol::Http.into();
        pb::Listener { name: name.into(), port, protocol, hostname: String::new() }
    }

    #[test]
    fn a_gateway_has_distinct_plain_listeners() {
        assert!(Gateway::parse(&gateway(vec![listener("a", 80), listener("b", 81)])).is_ok());
        let field =
            |listeners| Gateway::parse(&gateway(listeners)).map_err(|error| error.to_string());
        assert_eq!(field(vec![]), Err("listeners: missing".into()));
        assert_eq!(
            field(vec![listener("a", 80), listener("a", 81)]),
            Err("listeners/1: 'a' is there twice".into())
        );
        assert_eq!(
            field(vec![listener("a", 80), listener("b", 80)]),
            Err("listeners/1: '80' is there twice".into())
        );
        assert_eq!(
            field(vec![listener("a", 70_000)]),
            Err("listeners/0/port: 70000 is out of range".into())
        );
        let mut tls = listener("a", 443);
        tls.protocol = pb::listener::Protocol::Https.into();
        assert_eq!(field(vec![tls]), Err("listeners/0/protocol: HTTPS is not supported".into()));
    }

    #[test]
    fn an_id_cannot_reach_into_another_resource_name() {
        let mut evil = gateway(vec![listener("a", 80)]);
        evil.id = "g/api.example.com".into();
        assert_eq!(Gateway::parse(&evil).map_err(|e| e.field), Err("id".into()));
    }
}
