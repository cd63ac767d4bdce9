//! Envoy's side of the ABI for tests: a stream is a [`Mock`], and its pointer is Envoy's.
//!
//! Like Envoy's, its answers point into its own memory, which the next call overwrites.
#![expect(unsafe_code, reason = "the C ABI of Envoy, from its side")]
#![expect(
    clippy::undocumented_unsafe_blocks,
    reason = "all for the same reason: pointers are those of living mocks, bytes those of the caller"
)]

pub(crate) mod allocations;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use crate::abi::{self, Buffer, Callbacks, EarlyCallbacks, Header, Pointer};

type Headers = Vec<(String, Vec<u8>)>;

/// A stream, or a request before it has one.
#[derive(Default)]
pub(crate) struct Mock {
    pub(crate) request: RefCell<Headers>,
    pub(crate) response: RefCell<Headers>,
    pub(crate) metadata: BTreeMap<(String, String), String>,
    pub(crate) server_name: Option<String>,
    pub(crate) has_cluster: bool,
    pub(crate) protocol: Option<&'static str>,
    /// The bytes of the part of the body that has come last.
    pub(crate) received: Cell<usize>,
    pub(crate) attributes: BTreeMap<u32, u64>,
    pub(crate) answer: RefCell<Option<Answer>>,
    pub(crate) answers: Cell<usize>,
    /// Called while an answer is sent, as Envoy runs the hooks for the response.
    pub(crate) on_answer: Cell<Option<Box<dyn FnOnce()>>>,
    /// What the last getter answered with.
    pub(crate) scratch: RefCell<Vec<u8>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u32,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
    pub(crate) details: String,
}

impl Mock {
    pub(crate) fn pointer(&self) -> Pointer {
        std::ptr::from_ref(self).cast_mut().cast()
    }

    pub(crate) fn with(self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.request.borrow_mut().push((name.to_owned(), value.as_ref().to_vec()));
        self
    }

    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let headers = self.request.borrow();
        let found = headers.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| String::from_utf8_lossy(value).into_owned())
    }

    fn headers(&self, map: u32) -> &RefCell<Headers> {
        if map == abi::map::REQUEST { &self.request } else { &self.response }
    }

    fn answered(&self, answer: Answer) {
        self.answer.replace(Some(answer));
        self.answers.set(self.answers.get() + 1);
    }

    fn lend(&self, bytes: &[u8], out: *mut Buffer) {
        // Overwrites the former answer first: a test that keeps it reads garbage.
        let mut scratch = self.scratch.borrow_mut();
        scratch.fill(b'#');
        *scratch = bytes.to_vec();
        // SAFETY: the module gives a place for the answer.
        unsafe { *out = Buffer::of(&scratch) };
    }

    fn value(&self, name: &str, out: *mut Buffer, index: usize, count: *mut usize) -> bool {
        let headers = self.request.borrow();
        let values: Vec<_> = headers.iter().filter(|(key, _)| key == name).collect();
        if !count.is_null() {
            // SAFETY: the module gives a place for the number.
            unsafe { *count = values.len() };
        }
        values.get(index).inspect(|(_, value)| self.lend(value, out)).is_some()
    }
}

thread_local! {
    pub(crate) static LOG: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    pub(crate) static VALIDATES: Cell<bool> = const { Cell::new(false) };
}

unsafe fn mock<'a>(pointer: Pointer) -> &'a Mock {
    // SAFETY: the tests' pointers are those of their mocks.
    unsafe { &*pointer.cast::<Mock>() }
}

unsafe fn text(buffer: Buffer) -> String {
    // SAFETY: the module's bytes are valid while it calls.
    String::from_utf8(unsafe { buffer.copied() }).unwrap()
}

fn set(headers: &RefCell<Headers>, name: &str, value: Option<Vec<u8>>) {
    let mut headers = headers.borrow_mut();
    headers.retain(|(key, _)| key != name);
    headers.extend(value.map(|value| (name.to_owned(), value)));
}

unsafe fn pairs(headers: *const Header, length: usize) -> Vec<(String, String)> {
    // SAFETY: the module gives an array of this length, or none.
    let headers = match length {
        0 => &[],
        _ => unsafe { std::slice::from_raw_parts(headers, length) },
    };
    let pair = |header: &Header| unsafe { (text(header.name), text(header.value)) };
    headers.iter().map(pair).collect()
}

extern "C" fn log(_level: u32, message: Buffer) {
    LOG.with_borrow_mut(|log| log.push(unsafe { text(message) }));
}

extern "C" fn is_validation_mode() -> bool {
    VALIDATES.get()
}

extern "C" fn http_get_header(
    stream: Pointer,
    _map: u32,
    name: Buffer,
    out: *mut Buffer,
    index: usize,
    count: *mut usize,
) -> bool {
    let _own = allocations::envoys();
    unsafe { mock(stream).value(&text(name), out, index, count) }
}

extern "C" fn http_get_headers_size(stream: Pointer, map: u32) -> usize {
    let _own = allocations::envoys();
    unsafe { mock(stream) }.headers(map).borrow().len()
}

extern "C" fn http_get_headers(stream: Pointer, map: u32, out: *mut Header) -> bool {
    let _own = allocations::envoys();
    let mock = unsafe { mock(stream) };
    let headers = mock.headers(map).borrow();
    let all = headers.iter().flat_map(|(name, value)| [name.as_bytes(), value].concat());
    let mut scratch = mock.scratch.borrow_mut();
    scratch.fill(b'#');
    *scratch = all.collect();
    let mut rest = scratch.as_slice();
    for (index, (name, value)) in headers.iter().enumerate() {
        let (own, others) = rest.split_at(name.len());
        let (value, others) = others.split_at(value.len());
        rest = others;
        unsafe { *out.add(index) = Header { name: Buffer::of(own), value: Buffer::of(value) } };
    }
    true
}

extern "C" fn http_add_header(stream: Pointer, map: u32, name: Buffer, value: Buffer) -> bool {
    let _own = allocations::envoys();
    let (mock, name, value) = unsafe { (mock(stream), text(name), value.copied()) };
    mock.headers(map).borrow_mut().push((name, value));
    true
}

extern "C" fn http_set_header(stream: Pointer, map: u32, name: Buffer, value: Buffer) -> bool {
    let _own = allocations::envoys();
    let (mock, name) = unsafe { (mock(stream), text(name)) };
    let value = (!value.is_null()).then(|| unsafe { value.copied() });
    set(mock.headers(map), &name, value);
    true
}

extern "C" fn http_send_response(
    stream: Pointer,
    status: u32,
    headers: *const Header,
    length: usize,
    body: Buffer,
    details: Buffer,
) {
    let mock = unsafe { mock(stream) };
    let headers = unsafe { pairs(headers, length) };
    let (body, details) = unsafe { (text(body), text(details)) };
    mock.answered(Answer { status, headers, body, details });
    mock.on_answer.take().into_iter().for_each(|hooks| hooks());
}

extern "C" fn http_send_response_headers(
    stream: Pointer,
    headers: *const Header,
    length: usize,
    end_of_stream: bool,
) {
    assert!(end_of_stream, "nothing would end the stream");
    let mut headers = unsafe { pairs(headers, length) };
    let status = headers.iter().position(|(name, _)| name == ":status").unwrap();
    let status = headers.remove(status).1.parse().unwrap();
    let answer = Answer { status, headers, body: String::new(), details: String::new() };
    unsafe { mock(stream) }.answered(answer);
}

extern "C" fn http_get_metadata_string(
    stream: Pointer,
    source: u32,
    namespace: Buffer,
    key: Buffer,
    out: *mut Buffer,
) -> bool {
    let _own = allocations::envoys();
    let (mock, at) = unsafe { (mock(stream), (text(namespace), text(key))) };
    let found = mock.metadata.get(&at).filter(|_| source == abi::OF_ROUTE);
    found.inspect(|value| mock.lend(value.as_bytes(), out)).is_some()
}

extern "C" fn http_get_cluster_name(stream: Pointer, _out: *mut Buffer) -> bool {
    let _own = allocations::envoys();
    unsafe { mock(stream) }.has_cluster
}

extern "C" fn http_filter_get_attribute_int(stream: Pointer, id: u32, out: *mut u64) -> bool {
    let _own = allocations::envoys();
    let found = unsafe { mock(stream) }.attributes.get(&id);
    found.inspect(|value| unsafe { *out = **value }).is_some()
}

extern "C" fn http_filter_get_attribute_string(stream: Pointer, id: u32, out: *mut Buffer) -> bool {
    let _own = allocations::envoys();
    let mock = unsafe { mock(stream) };
    let protocol = mock.protocol.filter(|_| id == abi::attribute::PROTOCOL);
    protocol.inspect(|protocol| mock.lend(protocol.as_bytes(), out)).is_some()
}

extern "C" fn http_get_body_size(stream: Pointer, of: u32) -> usize {
    assert_eq!(of, abi::RECEIVED_REQUEST);
    unsafe { mock(stream) }.received.get()
}

extern "C" fn early_get(
    context: Pointer,
    name: Buffer,
    out: *mut Buffer,
    index: usize,
    count: *mut usize,
) -> bool {
    let _own = allocations::envoys();
    unsafe { mock(context).value(&text(name), out, index, count) }
}

extern "C" fn early_set(context: Pointer, name: Buffer, value: Buffer) -> bool {
    let _own = allocations::envoys();
    set(&unsafe { mock(context) }.request, &unsafe { text(name) }, Some(unsafe { value.copied() }));
    true
}

extern "C" fn early_attribute(context: Pointer, id: u32, out: *mut Buffer) -> bool {
    let _own = allocations::envoys();
    let mock = unsafe { mock(context) };
    let name = mock.server_name.as_ref().filter(|_| id == abi::attribute::SERVER_NAME);
    name.inspect(|name| mock.lend(name.as_bytes(), out)).is_some()
}

/// Puts this Envoy in place.
pub(crate) fn install() {
    let early = EarlyCallbacks {
        early_header_mutation_get_header_value: early_get,
        early_header_mutation_set_header: early_set,
        early_header_mutation_get_attribute_string: early_attribute,
    };
    let callbacks = Callbacks {
        log,
        is_validation_mode,
        http_get_header,
        http_get_headers_size,
        http_get_headers,
        http_set_header,
        http_add_header,
        http_send_response,
        http_send_response_headers,
        http_get_metadata_string,
        http_get_cluster_name,
        http_get_body_size,
        http_filter_get_attribute_int,
        http_filter_get_attribute_string,
    };
    abi::install(callbacks, Some(early));
}
