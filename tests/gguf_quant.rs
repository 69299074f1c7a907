//! Scalar dequantisation, bit for bit against the `gguf` Python package (`tests/fixtures/quant/make.py`).

use outcrop::backend::cpu::rows::dequantize_row;
use outcrop::gguf::GgmlType;
use outcrop::gguf::quant::dequantize;

fn read(name: &str) -> Vec<u8> {
    let path = format!("{}/tests/fixtures/quant/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

#[test]
fn every_type_bit_for_bit() {
    let mut wrong = Vec::new();
    for ty in GgmlType::ALL {
        let stem = ty.to_string().to_lowercase();
        let blocks = read(&format!("{stem}.blocks"));
        let expected = read(&format!("{stem}.f32"));
        let expected: Vec<f32> = expected.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect();
        assert!(expected.len() >= 64, "{ty}: {} values", expected.len());

        let mut found = vec![f32::NAN; expected.len()];
        dequantize(ty, &blocks, &mut found);
        let differ = |&i: &usize| found[i].to_bits() != expected[i].to_bits();
        let n = (0..found.len()).filter(differ).count();
        if let Some(i) = (0..found.len()).find(differ) {
            wrong.push(format!(
                "{ty}: {n} of {} differ, first [{i}]: {:e}, expected {:e}",
                found.len(),
                found[i],
                expected[i]
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The CPU backend's decoding, on the same blocks. It multiplies in the same order, so it has no excuse for another bit.
#[test]
fn simd_rows_bit_for_bit() {
    let mut wrong = Vec::new();
    for ty in GgmlType::ALL {
        let blocks = read(&format!("{}.blocks", ty.to_string().to_lowercase()));
        let n = blocks.len() / ty.block_bytes() * ty.block_len();
        let (mut expected, mut found) = (vec![0.0; n], vec![f32::NAN; n]);
        dequantize(ty, &blocks, &mut expected);
        dequantize_row(ty, &blocks, &mut found);
        if let Some(i) = (0..n).find(|&i| found[i].to_bits() != expected[i].to_bits()) {
            wrong.push(format!(
                "{ty}: differ, first [{i}]: {:e}, expected {:e}",
                found[i], expected[i]
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// All 65536 halves, against the definition in IEEE 754.
#[test]
fn every_f16() {
    for bits in 0..=u16::MAX {
        let (sign, exponent, fraction) = (bits >> 15, bits >> 10 & 31, f64::from(bits & 0x3ff));
        let size = match exponent {
            0 => fraction * 2f64.powi(-24),
            31 if fraction == 0.0 => f64::INFINITY,
            31 => f64::NAN,
            e => (1.0 + fraction / 1024.0) * 2f64.powi(i32::from(e) - 15),
        };
        let expected = if sign == 1 { -size } else { size };
        let mut found = [0.0];
        dequantize(GgmlType::F16, &bits.to_le_bytes(), &mut found);
        let same = f64::from(found[0]) == expected && found[0].is_sign_negative() == (sign == 1);
        assert!(
            same || found[0].is_nan() && expected.is_nan(),
            "{bits:04x}: {} expected {expected}",
            found[0]
        );
    }
}

/// Blocks have alignment 1: an odd address will do.
#[test]
fn unaligned_bytes() {
    for ty in GgmlType::ALL {
        let blocks = read(&format!("{}.blocks", ty.to_string().to_lowercase()));
        let n = blocks.len() / ty.block_bytes() * ty.block_len();
        let mut shifted = vec![0];
        shifted.extend(&blocks);
        let (mut a, mut b) = (vec![0.0; n], vec![0.0; n]);
        dequantize(ty, &blocks, &mut a);
        dequantize(ty, &shifted[1..], &mut b);
        assert_eq!(a, b, "{ty}");
    }
}

#[test]
#[should_panic(expected = "whole blocks")]
fn part_of_a_block_is_a_bug() {
    dequantize(GgmlType::Q4_K, &[0; 144], &mut [0.0; 128]);
}
