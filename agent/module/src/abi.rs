//! Envoy's ABI of dynamic modules, as far as this module uses it: version `v0.2.0`, which is Envoy
//! 1.40. Written from the ABI's names, argument orders and layouts; no code of Envoy's kits is used.
//!
//! Callbacks are looked up by name when Envoy loads the module. An Envoy that lacks one refuses the
//! module instead of failing at the first call, and tests put their own in place.
#![expect(unsafe_code, reason = "the C ABI of Envoy")]

use std::ffi::{CStr, c_char, c_void};
use std::sync::OnceLock;

macro_rules! version {
    () => {
        "v0.2.0"
    };
}

/// The ABI's version, which Envoy compares with its own. A difference is a warning in its log, no
/// refusal; that callbacks are there is what `Callbacks::resolve` checks.
pub const VERSION: &str = version!();

/// The same as C has it.
pub(crate) const C_VERSION: &CStr =
    match CStr::from_bytes_with_nul(concat!(version!(), "\0").as_bytes()) {
        Ok(version) => version,
        Err(_) => c"",
    };

/// What the file of a build says of itself; see [`crate::file`].
const SAYS: &str = concat!("imp-module:", version!(), ":", env!("CARGO_PKG_VERSION"), ";");

/// Exported, so that no linker leaves it out.
#[unsafe(no_mangle)]
static IMP_MODULE_SAYS: [u8; SAYS.len()] = {
    let mut says = [0; SAYS.len()];
    says.copy_from_slice(SAYS.as_bytes());
    says
};

/// An object of Envoy's, or of ours in Envoy's hands.
pub(crate) type Pointer = *mut c_void;

/// Bytes of the other side.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Buffer {
    data: *const u8,
    length: usize,
}

impl Buffer {
    /// No bytes. As the value of a header: remove it.
    pub(crate) const NULL: Self = Self { data: std::ptr::null(), length: 0 };

    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self { data: bytes.as_ptr(), length: bytes.len() }
    }

    /// The bytes themselves.
    ///
    /// # Safety
    /// As for [`Self::copied`], for as long as they are used.
    pub(crate) unsafe fn bytes<'a>(self) -> &'a [u8] {
        if self.is_null() {
            return &[];
        }
        // SAFETY: not null, and the caller vouches for the rest.
        unsafe { std::slice::from_raw_parts(self.data, self.length) }
    }

    pub(crate) fn is_null(self) -> bool {
        self.data.is_null()
    }

    /// A copy. Envoy's bytes are valid until the next call into Envoy, so nothing here keeps them.
    ///
    /// # Safety
    /// `data` is null, or points to `length` bytes that nobody writes meanwhile.
    pub(crate) unsafe fn copied(self) -> Vec<u8> {
        // SAFETY: the caller vouches for it.
        unsafe { self.bytes() }.to_vec()
    }
}

/// A header, of ours or of Envoy's.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    pub(crate) name: Buffer,
    pub(crate) value: Buffer,
}

impl Header {
    pub(crate) fn of(name: &str, value: &str) -> Self {
        Self { name: Buffer::of(name.as_bytes()), value: Buffer::of(value.as_bytes()) }
    }
}

/// Which headers.
pub(crate) mod map {
    pub(crate) const REQUEST: u32 = 0;
    pub(crate) const RESPONSE: u32 = 2;
}

/// What a hook for headers or trailers tells Envoy.
pub(crate) mod status {
    pub(crate) const CONTINUE: u32 = 0;
    /// This filter has answered, or will.
    pub(crate) const STOP: u32 = 1;
}

/// What a hook for a part of a body tells Envoy.
pub(crate) mod body_status {
    /// After a hook that stopped, everything goes on from here.
    pub(crate) const CONTINUE: u32 = 0;
    /// No filter behind this one sees the part, and nothing keeps it.
    pub(crate) const DISCARD: u32 = 3;
}

/// Whose body: the part of the request that has just come.
pub(crate) const RECEIVED_REQUEST: u32 = 0;

/// Whose metadata.
pub(crate) const OF_ROUTE: u32 = 1;

/// Attributes, by their position in Envoy's enumeration.
pub(crate) mod attribute {
    pub(crate) const PROTOCOL: u32 = 10;
    pub(crate) const RESPONSE_CODE: u32 = 15;
    pub(crate) const RESPONSE_SIZE: u32 = 21;
    pub(crate) const REQUEST_SIZE: u32 = 13;
    pub(crate) const SERVER_NAME: u32 = 30;
}

/// Levels of Envoy's log.
pub(crate) mod level {
    pub(crate) const INFO: u32 = 2;
    pub(crate) const WARN: u32 = 3;
    pub(crate) const ERROR: u32 = 4;
}

/// Declares a table of callbacks, and their names.
macro_rules! callbacks {
    (
        $(#[$of_table:meta])* $table:ident, $(#[$of_names:meta])* $names:ident, $types:ident:
        $($name:ident($($argument:ty),*) $(-> $result:ty)?;)*
    ) => {
        $(#[$of_table])*
        #[derive(Clone, Copy)]
        pub(crate) struct $table {
            $(pub(crate) $name: unsafe extern "C" fn($($argument),*) $(-> $result)?,)*
        }

        $(#[$of_names])*
        pub const $names: &[&str] =
            &[$(concat!("envoy_dynamic_module_callback_", stringify!($name)),)*];

        /// What is taken and returned, as it is written here.
        #[cfg(test)]
        const $types: &[(&str, &[&str], &str)] = &[$((
            concat!("envoy_dynamic_module_callback_", stringify!($name)),
            &[$(stringify!($argument)),*],
            concat!($(stringify!($result))?),
        ),)*];

        impl $table {
            /// Looks them up in the process that loaded this library. `Err` has the name of the
            /// first that is missing.
            pub(crate) fn resolve() -> Result<Self, &'static str> {
                Ok(Self {
                    $($name: {
                        const NAME: &str =
                            concat!("envoy_dynamic_module_callback_", stringify!($name), "\0");
                        let found = symbol(NAME).ok_or(NAME.trim_end_matches('\0'))?;
                        // SAFETY: the function of this name in Envoy has this type.
                        unsafe {
                            std::mem::transmute::<
                                Pointer,
                                unsafe extern "C" fn($($argument),*) $(-> $result)?,
                            >(found)
                        }
                    },)*
                })
            }
        }
    };
}

callbacks! {
    /// Envoy's functions for modules, without which the module is not loaded.
    Callbacks,
    /// The names that an Envoy must export.
    NAMES, TYPES:

    log(u32, Buffer);
    is_validation_mode() -> bool;

    http_get_header(Pointer, u32, Buffer, *mut Buffer, usize, *mut usize) -> bool;
    http_get_headers_size(Pointer, u32) -> usize;
    http_get_headers(Pointer, u32, *mut Header) -> bool;
    http_set_header(Pointer, u32, Buffer, Buffer) -> bool;
    http_add_header(Pointer, u32, Buffer, Buffer) -> bool;
    http_send_response(Pointer, u32, *const Header, usize, Buffer, Buffer);
    http_send_response_headers(Pointer, *const Header, usize, bool);
    http_get_metadata_string(Pointer, u32, Buffer, Buffer, *mut Buffer) -> bool;
    http_get_cluster_name(Pointer, *mut Buffer) -> bool;
    http_get_body_size(Pointer, u32) -> usize;
    http_filter_get_attribute_int(Pointer, u32, *mut u64) -> bool;
    http_filter_get_attribute_string(Pointer, u32, *mut Buffer) -> bool;
}

callbacks! {
    /// Those of Envoy 1.40 and newer, for what happens before a route is looked up.
    EarlyCallbacks,
    /// The names that an Envoy exports which has them.
    EARLY_NAMES, EARLY_TYPES:

    early_header_mutation_get_header_value(Pointer, Buffer, *mut Buffer, usize, *mut usize) -> bool;
    early_header_mutation_set_header(Pointer, Buffer, Buffer) -> bool;
    early_header_mutation_get_attribute_string(Pointer, u32, *mut Buffer) -> bool;
}

/// The address of a function of the process; `name` ends with a zero byte.
fn symbol(name: &'static str) -> Option<Pointer> {
    let name: *const c_char = name.as_ptr().cast();
    // SAFETY: `name` is a C string in static memory.
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name) };
    (!found.is_null()).then_some(found)
}

static TABLE: OnceLock<(Callbacks, Option<EarlyCallbacks>)> = OnceLock::new();

/// Puts the callbacks in place, those of this process once.
pub(crate) fn install(callbacks: Callbacks, early: Option<EarlyCallbacks>) {
    // Envoy calls the initialisation once; tests each bring the same table.
    let _kept = TABLE.set((callbacks, early));
}

/// The callbacks; `None` before [`install`], when Envoy calls nothing of ours.
pub(crate) fn callbacks() -> Option<&'static Callbacks> {
    TABLE.get().map(|(callbacks, _)| callbacks)
}

/// Those for what happens before a route is looked up; `None` in an Envoy that is older.
pub(crate) fn early_callbacks() -> Option<&'static EarlyCallbacks> {
    TABLE.get().and_then(|(_, early)| early.as_ref())
}

/// Keeps this library in memory until the process ends, whatever Envoy's configuration says: its
/// thread must never run code that is gone.
pub(crate) fn stay_loaded(of_this_library: *const c_void) {
    let mut info = std::mem::MaybeUninit::<libc::Dl_info>::zeroed();
    // SAFETY: an address of this library, and space for the answer.
    if unsafe { libc::dladdr(of_this_library, info.as_mut_ptr()) } == 0 {
        return;
    }
    // SAFETY: all zeros is a value of it, and dladdr has filled it in.
    let info = unsafe { info.assume_init() };
    let flags = libc::RTLD_LAZY | libc::RTLD_NOLOAD | libc::RTLD_NODELETE;
    // SAFETY: the name of a library that is loaded; it is opened once more and never closed.
    unsafe { libc::dlopen(info.dli_fname, flags) };
}

#[cfg(test)]
pub(crate) mod tests;
