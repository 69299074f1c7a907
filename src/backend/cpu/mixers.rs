//! The ops between the products: the Mamba-2 mixer and attention, split by head.

use super::{
    CpuBackend,
    kernels::{Columns, Head, Kernels, Taps},
    products::for_tokens,
    reference,
    share::{Shared, part},
};
use crate::backend::{Attention, Buf, Mamba};

/// Tokens that a participant takes from the convolution to its heads at a time.
const CHUNK: usize = 16;

impl<K: Kernels> CpuBackend<K> {
    /// Floats that the mixers' scratch takes at most, in a pass that ends with token `seen`: whatever columns it holds, B and C and a head
    /// of them, come from activations.
    pub(super) fn most_work(&self, seen: usize) -> u64 {
        // In steps of a factor of two, lest every token asks for a little more.
        let a_thread = (CHUNK * self.most_cols).max(seen.next_power_of_two() + self.most_cols);
        a_thread as u64 * self.pool.n_threads() as u64
    }

    /// See [`crate::backend::Backend::mamba_mix`].
    ///
    /// A participant takes some heads through all tokens, so their state stays in its cache. B and C belong to all heads: each
    /// participant convolves them for itself, which costs less than waiting for one another.
    pub(super) fn mix_heads(&mut self, p: Buf, m: &Mamba, y: Buf) {
        let (n, p_cols, y_cols) = (self.n(), p.n_cols as usize, y.n_cols as usize);
        let (h, d_head, d_state, n_group) = (m.n_head as usize, m.d_head as usize, m.d_state as usize, m.n_group as usize);
        let (d_inner, d_xbc) = (m.d_inner() as usize, m.d_xbc() as usize);
        let (len_head, len_bc) = (d_head * d_state, 2 * n_group * d_state);
        let v = |v: crate::backend::Vector| self.vectors[v.id as usize].as_slice();
        let (dt_bias, a, d, gamma) = (v(m.dt_bias), v(m.a), v(m.d), v(m.norm.gamma));
        let taps = Taps {
            w: v(m.conv_w),
            b: v(m.conv_b),
        };
        let mut out = std::mem::take(&mut self.bufs[y.id as usize]);
        let rows = self.bufs[p.id as usize].as_slice();
        let saved = &mut self.live.conv[m.slot as usize];
        let columns = Columns {
            saved,
            rows,
            stride: p_cols,
            first: d_inner,
            width: d_xbc,
        };
        let n_threads = self.pool.n_threads();
        let len_work = CHUNK * (len_bc + d_head);
        super::grow(&mut self.work, n_threads * len_work);
        let (ssm, mixed) = (Shared::new(&mut self.live.ssm[m.slot as usize]), Shared::new(&mut out));
        let work = Shared::new(&mut self.work);
        self.pool.run(|i| {
            let heads = part(h, i, n_threads);
            if heads.is_empty() {
                return;
            }
            // SAFETY: a participant has its own.
            let work = unsafe { work.part(i * len_work, len_work) };
            let (bc, x) = work.split_at_mut(CHUNK * len_bc);
            for start in (0..n).step_by(CHUNK) {
                let tokens = start..n.min(start + CHUNK);
                K::conv_silu(&columns, tokens.clone(), d_inner..d_xbc, taps, bc);
                for head in heads.clone() {
                    K::conv_silu(&columns, tokens.clone(), head * d_head..(head + 1) * d_head, taps, x);
                    // SAFETY: a head is one participant's.
                    let s = unsafe { ssm.part(head * len_head, len_head) };
                    let g = head / (h / n_group);
                    for (t, (bc, x)) in tokens.clone().zip(bc.chunks_exact(len_bc).zip(x.chunks_exact(d_head))) {
                        let (b, c) = bc.split_at(n_group * d_state);
                        let dt = rows[t * p_cols + d_inner + d_xbc + head];
                        K::ssm_update(
                            s,
                            x,
                            K::softplus(dt + dt_bias[head]),
                            a[head],
                            &b[g * d_state..][..d_state],
                            &c[g * d_state..][..d_state],
                            d[head],
                            // SAFETY: a head is one participant's.
                            unsafe { mixed.part(t * y_cols + head * d_head, d_head) },
                            t == start,
                        );
                    }
                }
            }
        });
        reference::save_columns(saved, rows, p_cols, d_inner, d_xbc, n);
        let gated = Shared::new(&mut self.inputs.floats[..n * d_inner]);
        for_tokens(&self.pool, n, |t| {
            // SAFETY: a token is one participant's.
            let (gated, out) = unsafe { (gated.part(t * d_inner, d_inner), mixed.part(t * y_cols, d_inner)) };
            // Gate first, then norm (Mamba-2's norm_before_gate = false): g = silu(z) * y.
            gated.copy_from_slice(&rows[t * p_cols..][..d_inner]);
            K::silu_mul(gated, out);
            let group = d_inner / n_group;
            for g in (0..d_inner).step_by(group) {
                K::rms_norm(&gated[g..][..group], &gamma[g..][..group], m.norm.eps, &mut out[g..][..group]);
            }
        });
        self.bufs[y.id as usize] = out;
    }

    /// See [`crate::backend::Backend::attend`].
    pub(super) fn attend_heads(&mut self, qkv: Buf, a: &Attention, y: Buf) {
        let (n, n_head, d) = (self.n(), a.n_head as usize, a.d_head as usize);
        let (q_len, kv_len) = (n_head * d, a.n_head_kv as usize * d);
        let (cols, y_cols) = (qkv.n_cols as usize, y.n_cols as usize);
        let mut out = std::mem::take(&mut self.bufs[y.id as usize]);
        let rows = self.bufs[qkv.id as usize].as_slice();
        let (keys, values) = &mut self.live.kv[a.slot as usize];
        for row in rows.chunks_exact(cols).take(n) {
            let kv = &row[q_len..q_len + 2 * kv_len];
            keys.push(&kv[..kv_len]);
            values.push(&kv[kv_len..]);
        }
        let seen = keys.len() / kv_len;
        let n_threads = self.pool.n_threads();
        let len_work = seen + d;
        super::grow(&mut self.work, n_threads * len_work);
        let (mixed, work) = (Shared::new(&mut out), Shared::new(&mut self.work));
        let (keys, values) = (&*keys, &*values);
        self.pool.run(|i| {
            // SAFETY: a participant has its own.
            let work = unsafe { work.part(i * len_work, len_work) };
            for one in part(n_head * n, i, n_threads) {
                let (head, t) = (one / n, one % n);
                let first = head / (n_head / a.n_head_kv as usize) * d;
                let of = |kv| Head {
                    kv,
                    stride: kv_len,
                    first,
                };
                // SAFETY: a head of a token is one participant's.
                let y = unsafe { mixed.part(t * y_cols + head * d, d) };
                let q = &rows[t * cols + head * d..][..d];
                K::attend_head(q, of(keys), of(values), seen - (n - 1 - t), a.scale, work, y);
            }
        });
        self.bufs[y.id as usize] = out;
    }
}
