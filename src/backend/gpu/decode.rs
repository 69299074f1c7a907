//! Replies whose tokens the device chooses: many tokens a submit, none of which waits for the host.
//!
//! The last dispatch of a token (reply.wgsl) writes what the next one needs: the id to feed, the position in the `Run` uniform, and
//! the token onto a tape that is read back once a submit. A stop id sets `Run::n` to 0; every kernel then does nothing.

use super::{
    Gpu, State,
    choose::{self, Sampling},
    pace::now_ms,
    plan::{Part, Plan, Ready, SLOT, encode},
    readback::Ring,
    step::Class,
    uniforms,
};
use crate::{
    Error, Result,
    backend::{Choice, Made, Pass, Want},
};
use bytemuck::Zeroable;

/// Latest tokens that the tape holds (TAPE of reply.wgsl).
pub(super) const TAPE: u32 = 64;
/// Most tokens of one submit: those of all submits in the ring fit on the tape.
const MOST: u32 = TAPE / super::readback::RING as u32;

/// What replies need on the device.
pub(super) struct Reply {
    /// `Tape` of reply.wgsl.
    pub(super) tape: wgpu::Buffer,
    /// `Choice` of reply.wgsl.
    pub(super) choice: wgpu::Buffer,
    pub(super) ring: Ring,
    /// The buffers of draws.
    pub(super) sampling: Option<Sampling>,
    /// From logits to the next token, by the largest.
    greedy_steps: Vec<Ready>,
    /// By a draw.
    sample_steps: Vec<Ready>,
    /// What finds the likeliest tokens.
    likely_steps: Vec<Ready>,
    /// Whether the reply wants them.
    likely: bool,
    n_vocab: u32,
    /// Which of them the reply takes.
    greedy: bool,
    /// Of the draw's, only those that find the likeliest.
    cold: bool,
    /// Tokens of the reply that were fetched.
    fetched: u32,
    /// Time that the last submit took to encode.
    encode_ms: f64,
}

const TAPE_BYTES: u64 = size_of::<uniforms::Tape>() as u64;
/// What follows it in a read back with the likeliest tokens.
const PLACES_BYTES: u64 = size_of::<[uniforms::Places; TAPE as usize]>() as u64;

impl Reply {
    pub(super) fn new(device: &wgpu::Device) -> Reply {
        let buffer = |label, size, usage| {
            device.create_buffer(&wgpu::BufferDescriptor {
                label: Some(label),
                size,
                usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | usage,
                mapped_at_creation: false,
            })
        };
        let none = wgpu::BufferUsages::empty();
        Reply {
            tape: buffer("tape", TAPE_BYTES, wgpu::BufferUsages::COPY_SRC),
            choice: buffer("choice", size_of::<uniforms::Choice>() as u64, none),
            ring: Ring::new(device, TAPE_BYTES + PLACES_BYTES),
            sampling: None,
            greedy_steps: Vec::new(),
            sample_steps: Vec::new(),
            likely_steps: Vec::new(),
            likely: false,
            n_vocab: 0,
            greedy: true,
            cold: true,
            fetched: 0,
            encode_ms: 0.0,
        }
    }

    /// Bytes that a submit reads back.
    fn bytes(&self) -> u64 {
        TAPE_BYTES + if self.likely { PLACES_BYTES } else { 0 }
    }

    /// Copies them to the ring.
    fn copy(&mut self, encoder: &mut wgpu::CommandEncoder) {
        self.ring.copy(encoder, &self.tape, 0, TAPE_BYTES);
        if let (true, Some(s)) = (self.likely, &self.sampling) {
            self.ring.copy(encoder, &s.places, TAPE_BYTES, PLACES_BYTES);
        }
    }

    /// A buffer of draws; something to bind where there is none.
    pub(super) fn sampling(&self, buffer: impl FnOnce(&Sampling) -> &wgpu::Buffer) -> &wgpu::Buffer {
        self.sampling.as_ref().map_or(&self.choice, buffer)
    }

    /// The steps of one token, in three runs.
    fn steps(&self) -> [&[Ready]; 3] {
        let likely: &[Ready] = if self.likely { &self.likely_steps } else { &[] };
        let [first, second]: [&[Ready]; 2] = match (self.greedy, self.cold, &self.sample_steps[..]) {
            (true, ..) => [&self.greedy_steps, &[]],
            (false, true, [first, .., last]) => [std::slice::from_ref(first), std::slice::from_ref(last)],
            (false, _, steps) => [steps, &[]],
        };
        [likely, first, second]
    }
}

impl Gpu {
    pub(super) async fn start_reply(&mut self, state: &State, choice: &Choice<'_>) -> Result<bool> {
        self.check()?;
        self.drain_ring().await?;
        let n_ctx = state.shape.n_ctx;
        let Some(params) = choose::params(choice, n_ctx).filter(|_| choice.greedy || self.can_sample(choice.n_vocab)) else {
            return Ok(false);
        };
        if !choice.greedy && self.begin_sampling(choice, choice.n_vocab, n_ctx)? {
            self.reply.sample_steps.clear();
            self.reply.likely_steps.clear();
        }
        (self.reply.greedy, self.reply.cold) = (choice.greedy, params.temperature == 0.0);
        self.reply.likely = choice.likely && !choice.greedy;
        self.reply.n_vocab = choice.n_vocab;
        self.queue.write_buffer(&self.reply.choice, 0, bytemuck::bytes_of(&params));
        let tape = uniforms::Tape::zeroed();
        self.queue.write_buffer(&self.reply.tape, 0, bytemuck::bytes_of(&tape));
        self.reply.fetched = 0;
        Ok(true)
    }

    /// Queues a pass that wants [`crate::backend::Want::Chosen`].
    pub(super) async fn queue_tokens(&mut self, state: &mut State, pass: &Pass<'_>, n: u32) -> Result<()> {
        let n_ids = pass.ids.len() as u32;
        if n == 0 || n > MOST || (n_ids > 0 && n > 1) || self.reply.ring.is_full() {
            return Err(Error::InvalidRequest {
                what: format!("{n} tokens after {n_ids} given ones in one submit"),
            });
        }
        let class = Gpu::class_of(pass) as usize;
        let plan = state.plans[class].as_ref().expect("recorded by the first pass");
        plan.check_ids(pass.ids)?;
        self.make_choosing(plan.n_vocab, state).await?;
        if n_ids > 0 {
            self.queue.write_buffer(&self.ids, 0, bytemuck::cast_slice(pass.ids));
            self.write_run(0, n_ids, pass.pos, 0);
            self.write_run(SLOT, 1, pass.pos, n_ids - 1);
            self.submit_body(plan, n_ids, pass.pos, None);
        }
        let start_ms = now_ms();
        let mut encoder = self.device.create_command_encoder(&Default::default());
        Gpu::encode_mark(&mut encoder, state);
        let plan = state.plans[class].as_ref().expect("recorded by the first pass");
        self.dispatched = self.encode_tokens(&mut encoder, plan, pass, n) / n;
        let bytes = self.reply.bytes();
        self.reply.copy(&mut encoder);
        let commands = encoder.finish();
        self.reply.encode_ms = now_ms() - start_ms;
        let submission = self.queue.submit([commands]);
        self.reply.ring.submitted(submission, bytes);
        self.check()
    }

    /// Encodes `n` tokens: each a body, unless the first's has run with its ids, then the head and the choice. The dispatches.
    fn encode_tokens(&self, encoder: &mut wgpu::CommandEncoder, plan: &Plan, pass: &Pass<'_>, n: u32) -> u32 {
        let mut compute = encoder.begin_compute_pass(&Default::default());
        let mut dispatched = 0;
        for pos in pass.pos..pass.pos + n {
            if pass.ids.is_empty() {
                dispatched += plan.encode(&mut compute, Part::Body, 0..plan.len(Part::Body), 1, pos);
            }
            dispatched += plan.encode(&mut compute, Part::Head, 0..plan.len(Part::Head), 1, pos);
            for steps in self.reply.steps() {
                dispatched += encode(&mut compute, steps, 1, pos);
            }
        }
        dispatched
    }

    /// Milliseconds that the last submit of chosen tokens took to encode. Software drivers run the work while it is submitted, so
    /// this is all that they show of the host's own time.
    pub fn encode_ms(&self) -> f64 {
        self.reply.encode_ms
    }

    /// Goes on with a reply as submits of `n` tokens do that are read back, but reads nothing: for measuring what that costs.
    ///
    /// # Errors
    /// What the device says.
    pub async fn decode_unread(&mut self, state: &mut State, pos: u32, n: u32, submits: u32) -> Result<()> {
        state.need(pos + n * submits);
        self.grow_kv(state).await?;
        let Some(plan) = &state.plans[Class::One as usize] else {
            return Err(Error::InvalidRequest {
                what: "no token was decoded on this state".into(),
            });
        };
        for i in 0..submits {
            let pass = Pass {
                ids: &[],
                pos: pos + i * n,
                want: Want::Chosen(n),
            };
            let mut encoder = self.device.create_command_encoder(&Default::default());
            self.encode_tokens(&mut encoder, plan, &pass, n);
            self.queue.submit([encoder.finish()]);
        }
        self.mark_work();
        self.idle().await
    }

    /// Makes the steps that the reply needs and that were not made yet.
    async fn make_choosing(&mut self, n_vocab: u32, state: &State) -> Result<()> {
        if self.reply.greedy && self.reply.greedy_steps.is_empty() {
            let steps = choose::greedy(n_vocab);
            self.reply.greedy_steps = self.make_ready(&[(&steps, SLOT)], state).await?.remove(0);
        }
        if !self.reply.greedy && self.reply.sample_steps.is_empty() {
            let steps = choose::sample(n_vocab);
            self.reply.sample_steps = self.make_ready(&[(&steps, SLOT)], state).await?.remove(0);
        }
        if self.reply.likely && self.reply.likely_steps.is_empty() {
            let steps = choose::likely(n_vocab);
            self.reply.likely_steps = self.make_ready(&[(&steps, SLOT)], state).await?.remove(0);
        }
        Ok(())
    }

    pub(super) async fn fetch_tokens(&mut self, made: &mut Vec<Made>) -> Result<()> {
        let (fetched, n_vocab, bytes) = (self.reply.fetched, self.reply.n_vocab, self.reply.bytes());
        let (now, broken) = self
            .read_ring(bytes, |bytes| {
                let (tape, places) = bytes.split_at(TAPE_BYTES as usize);
                let tape: uniforms::Tape = bytemuck::pod_read_unaligned(tape);
                // After an invalid number the last token means nothing.
                for i in fetched..tape.made - u32::from(tape.broken != 0) {
                    let slot = (i % TAPE) as usize;
                    let place = size_of::<uniforms::Places>();
                    let likely = places
                        .get(slot * place..(slot + 1) * place)
                        .map(|bytes| choose::likeliest(&bytemuck::pod_read_unaligned(bytes), tape.logits[slot], n_vocab));
                    made.push(Made {
                        id: tape.ids[slot],
                        likely,
                    });
                }
                (tape.made, tape.broken)
            })
            .await?;
        self.reply.fetched = now;
        if broken != 0 {
            return Err(Error::NonFiniteLogits);
        }
        Ok(())
    }

    /// The class whose plan a pass runs.
    pub(super) fn class_of(pass: &Pass) -> Class {
        Class::of(pass.ids.len().max(1) as u32)
    }
}
