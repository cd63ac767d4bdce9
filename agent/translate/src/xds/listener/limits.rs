//! How much a caller may send before authentication.
//!
//! Envoy has two places for the limits of headers. Its codec answers a violation on HTTP/2 with a
//! reset, and counts each cookie, of which browsers send each in its own header. So the codec's
//! limits only bound memory, and violations of the stated limits are answered: see
//! [`super::early`].

use envoy_types::pb::envoy::config::core::v3 as core;

use crate::ir::Edge;
use crate::xds::canon::{milliseconds, uint};

/// Header fields of a call; all cookies count as one.
pub(super) const HEADERS: u32 = 100;

/// Bytes of names and values of headers, including the path.
pub(super) const HEADERS_BYTES: u32 = 64 << 10;

/// The codec's limit. A browser keeps up to 180 cookies per site.
const CODEC_HEADERS: u32 = 300;

/// The codec's limit.
pub(super) const CODEC_HEADERS_KB: u32 = 96;

pub(super) fn connection() -> core::HttpProtocolOptions {
    use core::http_protocol_options::HeadersWithUnderscoresAction::Allow;
    core::HttpProtocolOptions {
        idle_timeout: milliseconds(60_000),
        max_connection_duration: milliseconds(3_600_000),
        max_headers_count: uint(CODEC_HEADERS),
        max_requests_per_connection: uint(10_000),
        // Refused elsewhere, where HTTP/2 callers also get an answer.
        headers_with_underscores_action: Allow.into(),
        ..Default::default()
    }
}

/// Refuses callers without a host instead of using a default host.
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
