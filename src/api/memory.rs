//! Memory's end. Whatever has a size that a model or a caller chooses fails with [`crate::Error::OutOfMemory`]; an allocation that cannot fail
//! ends in a trap that carries no word of why. So the allocator is std's, and notes what it could not give.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicUsize, Ordering},
};

struct Noting;

#[global_allocator]
static ALLOCATOR: Noting = Noting;

/// Of the last allocation that failed.
static MISSING: AtomicUsize = AtomicUsize::new(0);

/// Passes on what the allocator gave for so many bytes.
fn noted(given: *mut u8, bytes: usize) -> *mut u8 {
    if given.is_null() {
        MISSING.store(bytes, Ordering::Relaxed);
    }
    given
}

// SAFETY: every call is passed on to `System` unchanged.
unsafe impl GlobalAlloc for Noting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        noted(unsafe { System.alloc(layout) }, layout.size())
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        noted(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }
    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        noted(unsafe { System.realloc(ptr, layout, bytes) }, bytes)
    }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        unsafe { System.dealloc(ptr, layout) }
    }
}

/// See [`super::missing_bytes`].
pub(super) fn missing_bytes() -> usize {
    MISSING.load(Ordering::Relaxed)
}
