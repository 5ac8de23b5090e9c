use proptest::prelude::*;

use super::*;
use crate::{
    pool::{Pool, with_pool},
    simd::under_each,
};

/// Numbers between -1 and 1.
pub(super) fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..count)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            ((state >> 40) as f32 / 8_388_608.0) - 1.0
        })
        .collect()
}

#[derive(Debug, Clone)]
struct Case {
    group: usize,
    kv_heads: usize,
    dim: usize,
    value_dim: usize,
    tokens: usize,
    window: Option<usize>,
    has_sinks: bool,
    norm: usize,
    rotated: usize,
    interleaved: bool,
    seed: u64,
}

struct Inputs {
    queries: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
    sinks: Vec<f32>,
    norms: [Vec<f32>; 2],
    rope: Option<Rope>,
}

impl Case {
    fn heads(&self) -> usize {
        self.group * self.kv_heads
    }

    fn attention<'a>(&self, inputs: &'a Inputs) -> Attention<'a> {
        Attention {
            heads: self.heads(),
            kv_heads: self.kv_heads,
            dim: self.dim,
            value_dim: self.value_dim,
            scale: (self.dim as f32).powf(-0.5),
            sinks: self.has_sinks.then_some(&inputs.sinks),
            window: self.window,
            norms: self.norms(inputs),
            rope: inputs.rope.as_ref(),
        }
    }

    fn inputs(&self) -> Inputs {
        let of = |count, salt| numbers(count, self.seed + salt);
        let sharp = |numbers: Vec<f32>| numbers.into_iter().map(|x| 3.0 * x).collect();
        let pairs = (self.rotated / 2).min(self.dim / 2);
        let frequencies =
            (0..pairs).map(|pair| 100f32.powf(-(pair as f32) / pairs as f32)).collect();
        Inputs {
            queries: sharp(of(self.tokens * self.heads() * self.dim, 1)),
            keys: sharp(of(self.tokens * self.kv_heads * self.dim, 2)),
            values: of(self.tokens * self.kv_heads * self.value_dim, 3),
            sinks: of(self.heads(), 4),
            norms: [of(self.heads() * self.dim, 5), of(self.kv_heads * self.dim, 6)],
            rope: (pairs > 0).then(|| Rope::new(frequencies, self.interleaved, 0.5, 1.25)),
        }
    }

    fn norms<'a>(&self, inputs: &'a Inputs) -> KeyNorms<'a> {
        let [query, key] = &inputs.norms;
        match self.norm {
            0 => KeyNorms::None,
            1 => KeyNorms::Head { query: &query[..self.dim], key: &key[..self.dim], eps: 1e-5 },
            _ => KeyNorms::Whole { query, key, eps: 1e-5 },
        }
    }

    /// Fed in passes of these lengths; `shared` of the first tokens lie in another array than the others.
    fn fed(&self, inputs: &Inputs, passes: &[usize], shared: usize) -> Vec<f32> {
        let (dim, value_dim, kv_heads) = (self.dim, self.value_dim, self.kv_heads);
        let attention = self.attention(inputs);
        let room = self.tokens + 3;
        let mut early =
            (vec![f32::NAN; kv_heads * room * dim], vec![f32::NAN; kv_heads * room * value_dim]);
        let mut late = early.clone();
        let mut into = vec![f32::NAN; self.tokens * self.heads() * value_dim];
        let mut seen = 0;
        for &tokens in passes {
            let table = |data: &'_ [f32], width: usize| data[seen * width..].to_vec();
            let rows = [
                table(&inputs.queries, self.heads() * dim),
                table(&inputs.keys, kv_heads * dim),
                table(&inputs.values, kv_heads * value_dim),
            ];
            let projected = Projected {
                tokens,
                queries: Table { data: &rows[0], stride: self.heads() * dim },
                keys: Table { data: &rows[1], stride: kv_heads * dim },
                values: Table { data: &rows[2], stride: kv_heads * value_dim },
            };
            let is_early = seen < shared;
            let first = if is_early { 0 } else { shared };
            let part = Part {
                first: 0,
                len: shared,
                keys: &early.0.clone(),
                values: &early.1.clone(),
                key_strides: (room * dim, dim),
                value_strides: (room * value_dim, value_dim),
            };
            let earlier: &[Part<'_>] = if is_early || shared == 0 { &[] } else { &[part] };
            let (keys, values) =
                if is_early { (&mut early.0, &mut early.1) } else { (&mut late.0, &mut late.1) };
            append_and_attend(
                &attention,
                &projected,
                seen,
                earlier,
                &mut Cached { first, room, keys, values },
                &mut into[seen * self.heads() * value_dim..],
            );
            seen += tokens;
        }
        assert_eq!(seen, self.tokens);
        into
    }

    /// In double precision, term by term.
    fn exact(&self, inputs: &Inputs) -> Vec<f64> {
        let prepared = |data: &[f32], heads: usize, weights: &[f32]| -> Vec<f64> {
            let mut y: Vec<f64> = data.iter().map(|&x| f64::from(x)).collect();
            for (token, row) in y.chunks_mut(heads * self.dim).enumerate() {
                let width = if self.norm == 2 { heads * self.dim } else { self.dim };
                if self.norm > 0 {
                    for x in row.chunks_mut(width) {
                        let mean = x.iter().map(|x| x * x).sum::<f64>() / width as f64;
                        let root = (mean + 1e-5).sqrt();
                        x.iter_mut()
                            .zip(weights)
                            .for_each(|(x, &weight)| *x *= f64::from(weight) / root);
                    }
                }
                let pairs = (self.rotated / 2).min(self.dim / 2);
                for head in row.chunks_mut(self.dim) {
                    for pair in 0..pairs {
                        let (a, b) = if self.interleaved {
                            (2 * pair, 2 * pair + 1)
                        } else {
                            (pair, pair + pairs)
                        };
                        let frequency = 100f32.powf(-(pair as f32) / pairs as f32);
                        // Rounded as MLX rounds it.
                        let angle = f64::from(token as f32 * 0.5 * frequency);
                        let (sin, cos) = angle.sin_cos();
                        let (x, y) = (head[a], head[b]);
                        head[a] = 1.25 * (x * cos - y * sin);
                        head[b] = 1.25 * (x * sin + y * cos);
                    }
                }
            }
            y
        };
        let queries = prepared(&inputs.queries, self.heads(), &inputs.norms[0]);
        let keys = prepared(&inputs.keys, self.kv_heads, &inputs.norms[1]);
        let mut into = Vec::new();
        for token in 0..self.tokens {
            for head in 0..self.heads() {
                let kv_head = head / self.group;
                let query = &queries[(token * self.heads() + head) * self.dim..][..self.dim];
                let first = self.window.map_or(0, |window| (token + 1).saturating_sub(window));
                let scores: Vec<f64> = (first..=token)
                    .map(|at| {
                        let key = &keys[(at * self.kv_heads + kv_head) * self.dim..][..self.dim];
                        let product: f64 = query.iter().zip(key).map(|(x, y)| x * y).sum();
                        product * (self.dim as f64).powf(-0.5)
                    })
                    .collect();
                let sink = if self.has_sinks { f64::from(inputs.sinks[head]).exp() } else { 0.0 };
                let sum = sink + scores.iter().map(|score| score.exp()).sum::<f64>();
                for dim in 0..self.value_dim {
                    let value = |at: usize| {
                        f64::from(
                            inputs.values[(at * self.kv_heads + kv_head) * self.value_dim + dim],
                        )
                    };
                    let mixed =
                        scores.iter().zip(first..).map(|(score, at)| score.exp() * value(at));
                    into.push(mixed.sum::<f64>() / sum);
                }
            }
        }
        into
    }
}

fn cases() -> impl Strategy<Value = Case> {
    (
        (
            1usize..6,
            1usize..3,
            1usize..40,
            1usize..40,
            prop_oneof![8 => 1usize..50, 1 => 510usize..530],
        ),
        (
            prop::option::of(1usize..600),
            any::<bool>(),
            0usize..3,
            0usize..80,
            any::<bool>(),
            any::<u32>(),
        ),
    )
        .prop_map(
            |(
                (group, kv_heads, dim, value_dim, tokens),
                (window, has_sinks, norm, rotated, interleaved, seed),
            )| Case {
                group,
                kv_heads,
                dim,
                value_dim,
                tokens,
                window,
                has_sinks,
                norm,
                rotated,
                interleaved,
                seed: u64::from(seed),
            },
        )
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_is_what_the_formula_says(case in cases()) {
        let inputs = case.inputs();
        let exact = case.exact(&inputs);
        let mut first = None;
        under_each(|level| {
            let y = case.fed(&inputs, &[case.tokens], 0);
            for (y, exact) in y.iter().zip(&exact) {
                assert!((f64::from(*y) - exact).abs() < 2e-5, "{level:?}: {y}, not {exact}");
            }
            assert_eq!(*first.get_or_insert_with(|| bits(&y)), bits(&y), "{level:?}");
        });
    }

    /// One token after the other, in a few, in many, by one thread and by several, from one array and from two.
    #[test]
    fn it_does_not_depend_on_company(case in cases(), seed in any::<u64>()) {
        let inputs = case.inputs();
        let whole = bits(&case.fed(&inputs, &[case.tokens], 0));
        let several: &'static Pool = Box::leak(Box::new(Pool::new(3)));
        let alone: &'static Pool = Box::leak(Box::new(Pool::new(1)));
        let mut random = seed | 1;
        let mut passes = Vec::new();
        let (mut left, mut shared) = (case.tokens, 0);
        while left > 0 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let most = [1, 4, 9, 300][(random >> 60) as usize % 4];
            let pass = (1 + (random >> 33) as usize % most).min(left);
            passes.push(pass);
            left -= pass;
            if (random >> 50) % 3 == 0 {
                shared = case.tokens - left;
            }
        }
        let in_pieces = with_pool(several, || case.fed(&inputs, &passes, shared));
        prop_assert_eq!(&bits(&in_pieces), &whole, "{:?}", passes);
        let by_one = with_pool(alone, || case.fed(&inputs, &passes, 0));
        prop_assert_eq!(&bits(&by_one), &whole);
        let one_by_one = case.fed(&inputs, &vec![1; case.tokens], 0);
        prop_assert_eq!(&bits(&one_by_one), &whole);
    }
}

fn small() -> Case {
    Case {
        group: 2,
        kv_heads: 2,
        dim: 32,
        value_dim: 32,
        tokens: 40,
        window: None,
        has_sinks: false,
        norm: 1,
        rotated: 32,
        interleaved: false,
        seed: 5,
    }
}

/// Heads of queries without end, as those of latent attention are.
#[test]
fn many_queries_of_one_key_are_shared_out() {
    let case = Case { group: 50, kv_heads: 1, tokens: 12, seed: 9, ..small() };
    let inputs = case.inputs();
    let y = case.fed(&inputs, &[12], 0);
    for (y, exact) in y.iter().zip(case.exact(&inputs)) {
        assert!((f64::from(*y) - exact).abs() < 2e-5, "{y}, not {exact}");
    }
    assert_eq!(bits(&case.fed(&inputs, &[1, 5, 2, 1, 1, 2], 0)), bits(&y));
}

#[test]
fn sequences_do_not_meet() {
    let case = small();
    let all: Vec<Inputs> = (0..9).map(|seed| Case { seed, ..case.clone() }.inputs()).collect();
    let (width, room) = (case.heads() * case.dim, case.tokens);
    for pool in [Pool::new(1), Pool::new(4)] {
        let pool: &'static Pool = Box::leak(Box::new(pool));
        let mut caches = vec![vec![0.0; case.kv_heads * room * case.dim]; 2 * all.len()];
        let mut into = vec![vec![0.0; case.tokens * width]; all.len()];
        let mut sequences: Vec<Sequence<'_>> = all
            .iter()
            .zip(caches.as_chunks_mut::<2>().0)
            .zip(&mut into)
            .map(|((inputs, [keys, values]), into)| Sequence {
                attention: case.attention(inputs),
                projected: Projected {
                    tokens: case.tokens,
                    queries: Table { data: &inputs.queries, stride: width },
                    keys: Table { data: &inputs.keys, stride: case.kv_heads * case.dim },
                    values: Table { data: &inputs.values, stride: case.kv_heads * case.dim },
                },
                seen: 0,
                earlier: Vec::new(),
                cached: Cached { first: 0, room, keys, values },
                into,
            })
            .collect();
        with_pool(pool, || append_and_attend_each(&mut sequences));
        for (inputs, into) in all.iter().zip(&into) {
            assert_eq!(bits(into), bits(&case.fed(inputs, &[case.tokens], 0)));
        }
    }
}

#[test]
fn what_is_no_number_stays_with_those_who_see_it() {
    let case = small();
    let mut inputs = case.inputs();
    let good = case.fed(&inputs, &[40], 0);
    // The key of token 21, head 1.
    inputs.keys[(21 * 2 + 1) * 32] = f32::NAN;
    let y = case.fed(&inputs, &[40], 0);
    for (index, (y, good)) in y.iter().zip(&good).enumerate() {
        let (token, head) = (index / 128, index % 128 / 32);
        if token >= 21 && head >= 2 {
            assert!(y.is_nan(), "token {token}, head {head}");
        } else {
            assert_eq!(y, good, "token {token}, head {head}");
        }
    }
    // The value of the last token, which nobody before it sees.
    let mut inputs = case.inputs();
    inputs.values[39 * 64] = f32::INFINITY;
    let y = case.fed(&inputs, &[40], 0);
    assert_eq!(y[..39 * 128], good[..39 * 128]);
    assert!(!y[39 * 128].is_finite());
}

#[test]
fn sizes_that_disagree_are_refused() {
    let case = small();
    let inputs = case.inputs();
    let attention = case.attention(&inputs);
    let queries = Table { data: &inputs.queries, stride: 128 };
    let data = vec![0.0; 2 * 40 * 32];
    let part = Part {
        first: 0,
        len: 40,
        keys: &data,
        values: &data,
        key_strides: (40 * 32, 32),
        value_strides: (40 * 32, 32),
    };
    let is_refused = |parts: &[Part<'_>], seen: usize, room: usize| {
        let mut into = vec![0.0; room];
        let act = || attend(&attention, queries, 40, seen, parts, &mut into);
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(act)).is_err()
    };
    assert!(!is_refused(&[part], 0, 40 * 128));
    assert!(is_refused(&[part], 1, 40 * 128), "a token that is nowhere");
    assert!(is_refused(&[part], 0, 39 * 128), "no room");
    assert!(is_refused(&[Part { first: 3, ..part }], 0, 40 * 128), "a beginning that is nowhere");
    assert!(is_refused(&[Part { len: 41, ..part }], 0, 40 * 128), "too short");
    assert!(is_refused(&[], 0, 40 * 128));
}
