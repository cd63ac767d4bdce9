//! Calls that are refused before their body has ended.

use super::*;
use crate::abi::body_status;
use crate::upload::MOST_BYTES;

fn upload(publish: &str) -> Mock {
    Mock { protocol: Some("HTTP/1.1"), ..to(publish) }.with(":method", "POST")
}

impl Stream {
    fn begins(&self, mock: &Mock) -> u32 {
        let hook = http::envoy_dynamic_module_on_http_filter_request_headers;
        hook(mock.pointer(), self.filter, false)
    }

    fn part(&self, mock: &Mock, bytes: usize, end_of_stream: bool) -> u32 {
        mock.received.set(bytes);
        let hook = http::envoy_dynamic_module_on_http_filter_request_body;
        hook(mock.pointer(), self.filter, end_of_stream)
    }

    fn trailers(&self, mock: &Mock) -> u32 {
        let hook = http::envoy_dynamic_module_on_http_filter_request_trailers;
        hook(mock.pointer(), self.filter)
    }
}

/// The status of the answer, and how many there are.
fn answered(mock: &Mock) -> (Option<u32>, usize) {
    let answer = mock.answer.borrow().as_ref().map(|answer| answer.status);
    (answer, mock.answers.get())
}

#[test]
fn a_refusal_waits_for_the_end_of_the_body() {
    let state = state();
    for ends_with_trailers in [false, true] {
        let mock = upload("closed");
        let stream = Stream::open(&state, &mock);
        assert_eq!(stream.begins(&mock), status::STOP);
        for _ in 0..3 {
            assert_eq!(stream.part(&mock, 1 << 20, false), body_status::DISCARD);
            assert_eq!(answered(&mock), (None, 0));
        }
        match ends_with_trailers {
            true => assert_eq!(stream.trailers(&mock), status::STOP),
            false => assert_eq!(stream.part(&mock, 0, true), body_status::DISCARD),
        }
        assert_eq!(answered(&mock), (Some(401), 1));
        // Nothing that Envoy may still say changes that.
        assert_eq!(stream.part(&mock, 1, true), body_status::DISCARD);
        assert_eq!(stream.trailers(&mock), status::STOP);
        stream.close(&mock);
        assert_eq!(answered(&mock), (Some(401), 1));
    }
}

#[test]
fn a_refused_upload_counts_once() {
    let state = state();
    let with_key = || upload("closed").with("x-api-key", KEY);
    for _ in 0..2 {
        assert_eq!(call(&state, &with_key()), status::CONTINUE);
    }
    let mock = with_key();
    let stream = Stream::open(&state, &mock);
    assert_eq!(stream.begins(&mock), status::STOP);
    stream.part(&mock, 1000, false);
    stream.part(&mock, 1000, true);
    stream.close(&mock);
    assert_eq!(answered(&mock), (Some(429), 1));
    let (_, counters) = state.engine.usage_changed_since(0);
    let counted: Vec<_> = counters.iter().map(|it| (it.allowed, it.limited)).collect();
    assert_eq!(counted, [(2, 1)]);
}

#[test]
fn a_body_without_an_end_is_answered_when_it_is_too_large() {
    let mock = upload("closed");
    let stream = Stream::open(&state(), &mock);
    assert_eq!(stream.begins(&mock), status::STOP);
    let part = 1 << 20;
    for _ in 0..MOST_BYTES / part {
        assert_eq!(stream.part(&mock, part as usize, false), body_status::DISCARD);
    }
    assert_eq!(answered(&mock).1, 0);
    assert_eq!(stream.part(&mock, 1, false), body_status::DISCARD);
    assert_eq!(answered(&mock), (Some(401), 1));
    stream.close(&mock);
}

#[test]
fn who_need_not_wait_does_not() {
    let state = state();
    let http = |protocol| Mock { protocol, ..to("closed") }.with(":method", "POST");
    for mock in [
        http(Some("HTTP/2")),
        http(Some("HTTP/3")),
        http(None),
        upload("closed").with("expect", "100-continue"),
        upload("closed").with("content-length", (MOST_BYTES + 1).to_string()),
        upload("closed").with("content-length", "a lot"),
        upload("closed").with("upgrade", "websocket"),
        Mock { protocol: Some("HTTP/1.1"), ..to("closed") }.with(":method", "CONNECT"),
    ] {
        let stream = Stream::open(&state, &mock);
        assert_eq!(stream.begins(&mock), status::STOP);
        assert_eq!(answered(&mock), (Some(401), 1), "{:?}", mock.request.borrow());
        assert_eq!(stream.part(&mock, 1, false), body_status::DISCARD);
        stream.close(&mock);
    }
    let mock = upload("closed").with("content-length", MOST_BYTES.to_string());
    let stream = Stream::open(&state, &mock);
    assert_eq!(stream.begins(&mock), status::STOP);
    assert_eq!(answered(&mock).1, 0);
    stream.close(&mock);
}

#[test]
fn a_call_that_leads_nowhere_goes_there_after_its_body() {
    let mock = Mock { protocol: Some("HTTP/1.0"), ..Mock::default() }.with("x-imp-host", "!421");
    let stream = Stream::open(&state(), &mock);
    assert_eq!(stream.begins(&mock), status::STOP);
    assert_eq!(stream.part(&mock, 1000, false), body_status::DISCARD);
    assert_eq!(stream.part(&mock, 1000, true), body_status::CONTINUE);
    assert_eq!(answered(&mock).1, 0);
    stream.close(&mock);
}

#[test]
fn the_body_of_an_admitted_call_goes_on() {
    let mock = upload("open");
    let stream = Stream::open(&state(), &mock);
    assert_eq!(stream.begins(&mock), status::CONTINUE);
    assert_eq!(stream.part(&mock, 1 << 30, false), body_status::CONTINUE);
    assert_eq!(stream.part(&mock, 1, false), body_status::CONTINUE);
    assert_eq!(stream.trailers(&mock), status::CONTINUE);
    stream.close(&mock);
}

#[test]
fn a_fault_in_the_middle_of_a_body_refuses_the_call() {
    let state = state();
    for publish in ["closed", "open"] {
        let mock = upload(publish);
        let stream = Stream::open(&state, &mock);
        stream.begins(&mock);
        state.fails.store(true, Ordering::Relaxed);
        assert_eq!(stream.part(&mock, 1, false), body_status::DISCARD);
        assert_eq!(answered(&mock), (Some(500), 1), "{publish}");
        assert_eq!(stream.part(&mock, 1, true), body_status::DISCARD);
        state.fails.store(true, Ordering::Relaxed);
        assert_eq!(stream.trailers(&mock), status::STOP);
        stream.close(&mock);
    }
    state.fails.store(false, Ordering::Relaxed);
}

#[test]
fn an_answer_in_the_middle_of_a_body_may_run_the_hooks_of_its_own_stream() {
    let mock = upload("closed");
    let stream = Stream::open(&state(), &mock);
    stream.begins(&mock);
    let (pointer, filter) = (mock.pointer(), stream.filter);
    mock.on_answer.set(Some(Box::new(move || {
        let body = http::envoy_dynamic_module_on_http_filter_request_body;
        assert_eq!(body(pointer, filter, true), body_status::DISCARD);
        http::envoy_dynamic_module_on_http_filter_response_headers(pointer, filter, true);
        http::envoy_dynamic_module_on_http_filter_stream_complete(pointer, filter);
    })));
    assert_eq!(stream.part(&mock, 1, true), body_status::DISCARD);
    assert_eq!(answered(&mock), (Some(401), 1));
    stream.close(&mock);
}
