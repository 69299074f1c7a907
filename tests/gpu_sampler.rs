//! The GPU's draws against the CPU's sampler: the same seed and logits give the same tokens, whatever the logits.
//!
//! Weights are exponentials, which two devices round differently; so a token may differ where the number drawn lies within 1e-5 of an edge of
//! the distribution. How many did is printed and bounded.

mod common;

use common::tiny::{D, Tiny};
use fastrand::Rng;
use outcrop::{
    backend::{
        Backend, Choice, Likely, Made, Want,
        gpu::{Gpu, GpuOptions},
    },
    generate::{Options, Sampler, uniform},
};

/// Of the distribution's cumulative sum.
const EDGE: f64 = 1e-5;
const N_CTX: u32 = 4096;

fn open() -> Option<Gpu> {
    common::gpu::open(GpuOptions {
        n_ubatch: 40,
        default_limits: true,
        ..Default::default()
    })
}

/// The model's logits: column `col` of 32, each hostile in its own way or random. Multiplied by 2.8 on their way.
fn logits(vocab: usize) -> Vec<[f32; D]> {
    let mut rng = Rng::with_seed(7);
    let normal = |rng: &mut Rng| rng.f32() + rng.f32() + rng.f32() + rng.f32() - 2.0;
    let mut all = vec![[0.0; D]; vocab];
    for col in 0..D {
        let dominant = rng.usize(..vocab);
        for (row, logits) in all.iter_mut().enumerate() {
            let random = normal(&mut rng);
            logits[col] = match col {
                0 => random * 1e-3, // almost flat
                1 => 1.5,           // ties
                2 => {
                    if row % 7 == 3 {
                        1.0
                    } else {
                        -1.0
                    }
                } // two values
                3 => {
                    if row == dominant {
                        12.0
                    } else {
                        random
                    }
                } // one dominant
                4 => random * 2.5e37, // the whole range
                5 => (random * 4.0).round() / 2.0, // ties at every height
                6 => 1.0 + row as f32 * 1e-7, // differences of one unit in the last place
                7 => -(row as f32), // a staircase
                8 => {
                    if row % 2 == 0 {
                        0.0
                    } else {
                        -0.0
                    }
                }
                9 => random * random * random * 8.0, // long tails
                10 => {
                    if row < vocab / 2 {
                        3.0
                    } else {
                        random
                    }
                } // half of them at the top
                11 => -((row * 7919 % vocab) as f32).ln_1p(), // Zipf
                12 => {
                    if row == dominant {
                        3e37
                    } else {
                        -3e37
                    }
                }
                13 => random * 1e-30,
                _ => random * [0.5, 1.0, 2.0, 4.0][col % 4],
            };
        }
    }
    all
}

/// What is asked of a device for these options.
fn choice<'a>(likely: bool, options: &Options, seed: u64, vocab: usize, never: &'a [u32], prompt: &'a [u32]) -> Choice<'a> {
    Choice {
        greedy: false,
        temperature: options.temperature,
        top_k: options.top_k,
        top_p: options.top_p,
        min_p: options.min_p,
        repetition_penalty: options.repetition_penalty,
        repetition_last_n: options.repetition_last_n,
        frequency_penalty: options.frequency_penalty,
        presence_penalty: options.presence_penalty,
        seed,
        stop: &[],
        never,
        n_vocab: vocab as u32,
        prompt,
        likely,
    }
}

/// Cumulative sums of the distribution, in ascending order of id: naive and in f64. Logits are those after penalties.
fn edges(logits: &[f32], options: &Options, never: &[u32]) -> Vec<f64> {
    let allowed = |id: u32| !never.contains(&id);
    let mut ranked: Vec<u32> = (0..logits.len() as u32).filter(|&id| allowed(id)).collect();
    ranked.sort_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]).then(a.cmp(&b)));
    if options.top_k > 0 {
        ranked.truncate(options.top_k);
    }
    let max = f64::from(logits[ranked[0] as usize]);
    let weight = |id: u32| ((f64::from(logits[id as usize]) - max) / f64::from(options.temperature)).exp();
    let total: f64 = ranked.iter().map(|&id| weight(id)).sum();
    if options.top_p < 1.0 {
        let mut sum = 0.0;
        let end = ranked.iter().position(|&id| {
            sum += weight(id);
            sum >= f64::from(options.top_p) * total
        });
        ranked.truncate(end.map_or(usize::MAX, |i| i + 1));
    }
    ranked.retain(|&id| weight(id) >= f64::from(options.min_p));
    ranked.sort_unstable();
    let total: f64 = ranked.iter().map(|&id| weight(id)).sum();
    let mut sum = 0.0;
    let sums = ranked.iter().map(|&id| {
        sum += weight(id);
        sum / total
    });
    sums.collect()
}

struct Bench {
    tiny: Tiny,
    vocab: usize,
    /// Logits after each of the 32 kinds of tokens, as the device has them.
    after: Vec<Vec<f32>>,
    draws: usize,
    at_edges: usize,
}

impl Bench {
    fn new(gpu: Gpu, vocab: usize) -> Bench {
        let rows = logits(vocab);
        let mut tiny = Tiny::with_ctx(gpu, N_CTX, vocab.max(D), vocab, |row, col| rows[row][col]);
        let after = (0..D as u32)
            .map(|col| tiny.pass(&[col], 0, Want::Logits).unwrap().1)
            .collect();
        Bench {
            tiny,
            vocab,
            after,
            draws: 0,
            at_edges: 0,
        }
    }

    /// One reply of `n` tokens after `prompt`, token by token beside the CPU's sampler.
    fn reply(&mut self, name: &str, options: &Options, seed: u64, never: &[u32], prompt: &[u32], n: usize) {
        let choice = choice(seed.is_multiple_of(2), options, seed, self.vocab, never, prompt);
        assert!(pollster::block_on(self.tiny.gpu.begin_reply(&mut self.tiny.state, &choice)).unwrap());
        self.tiny.pass(prompt, 0, Want::Chosen(1)).unwrap();
        let mut made: Vec<Made> = Vec::new();
        let mut asked = 1;
        while made.len() < n {
            if asked < n {
                let more = 16.min(n - asked);
                self.tiny
                    .pass(&[], (prompt.len() + asked - 1) as u32, Want::Chosen(more as u32))
                    .unwrap();
                asked += more;
            }
            pollster::block_on(self.tiny.gpu.fetch(&mut made)).unwrap();
        }
        if asked > made.len() {
            pollster::block_on(self.tiny.gpu.fetch(&mut made)).unwrap();
        }

        let mut sampler = Sampler::new(never.to_vec());
        sampler.begin(options, seed, self.vocab, prompt).unwrap();
        let mut last = *prompt.last().unwrap();
        for (i, token) in made.iter().enumerate() {
            let mut logits = self.after[last as usize % D].clone();
            if token.likely.is_some() {
                self.check_likely(token, &logits);
            }
            let id = sampler.pick(&mut logits).unwrap(); // which leaves its penalties in them
            self.draws += 1;
            if id != token.id {
                let u = f64::from(uniform(seed, i as u32));
                let nearest = edges(&logits, options, never)
                    .into_iter()
                    .map(|edge| (edge - u).abs())
                    .fold(f64::INFINITY, f64::min);
                assert!(
                    options.temperature > 0.0 && nearest < EDGE,
                    "{name}, vocabulary {}, seed {seed}, token {i} after {last} (column {}): {} and not {id}, {nearest:e} from an edge",
                    self.vocab,
                    last as usize % D,
                    token.id
                );
                self.at_edges += 1;
                if options.repetition_penalty != 1.0 || options.frequency_penalty != 0.0 || options.presence_penalty != 0.0 {
                    return; // from here on they have penalties of their own
                }
            }
            last = token.id;
        }
    }
}

impl Bench {
    /// The token's place in the distribution, by f64 sums and a full sort.
    fn check_likely(&self, token: &Made, logits: &[f32]) {
        let device = token.likely.expect("asked for by every other seed");
        let exact = Likely::new(logits, token.id);
        assert_eq!(device.n_best, exact.n_best);
        assert_eq!(
            (device.logit, &device.best[..device.n_best]),
            (exact.logit, &exact.best[..exact.n_best])
        );
        let off = (device.log_sum - exact.log_sum).abs();
        assert!(off < 1e-5 * exact.log_sum.abs().max(1.0), "{off:e}: {device:?}, {exact:?}");
    }
}

fn warm() -> Options {
    Options {
        temperature: 1.0,
        ..Options::default()
    }
}

fn cases(vocab: usize) -> Vec<(&'static str, Options)> {
    vec![
        ("temperature 1", warm()),
        (
            "temperature 0.3",
            Options {
                temperature: 0.3,
                ..warm()
            },
        ),
        (
            "hottest",
            Options {
                temperature: f32::MAX,
                ..warm()
            },
        ),
        (
            "coldest",
            Options {
                temperature: 1e-45,
                ..warm()
            },
        ),
        (
            "cold",
            Options {
                temperature: 1e-6,
                top_k: 3,
                ..warm()
            },
        ),
        ("top_k 1", Options { top_k: 1, ..warm() }),
        ("top_k 40", Options { top_k: 40, ..warm() }),
        (
            "top_k all but one",
            Options {
                top_k: vocab.max(2) - 1,
                temperature: 8.0,
                ..warm()
            },
        ),
        (
            "top_k beyond",
            Options {
                top_k: usize::MAX,
                ..warm()
            },
        ),
        ("top_p 0.9", Options { top_p: 0.9, ..warm() }),
        (
            "top_p 0.3, hot",
            Options {
                top_p: 0.3,
                temperature: 30.0,
                ..warm()
            },
        ),
        ("top_p 1e-9", Options { top_p: 1e-9, ..warm() }),
        (
            "top_p least",
            Options {
                top_p: f32::MIN_POSITIVE,
                ..warm()
            },
        ),
        (
            "top_p 0.9999",
            Options {
                top_p: 0.9999,
                temperature: 2.0,
                ..warm()
            },
        ),
        ("min_p 0.1", Options { min_p: 0.1, ..warm() }),
        ("min_p 1", Options { min_p: 1.0, ..warm() }),
        (
            "usual",
            Options {
                temperature: 0.7,
                top_k: 40,
                top_p: 0.95,
                min_p: 0.05,
                ..warm()
            },
        ),
        (
            "wide",
            Options {
                temperature: 1.5,
                top_k: 1000,
                top_p: 0.8,
                min_p: 0.001,
                ..warm()
            },
        ),
        (
            "half and half",
            Options {
                temperature: 100.0,
                top_k: vocab.div_ceil(2),
                top_p: 0.5,
                ..warm()
            },
        ),
        (
            "repetition",
            Options {
                repetition_penalty: 1.3,
                top_p: 0.9,
                ..warm()
            },
        ),
        (
            "repetition of 7",
            Options {
                repetition_penalty: 0.8,
                repetition_last_n: 7,
                ..warm()
            },
        ),
        (
            "repetition of none",
            Options {
                repetition_penalty: 1.5,
                repetition_last_n: 0,
                ..warm()
            },
        ),
        (
            "all penalties",
            Options {
                repetition_penalty: 1.1,
                repetition_last_n: 64,
                frequency_penalty: 0.3,
                presence_penalty: -0.4,
                top_k: 50,
                ..warm()
            },
        ),
        (
            "absurd penalties",
            Options {
                repetition_penalty: f32::MAX,
                frequency_penalty: 2.0,
                ..warm()
            },
        ),
        (
            "other absurd penalties",
            Options {
                repetition_penalty: f32::MIN_POSITIVE,
                presence_penalty: -2.0,
                ..warm()
            },
        ),
        (
            "greedy with penalties",
            Options {
                temperature: 0.0,
                repetition_penalty: 1.2,
                frequency_penalty: 0.1,
                ..warm()
            },
        ),
        (
            "greedy without",
            Options {
                temperature: 0.0,
                ..warm()
            },
        ),
    ]
}

/// So many draws, divided among all cases, each over all kinds of logits. Returns how many differ at edges.
fn draws(vocab: usize, n: usize) -> Option<usize> {
    let mut bench = Bench::new(open()?, vocab);
    let never: Vec<u32> = (0..vocab as u32).filter(|id| id % 11 == 5).collect();
    let cases = cases(vocab);
    for (seed, (name, options)) in (1 << 32..).zip(&cases) {
        let mut left = n.div_ceil(cases.len());
        // Each kind of logits gets a turn as the first, and the tokens themselves lead on.
        for (i, col) in (0..).zip((0..D as u32).cycle()) {
            let n = left.min(120);
            let never: &[u32] = if i % 2 == 0 { &[] } else { &never };
            let prompt = [3, 1, 4, 1, 5, 9, 2, 6, col];
            bench.reply(name, options, seed + (i << 40), never, &prompt[i as usize % 9..], n);
            left -= n;
            if left == 0 {
                break;
            }
        }
    }
    println!(
        "{vocab}: {} draws, {} differ within {EDGE:e} of an edge",
        bench.draws, bench.at_edges
    );
    assert!(bench.draws >= n * 9 / 10);
    Some(bench.at_edges)
}

/// With the next test a hundred thousand draws.
#[test]
fn draws_are_the_cpus() {
    assert!(draws(300, 90_000).unwrap_or(0) <= 10);
}

/// Two blocks of vocabulary, the second hardly begun.
#[test]
fn draws_over_blocks_are_the_cpus() {
    assert!(draws(4500, 10_000).unwrap_or(0) <= 5);
}

/// Vocabularies of every awkward size, up to Granite's own.
#[test]
fn any_vocabulary() {
    for (vocab, n) in [(1, 20), (2, 40), (31, 60), (4096, 20), (4097, 20), (100_352, 6)] {
        let Some(gpu) = open() else { return };
        let mut bench = Bench::new(gpu, vocab);
        for (seed, (name, options)) in (1..).zip(&cases(vocab)) {
            let col = (seed as u32 * 5) % D.min(vocab) as u32;
            bench.reply(name, options, seed, &[], &[col], n);
        }
        println!("{vocab}: {} draws, {} at edges", bench.draws, bench.at_edges);
        assert!(bench.at_edges <= 2);
    }
}
