//! The steps of the two mixers, Mamba-2 and attention. See record.rs.

use super::{
    kernels::{Kernel, SSD_QUADS},
    record::{Recorder, Tables},
    step::{Bind, CHUNK, Class, Grid, QUERIES, SPANS},
    uniforms,
};
use crate::backend::{Attention, Buf, KvType, Mamba};

/// How a batch runs through the Mamba recurrence. The answers differ by rounding only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scan {
    /// What is faster for the number of tokens.
    #[default]
    Auto,
    /// Token after token.
    Sequential,
    /// 64 tokens at a time, as matrix products.
    Chunked,
}

impl Scan {
    /// Fewest tokens of a batch that are run in chunks.
    fn chunked_from(self) -> u32 {
        match self {
            // Half a chunk: below, the tile's empty half costs more than it saves (docs/performance.md).
            Scan::Auto => 32,
            Scan::Sequential => u32::MAX,
            Scan::Chunked => 2,
        }
    }
}

impl Recorder {
    pub(super) fn mamba_mix(&mut self, t: &Tables, p: Buf, m: &Mamba, y: Buf) {
        // mamba_step keeps B and C of a group in workgroup memory, 8 bytes a state column.
        if m.d_state == 0 || m.d_state > 1024 || m.n_group == 0 || !m.n_head.is_multiple_of(m.n_group) {
            self.refuse(
                "the Mamba layer",
                format!("d_state {}, {} groups of {} heads", m.d_state, m.n_group, m.n_head),
            );
            return;
        }
        self.settle(t);
        let mixed_stride = m.d_xbc() + 2 * m.n_head;
        let op = uniforms::Mamba {
            n_head: m.n_head,
            d_head: m.d_head,
            n_group: m.n_group,
            d_conv: m.d_conv,
            p_stride: t.stride(p),
            y_stride: t.stride(y),
            mixed_stride,
            conv_w: t.at(m.conv_w),
            conv_b: t.at(m.conv_b),
            dt_bias: t.at(m.dt_bias),
            a: t.at(m.a),
            d: t.at(m.d),
        };
        let (p, out) = (Bind::Buf(p.id), Bind::Buf(y.id));
        let (conv, ssm) = (Bind::Conv(m.slot), Bind::Ssm(m.slot));
        let heads = Grid::Fixed(m.n_head, m.d_head.div_ceil(32));
        if self.class == Class::One {
            self.push(
                t,
                Kernel::MambaStep(m.d_state),
                &[p, Bind::Vectors, conv, ssm, out],
                &op,
                heads,
            );
        } else {
            self.scratch.mixed = self.scratch.mixed.max(mixed_stride as u64 * t.n_ubatch as u64);
            let x = (m.d_xbc() + m.n_head).div_ceil(64);
            let values = Grid::TokenTiles { x, tile: 4 };
            self.push(
                t,
                Kernel::MambaConv(m.d_state),
                &[p, Bind::Vectors, conv, Bind::Mixed],
                &op,
                values,
            );
            let from = self.chunked_from(t, m);
            if *self.class.tokens(t.n_ubatch).start() < from {
                let binds = [p, Bind::Vectors, Bind::Mixed, conv, ssm, out];
                let grid = Grid::Short {
                    x: m.n_head,
                    y: m.d_head.div_ceil(32),
                    below: from,
                };
                self.push(t, Kernel::MambaScan(m.d_state), &binds, &op, grid);
            }
            if *self.class.tokens(t.n_ubatch).end() >= from {
                self.scratch.chunks = self.scratch.chunks.max(chunks_len(m, t.n_ubatch));
                self.ssd(t, m, &op, [p, conv, ssm, out], from);
            }
        }
        if m.n_group == 1 {
            self.deferred = Some((y, m.norm));
        } else {
            self.group_norm(t, y, m.norm, m.n_group);
        }
    }

    /// Fewest tokens that take the chunked form: never if its scratch would not fit a binding.
    fn chunked_from(&self, t: &Tables, m: &Mamba) -> u32 {
        if chunks_len(m, t.n_ubatch) * 4 > t.max_binding {
            return u32::MAX;
        }
        t.scan.chunked_from()
    }

    /// The recurrence in chunks of tokens, see mamba_ssd.wgsl.
    fn ssd(&mut self, t: &Tables, m: &Mamba, op: &uniforms::Mamba, [p, conv, ssm, out]: [Bind; 4], from: u32) {
        let quads = if m.d_head <= 32 { SSD_QUADS[0] } else { SSD_QUADS[1] };
        let slices = m.d_head.div_ceil(4 * quads);
        let mixed = [p, Bind::Vectors, Bind::Mixed];
        // Three tiles of 32 x 32 cover the diagonal and what is below it.
        let cb = Grid::Chunks { x: m.n_group * 3, from };
        self.push(t, Kernel::SsdCb(m.d_state), &[&mixed[..], &[Bind::Chunks]].concat(), op, cb);
        let x = m.n_head * slices * m.d_state.div_ceil(64);
        self.push(
            t,
            Kernel::SsdState(m.d_state, quads),
            &[&mixed[..], &[Bind::Chunks]].concat(),
            op,
            Grid::Chunks { x, from },
        );
        let elements = m.d_inner() * m.d_state;
        self.push(
            t,
            Kernel::SsdPass(m.d_state),
            &[&mixed[..], &[conv, ssm, Bind::Chunks]].concat(),
            op,
            Grid::long_line(elements.div_ceil(64), from),
        );
        let x = m.n_head * slices;
        self.push(
            t,
            Kernel::SsdOut(m.d_state, quads),
            &[&mixed[..], &[Bind::Chunks, out]].concat(),
            op,
            Grid::Chunks { x, from },
        );
    }

    pub(super) fn attend(&mut self, t: &Tables, qkv: Buf, a: &Attention, y: Buf) {
        self.settle(t);
        if !a.d_head.is_multiple_of(4) || a.d_head == 0 || a.n_head_kv == 0 || !a.n_head.is_multiple_of(a.n_head_kv) {
            self.refuse(
                "the attention layer",
                format!("{} heads of {} over {}", a.n_head, a.d_head, a.n_head_kv),
            );
            return;
        }
        let d_head = a.d_head / 4;
        let op = uniforms::Attention {
            n_head: a.n_head,
            n_head_kv: a.n_head_kv,
            d_head,
            qkv_stride: t.stride(qkv) / 4,
            y_stride: t.stride(y) / 4,
            scale: a.scale,
            head_kv0: 0,
        };
        let (qkv, out) = (Bind::Buf(qkv.id), Bind::Buf(y.id));
        let (keys, values) = (Bind::Keys(a.slot), Bind::Values(a.slot));
        let threads = match self.kv_type {
            KvType::F32 | KvType::F16 => a.n_head_kv * d_head,
            KvType::Q8_0 => (a.n_head_kv * a.d_head).div_ceil(32) * 2,
        };
        let append = Grid::Tokens(threads.div_ceil(64));
        self.push(t, Kernel::KvAppend(self.kv_type), &[qkv, keys, values], &op, append);
        if self.class == Class::Many {
            self.attend_batch(t, op, [qkv, keys, values, out]);
            return;
        }
        // A workgroup has up to four heads of a key/value head, and up to 256 of their columns.
        let tiles = (a.n_head / a.n_head_kv).div_ceil(4) * d_head.div_ceil(64);
        let binds = [qkv, keys, values, out, Bind::Spans];
        self.push(
            t,
            Kernel::Attend(self.kv_type),
            &binds,
            &op,
            Grid::Attend(a.n_head_kv * tiles),
        );
        if self.class == Class::One {
            let spans = SPANS as u64 * a.n_head as u64 * (a.d_head + 4) as u64;
            self.scratch.spans = self.scratch.spans.max(spans);
            self.push(t, Kernel::AttendJoin, &[qkv, Bind::Spans, out], &op, Grid::Join(a.n_head));
        }
    }

    /// Attention of many tokens: one step, or one for each key/value head where there are many keys.
    fn attend_batch(&mut self, t: &Tables, mut op: uniforms::Attention, binds: [Bind; 4]) {
        let heads = op.n_head / op.n_head_kv;
        let tile = QUERIES / heads.min(QUERIES);
        let x = heads.div_ceil(QUERIES) * op.d_head.div_ceil(16);
        let kernel = Kernel::AttendBatch(self.kv_type);
        let queries = |x, keys| Grid::Queries { x, tile, keys };
        self.push(t, kernel, &binds, &op, queries(x * op.n_head_kv, (0, t.far)));
        if self.n_ctx >= t.far {
            for head_kv in 0..op.n_head_kv {
                op.head_kv0 = head_kv;
                self.push(t, kernel, &binds, &op, queries(x, (t.far, u32::MAX)));
            }
        }
    }
}

/// Elements between the steps of the chunked recurrence: C . B of each group, decay and state of each head, a chunk.
fn chunks_len(m: &Mamba, n_ubatch: u32) -> u64 {
    let chunk = m.n_group as u64 * (CHUNK * CHUNK) as u64 + m.n_head as u64 + m.d_inner() as u64 * m.d_state as u64;
    n_ubatch.div_ceil(CHUNK) as u64 * chunk
}
