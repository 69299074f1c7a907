//! The CPU backend when there is no more memory: whichever allocation fails, an error with the code `out_of_memory`, and the next
//! attempt with more memory works. And what a token takes: nothing, once there is room.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use common::oracle::Oracle;
use outcrop::backend::cpu::{Cpu, Pool, State};
use outcrop::backend::{KvType, Pass, Want};
use outcrop::gguf::Gguf;
use outcrop::model::{Loader, Model};
use outcrop::{Error, Result};

/// Counts the large allocations of a test's own thread, and refuses one of them.
struct Refusing;

/// Smaller ones are not refused: what they are for has no size that a model or a caller chooses.
const LARGE: usize = 16 << 10;

thread_local! {
    /// Large allocations so far.
    static LARGE_ONES: Cell<u32> = const { Cell::new(0) };
    /// The one that is refused.
    static REFUSED: Cell<u32> = const { Cell::new(u32::MAX) };
    /// All allocations so far.
    static ALL: Cell<u32> = const { Cell::new(0) };
}

// SAFETY: every call is passed on to `System` unchanged, or refused.
unsafe impl GlobalAlloc for Refusing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALL.set(ALL.get() + 1);
        if layout.size() >= LARGE {
            LARGE_ONES.set(LARGE_ONES.get() + 1);
            if LARGE_ONES.get() == REFUSED.get() {
                return std::ptr::null_mut();
            }
        }
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        unsafe { System.dealloc(ptr, layout) }
    }
    // The default `realloc` goes through both.
}

#[global_allocator]
static ALLOCATOR: Refusing = Refusing;

/// Refuses in turn each large allocation that `f` makes of what `prepare` gave; how many there are.
fn refuse_each<S, T>(what: &str, mut prepare: impl FnMut() -> S, mut f: impl FnMut(S) -> Result<T>) -> u32 {
    for n in 1.. {
        let prepared = prepare();
        LARGE_ONES.set(0);
        REFUSED.set(n);
        let result = f(prepared);
        REFUSED.set(u32::MAX);
        if LARGE_ONES.get() < n {
            assert!(result.is_ok(), "{what}: nothing was refused");
            return n - 1;
        }
        match result {
            Err(Error::OutOfMemory { bytes, .. }) => assert!(bytes > 0, "{what}"),
            Err(e) => panic!("{what}, large allocation {n}: {e}"),
            Ok(_) => panic!("{what}, large allocation {n}: nobody noticed that it failed"),
        }
    }
    unreachable!("endless")
}

/// Passes of up to eight tokens on two threads.
fn backend(int8: bool) -> Cpu {
    let cpu = if int8 { Cpu::int8(8) } else { Cpu::new(8) };
    cpu.with_pool(Pool::new(2).expect("threads"))
}

fn forward(model: &mut Model<Cpu>, state: &mut State, ids: &[u32], pos: u32, want: Want, logits: &mut Vec<f32>) -> Result<()> {
    pollster::block_on(model.forward(state, &Pass { ids, pos, want }, logits)).map(drop)
}

const MODELS: [&str; 2] = ["tiny-64-Q4_K_M", "tiny-Q8_0"];

#[test]
fn declaring_a_model() {
    let oracle = Oracle::open();
    for name in MODELS {
        let gguf = Gguf::from_bytes(&std::fs::read(oracle.gguf_path(name)).expect("a model")).expect("a header");
        for int8 in [true, false] {
            let n = refuse_each(name, || backend(int8), |cpu| Loader::new(&gguf, cpu).map(drop));
            println!("{name}, 8 bits: {int8}: {n} large allocations");
            assert!(n > 20, "{n}");
        }
    }
}

#[test]
fn passes() {
    let oracle = Oracle::open();
    let kinds = KvType::ALL.map(|kv| (true, kv));
    for (int8, kv) in kinds.into_iter().chain([(false, KvType::F32)]) {
        let load = || oracle.load(MODELS[1], backend(int8), 1 << 20);
        let n = refuse_each(MODELS[1], load, |mut model| {
            let mut state = model.new_state(512, kv)?;
            let mut logits = Vec::new();
            for (i, ids) in oracle.ids[..80].chunks(8).enumerate() {
                let want = if i < 2 { Want::AllLogits } else { Want::Nothing };
                forward(&mut model, &mut state, ids, 8 * i as u32, want, &mut logits)?;
            }
            Ok(())
        });
        println!("{kv:?}, 8 bits: {int8}: {n} large allocations");
        assert!(n > 5, "{n}");
    }
}

/// The state is spoilt by a pass that fails, but not the model.
#[test]
fn the_next_pass_is_right() {
    let oracle = Oracle::open();
    let mut model = oracle.load(MODELS[0], backend(true), 1 << 20);
    let pass = |model: &mut Model<Cpu>| {
        let mut logits = Vec::new();
        let mut state = model.new_state(64, KvType::F32)?;
        forward(model, &mut state, &oracle.ids[..8], 0, Want::AllLogits, &mut logits)?;
        Ok(logits)
    };
    LARGE_ONES.set(0);
    REFUSED.set(LARGE_ONES.get() + 1);
    let failed: Result<Vec<f32>> = pass(&mut model);
    REFUSED.set(u32::MAX);
    assert!(matches!(failed, Err(Error::OutOfMemory { .. })));
    let logits = pass(&mut model).expect("memory again");
    let mut fresh = oracle.load(MODELS[0], backend(true), 1 << 20);
    assert_eq!(logits, pass(&mut fresh).expect("a pass"));
}

/// Once its buffers are there, a token takes memory for its keys and values only, and those double.
#[test]
fn a_token_allocates_nothing() {
    let oracle = Oracle::open();
    for int8 in [true, false] {
        let mut model = oracle.load(MODELS[0], backend(int8), 1 << 20);
        let mut state = model.new_state(512, KvType::F32).expect("a state");
        let mut logits = Vec::new();
        // Each wait would take some for itself.
        let (with, without) = pollster::block_on(async {
            let (mut with, mut without) = (0, 0);
            for (pos, &id) in oracle.ids[..400].iter().enumerate() {
                let want = if pos % 3 == 0 { Want::Token } else { Want::Logits };
                let pass = Pass {
                    ids: &[id],
                    pos: pos as u32,
                    want,
                };
                let before = ALL.get();
                model.forward(&mut state, &pass, &mut logits).await.expect("a token");
                if pos > 3 {
                    *if ALL.get() == before { &mut without } else { &mut with } += 1;
                }
            }
            (with, without)
        });
        println!("8 bits: {int8}: {with} tokens took memory, {without} did not");
        assert!(with <= 8, "{with} of {} tokens took memory", with + without);
    }
}
