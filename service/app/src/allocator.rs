//! The binary's allocator: mimalloc, and what of it is set otherwise than by default.
//!
//! Events are allocated on the thread that reads them and freed on the one that decides: glibc's allocator spent a quarter of a
//! backtest's time on that. Not by the crate `mimalloc`, which asks for every block with its alignment: where the free list of a
//! size is empty, mimalloc then takes a larger block, lest it should not be aligned, and in a service whose memory grows that is
//! many a time.

use libmimalloc_sys as sys;
use std::alloc::{GlobalAlloc, Layout};

/// What mimalloc aligns every block to that is as large, like C's `malloc`.
const NATURAL_ALIGN: usize = 16;

/// How long freed memory is kept before it goes back to the system: by default a page that a journal batch leaves empty
/// is given back within milliseconds and cleared again for the next one, which took a tenth of a decision's time.
const KEEP_FREED_MS: std::ffi::c_long = 10_000;

/// Number of mimalloc's option `purge_delay` in `mimalloc.h`.
const PURGE_DELAY: sys::mi_option_t = 15;

/// Sets the options; to be called before there is a second thread.
pub(crate) fn configure() {
    #[expect(unsafe_code, reason = "mimalloc's options have no safe form; this one is a number, set before any thread")]
    unsafe {
        sys::mi_option_set(PURGE_DELAY, KEEP_FREED_MS);
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Mimalloc;

const fn is_natural(align: usize, size: usize) -> bool {
    align <= NATURAL_ALIGN && align <= size
}

#[expect(unsafe_code, reason = "an allocator has no safe form; each function passes on what its caller vouches for")]
unsafe impl GlobalAlloc for Mimalloc {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let (size, align) = (layout.size(), layout.align());
        if is_natural(align, size) {
            // SAFETY: any size may be asked for.
            unsafe { sys::mi_malloc(size) }.cast()
        } else {
            // SAFETY: a layout's alignment is a power of two.
            unsafe { sys::mi_malloc_aligned(size, align) }.cast()
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let (size, align) = (layout.size(), layout.align());
        if is_natural(align, size) {
            // SAFETY: as above.
            unsafe { sys::mi_zalloc(size) }.cast()
        } else {
            // SAFETY: as above.
            unsafe { sys::mi_zalloc_aligned(size, align) }.cast()
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, _layout: Layout) {
        // SAFETY: the caller has it from here and uses it no more.
        unsafe { sys::mi_free(block.cast()) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if is_natural(layout.align(), size) {
            // SAFETY: the caller has it from here, and uses only what this returns.
            unsafe { sys::mi_realloc(block.cast(), size) }.cast()
        } else {
            // SAFETY: as above; a layout's alignment is a power of two.
            unsafe { sys::mi_realloc_aligned(block.cast(), size, layout.align()) }.cast()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(unsafe_code, reason = "it calls an allocator")]
    fn blocks_are_aligned_zeroed_and_keep_what_they_hold() {
        for align in [1, 2, 4, 8, 16, 32, 64, 128, 4_096] {
            for size in (1..300).chain([1_000, 1_025, 4_100, 70_000, 3_000_000]) {
                let layout = Layout::from_size_align(size, align).expect("a layout");
                let holds = |block: *mut u8, byte: u8, size: usize| {
                    assert!(block.addr().is_multiple_of(align), "{size} bytes at {align}");
                    // SAFETY: the block is as large, and written.
                    let bytes = unsafe { std::slice::from_raw_parts(block, size) };
                    assert!(bytes.iter().all(|found| *found == byte), "{size} bytes at {align}");
                };
                // SAFETY: each block is used with its layout, within its size, until it is freed or grown.
                unsafe {
                    let zeroed = Mimalloc.alloc_zeroed(layout);
                    holds(zeroed, 0, size);
                    let block = Mimalloc.alloc(layout);
                    block.write_bytes(7, size);
                    let grown = Mimalloc.realloc(block, layout, 3 * size);
                    holds(grown, 7, size);
                    let grown_layout = Layout::from_size_align(3 * size, align).expect("a layout");
                    let shrunk = Mimalloc.realloc(grown, grown_layout, size.div_ceil(2));
                    holds(shrunk, 7, size.div_ceil(2));
                    Mimalloc.dealloc(shrunk, Layout::from_size_align(size.div_ceil(2), align).expect("a layout"));
                    zeroed.write_bytes(9, size);
                    Mimalloc.dealloc(zeroed, layout);
                }
            }
        }
    }
}
