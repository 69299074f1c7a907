//! What the GPU backend does when something is wrong, and its ways of reading results back.

mod common;

use common::tiny::{D, Tiny};
use outcrop::Error;
use outcrop::backend::gpu::{Gpu, GpuOptions};
use outcrop::backend::{Backend, StateShape, Want};
use outcrop::gguf::GgmlType;

const VOCAB: usize = 9000; // more than two workgroups of the argmax take
const UBATCH: u32 = 40;

fn open() -> Option<Gpu> {
    common::gpu::open(GpuOptions {
        n_ubatch: UBATCH,
        default_limits: true,
        ..Default::default()
    })
}

/// Column c of the head is largest at the rows that are c modulo 4500: two of them, so ties are everywhere.
fn tied(row: usize, col: usize) -> f32 {
    if row % 4500 == col + 100 {
        2.0
    } else {
        (row * 31 % 97) as f32 / 97.0
    }
}

#[test]
fn the_lowest_of_equal_logits_wins() {
    let Some(gpu) = open() else { return };
    let mut tiny = Tiny::new(gpu, 64, VOCAB, tied);
    for n in [1, 2, 5, 30] {
        let ids: Vec<u32> = (0..n).collect();
        let (token, _) = tiny.pass(&ids, 0, Want::Token).unwrap();
        assert_eq!(token, Some(n - 1 + 100), "after {n} tokens");
    }
}

#[test]
fn all_ways_to_want_logits_agree() {
    let Some(gpu) = open() else { return };
    let mut tiny = Tiny::new(gpu, 64, VOCAB, tied);
    for n in [1, 2, 16, 17, UBATCH] {
        let ids: Vec<u32> = (0..n).collect();
        let (_, all) = tiny.pass(&ids, 0, Want::AllLogits).unwrap();
        assert_eq!(all.len(), n as usize * VOCAB);
        let (_, last) = tiny.pass(&ids, 0, Want::Logits).unwrap();
        let scale = (D as f32).sqrt() / 2.0;
        for (t, row) in all.chunks(VOCAB).enumerate() {
            for (r, &l) in row.iter().enumerate() {
                assert!((l - scale * tied(r, t % D)).abs() < 1e-5, "n {n}, token {t}, row {r}: {l}");
            }
        }
        let diff = last
            .iter()
            .zip(&all[all.len() - VOCAB..])
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max);
        assert!(last.len() == VOCAB && diff < 1e-6, "n {n}: {diff}");
        assert_eq!(tiny.pass(&ids, 0, Want::Nothing).unwrap(), (None, Vec::new()));
    }
}

#[test]
fn numbers_that_are_none_stop_the_reply() {
    for bad in [f32::INFINITY, f32::NAN] {
        let Some(gpu) = open() else { return };
        let mut tiny = Tiny::new(
            gpu,
            64,
            VOCAB,
            |row, col| if row == 5000 && col == 3 { bad } else { tied(row, col) },
        );
        for want in [Want::Token, Want::Logits, Want::AllLogits] {
            let error = tiny.pass(&[1, 2, 3], 0, want).unwrap_err();
            assert!(matches!(error, Error::NonFiniteLogits), "{want:?}: {error}");
        }
    }
}

#[test]
fn impossible_passes_are_refused_and_do_no_harm() {
    let Some(gpu) = open() else { return };
    let mut tiny = Tiny::new(gpu, 64, VOCAB, tied);
    let code = |r: Result<_, Error>| r.map(|_| ()).unwrap_err().code();
    assert_eq!(code(tiny.pass(&[], 0, Want::Token)), "invalid_request");
    assert_eq!(code(tiny.pass(&[0; UBATCH as usize + 1], 0, Want::Token)), "invalid_request");
    assert_eq!(code(tiny.pass(&[64], 0, Want::Token)), "invalid_request");
    assert_eq!(code(tiny.pass(&[1; 30], 71, Want::Token)), "context_length_exceeded");
    assert_eq!(tiny.pass(&[1; 30], 70, Want::Token).unwrap().0, Some(101));
}

#[test]
fn shapes_that_cannot_run_are_refused_at_load() {
    let Some(mut gpu) = open() else { return };
    for (ty, n_rows, n_cols) in [
        (GgmlType::F32, 4, 40),
        (GgmlType::Q4_K, 4, 128),
        (GgmlType::F16, 0, 64),
        (GgmlType::F32, 2, 1 << 28),
    ] {
        let error = gpu.matrix("blk.0.odd.weight", ty, n_rows, n_cols).unwrap_err();
        assert!(
            matches!(error, Error::UnsupportedHere { .. }) && error.to_string().contains("blk.0.odd.weight"),
            "{error}"
        );
    }
    let huge = StateShape {
        n_attention: 1,
        kv_len: 512,
        n_ctx: 1 << 20,
        ..StateShape::default()
    };
    assert!(matches!(gpu.new_state(&huge), Err(Error::OutOfMemory { .. })));
}

#[test]
fn missing_and_surplus_bytes_are_noticed() {
    let Some(mut gpu) = open() else { return };
    let m = gpu.matrix("m.weight", GgmlType::Q8_0, 3, 64).unwrap();
    gpu.write_matrix(m, 0, &[0; 200]).unwrap();
    let error = pollster::block_on(gpu.finish_loading()).unwrap_err();
    assert!(matches!(error, Error::MissingTensor { .. }), "{error}");
    assert!(gpu.write_matrix(m, 200, &[0; 100]).is_err());
}

/// A device that was destroyed answers every call with an error.
#[test]
fn a_lost_device_is_an_error() {
    let Some(gpu) = open() else { return };
    let mut tiny = Tiny::new(gpu, 64, VOCAB, tied);
    tiny.pass(&[1], 0, Want::Token).unwrap();
    tiny.gpu.destroy();
    let code = tiny.pass(&[1], 0, Want::Token).map(|_| ()).unwrap_err().code();
    assert!(["gpu", "gpu_lost"].contains(&code), "{code}");
}
