//! What Envoy offers, without `unsafe` for its callers. Everything read is copied.
#![expect(unsafe_code, reason = "calls Envoy through its C ABI")]

use std::borrow::Cow;
use std::mem::MaybeUninit;

use crate::abi::{self, Buffer, Callbacks, EarlyCallbacks, Header, Pointer, level, map};
use crate::space::{Free, join};

/// Writes to Envoy's log.
pub(crate) fn info(message: &str) {
    log(level::INFO, message);
}

pub(crate) fn warn(message: &str) {
    log(level::WARN, message);
}

pub(crate) fn error(message: &str) {
    log(level::ERROR, message);
}

fn log(level: u32, message: &str) {
    let Some(envoy) = abi::callbacks() else { return };
    let message = format!("imp: {message}");
    // SAFETY: Envoy's logger may be used by any thread; the text outlives the call.
    unsafe { (envoy.log)(level, Buffer::of(message.as_bytes())) }
}

/// Whether Envoy only checks its configuration (`--mode validate`), so that nothing may be started.
pub(crate) fn is_validation() -> bool {
    // SAFETY: takes nothing.
    abi::callbacks().is_some_and(|envoy| unsafe { (envoy.is_validation_mode)() })
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes)
        .unwrap_or_else(|bytes| String::from_utf8_lossy(bytes.as_bytes()).into_owned())
}

/// How many values of one header are read.
const MOST: usize = 16;

/// All values of a header, joined with a comma as Envoy tells them to other filters; `None` without
/// one. A header that is repeated more often is not read further.
fn joined(mut value: impl FnMut(usize, &mut usize) -> Option<Vec<u8>>) -> Option<String> {
    let mut count = 0;
    let mut all = value(0, &mut count)?;
    for index in 1..count.min(MOST) {
        all.push(b',');
        all.extend(value(index, &mut 0)?);
    }
    Some(text(all))
}

/// A call in the HTTP filter, for as long as a hook runs.
#[derive(Clone, Copy)]
pub(crate) struct Stream {
    envoy: &'static Callbacks,
    pointer: Pointer,
}

impl Stream {
    /// # Safety
    /// `pointer` is what Envoy gave to the hook that is running.
    pub(crate) unsafe fn of(pointer: Pointer) -> Option<Self> {
        Some(Self { envoy: abi::callbacks()?, pointer })
    }

    /// The values of a header of the request, joined with a comma.
    pub(crate) fn request_header(self, name: &str) -> Option<String> {
        joined(|index, count| {
            let (name, mut value) = (Buffer::of(name.as_bytes()), Buffer::NULL);
            // SAFETY: the stream is alive, and all pointers outlive the call.
            let found = unsafe {
                let get = self.envoy.http_get_header;
                get(self.pointer, map::REQUEST, name, &mut value, index, count)
            };
            // SAFETY: Envoy's bytes are valid until the next call.
            found.then(|| unsafe { value.copied() })
        })
    }

    /// The same of several headers, by passing over all headers once: the first look-up by name
    /// makes Envoy build an index of them, which costs more than everything else here.
    pub(crate) fn request_headers<'s, const N: usize>(
        self,
        names: [&str; N],
        free: &mut Free<'s>,
    ) -> [Option<Cow<'s, str>>; N] {
        let mut found = [const { None }; N];
        let mut counts = [0; N];
        self.each(map::REQUEST, |name, value| {
            let Some(index) = names.iter().position(|wanted| wanted.as_bytes() == name) else {
                return;
            };
            counts[index] += 1;
            match &mut found[index] {
                None => found[index] = Some(free.text(value)),
                Some(all) if counts[index] <= MOST => join(all, value),
                Some(_) => {}
            }
        });
        found
    }

    /// Calls `read` with each header. It must not call Envoy, and nothing outside of this file can
    /// make it.
    fn each(self, map: u32, mut read: impl FnMut(&[u8], &[u8])) {
        /// More than this need an allocation.
        const FEW: usize = 64;
        // SAFETY: the stream is alive.
        let count = unsafe { (self.envoy.http_get_headers_size)(self.pointer, map) };
        let mut few = [const { MaybeUninit::<Header>::uninit() }; FEW];
        let mut many = Vec::new();
        let space = if count <= FEW {
            &mut few[..count]
        } else {
            many.resize_with(count, MaybeUninit::uninit);
            many.as_mut_slice()
        };
        // SAFETY: the stream is alive, and there is space for as many as there are.
        let filled = unsafe {
            (self.envoy.http_get_headers)(self.pointer, map, space.as_mut_ptr().cast::<Header>())
        };
        if !filled {
            return;
        }
        for header in space {
            // SAFETY: Envoy has written all of them; its bytes are valid until the next call.
            let (name, value) = unsafe {
                let header = header.assume_init();
                (header.name.bytes(), header.value.bytes())
            };
            read(name, value);
        }
    }

    pub(crate) fn set_request_header(self, name: &str, value: &str) {
        self.write(map::REQUEST, name, Buffer::of(value.as_bytes()));
    }

    /// Adds a header that the request does not have yet.
    pub(crate) fn add_request_header(self, name: &str, value: &str) {
        self.add(map::REQUEST, name, value);
    }

    pub(crate) fn remove_request_header(self, name: &str) {
        self.write(map::REQUEST, name, Buffer::NULL);
    }

    /// Sets headers of the response, whatever it has.
    pub(crate) fn set_response_headers<'a>(
        self,
        headers: impl Iterator<Item = (&'a str, &'a str)> + Clone,
    ) {
        if headers.clone().next().is_none() {
            return;
        }
        // A bit per header; those beyond are set, which is right for all.
        let mut has = 0_u64;
        self.each(map::RESPONSE, |name, _| {
            let known = headers.clone().position(|(wanted, _)| wanted.as_bytes() == name);
            has |= known.and_then(|index| 1_u64.checked_shl(index as u32)).unwrap_or_default();
        });
        for (index, (name, value)) in headers.enumerate() {
            match index < 64 && has & (1 << index) == 0 {
                true => self.add(map::RESPONSE, name, value),
                false => self.write(map::RESPONSE, name, Buffer::of(value.as_bytes())),
            }
        }
    }

    fn add(self, map: u32, name: &str, value: &str) {
        let (name, value) = (Buffer::of(name.as_bytes()), Buffer::of(value.as_bytes()));
        // SAFETY: the stream is alive, and Envoy copies the bytes.
        unsafe { (self.envoy.http_add_header)(self.pointer, map, name, value) };
    }

    fn write(self, map: u32, name: &str, value: Buffer) {
        // SAFETY: the stream is alive, and Envoy copies the bytes.
        unsafe {
            (self.envoy.http_set_header)(self.pointer, map, Buffer::of(name.as_bytes()), value)
        };
    }

    /// Answers the call. Runs the hooks for the response of the same stream before it returns.
    pub(crate) fn respond(self, status: u16, headers: &[(&str, &str)], body: &str, details: &str) {
        let headers: Vec<Header> = headers.iter().map(|(k, v)| Header::of(k, v)).collect();
        let (body, details) = (Buffer::of(body.as_bytes()), Buffer::of(details.as_bytes()));
        // SAFETY: the stream is alive, and Envoy copies the bytes.
        unsafe {
            let send = self.envoy.http_send_response;
            send(self.pointer, status.into(), headers.as_ptr(), headers.len(), body, details);
        }
    }

    /// Answers the call with headers alone, which Envoy sends as they are.
    pub(crate) fn respond_with_headers(self, headers: &[(&str, &str)]) {
        let headers: Vec<Header> = headers.iter().map(|(k, v)| Header::of(k, v)).collect();
        // SAFETY: the stream is alive, and Envoy copies the bytes.
        unsafe {
            let send = self.envoy.http_send_response_headers;
            send(self.pointer, headers.as_ptr(), headers.len(), true);
        }
    }

    /// A text in the metadata of the route.
    pub(crate) fn route_metadata<'s>(
        self,
        namespace: &str,
        key: &str,
        free: &mut Free<'s>,
    ) -> Option<Cow<'s, str>> {
        let (namespace, key) = (Buffer::of(namespace.as_bytes()), Buffer::of(key.as_bytes()));
        let mut value = Buffer::NULL;
        // SAFETY: the stream is alive, and all pointers outlive the call.
        let found = unsafe {
            let get = self.envoy.http_get_metadata_string;
            get(self.pointer, abi::OF_ROUTE, namespace, key, &mut value)
        };
        // SAFETY: Envoy's bytes are valid until the next call.
        found.then(|| free.text(unsafe { value.bytes() }))
    }

    /// Whether the call has a route to a cluster that Envoy knows.
    pub(crate) fn has_cluster(self) -> bool {
        // SAFETY: the stream is alive; the name is not read.
        unsafe { (self.envoy.http_get_cluster_name)(self.pointer, &mut Buffer::NULL.clone()) }
    }

    /// The bytes of the part of the request's body that has just come.
    pub(crate) fn received(self) -> u64 {
        // SAFETY: the stream is alive.
        let bytes = unsafe { (self.envoy.http_get_body_size)(self.pointer, abi::RECEIVED_REQUEST) };
        bytes as u64
    }

    /// `HTTP/1.1` and the like.
    pub(crate) fn protocol(self) -> Option<String> {
        let mut value = Buffer::NULL;
        let get = self.envoy.http_filter_get_attribute_string;
        // SAFETY: the stream is alive, and there is space for the answer.
        let found = unsafe { get(self.pointer, abi::attribute::PROTOCOL, &mut value) };
        // SAFETY: Envoy's bytes are valid until the next call.
        found.then(|| text(unsafe { value.copied() }))
    }

    pub(crate) fn number(self, attribute: u32) -> Option<u64> {
        let mut value = 0;
        let get = self.envoy.http_filter_get_attribute_int;
        // SAFETY: the stream is alive, and there is space for the answer.
        unsafe { get(self.pointer, attribute, &mut value) }.then_some(value)
    }
}

/// A call before its route is looked up.
#[derive(Clone, Copy)]
pub(crate) struct Early {
    envoy: &'static EarlyCallbacks,
    pointer: Pointer,
}

impl Early {
    /// # Safety
    /// `pointer` is what Envoy gave to the hook that is running.
    pub(crate) unsafe fn of(pointer: Pointer) -> Option<Self> {
        Some(Self { envoy: abi::early_callbacks()?, pointer })
    }

    pub(crate) fn header<'s>(self, name: &str, free: &mut Free<'s>) -> Option<Cow<'s, str>> {
        let mut count = 0;
        let value = |index, count: &mut usize| {
            let (name, mut value) = (Buffer::of(name.as_bytes()), Buffer::NULL);
            // SAFETY: the request is alive, and all pointers outlive the call.
            let found = unsafe {
                let get = self.envoy.early_header_mutation_get_header_value;
                get(self.pointer, name, &mut value, index, count)
            };
            found.then_some(value)
        };
        // SAFETY: Envoy's bytes are valid until the next call.
        let mut all = free.text(unsafe { value(0, &mut count)?.bytes() });
        for index in 1..count.min(MOST) {
            // SAFETY: as above.
            join(&mut all, unsafe { value(index, &mut 0)?.bytes() });
        }
        Some(all)
    }

    pub(crate) fn set_header(self, name: &str, value: &str) {
        let (name, value) = (Buffer::of(name.as_bytes()), Buffer::of(value.as_bytes()));
        // SAFETY: the request is alive, and Envoy copies the bytes.
        unsafe { (self.envoy.early_header_mutation_set_header)(self.pointer, name, value) };
    }

    /// The name that the caller asked for in TLS.
    pub(crate) fn server_name(self) -> Option<String> {
        let mut value = Buffer::NULL;
        let get = self.envoy.early_header_mutation_get_attribute_string;
        // SAFETY: the request is alive, and there is space for the answer.
        let found = unsafe { get(self.pointer, abi::attribute::SERVER_NAME, &mut value) };
        // SAFETY: Envoy's bytes are valid until the next call.
        found.then(|| text(unsafe { value.copied() }))
    }
}
