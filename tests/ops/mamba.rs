//! The Mamba-2 mixer.

use crate::{case::*, run::*};
use outcrop::backend::gpu::{GpuOptions, Scan};

fn mamba(n_head: u32, d_head: u32, d_state: u32, n_group: u32, d_conv: u32, dt: f32) -> Op {
    Op::Mamba {
        n_head,
        d_head,
        d_state,
        n_group,
        d_conv,
        dt,
        wild: 1.0,
    }
}

/// Each form of the recurrence.
fn scans() -> Vec<GpuOptions> {
    [Scan::Sequential, Scan::Chunked, Scan::Auto]
        .map(|scan| GpuOptions { scan, ..defaults() })
        .into()
}

#[test]
fn mamba_layers() {
    let layers = [
        mamba(4, 64, 128, 1, 4, 4.0),
        mamba(8, 16, 64, 2, 4, 4.0),
        // dt past 20, where a softplus by its formula overflows in the end.
        mamba(8, 32, 16, 1, 4, 120.0),
        mamba(6, 40, 100, 3, 3, 30.0),
        mamba(3, 5, 7, 1, 2, 4.0),
        mamba(2, 33, 3, 2, 6, 4.0),
        mamba(2, 8, 8, 1, 1, 4.0),
    ];
    // Batches and single tokens in every order: each hands its state to the other.
    let passes = [1, 1, 5, 1, 2, 33, 1, 1, 1, 1, 17, 3, 48, 1];
    check(&mixers(layers, &passes), UBATCH, &scans());
}

/// Batches of several chunks of the recurrence, whole and broken ones; every width of the state that has a kernel.
#[test]
fn mamba_chunks() {
    let layers = [
        mamba(4, 64, 128, 1, 4, 4.0),
        mamba(2, 80, 256, 2, 4, 1.0),
        mamba(4, 32, 64, 2, 4, 4.0),
        mamba(6, 40, 100, 3, 3, 30.0),
        mamba(3, 5, 1, 1, 4, 4.0),
        mamba(2, 33, 16, 1, 2, 0.0),
        // dt of almost nothing: the state keeps all.
        mamba(2, 16, 16, 1, 4, -40.0),
    ];
    let passes = [64, 1, 63, 65, 2, 128, 200, 17, 129, 1, 200];
    check(&mixers(layers, &passes), 200, &scans());
}

/// Tokens with a dt of 100 and a decay of e^-1000 beside tokens with a dt of e^-50, in the same chunk and head: what a difference of
/// running sums would get wrong.
#[test]
fn mamba_wild_decays() {
    let layers = [3.0f32, 30.0, 100.0].into_iter().flat_map(|wild| {
        [(4, 64, 128, 1), (4, 20, 16, 2)].map(|(n_head, d_head, d_state, n_group)| Op::Mamba {
            n_head,
            d_head,
            d_state,
            n_group,
            d_conv: 4,
            dt: 4.0,
            wild,
        })
    });
    check(&mixers(layers, &[130, 1, 64, 130, 3]), 130, &scans());
}
