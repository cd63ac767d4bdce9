//! Counts what the module allocates, without what the mock does.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
    /// While this is not 0, Envoy's side runs.
    static ENVOYS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

fn count() {
    if ENVOYS.get() == 0 {
        COUNT.set(COUNT.get() + 1);
    }
}

// SAFETY: the system's allocator does it all.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// Envoy's side, until it is dropped.
pub(crate) struct Envoys;

/// What this thread allocates from now on is not the module's.
pub(crate) fn envoys() -> Envoys {
    ENVOYS.set(ENVOYS.get() + 1);
    Envoys
}

impl Drop for Envoys {
    fn drop(&mut self) {
        ENVOYS.set(ENVOYS.get() - 1);
    }
}

/// How often `work` allocates on this thread.
pub(crate) fn of(work: impl FnOnce()) -> u64 {
    let before = COUNT.get();
    work();
    COUNT.get() - before
}
