//! What both programs ask of the kernel and their allocators at the start of `main`, so that they keep
//! little memory. Apart from other packages because the calls are C's, and so unsafe in Rust.
//!
//! Figures are in `agent/README.md` and `control/README.md`.

/// Has the kernel give this process small pages only, whatever its setting for huge ones. With huge
/// pages each spot of two mebibytes that is touched counts as a whole, and what an allocator returns of
/// it may be filled again. mimalloc asks for them.
pub fn small_pages_only() {
    #[cfg(target_os = "linux")]
    {
        let (yes, unused): (libc::c_ulong, libc::c_ulong) = (1, 0);
        // SAFETY: it takes numbers and changes no memory that is there. A kernel that does not know it
        // returns an error.
        #[expect(unsafe_code, reason = "prctl is a call to C")]
        let _not_known =
            unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, yes, unused, unused, unused) };
    }
}

/// Has glibc's allocator share two arenas among all threads. By default there are eight for each core, and
/// what one of them has freed the others do not use. Call it before there are threads.
pub fn two_arenas() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: it takes numbers, and no other thread allocates yet.
        #[expect(unsafe_code, reason = "mallopt is a call to C")]
        let _not_known = unsafe {
            libc::mallopt(libc::M_ARENA_MAX, 2);
            // Otherwise both thresholds grow with the largest block that was ever freed.
            libc::mallopt(libc::M_TRIM_THRESHOLD, TRIM)
        };
    }
}

/// Bytes at the end of the heap above which they are returned: glibc's own first value.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const TRIM: libc::c_int = 128 * 1024;

#[cfg(feature = "mimalloc")]
mod returning {
    use std::ffi::{c_int, c_long};

    // So that it is linked.
    use mimalloc as _;

    /// `mi_option_purge_delay` of `mimalloc.h`: milliseconds until freed pages are returned.
    pub(super) const PURGE_DELAY: c_int = 15;

    #[expect(unsafe_code, reason = "mimalloc's options are calls to C")]
    unsafe extern "C" {
        pub(super) fn mi_option_set(option: c_int, value: c_long);
        #[cfg(test)]
        pub(super) fn mi_option_get(option: c_int) -> c_long;
    }
}

/// Has mimalloc return freed pages at once. By default it returns them a second later, when it is asked
/// for something: what a burst left stays while nothing happens afterwards.
#[cfg(feature = "mimalloc")]
pub fn return_at_once() {
    // SAFETY: it takes numbers, and may be called at any time.
    #[expect(unsafe_code, reason = "mi_option_set is a call to C")]
    unsafe {
        returning::mi_option_set(returning::PURGE_DELAY, 0);
    }
}

#[cfg(test)]
mod tests {
    #[cfg(target_os = "linux")]
    #[test]
    fn the_kernel_gives_small_pages_only() {
        super::small_pages_only();
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        // Older kernels do not tell.
        let told = status.lines().find_map(|line| line.strip_prefix("THP_enabled:"));
        assert!(told.is_none_or(|enabled| enabled.trim() == "0"), "{told:?}");
    }

    /// The number of the option is mimalloc's: by its default it is recognised.
    #[cfg(feature = "mimalloc")]
    #[test]
    fn the_option_is_the_delay_of_returns() {
        use super::returning::{PURGE_DELAY, mi_option_get};
        // SAFETY: it takes a number.
        #[expect(unsafe_code, reason = "mi_option_get is a call to C")]
        let delay = || unsafe { mi_option_get(PURGE_DELAY) };
        assert_eq!(delay(), 1_000);
        super::return_at_once();
        assert_eq!(delay(), 0);
    }
}
