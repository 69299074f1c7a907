//! Replies whose tokens the GPU chooses, on a model whose logits the test writes.

mod common;

use common::oracle::{Backends, Oracle};
use common::tiny::{N_CTX, Tiny};
use outcrop::Error;
use outcrop::backend::gpu::{Gpu, GpuOptions};
use outcrop::backend::{Backend, Choice, KvType, Made, Pass, Want};

/// More than two workgroups of the argmax take.
const VOCAB: usize = 9000;

fn open() -> Option<Gpu> {
    common::gpu::open(GpuOptions {
        n_ubatch: 40,
        default_limits: true,
        ..Default::default()
    })
}

fn greedy<'a>(stop: &'a [u32]) -> Choice<'a> {
    Choice { stop, ..Choice::GREEDY }
}

/// The token after `t` is `(t + 1) % 32`.
fn chain(row: usize, col: usize) -> f32 {
    match row == (col + 1) % 32 {
        true => 2.0,
        false => (row * 31 % 97) as f32 / 97.0,
    }
}

/// The same, but logits are infinite after token 20.
fn broken(row: usize, col: usize) -> f32 {
    if (row, col) == (8000, 20) { 3e38 } else { chain(row, col) }
}

struct Reply {
    tiny: Tiny,
    made: Vec<Made>,
    /// Tokens asked for.
    asked: u32,
}

impl Reply {
    fn begin(mut tiny: Tiny, first: &[u32], stop: &[u32]) -> Reply {
        assert!(pollster::block_on(tiny.gpu.begin_reply(&mut tiny.state, &greedy(stop))).unwrap());
        tiny.pass(first, 0, Want::Chosen(1)).unwrap();
        Reply {
            tiny,
            made: Vec::new(),
            asked: first.len() as u32,
        }
    }
    fn queue(&mut self, n: u32) -> Result<(), Error> {
        self.tiny.pass(&[], self.asked, Want::Chosen(n))?;
        self.asked += n;
        Ok(())
    }
    fn fetch(&mut self) -> Result<usize, Error> {
        let before = self.made.len();
        pollster::block_on(self.tiny.gpu.fetch(&mut self.made))?;
        Ok(self.made.len() - before)
    }
    fn ids(&self) -> Vec<u32> {
        self.made.iter().map(|m| m.id).collect()
    }
}

fn tiny() -> Option<Tiny> {
    open().map(|gpu| Tiny::new(gpu, 64, VOCAB, chain))
}

/// Each token feeds the next, through prompts of every class, and the tape goes round.
#[test]
fn tokens_feed_each_other() {
    let Some(mut tiny) = tiny() else { return };
    for (prompt, batches) in [(1, &[1, 1, 1, 2, 3][..]), (3, &[5, 5, 5]), (17, &[2, 1]), (30, &[16, 1, 3])] {
        let ids: Vec<u32> = (0..prompt).map(|i| (i + 25) % 32).collect();
        let mut reply = Reply::begin(tiny, &ids, &[]);
        // One more is always queued than fetched.
        for &n in batches {
            reply.queue(n).unwrap();
            reply.fetch().unwrap();
        }
        assert_eq!(reply.fetch().unwrap() as u32, *batches.last().unwrap());
        let first = ids[ids.len() - 1] + 1;
        let expected: Vec<u32> = (first..)
            .map(|i| i % 32)
            .take(1 + batches.iter().sum::<u32>() as usize)
            .collect();
        assert_eq!(reply.ids(), expected, "prompt of {prompt}");
        tiny = reply.tiny;
    }
    // More tokens than the tape holds.
    let mut reply = Reply::begin(tiny, &[31], &[]);
    for n in [32, 16, 32, 7] {
        reply.queue(n).unwrap();
        reply.fetch().unwrap();
    }
    reply.fetch().unwrap();
    assert!(reply.ids().into_iter().eq((0..88).map(|i| i % 32)));
}

/// Nothing is fed or made after a stop id, in this submit or those behind it; the next reply starts afresh.
#[test]
fn a_stop_id_ends_all_submits() {
    let Some(mut tiny) = tiny() else { return };
    for at in [1, 2, 4, 6, 7] {
        let mut reply = Reply::begin(tiny, &[0], &[100, at]);
        reply.queue(5).unwrap();
        reply.fetch().unwrap();
        reply.queue(5).unwrap();
        reply.fetch().unwrap();
        reply.fetch().unwrap();
        assert_eq!(reply.ids(), (1..=at).collect::<Vec<_>>(), "stop at {at}");
        // Left behind, to be cleaned up by the next one.
        reply.queue(5).unwrap();
        tiny = reply.tiny;
    }
}

#[test]
fn numbers_that_are_none_end_the_reply() {
    let Some(gpu) = open() else { return };
    let mut reply = Reply::begin(Tiny::new(gpu, 64, VOCAB, broken), &[17], &[]);
    reply.queue(8).unwrap();
    reply.fetch().unwrap();
    reply.queue(8).unwrap();
    for _ in 0..2 {
        assert!(matches!(reply.fetch(), Err(Error::NonFiniteLogits)));
        assert_eq!(reply.ids(), [18, 19, 20], "what came before it stands");
    }
    // And it is over with that reply.
    let mut reply = Reply::begin(reply.tiny, &[1], &[]);
    reply.fetch().unwrap();
    assert_eq!(reply.ids(), [2]);
}

#[test]
fn impossible_submits_are_refused_and_do_no_harm() {
    let Some(tiny) = tiny() else { return };
    let mut reply = Reply::begin(tiny, &[21], &[]);
    for (ids, pos, n, code) in [
        (&[][..], 1, 0, "invalid_request"),
        (&[], 1, 33, "invalid_request"),
        (&[1], 1, 2, "invalid_request"),
        (&[64], 1, 1, "invalid_request"),
        (&[], N_CTX - 3, 4, "context_length_exceeded"),
    ] {
        let error = reply.tiny.pass(ids, pos, Want::Chosen(n)).unwrap_err();
        assert_eq!(error.code(), code, "{ids:?} {pos} {n}");
    }
    reply.queue(3).unwrap();
    assert_eq!(reply.queue(3).unwrap_err().code(), "invalid_request", "two are under way");
    reply.fetch().unwrap();
    reply.fetch().unwrap();
    assert_eq!(reply.ids(), [22, 23, 24, 25]);
}

/// One submit goes over the end of a span of keys, another over the room that the cache has at first, with one more under way both times. The
/// tokens are those that the CPU finds likeliest, and as likely.
#[test]
fn a_submit_crosses_spans_and_the_caches_growth() {
    const MODEL: &str = "tiny-Q4_K_M";
    let oracle = Oracle::open();
    let options = GpuOptions {
        n_ubatch: 512,
        default_limits: true,
        ..Default::default()
    };
    let Some(gpu) = common::gpu::open(options) else { return };
    let mut gpu = oracle.load(MODEL, gpu, 1 << 20);
    let mut cpu = Backends::cpu(&oracle, MODEL, 512);
    let n_vocab = cpu.hparams.n_vocab as usize;
    for (span, kv) in [(256, KvType::F32), (1024, KvType::F32), (1024, KvType::F16)] {
        let mut ids: Vec<u32> = oracle.ids.iter().copied().cycle().take(span - 9).collect();
        let mut state = gpu.new_state(2048, kv).unwrap();
        let choice = Choice {
            greedy: false,
            n_vocab: n_vocab as u32,
            likely: true,
            ..Choice::GREEDY
        };
        assert!(pollster::block_on(gpu.backend.begin_reply(&mut state, &choice)).unwrap());
        let mut pos = 0;
        for chunk in ids.chunks(512) {
            let last = pos as usize + chunk.len() == ids.len();
            let want = if last { Want::Chosen(1) } else { Want::Nothing };
            let pass = Pass { ids: chunk, pos, want };
            pollster::block_on(gpu.forward(&mut state, &pass, &mut Vec::new())).unwrap();
            pos += chunk.len() as u32;
        }
        let mut made = Vec::new();
        for n in [4, 12, 5] {
            let want = Want::Chosen(n);
            let pass = Pass { ids: &[], pos, want };
            pollster::block_on(gpu.forward(&mut state, &pass, &mut Vec::new())).unwrap();
            pollster::block_on(gpu.backend.fetch(&mut made)).unwrap();
            pos += n;
        }
        pollster::block_on(gpu.backend.fetch(&mut made)).unwrap();
        assert_eq!(made.len(), 22);

        let first = ids.len() - 1;
        ids.extend(made.iter().map(|m| m.id));
        let (mut state, mut all, mut logits, mut pos) = (cpu.new_state(2048, KvType::F32).unwrap(), Vec::new(), Vec::new(), 0);
        for ids in ids.chunks(512) {
            let want = Want::AllLogits;
            let pass = Pass { ids, pos, want };
            pollster::block_on(cpu.forward(&mut state, &pass, &mut logits)).unwrap();
            all.extend_from_slice(&logits);
            pos += ids.len() as u32;
        }
        let within = if kv == KvType::F32 { 5e-4 } else { 5e-2 };
        for (i, (made, exact)) in made.iter().zip(all.chunks(n_vocab).skip(first)).enumerate() {
            let best = exact.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let found = made.likely.expect("asked for").logit;
            assert!(
                (exact[made.id as usize] - best).abs() <= 2.0 * within,
                "{span}, {kv:?}: token {i}"
            );
            assert!(
                (found - exact[made.id as usize]).abs() <= within,
                "{span}, {kv:?}: token {i}: {found}"
            );
        }
    }
}

/// A device that goes while tokens are under way: an error from the fetch or the next submit, never a wait without end.
#[test]
fn a_lost_device_ends_the_reply() {
    for queued in [0, 4] {
        let Some(tiny) = tiny() else { return };
        let mut reply = Reply::begin(tiny, &[21], &[]);
        if queued > 0 {
            reply.queue(queued).unwrap();
        }
        reply.tiny.gpu.destroy();
        // What has run already may still be read; then it is over.
        let mut go_on = || -> Result<(), Error> {
            for _ in 0..3 {
                reply.fetch()?;
                reply.queue(4)?;
            }
            Ok(())
        };
        let code = go_on().unwrap_err().code();
        assert!(["gpu", "gpu_lost"].contains(&code), "{code}");
    }
}
