//! `request_headers` and `response_headers`.

use imp_proto::config as pb;

use crate::ir::error::ParseError;
use crate::ir::grammar;

/// Changes of headers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Headers {
    /// Replaces existing values.
    pub set: Vec<(String, String)>,
    /// Appends to existing values.
    pub add: Vec<(String, String)>,
    /// Names to remove; none of them is in `set` or `add`.
    pub remove: Vec<String>,
}

/// The contract's order is set, add, remove, but Envoy removes first. So headers that would be
/// removed in the end are not set at all.
pub(super) fn parse(message: &pb::Headers) -> Result<Headers, ParseError> {
    let mut remove = Vec::with_capacity(message.remove.len());
    for (index, name) in message.remove.iter().enumerate() {
        let name = grammar::writable_header(name)
            .map_err(|fault| ParseError::new(format!("remove/{index}"), fault))?;
        remove.push(name);
    }
    let pairs = |list: &str, headers: &[pb::Header]| {
        let mut pairs = Vec::with_capacity(headers.len());
        for (index, header) in headers.iter().enumerate() {
            let at = |fault| ParseError::new(format!("{list}/{index}"), fault);
            let name = grammar::writable_header(&header.name).map_err(at)?;
            let value = grammar::header_value(&header.value).map_err(at)?;
            if !remove.contains(&name) {
                pairs.push((name, value));
            }
        }
        Ok(pairs)
    };
    let set = pairs("set", &message.set)?;
    let add = pairs("add", &message.add)?;
    Ok(Headers { set, add, remove })
}
