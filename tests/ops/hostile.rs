//! The CPU's f32 kernels on what no model should give them: NaN, infinities, subnormals, signed zeros, numbers whose squares overflow,
//! lengths that are no multiple of four. Against `reference`, on two rules:
//!
//! - what is no number stays none: a broken model is noticed, not smoothed over
//! - what is a number in the reference is the same one here, unless a sum on the way to it overflows f32

use fastrand::Rng;
use half::f16;
use outcrop::backend::cpu::kernels::{Columns, Head, Kernels, Simd, Taps, dot};
use outcrop::backend::cpu::{Cpu, Kv, Plain, reference, simd};
use outcrop::backend::{Attention, Backend, KvType, Pass, StateShape, Want};
use outcrop::gguf::GgmlType;

type Fast = Simd<false>;

/// What each kind of input is made of, besides ordinary numbers.
const KINDS: [(&str, &[f32]); 7] = [
    ("ordinary", &[]),
    ("tiny", &[0.0, -0.0, 1e-45, -1e-45, 3e-39, -1e-38, f32::MIN_POSITIVE, 1e-30]),
    ("large", &[88.0, -88.0, 104.0, -104.0, 1e4, -1e4, 0.0]),
    ("huge", &[1e19, -3e19, 1e30, -1e30, 3e38, -3e38, f32::MAX, f32::MIN]),
    ("infinite", &[f32::INFINITY, f32::NEG_INFINITY]),
    ("NaN", &[f32::NAN, -f32::NAN]),
    (
        "all",
        &[
            0.0,
            -0.0,
            1e-45,
            -88.0,
            1e4,
            1e30,
            f32::MAX,
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::NAN,
        ],
    ),
];

/// Lengths around the width of the lanes and of their unrolling.
const LENGTHS: [usize; 9] = [1, 3, 4, 5, 7, 16, 19, 64, 77];

/// Calls `f` with the name of each kind of input and numbers of that kind, many times over.
fn each_kind(mut f: impl FnMut(&str, &mut dyn FnMut(usize) -> Vec<f32>, &mut Rng)) {
    for (kind, values) in KINDS {
        for seed in 0..60 {
            let mut rng = Rng::with_seed(seed);
            let mut other = rng.fork();
            // From one in a hundred to every other one.
            let share = [0.01, 0.1, 0.5][seed as usize % 3];
            let mut draw = |n: usize| -> Vec<f32> {
                let one = |rng: &mut Rng| match values {
                    [] => 4.0 * rng.f32() - 2.0,
                    _ if rng.f64() >= share => 4.0 * rng.f32() - 2.0,
                    _ => values[rng.usize(0..values.len())],
                };
                (0..n).map(|_| one(&mut rng)).collect()
            };
            f(kind, &mut draw, &mut other);
        }
    }
}

/// Above this, sums on the way may overflow.
const NEAR_OVERFLOW: f64 = 1e37;

/// Judges one number. `size`: the sum of the magnitudes that it was made of; NaN or infinite if they are.
fn judge(found: f32, exact: f32, size: f64, what: &dyn Fn() -> String) {
    let near = (f64::from(found) - f64::from(exact)).abs() <= 4e-6 * size + 1e-37;
    let fine = match exact.is_finite() {
        false => !found.is_finite(),
        true => near || !found.is_finite() && (size >= NEAR_OVERFLOW || size.is_nan()),
    };
    assert!(fine, "{}: {found:e}, not {exact:e} (of terms of {size:e})", what());
}

fn products(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (f64::from(*a) * f64::from(*b)).abs()).sum()
}

#[test]
fn dots() {
    each_kind(|kind, draw, _| {
        for n in LENGTHS {
            let (a, b) = (draw(n), draw(n));
            let exact = reference::dot(&a, &b) as f32;
            judge(dot(&a, &b), exact, products(&a, &b), &|| format!("{kind} {n}: {a:?} . {b:?}"));
        }
    });
}

#[test]
fn rms_norm() {
    each_kind(|kind, draw, _| {
        for n in LENGTHS {
            let (x, gamma) = (draw(n), draw(n));
            let (mut found, mut exact) = (vec![7.0; n], vec![7.0; n]);
            Fast::rms_norm(&x, &gamma, 1e-5, &mut found);
            Plain::rms_norm(&x, &gamma, 1e-5, &mut exact);
            for i in 0..n {
                judge(found[i], exact[i], f64::from(exact[i]).abs(), &|| {
                    format!("{kind} {n}: {i} of {x:?}, {gamma:?}")
                });
            }
        }
    });
}

#[test]
fn silu_mul() {
    each_kind(|kind, draw, _| {
        for n in LENGTHS {
            let (y, x) = (draw(n), draw(n));
            let (mut found, mut exact) = (y.clone(), y.clone());
            Fast::silu_mul(&mut found, &x);
            Plain::silu_mul(&mut exact, &x);
            for i in 0..n {
                // Beyond e^-88 the reference still has a subnormal.
                let size = f64::from(exact[i]).abs() + 1e-30 * f64::from(x[i]).abs();
                judge(found[i], exact[i], size, &|| format!("{kind} {n}: silu({}) * {}", y[i], x[i]));
            }
        }
    });
}

#[test]
fn softplus_and_the_exponential_of_what_is_no_number() {
    let all = KINDS.iter().flat_map(|(_, values)| values.iter().copied());
    for x in all.chain([-86.98, -86.99, -87.5, 88.72, 88.73, 89.3, 20.0, 20.000_002, -20.0]) {
        let exact = f64::from(x).exp();
        judge(simd::exp(x), exact as f32, exact, &|| format!("e^{x}"));
        let exact = reference::softplus(x);
        judge(simd::softplus(x), exact, f64::from(exact).abs(), &|| format!("softplus({x})"));
        let exact = reference::silu(x);
        judge(simd::silu(x), exact, f64::from(exact).abs() + 1e-36, &|| format!("silu({x})"));
    }
}

#[test]
fn convolution() {
    each_kind(|kind, draw, rng| {
        let (width, d_conv, n) = (rng.usize(1..14), [4, 4, 4, 1, 2, 6][rng.usize(0..6)], rng.usize(1..6));
        let (first, stride) = (rng.usize(0..3), width + 5);
        let (saved, rows) = (draw((d_conv - 1) * width), draw(n * stride));
        let (w, b) = (draw(width * d_conv), draw(width));
        let columns = Columns {
            saved: &saved,
            rows: &rows,
            stride,
            first,
            width,
        };
        let taps = Taps { w: &w, b: &b };
        let start = rng.usize(0..width);
        let channels = start..rng.usize(start..width) + 1;
        let (mut found, mut exact) = (vec![7.0; n * channels.len()], vec![7.0; n * channels.len()]);
        Fast::conv_silu(&columns, 0..n, channels.clone(), taps, &mut found);
        Plain::conv_silu(&columns, 0..n, channels.clone(), taps, &mut exact);
        for t in 0..n {
            for (i, k) in channels.clone().enumerate() {
                let seen: Vec<f32> = (0..d_conv).map(|j| columns.seen(t, j)[k]).collect();
                let size = products(&seen, &w[k * d_conv..][..d_conv]) + f64::from(b[k]).abs();
                let at = t * channels.len() + i;
                judge(found[at], exact[at], size, &|| {
                    format!("{kind}: {seen:?} . {:?} + {}", &w[k * d_conv..][..d_conv], b[k])
                });
            }
        }
    });
}

#[test]
fn state_update() {
    each_kind(|kind, draw, rng| {
        let (p, n) = (rng.usize(1..10), LENGTHS[rng.usize(0..LENGTHS.len())]);
        let (s, x, b, c) = (draw(p * n), draw(p), draw(n), draw(n));
        let (dt, d) = (draw(1)[0].abs(), draw(1)[0]);
        let a = -draw(1)[0].abs();
        let (mut found, mut exact) = (s.clone(), s.clone());
        let (mut y, mut y_exact) = (vec![7.0; p], vec![7.0; p]);
        Fast::ssm_update(&mut found, &x, dt, a, &b, &c, d, &mut y, false);
        Plain::ssm_update(&mut exact, &x, dt, a, &b, &c, d, &mut y_exact, false);
        let (mut cold, mut y_cold) = (s.clone(), vec![7.0; p]);
        Fast::ssm_update(&mut cold, &x, dt, a, &b, &c, d, &mut y_cold, true);
        for (cold, warm) in cold.iter().zip(&found).chain(y_cold.iter().zip(&y)) {
            assert!(
                cold.to_bits() == warm.to_bits() || cold.is_nan() && warm.is_nan(),
                "{kind}: {cold}, not {warm}"
            );
        }
        for i in 0..p {
            let mut total = (f64::from(d) * f64::from(x[i])).abs();
            for j in 0..n {
                let at = i * n + j;
                // A decay below e^-87 is none here, and a subnormal there.
                let new = (f64::from(dt) * f64::from(x[i]) * f64::from(b[j])).abs();
                let size = f64::from(exact[at]).abs() + new + f64::from(s[at]).abs() * (f64::from(dt * a).exp() + 1e-30);
                // The order of dt x b matters where dt x overflows.
                let size = if (dt * x[i]).is_finite() { size } else { f64::INFINITY };
                judge(found[at], exact[at], size, &|| {
                    format!("{kind}: dt {dt}, a {a}, s {}, x {}, b {}", s[at], x[i], b[j])
                });
                total += size * f64::from(c[j]).abs();
            }
            judge(y[i], y_exact[i], total, &|| {
                format!("{kind}: y of dt {dt}, a {a}, x {}, c {c:?}", x[i])
            });
        }
    });
}

#[test]
fn attention() {
    each_kind(|kind, draw, rng| {
        let (d, n) = (LENGTHS[rng.usize(0..8)], [1, 2, 3, 5, 64, 67][rng.usize(0..6)]);
        let scale = [0.3, 1.0, 1e-3][rng.usize(0..3)];
        let (first, stride) = (rng.usize(0..3), d + 4);
        let q = draw(d);
        let (keys, values) = (Kv::F32(draw(n * stride)), Kv::F32(draw(n * stride)));
        let head = |kv| Head { kv, stride, first };
        let row = |kv: &Kv, i: usize| {
            let mut row = vec![0.0; d];
            kv.read(i * stride + first, &mut row);
            row
        };
        let (mut y, mut exact) = (vec![7.0; d], vec![7.0; d]);
        Fast::attend_head(&q, head(&keys), head(&values), n, scale, &mut vec![0.0; n + d], &mut y);
        Plain::attend_head(&q, head(&keys), head(&values), n, scale, &mut vec![0.0; n + d], &mut exact);
        // How far a score may be off, and with it the logarithm of a weight.
        let largest = (0..n)
            .map(|i| products(&q, &row(&keys, i)))
            .fold(0.0, |a: f64, b| if b.is_nan() { b } else { a.max(b) });
        let off = 1e-6 * largest * f64::from(scale);
        for j in 0..d {
            let column: Vec<f32> = (0..n).map(|i| row(&values, i)[j]).collect();
            let most = column.iter().fold(
                0.0,
                |a: f64, v| if v.is_nan() { f64::NAN } else { a.max(f64::from(*v).abs()) },
            );
            let what = || format!("{kind}: {d} columns, {n} tokens, scores off by {off:e}: value {j} of {column:?}");
            if largest >= NEAR_OVERFLOW || largest.is_nan() {
                // A score is none, or may overflow to none.
                assert!(
                    exact[j].is_finite() || !y[j].is_finite(),
                    "{}: {}, not {}",
                    what(),
                    y[j],
                    exact[j]
                );
            }
            if y[j].is_finite() && exact[j].is_finite() {
                // A mean of the values, whatever the weights.
                assert!(f64::from(y[j]).abs() <= 1.0001 * most + 1e-37, "{}: {}", what(), y[j]);
            }
            if off < 0.1 {
                judge(y[j], exact[j], most * (1.0 + off * 1e6), &what);
            }
        }
    });
}

/// Scores so far apart, or so low, that all weights but one vanish; equal ones, of any size, are a mean.
#[test]
fn attention_of_extreme_scores() {
    fn head(kv: &Kv) -> Head<'_> {
        Head { kv, stride: 1, first: 0 }
    }
    let attend = |keys: &[f32], values: &[f32]| {
        let (k, v) = (Kv::F32(keys.to_vec()), Kv::F32(values.to_vec()));
        let (mut y, mut exact, n) = ([7.0], [7.0], keys.len());
        Fast::attend_head(&[1.0], head(&k), head(&v), n, 1.0, &mut vec![0.0; n + 1], &mut y);
        Plain::attend_head(&[1.0], head(&k), head(&v), n, 1.0, &mut vec![0.0; n + 1], &mut exact);
        judge(y[0], exact[0], f64::from(exact[0]).abs(), &|| format!("{keys:?} {values:?}"));
        y[0]
    };
    for score in [0.0, -0.0, 1e4, -1e4, 1e30, -1e30, f32::MAX, f32::MIN, 1e-45] {
        for n in [1, 3, 4, 5, 64, 65, 130] {
            let values: Vec<f32> = (0..n).map(|i| i as f32).collect();
            let mean = attend(&vec![score; n], &values);
            assert!(
                (mean - (n - 1) as f32 / 2.0).abs() <= 1e-5 * n as f32,
                "{n} scores of {score}: {mean}"
            );
            let mut keys = vec![f32::MIN; n];
            keys[n / 2] = score.max(-1e30);
            assert_eq!(attend(&keys, &values), (n / 2) as f32, "one score of {score} among {n}");
            keys.fill(f32::NEG_INFINITY);
            keys[n - 1] = score;
            assert_eq!(attend(&keys, &values), (n - 1) as f32, "all but the last of {n} are masked");
        }
    }
    for bad in [f32::NAN, f32::INFINITY] {
        assert!(attend(&[0.0, bad, 0.0, 1.0, 2.0], &[1.0; 5]).is_nan());
    }
    assert!(attend(&[f32::NEG_INFINITY; 6], &[1.0; 6]).is_nan(), "nothing is seen");
}

#[test]
fn all_halves() {
    let all = Kv::F16((0..=u16::MAX).map(f16::from_bits).collect());
    let (mut found, mut exact) = (vec![0.0; 1 << 16], vec![0.0; 1 << 16]);
    let found = all.row(0, &mut found);
    all.read(0, &mut exact);
    for (found, exact) in found.iter().zip(&exact) {
        assert!(
            found.to_bits() == exact.to_bits() || found.is_nan() && exact.is_nan(),
            "{found:e}, not {exact:e}"
        );
    }
}

/// A token with a number that is none has no numbers after a product, and its neighbours have theirs.
#[test]
fn products_keep_tokens_apart() {
    const D: usize = 256;
    let mut rng = Rng::with_seed(1);
    for ty in GgmlType::ALL {
        let bytes = crate::common::blocks::random(ty, 11, D, &mut rng);
        for int8 in [false, true] {
            let run = |rows: &[f32]| {
                let n = rows.len() / D;
                let mut cpu = if int8 { Cpu::int8(16) } else { Cpu::new(16) };
                let table = cpu.matrix("table", GgmlType::F32, n as u32, D as u32).expect("a matrix");
                let w = cpu.matrix("w", ty, 11, D as u32).expect("a matrix");
                let (y, x) = (cpu.buffer(D as u32).expect("a buffer"), cpu.buffer(32).expect("a buffer"));
                cpu.write_matrix(table, 0, &crate::common::blocks::f32_rows(rows))
                    .expect("written");
                cpu.write_matrix(w, 0, &bytes).expect("written");
                let mut state = cpu.new_state(&StateShape::default()).expect("a state");
                let ids: Vec<u32> = (0..n as u32).collect();
                let pass = Pass {
                    ids: &ids,
                    pos: 0,
                    want: Want::Nothing,
                };
                cpu.begin(&mut state, &pass).expect("begun");
                cpu.embed(table, 1.0, y);
                cpu.matmul_add(w, y, 1.0, x);
                cpu.activations(x)[..32 * n].to_vec()
            };
            for n in [2, 5, 9] {
                let rows: Vec<f32> = (0..n * D).map(|_| rng.f32() - 0.5).collect();
                let right = run(&rows);
                for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                    let (t, mut spoilt) = (rng.usize(0..n), rows.clone());
                    spoilt[t * D + rng.usize(0..D)] = bad;
                    let found = run(&spoilt);
                    for (i, (found, right)) in found.iter().zip(&right).enumerate() {
                        match i / 32 == t {
                            // A weight of zero times infinity is none either.
                            true if i % 32 < 11 => assert!(!found.is_finite(), "{ty}, 8 bits: {int8}: {bad} was lost"),
                            _ => assert_eq!(
                                found.to_bits(),
                                right.to_bits(),
                                "{ty}, 8 bits: {int8}, {bad} in token {t} of {n}: {i}"
                            ),
                        }
                    }
                }
            }
        }
    }
}

/// A key or a value that is no number is none to all later tokens, however it is stored.
#[test]
fn caches_keep_what_is_no_number() {
    const KEY: usize = 40;
    for kv in KvType::ALL {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for spoilt in [KEY, 80] {
                // 36 of queries, keys and values each; the second block of a row is short.
                let mut rows: Vec<f32> = (0..4 * 128).map(|i| ((i * 37 % 101) as f32 - 50.0) / 50.0).collect();
                rows[spoilt] = bad;
                let mut cpu = Cpu::new(4);
                let table = cpu.matrix("table", GgmlType::F32, 4, 128).expect("a matrix");
                let (qkv, y) = (cpu.buffer(128).expect("a buffer"), cpu.buffer(64).expect("a buffer"));
                cpu.write_matrix(table, 0, &crate::common::blocks::f32_rows(&rows))
                    .expect("written");
                let shape = StateShape {
                    n_attention: 1,
                    kv_len: 36,
                    kv_type: kv,
                    n_ctx: 4,
                    ..StateShape::default()
                };
                let mut state = cpu.new_state(&shape).expect("a state");
                let pass = Pass {
                    ids: &[0, 1, 2, 3],
                    pos: 0,
                    want: Want::Nothing,
                };
                cpu.begin(&mut state, &pass).expect("begun");
                cpu.embed(table, 1.0, qkv);
                let a = Attention {
                    slot: 0,
                    n_head: 1,
                    n_head_kv: 1,
                    d_head: 36,
                    scale: 0.1,
                };
                cpu.attend(qkv, &a, y);
                for row in cpu.activations(y).chunks(64).take(4) {
                    let noticed = row[..36].iter().any(|y| !y.is_finite());
                    // An infinite key times a query of the other sign is a score like that of a masked token.
                    let masked = spoilt == KEY && bad.is_infinite();
                    assert!(noticed || masked, "{kv:?}: {bad} at {spoilt} was lost");
                }
            }
        }
    }
}
