//! How much a caller may send before anybody asks who calls.
//!
//! Envoy has two places for the limits of headers. What its codec refuses on HTTP/2 is a reset without a
//! word, and it counts each cookie there, of which a browser makes a header of its own. So the codec's
//! limits bound memory, and what is over the limits that we state is answered: see [`super::early`].

use envoy_types::pb::envoy::config::core::v3 as core;

use crate::ir::Edge;
use crate::xds::canon::{milliseconds, uint};

/// Header fields of a call; all cookies are one.
pub(super) const HEADERS: u32 = 100;

/// Bytes of names and values of headers, with the path.
pub(super) const HEADERS_BYTES: u32 = 64 << 10;

/// Of the codec. A browser keeps up to 180 cookies of a site.
const CODEC_HEADERS: u32 = 300;

/// Of the codec.
pub(super) const CODEC_HEADERS_KB: u32 = 96;

pub(super) fn connection() -> core::HttpProtocolOptions {
    use core::http_protocol_options::HeadersWithUnderscoresAction::Allow;
    core::HttpProtocolOptions {
        idle_timeout: milliseconds(60_000),
        max_connection_duration: milliseconds(3_600_000),
        max_headers_count: uint(CODEC_HEADERS),
        max_requests_per_connection: uint(10_000),
        // Refused elsewhere, where that can be said over HTTP/2, too.
        headers_with_underscores_action: Allow.into(),
        ..Default::default()
    }
}

/// No host is made up for a caller who names none.
pub(super) fn http1(edge: &Edge) -> core::Http1ProtocolOptions {
    core::Http1ProtocolOptions { accept_http_10: !edge.refuse_http10, ..Default::default() }
}

pub(super) fn http2() -> core::Http2ProtocolOptions {
    core::Http2ProtocolOptions {
        max_concurrent_streams: uint(100),
        initial_stream_window_size: uint(65_536),
        initial_connection_window_size: uint(1_048_576),
        max_outbound_frames: uint(1_000),
        max_consecutive_inbound_frames_with_empty_payload: uint(1),
        ..Default::default()
    }
}
