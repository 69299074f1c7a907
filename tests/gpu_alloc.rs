//! The token loop allocates nothing of its own.
//!
//! wgpu allocates for every command, so the loop is held against the same dispatches in the same submits with nothing read back
//! (`decode_unread`, which is wgpu's calls and no more): the difference must not grow with the tokens of a submit, and for each submit it
//! must be no more than what a bare read back costs with wgpu alone. Only allocations of this thread count: the driver has its own.

mod common;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    sync::Arc,
};

use common::tiny::Tiny;
use outcrop::backend::{Backend, Choice, Want, gpu::GpuOptions};

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: hands everything to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = COUNT.try_with(|count| count.set(count.get() + 1));
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations of `what`.
fn count(what: impl FnOnce()) -> usize {
    let before = COUNT.get();
    what();
    COUNT.get() - before
}

const SUBMITS: u32 = 4;

/// The fewest of several tries: a pool that is filled up once is no part of the loop.
fn least(mut what: impl FnMut() -> usize) -> usize {
    (0..5).map(|_| what()).min().unwrap()
}

/// What wgpu allocates for a submit that copies a small buffer, maps it and reads it.
fn bare_read_back() -> usize {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = wgpu::Backends::PRIMARY;
    let instance = wgpu::Instance::new(descriptor);
    let adapter = pollster::block_on(instance.request_adapter(&wgpu::RequestAdapterOptions::default())).unwrap();
    let (device, queue) = pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor::default())).unwrap();
    let buffer = |usage| {
        device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: 512,
            usage,
            mapped_at_creation: false,
        })
    };
    let from = buffer(wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::STORAGE);
    let to = buffer(wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ);
    let shared = Arc::new(());
    least(|| {
        count(|| {
            let mut encoder = device.create_command_encoder(&Default::default());
            encoder.copy_buffer_to_buffer(&from, 0, &to, 0, 512);
            let submission = queue.submit([encoder.finish()]);
            let held = shared.clone();
            to.map_async(wgpu::MapMode::Read, .., move |_| drop(held));
            let wait = wgpu::PollType::Wait {
                submission_index: Some(submission),
                timeout: None,
            };
            device.poll(wait).unwrap();
            drop(to.get_mapped_range(..).unwrap());
            to.unmap();
        })
    })
}

#[test]
fn the_token_loop_allocates_nothing() {
    let Some(gpu) = common::gpu::open(GpuOptions::default()) else {
        return;
    };
    let mut tiny = Tiny::with_ctx(gpu, 4096, 64, 64, |row, col| f32::from(u8::from(row == (col + 1) % 32)));
    let mut pos = 1;
    let mut extra = |choice: &Choice<'_>, n: u32| {
        assert!(pollster::block_on(tiny.gpu.begin_reply(&mut tiny.state, choice)).unwrap());
        tiny.pass(&[3], 0, Want::Chosen(1)).unwrap();
        let mut made = Vec::with_capacity(4096);
        pollster::block_on(tiny.gpu.fetch(&mut made)).unwrap();
        pos = 1;
        let mut submit = |tiny: &mut Tiny| {
            tiny.pass(&[], pos, Want::Chosen(n)).unwrap();
            pos += n;
        };
        // One is always queued behind the one that is read.
        submit(&mut tiny);
        let read = least(|| {
            count(|| {
                for _ in 0..SUBMITS {
                    submit(&mut tiny);
                    pollster::block_on(tiny.gpu.fetch(&mut made)).unwrap();
                }
            })
        });
        pollster::block_on(tiny.gpu.fetch(&mut made)).unwrap();
        assert_eq!(made.len() as u32, 1 + n * (1 + 5 * SUBMITS));
        let unread = least(|| count(|| pollster::block_on(tiny.gpu.decode_unread(&mut tiny.state, pos, n, SUBMITS)).unwrap()));
        // The end of that run waits for the device once.
        read as i64 - unread as i64
    };
    let sampled = Choice {
        greedy: false,
        temperature: 0.7,
        top_k: 20,
        top_p: 0.9,
        n_vocab: 64,
        ..Choice::GREEDY
    };
    let bare = bare_read_back();
    for (name, choice) in [("greedy", &Choice::GREEDY), ("sampled", &sampled)] {
        let by_n: Vec<i64> = [1, 4, 16].map(|n| extra(choice, n)).to_vec();
        println!("{name}: {by_n:?} more in {SUBMITS} submits of 1, 4 and 16 tokens; a bare read back takes {bare}");
        // A wait that finds its work done takes one less; an allocation a token would be sixty more.
        assert!(
            by_n.iter().all(|&n| n <= by_n[0] + i64::from(SUBMITS)),
            "{name}: grows with the tokens of a submit: {by_n:?}"
        );
        assert!(
            by_n.iter().all(|&n| n <= SUBMITS as i64 * bare as i64),
            "{name}: {by_n:?} against {bare}"
        );
    }
}
