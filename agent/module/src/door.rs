//! The decision about a call inside Envoy.

use std::cell::{Cell, OnceCell};
use std::sync::Arc;
use std::time::Instant;

use imp_enforce::{Admission, Headers, Permit};
use imp_grammar::headers::SCOPE_HOST;

use crate::abi::attribute;
use crate::answer::{self, Refusal};
use crate::call::{self, Asked, is_grpc};
use crate::envoy::Stream;
use crate::space::Space;
use crate::state::{self, State};
use crate::upload::End;

/// The filter of a listener.
#[derive(Debug)]
pub(crate) struct Door {
    state: Arc<State>,
    gateway: Option<String>,
}

impl Door {
    pub(crate) fn new(state: Arc<State>, gateway: Option<String>) -> Self {
        Self { state, gateway }
    }

    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    /// Decides about a call: lets it pass and remembers the permit, or says how it ends.
    pub(crate) fn decide(&self, stream: Stream, admitted: &Admitted) -> Result<(), End> {
        #[cfg(test)]
        self.state.may_fail();
        let id = || stream.request_header("x-request-id").unwrap_or_default();
        let refusal = |why| End::Refusal(Refusal::own(why, is_grpc(stream), &id()));
        let mut space = Space::new();
        let Some(asked) = Asked::read(stream, &mut space.free()) else {
            // No scope has such a key. Envoy's own answer says why, and leads nowhere either.
            let key = stream.request_header(SCOPE_HOST);
            return Err(match key.is_some_and(|key| key.starts_with('!')) {
                true => End::Nowhere,
                false => refusal(&answer::NO_ROUTE),
            });
        };
        if !self.state.is_loaded() {
            return Err(refusal(&answer::UNAVAILABLE));
        }
        let call = asked.call(self.gateway.as_deref(), state::now());
        let permit = self.state.engine.decide(&call).map_err(|denial| {
            // Envoy has the route, so an agent knows the publish: what it says of it is on its way,
            // or this Envoy started from a file that is older than its routes. Soon it is known;
            // until then nobody passes.
            match denial.may_be_known_elsewhere() {
                true => refusal(&answer::UNAVAILABLE),
                false => End::Refusal(Refusal::of(&denial, is_grpc(stream), &id())),
            }
        })?;
        allow(stream, permit.admission(), &asked);
        admitted.take(permit);
        Ok(())
    }
}

/// Sets who calls, and takes the key out of the call, wherever it may be.
fn allow(stream: Stream, admission: &Admission, asked: &Asked<'_>) {
    for (name, claimed) in asked.claims() {
        let id = admission.identity.iter().find(|(set, _)| *set == name);
        match (id.map(|(_, id)| id.text()), claimed) {
            (Some(id), true) => stream.set_request_header(name, id.as_str()),
            (Some(id), false) => stream.add_request_header(name, id.as_str()),
            (None, true) => stream.remove_request_header(name),
            (None, false) => {}
        }
    }
    asked.key_headers().for_each(|name| stream.remove_request_header(name));
    if let Some(path) = asked.keys().query.and_then(|name| call::without(asked.path(), name)) {
        stream.set_request_header(":path", &path);
    }
}

/// What is left of a decision for a stream that was let through.
#[derive(Default)]
pub(crate) struct Admitted {
    /// Never changed once they are there: Envoy may call back while they are written.
    headers: OnceCell<Headers>,
    /// The permit, and since when, if anybody wants to know how the call ends.
    awaited: Cell<Option<Box<(Permit, Instant)>>>,
}

impl Admitted {
    fn take(&self, mut permit: Permit) {
        // A stream is decided about once.
        let _first = self.headers.set(permit.take_response_headers());
        if permit.is_awaited() {
            self.awaited.set(Some(Box::new((permit, Instant::now()))));
        }
    }

    /// Writes the headers for the caller, overwriting what the upstream sent.
    pub(crate) fn write(&self, stream: Stream) {
        let Some(headers) = self.headers.get() else { return };
        let headers = headers.iter().map(|(name, value)| (*name, value.as_str()));
        stream.set_response_headers(headers);
    }

    /// Ends the call. One whose stream is destroyed without this ends with an unknown outcome.
    pub(crate) fn finish(&self, stream: Stream) {
        let Some(awaited) = self.awaited.take() else { return };
        let (permit, begun) = *awaited;
        let number = |attribute| stream.number(attribute).unwrap_or_default();
        let status = u16::try_from(number(attribute::RESPONSE_CODE)).unwrap_or_default();
        let bytes = number(attribute::REQUEST_SIZE) + number(attribute::RESPONSE_SIZE);
        permit.finish(status, bytes, begun.elapsed());
    }
}
