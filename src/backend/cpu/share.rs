//! How one piece of work is cut for several threads.
//!
//! Cuts depend on sizes and the number of threads alone, and no sum is ever cut, so results have the same bits for any number.

use std::{marker::PhantomData, ops::Range};

/// What participant `i` of `n` takes of `len` things: a contiguous range, all of them within one of each other.
pub(super) fn part(len: usize, i: usize, n: usize) -> Range<usize> {
    len * i / n..len * (i + 1) / n
}

/// The same of `len` things that stay together in groups of `unit`; the last group may be short.
pub(super) fn part_of_units(len: usize, unit: usize, i: usize, n: usize) -> Range<usize> {
    let groups = part(len.div_ceil(unit), i, n);
    (groups.start * unit).min(len)..(groups.end * unit).min(len)
}

/// A slice that several threads write, each its own part.
#[derive(Clone, Copy)]
pub struct Shared<'a, T> {
    start: *mut T,
    len: usize,
    slice: PhantomData<&'a mut [T]>,
}

// SAFETY: parts are handed out by `part` alone, whose callers see to it that they do not overlap.
unsafe impl<T: Send> Send for Shared<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<'_, T> {}

impl<'a, T> Shared<'a, T> {
    /// Shares a slice for as long as it is borrowed.
    pub fn new(slice: &'a mut [T]) -> Self {
        Shared {
            start: slice.as_mut_ptr(),
            len: slice.len(),
            slice: PhantomData,
        }
    }

    /// Elements `start..start + len`.
    ///
    /// # Safety
    /// While the part lives, nobody else may hold one that overlaps it.
    ///
    /// # Panics
    /// If there are fewer elements.
    #[inline(always)]
    pub unsafe fn part(&self, start: usize, len: usize) -> &'a mut [T] {
        assert!(start <= self.len && len <= self.len - start, "a part outside of its slice");
        // SAFETY: inside the slice, which is borrowed for 'a; alone by contract.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(start), len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_lie_within_their_slice() {
        let mut slice = [0u8; 10];
        let shared = Shared::new(&mut slice);
        let part = |start, len| {
            // SAFETY: one at a time.
            std::panic::catch_unwind(|| unsafe { shared.part(start, len) }.len()).ok()
        };
        assert_eq!([part(0, 10), part(10, 0), part(3, 7)], [Some(10), Some(0), Some(7)]);
        assert_eq!(
            [part(11, 0), part(1, 10), part(usize::MAX, 1), part(1, usize::MAX)],
            [None; 4]
        );
    }

    #[test]
    fn parts_cover_everything_once() {
        for n in 1..9 {
            for (len, unit) in [(0, 1), (1, 1), (3, 8), (8, 8), (17, 8), (64, 8), (100, 7)] {
                let mut next = 0;
                for i in 0..n {
                    let range = part_of_units(len, unit, i, n);
                    assert_eq!(range.start, next, "part {i} of {n} of {len} in units of {unit}");
                    assert!(range.end >= range.start && (range.end.is_multiple_of(unit) || range.end == len));
                    next = range.end;
                }
                assert_eq!(next, len);
            }
        }
    }
}
