//! Hooks in any order with any content: none is a fault, none answers twice, and nothing passes
//! without a right to.

use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::abi::body_status;

/// What Envoy may call. It keeps to an order; the module relies on as little of it as it can.
#[derive(Clone, Copy, Debug)]
enum Event {
    Headers {
        end: bool,
    },
    Part {
        bytes: usize,
        end: bool,
    },
    Trailers,
    ResponseHeaders,
    Complete,
    /// The next hook of the request panics.
    Fault,
}

fn event() -> impl Strategy<Value = Event> {
    let bytes = prop_oneof![0..10_usize, Just(1 << 20), Just(17 << 20), Just(usize::MAX)];
    prop_oneof![
        any::<bool>().prop_map(|end| Event::Headers { end }),
        (bytes, any::<bool>()).prop_map(|(bytes, end)| Event::Part { bytes, end }),
        Just(Event::Trailers),
        Just(Event::ResponseHeaders),
        Just(Event::Complete),
        Just(Event::Fault),
    ]
}

/// A call: where it goes, and what it says.
#[derive(Clone, Debug)]
struct Asked {
    publish: Option<&'static str>,
    key: Option<Vec<u8>>,
    protocol: Option<&'static str>,
    has_cluster: bool,
    headers: Vec<(&'static str, Vec<u8>)>,
    /// Envoy runs hooks of the stream while an answer is sent.
    reenters: bool,
}

fn asked() -> impl Strategy<Value = Asked> {
    let key = prop_oneof![Just(KEY.as_bytes().to_vec()), prop::collection::vec(any::<u8>(), 0..40)];
    let names = ["content-length", "expect", "upgrade", ":method", "content-type", "x-imp-host"];
    let value = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..20),
        select(vec!["0", "1000", "16777216", "16777217", "100-continue", "CONNECT", "!421"])
            .prop_map(|text| text.as_bytes().to_vec()),
        Just(b"application/grpc".to_vec()),
    ];
    let headers = prop::collection::vec((select(names.to_vec()), value), 0..5);
    let publish = prop::option::of(select(vec!["open", "closed", "nothing", ""]));
    let protocol = prop::option::of(select(vec!["HTTP/1.0", "HTTP/1.1", "HTTP/2", "HTTP", ""]));
    let rest = (any::<bool>(), headers, any::<bool>());
    (publish, prop::option::of(key), protocol, rest).prop_map(
        |(publish, key, protocol, (has_cluster, headers, reenters))| Asked {
            publish,
            key,
            protocol,
            has_cluster,
            headers,
            reenters,
        },
    )
}

impl Asked {
    fn mock(&self) -> Mock {
        let said = self.publish.map(|to| ((NAMESPACE.to_owned(), PUBLISH.to_owned()), to.into()));
        let mut mock = Mock {
            metadata: said.into_iter().collect(),
            has_cluster: self.has_cluster,
            protocol: self.protocol,
            ..Mock::default()
        };
        for (name, value) in &self.headers {
            mock = mock.with(name, value);
        }
        match &self.key {
            Some(key) => mock.with("x-api-key", key),
            None => mock,
        }
    }

    /// Whether it may reach its upstream. A limit may still refuse it.
    fn may_pass(&self) -> bool {
        let has_key = self.key.as_deref() == Some(KEY.as_bytes());
        self.publish == Some("open") || (self.publish == Some("closed") && has_key)
    }

    /// Whether it goes on without a route, to Envoy's own answer.
    fn leads_nowhere(&self) -> bool {
        let host = self.headers.iter().find(|(name, _)| *name == "x-imp-host");
        self.publish.is_none()
            && !self.has_cluster
            && host.is_some_and(|(_, key)| key.first() == Some(&b'!'))
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 8 } else { 1_000 }, ..Default::default() })]

    #[test]
    fn no_sequence_of_hooks_lets_a_call_pass(
        asked in asked(),
        first in any::<bool>(),
        events in prop::collection::vec(event(), 0..12),
    ) {
        let (state, mock) = (state(), asked.mock());
        let stream = Stream::open(&state, &mock);
        let (pointer, filter) = (mock.pointer(), stream.filter);
        if asked.reenters {
            mock.on_answer.set(Some(Box::new(move || {
                let body = http::envoy_dynamic_module_on_http_filter_request_body;
                assert_ne!(body(pointer, filter, true), body_status::CONTINUE);
                http::envoy_dynamic_module_on_http_filter_response_headers(pointer, filter, true);
            })));
        }
        let events = [Event::Headers { end: first }].into_iter().chain(events);
        let (mut passed, mut stopped, mut ended, mut faults) = (false, false, false, 0);
        for event in events {
            match event {
                // Envoy says the headers once.
                Event::Headers { .. } if passed || stopped => {}
                Event::Headers { end } => {
                    let hook = http::envoy_dynamic_module_on_http_filter_request_headers;
                    let said = hook(pointer, filter, end);
                    (passed, stopped) = (said == status::CONTINUE, said == status::STOP);
                    prop_assert!(passed || stopped);
                    ended = end;
                }
                Event::Part { bytes, end } => {
                    mock.received.set(bytes);
                    let hook = http::envoy_dynamic_module_on_http_filter_request_body;
                    let said = hook(pointer, filter, end);
                    prop_assert!([body_status::CONTINUE, body_status::DISCARD].contains(&said));
                    passed |= said == body_status::CONTINUE;
                    ended |= end;
                }
                Event::Trailers => {
                    let hook = http::envoy_dynamic_module_on_http_filter_request_trailers;
                    passed |= hook(pointer, filter) == status::CONTINUE;
                    ended = true;
                }
                Event::ResponseHeaders => stream.response(&mock),
                Event::Complete => {
                    http::envoy_dynamic_module_on_http_filter_stream_complete(pointer, filter);
                }
                Event::Fault => {
                    state.fails.store(true, Ordering::Relaxed);
                    faults += 1;
                }
            }
            prop_assert!(!passed || asked.may_pass() || asked.leads_nowhere(), "{event:?}");
        }
        // Each fault may answer once more; Envoy takes the first answer.
        prop_assert!(mock.answers.get() <= 1 + faults);
        if stopped && ended && !passed {
            prop_assert!(mock.answers.get() >= 1, "nobody would ever answer");
        }
        if passed && faults == 0 {
            prop_assert_eq!(mock.answers.get(), 0);
        }
        prop_assert!(state.faults.load(Ordering::Relaxed) <= faults as u64);
        stream.close(&mock);
    }

    #[test]
    fn no_configuration_is_a_fault(
        name in prop_oneof![Just(b"door".to_vec()), Just(b"host".to_vec()), prop::collection::vec(any::<u8>(), 0..8)],
        json in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..64),
            r#"\{"state": \{\}(, "(gateway|port|tls|state)": ("a"|-?[0-9]{1,7}|true|null|\[\]|\{\}))?\}?"#
                .prop_map(String::into_bytes),
        ],
    ) {
        mock::install();
        let (name_of, json_of) = (Buffer::of(&name), Buffer::of(&json));
        let envoy = std::ptr::null_mut();
        let door = http::envoy_dynamic_module_on_http_filter_config_new(envoy, name_of, json_of);
        prop_assert!(door.is_null() || name == b"door");
        if !door.is_null() {
            http::envoy_dynamic_module_on_http_filter_config_destroy(door);
        }
        let host = early::envoy_dynamic_module_on_early_header_mutation_config_new(envoy, name_of, json_of);
        prop_assert!(host.is_null() || name == b"host");
        if !host.is_null() {
            early::envoy_dynamic_module_on_early_header_mutation_config_destroy(host);
        }
        let route = http::envoy_dynamic_module_on_http_filter_per_route_config_new(name_of, json_of);
        prop_assert!(route.is_null());
        prop_assert!(http::envoy_dynamic_module_on_http_filter_config_new(envoy, Buffer::NULL, Buffer::NULL).is_null());
    }
}
