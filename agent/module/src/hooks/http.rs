//! The HTTP filter that decides about calls.

use std::ffi::c_void;
use std::sync::Arc;

use crate::abi::{Buffer, Pointer, body_status, status};
use crate::answer::{self, Refusal};
use crate::door::{Admitted, Door};
use crate::envoy::{self, Stream};
use crate::faults::{self, guard};
use crate::upload::Upload;
use crate::{config, start};

/// The filter's name in Envoy's configuration.
const NAME: &str = "door";

#[unsafe(no_mangle)]
pub(super) extern "C" fn envoy_dynamic_module_on_http_filter_config_new(
    _envoy: Pointer,
    name: Buffer,
    json: Buffer,
) -> *const c_void {
    guard(std::ptr::null(), || {
        // SAFETY: Envoy's bytes are valid while this hook runs.
        let (name, json) = unsafe { (name.copied(), json.copied()) };
        let made = config::parse::<config::Door>(NAME, &name, &json)
            .and_then(|config| Ok(Door::new(start::shared(&config.state)?, config.gateway)));
        match made {
            Ok(door) => Arc::into_raw(Arc::new(door)).cast(),
            Err(error) => {
                envoy::error(&format!("HTTP filter refused: {error}"));
                std::ptr::null()
            }
        }
    })
}

#[unsafe(no_mangle)]
pub(super) extern "C" fn envoy_dynamic_module_on_http_filter_config_destroy(config: *const c_void) {
    // SAFETY: made by the hook above, and Envoy destroys it once. Streams have their own share.
    guard((), || drop(unsafe { Arc::from_raw(config.cast::<Door>()) }));
}

/// Null makes Envoy refuse the route: what a route says of itself is in its metadata, so that
/// configuration here would have no effect.
#[unsafe(no_mangle)]
pub(super) extern "C" fn envoy_dynamic_module_on_http_filter_per_route_config_new(
    _name: Buffer,
    _config: Buffer,
) -> *const c_void {
    guard((), || envoy::error("routes have no configuration for this module: use metadata"));
    std::ptr::null()
}

#[unsafe(no_mangle)]
pub(super) extern "C" fn envoy_dynamic_module_on_http_filter_per_route_config_destroy(
    _: *const c_void,
) {
}

/// One stream.
struct Filter {
    door: Arc<Door>,
    admitted: Admitted,
    upload: Upload,
}

impl Filter {
    /// A fault refuses the call, whatever part of it has come.
    fn fails(&self, stream: Stream) {
        guard((), || faults::count(self.door.state()));
        self.upload.close();
        guard((), || Refusal::own(&answer::INTERNAL, false, "").send(stream));
    }
}

#[unsafe(no_mangle)]
pub(super) extern "C" fn envoy_dynamic_module_on_http_filter_new(
    config: *const c_void,
    _stream: Pointer,
) -> *const c_void {
    guard(std::ptr::null(), || {
        let config = config.cast::<Door>();
        // SAFETY: made by `Arc::into_raw` above and not yet destroyed; counted once more.
        let door = unsafe {
            Arc::increment_strong_count(config);
            Arc::from_raw(config)
        };
        let filter = Filter { door, admitted: Admitted::default(), upload: Upload::default() };
        Box::into_raw(Box::new(filter)).cast_const().cast()
    })
}

#[unsafe(no_mangle)]
pub(super) extern "C" fn envoy_dynamic_module_on_http_filter_destroy(filter: *const c_void) {
    // SAFETY: made by the hook above, and Envoy destroys it once, after its last hook.
    guard((), || drop(unsafe { Box::from_raw(filter.cast_mut().cast::<Filter>()) }));
}

/// Decides.
#[unsafe(no_mangle)]
pub(super) extern "C" fn envoy_dynamic_module_on_http_filter_request_headers(
    stream: Pointer,
    filter: *const c_void,
    end_of_stream: bool,
) -> u32 {
    // SAFETY: Envoy's pointer for this call.
    let Some(stream) = (unsafe { Stream::of(stream) }) else { return status::STOP };
    // SAFETY: made above, and destroyed after the last hook. Shared: see the module's comment.
    let filter = unsafe { &*filter.cast::<Filter>() };
    let said = guard(None, || {
        Some(match filter.door.decide(stream, &filter.admitted) {
            Ok(()) => status::CONTINUE,
            Err(end) => filter.upload.end(stream, end, end_of_stream),
        })
    });
    said.unwrap_or_else(|| {
        filter.fails(stream);
        status::STOP
    })
}

/// The body of a refused call goes nowhere: to continue here would let the call pass.
#[unsafe(no_mangle)]
pub(super) extern "C" fn envoy_dynamic_module_on_http_filter_request_body(
    stream: Pointer,
    filter: *const c_void,
    end_of_stream: bool,
) -> u32 {
    // SAFETY: Envoy's pointer for this call.
    let Some(stream) = (unsafe { Stream::of(stream) }) else { return body_status::DISCARD };
    // SAFETY: made above, and destroyed after the last hook.
    let filter = unsafe { &*filter.cast::<Filter>() };
    let said = guard(None, || {
        #[cfg(test)]
        filter.door.state().may_fail();
        Some(filter.upload.part(stream, end_of_stream))
    });
    said.unwrap_or_else(|| {
        filter.fails(stream);
        body_status::DISCARD
    })
}

#[unsafe(no_mangle)]
pub(super) extern "C" fn envoy_dynamic_module_on_http_filter_request_trailers(
    stream: Pointer,
    filter: *const c_void,
) -> u32 {
    // SAFETY: Envoy's pointer for this call.
    let Some(stream) = (unsafe { Stream::of(stream) }) else { return status::STOP };
    // SAFETY: made above, and destroyed after the last hook.
    let filter = unsafe { &*filter.cast::<Filter>() };
    let said = guard(None, || {
        #[cfg(test)]
        filter.door.state().may_fail();
        Some(filter.upload.trailers(stream))
    });
    said.unwrap_or_else(|| {
        filter.fails(stream);
        status::STOP
    })
}

#[unsafe(no_mangle)]
pub(super) extern "C" fn envoy_dynamic_module_on_http_filter_response_headers(
    stream: Pointer,
    filter: *const c_void,
    _end_of_stream: bool,
) -> u32 {
    guard((), || {
        // SAFETY: Envoy's pointer for this call.
        let Some(stream) = (unsafe { Stream::of(stream) }) else { return };
        // SAFETY: made above, and destroyed after the last hook.
        unsafe { &*filter.cast::<Filter>() }.admitted.write(stream);
    });
    status::CONTINUE
}

#[unsafe(no_mangle)]
pub(super) extern "C" fn envoy_dynamic_module_on_http_filter_stream_complete(
    stream: Pointer,
    filter: *const c_void,
) {
    guard((), || {
        // SAFETY: Envoy's pointer for this call.
        let Some(stream) = (unsafe { Stream::of(stream) }) else { return };
        // SAFETY: made above, and destroyed after the last hook.
        unsafe { &*filter.cast::<Filter>() }.admitted.finish(stream);
    });
}

/// Hooks that Envoy requires of every filter, and for which there is nothing to do.
macro_rules! passed {
    ($($name:ident($($argument:ty),*) $(-> $status:expr)?;)*) => { $(passed!(@ $name($($argument),*) $($status)?);)* };
    (@ $name:ident($($argument:ty),*) $status:expr) => {
        #[unsafe(no_mangle)]
        extern "C" fn $name($(_: $argument),*) -> u32 { $status }
    };
    (@ $name:ident($($argument:ty),*)) => {
        #[unsafe(no_mangle)]
        extern "C" fn $name($(_: $argument),*) {}
    };
}

passed! {
    envoy_dynamic_module_on_http_filter_response_body(Pointer, Pointer, bool) -> 0;
    envoy_dynamic_module_on_http_filter_response_trailers(Pointer, Pointer) -> 0;
    envoy_dynamic_module_on_http_filter_scheduled(Pointer, Pointer, u64);
    envoy_dynamic_module_on_http_filter_http_callout_done(Pointer, Pointer, u64, u32, Pointer, usize, Pointer, usize);
    envoy_dynamic_module_on_http_filter_http_stream_headers(Pointer, Pointer, u64, Pointer, usize, bool);
    envoy_dynamic_module_on_http_filter_http_stream_data(Pointer, Pointer, u64, Pointer, usize, bool);
    envoy_dynamic_module_on_http_filter_http_stream_trailers(Pointer, Pointer, u64, Pointer, usize);
    envoy_dynamic_module_on_http_filter_http_stream_complete(Pointer, Pointer, u64);
    envoy_dynamic_module_on_http_filter_http_stream_reset(Pointer, Pointer, u64, u32);
    envoy_dynamic_module_on_http_filter_downstream_above_write_buffer_high_watermark(Pointer, Pointer);
    envoy_dynamic_module_on_http_filter_downstream_below_write_buffer_low_watermark(Pointer, Pointer);
}
