//! One answer for any number of threads: the bits of every logit, over prompts of many sizes.

mod common;

use common::oracle::Oracle;
use outcrop::backend::{
    Backend, KvType, Pass, Want,
    cpu::{Cpu, Pool},
};
use std::hash::{DefaultHasher, Hash, Hasher};

/// Hash of all logits of a prompt in passes of these sizes.
fn hash<B: Backend>(oracle: &Oracle, name: &str, backend: B, kv: KvType, passes: &[usize]) -> u64 {
    let mut model = oracle.load(name, backend, 1 << 20);
    let mut state = model.new_state(128, kv).expect("state");
    let (mut pos, mut logits, mut hash) = (0, Vec::new(), DefaultHasher::new());
    for &n in passes {
        let pass = Pass {
            ids: &oracle.ids[pos..pos + n],
            pos: pos as u32,
            want: Want::AllLogits,
        };
        pollster::block_on(model.forward(&mut state, &pass, &mut logits)).expect("forward");
        assert!(logits.iter().all(|l| l.is_finite()));
        logits.iter().for_each(|l| l.to_bits().hash(&mut hash));
        pos += n;
    }
    hash.finish()
}

/// Between two passes, the second as if there had been but one pool.
#[test]
fn another_pool_in_the_middle() {
    let oracle = Oracle::open();
    for int8 in [true, false] {
        let run = |pools: [usize; 3]| {
            let cpu = if int8 { Cpu::int8(32) } else { Cpu::new(32) };
            let mut model = oracle.load("tiny-64-Q4_K_M", cpu, 1 << 20);
            let mut state = model.new_state(128, KvType::F32).expect("state");
            let mut all = Vec::new();
            for (i, n) in pools.into_iter().enumerate() {
                let backend = std::mem::replace(&mut model.backend, Cpu::new(1));
                model.backend = backend.with_pool(Pool::new(n).expect("threads"));
                let pass = Pass {
                    ids: &oracle.ids[20 * i..][..20],
                    pos: 20 * i as u32,
                    want: Want::Logits,
                };
                let mut logits = Vec::new();
                pollster::block_on(model.forward(&mut state, &pass, &mut logits)).expect("forward");
                all.extend(logits.iter().map(|l| l.to_bits()));
            }
            all
        };
        assert_eq!(run([1, 4, 2]), run([1, 1, 1]), "8 bits: {int8}");
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let oracle = Oracle::open();
    for name in ["tiny-64-Q4_K_M", "tiny-g2-Q4_K_M"] {
        for kv in KvType::ALL {
            let backend = |int8: bool, n: usize| {
                let cpu = if int8 { Cpu::int8(32) } else { Cpu::new(32) };
                cpu.with_pool(Pool::new(n).expect("threads"))
            };
            for int8 in [true, false] {
                let passes = [1, 2, 3, 7, 17, 32, 1, 5];
                let alone = hash(&oracle, name, backend(int8, 1), kv, &passes);
                for n in [2, 3, 5] {
                    let found = hash(&oracle, name, backend(int8, n), kv, &passes);
                    assert_eq!(found, alone, "{name}, {kv:?}, 8 bits: {int8}, {n} threads");
                }
                // However a prompt is cut into passes.
                let found = hash(&oracle, name, backend(int8, 2), kv, &[32, 30, 6]);
                assert_eq!(found, alone, "{name}, {kv:?}, 8 bits: {int8}, other passes");
            }
        }
    }
}
