use proptest::prelude::*;

use super::*;
use crate::simd::under_each;

/// Numbers between -1 and 1 that look random.
fn numbers(len: usize, seed: &mut u64) -> Vec<f32> {
    let next = |_| {
        *seed =
            seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*seed >> 40) as f32 / (1u32 << 23) as f32 - 1.0
    };
    (0..len).map(next).collect()
}

struct Case {
    shape: DeltaShape,
    taps: Vec<f32>,
    a_log: Vec<f32>,
    dt_bias: Vec<f32>,
    norm: Vec<f32>,
    qkv: Vec<f32>,
    z: Vec<f32>,
    b: Vec<f32>,
    a: Vec<f32>,
}

impl Case {
    fn new(shape: DeltaShape, tokens: usize, seed: u64) -> Case {
        let mut seed = seed;
        let mut some = |len| numbers(len, &mut seed);
        let heads = shape.value_heads;
        Case {
            shape,
            taps: some(shape.kernel * shape.channels()),
            a_log: some(heads),
            dt_bias: some(heads),
            norm: some(shape.value_dim),
            qkv: some(tokens * shape.channels()).iter().map(|x| 3.0 * x).collect(),
            z: some(tokens * shape.width()),
            b: some(tokens * heads),
            a: some(tokens * heads),
        }
    }

    fn net(&self) -> DeltaNet<'_> {
        let Case { shape, taps, a_log, dt_bias, norm, .. } = self;
        DeltaNet { shape: *shape, taps, a_log, dt_bias, norm, eps: 1e-6 }
    }

    /// What tokens `range` make of a state, which is brought up to date.
    fn run(
        &self,
        range: std::ops::Range<usize>,
        before: &mut [f32],
        memory: &mut [f32],
    ) -> Vec<f32> {
        let part = |x: &'_ [f32], width: usize| x[range.start * width..range.end * width].to_vec();
        let (width, heads) = (self.shape.width(), self.shape.value_heads);
        let (qkv, z) = (part(&self.qkv, self.shape.channels()), part(&self.z, width));
        let (b, a) = (part(&self.b, heads), part(&self.a, heads));
        let mut into = vec![f32::NAN; range.len() * width];
        let tokens = DeltaTokens { qkv: &qkv, z: &z, b: &b, a: &a };
        self.net().forward(&tokens, before, memory, &mut into);
        into
    }

    fn empty(&self) -> (Vec<f32>, Vec<f32>) {
        let DeltaShape { kernel, key_dim, .. } = self.shape;
        (vec![0.0; (kernel - 1) * self.shape.channels()], vec![0.0; self.shape.width() * key_dim])
    }

    /// The same as the formulas have it, in fp64.
    fn reference(&self, tokens: usize) -> Vec<f64> {
        let DeltaShape { key_heads, value_heads, key_dim, value_dim, kernel } = self.shape;
        let (channels, sigmoid) = (self.shape.channels(), |x: f64| 1.0 / (1.0 + (-x).exp()));
        let mut memory = vec![0.0; value_heads * value_dim * key_dim];
        let mut results = Vec::new();
        for token in 0..tokens {
            let mut row = vec![0.0; channels];
            for (channel, sum) in row.iter_mut().enumerate() {
                for tap in 0..kernel {
                    if let Some(at) = (token + tap).checked_sub(kernel - 1) {
                        *sum += f64::from(self.taps[tap * channels + channel])
                            * f64::from(self.qkv[at * channels + channel]);
                    }
                }
                *sum *= sigmoid(*sum);
            }
            let keys = key_heads * key_dim;
            let (queries, rest) = row.split_at_mut(keys);
            for (part, scale) in [(queries, (key_dim as f64).powf(-0.5)), (&mut rest[..keys], 1.0)]
            {
                for head in part.chunks_exact_mut(key_dim) {
                    let length = (head.iter().map(|x| x * x).sum::<f64>() + LENGTH_EPS).sqrt();
                    head.iter_mut().for_each(|x| *x *= scale / length);
                }
            }
            for head in 0..value_heads {
                let own = head / (value_heads / key_heads) * key_dim;
                let (query, key) =
                    (&row[own..own + key_dim], &row[keys + own..keys + own + key_dim]);
                let place = token * value_heads + head;
                let gate = f64::from(self.a[place]) + f64::from(self.dt_bias[head]);
                let decay = (-f64::from(self.a_log[head]).exp() * gate.exp().ln_1p()).exp();
                let mut read = Vec::new();
                for value in 0..value_dim {
                    let at = (head * value_dim + value) * key_dim;
                    let held = &mut memory[at..at + key_dim];
                    held.iter_mut().for_each(|x| *x *= decay);
                    let known: f64 = held.iter().zip(key).map(|(x, key)| x * key).sum();
                    let beta = sigmoid(f64::from(self.b[place]));
                    let delta = (row[2 * keys + head * value_dim + value] - known) * beta;
                    held.iter_mut().zip(key).for_each(|(x, key)| *x += delta * key);
                    read.push(held.iter().zip(query).map(|(x, query)| x * query).sum::<f64>());
                }
                let square = read.iter().map(|x| x * x).sum::<f64>() / value_dim as f64;
                for (value, x) in read.iter().enumerate() {
                    let z = f64::from(self.z[place * value_dim + value]);
                    let normal = x / (square + 1e-6).sqrt() * f64::from(self.norm[value]);
                    results.push(normal * z * sigmoid(z));
                }
            }
        }
        results
    }
}

fn shapes() -> impl Strategy<Value = DeltaShape> {
    (1usize..4, 1usize..4, 1usize..40, 1usize..40, 1usize..5).prop_map(
        |(key_heads, shared, key_dim, value_dim, kernel)| DeltaShape {
            key_heads,
            value_heads: key_heads * shared,
            key_dim,
            value_dim,
            kernel,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_is_what_the_formulas_say(shape in shapes(), tokens in 1usize..20, seed in any::<u64>()) {
        let case = Case::new(shape, tokens, seed);
        let (mut before, mut memory) = case.empty();
        let ours = case.run(0..tokens, &mut before, &mut memory);
        for (ours, exact) in ours.iter().zip(case.reference(tokens)) {
            prop_assert!((f64::from(*ours) - exact).abs() < 2e-4, "{ours}, not {exact}: {shape:?}");
        }
    }

    /// In pieces of any lengths, with any instructions: to the bit.
    #[test]
    fn pieces_and_instructions_make_no_difference(
        shape in shapes(),
        cuts in prop::collection::vec(1usize..9, 1..6),
        seed in any::<u64>(),
    ) {
        let tokens = cuts.iter().sum();
        let case = Case::new(shape, tokens, seed);
        let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<u32>>();
        let (mut before, mut memory) = case.empty();
        let whole = bits(&case.run(0..tokens, &mut before, &mut memory));
        let left = (bits(&before), bits(&memory));
        let mut outcomes = Vec::new();
        under_each(|_| {
            let (mut before, mut memory) = case.empty();
            let mut pieces = Vec::new();
            let mut start = 0;
            for cut in &cuts {
                pieces.extend(case.run(start..start + cut, &mut before, &mut memory));
                start += cut;
            }
            outcomes.push((bits(&pieces), (bits(&before), bits(&memory))));
        });
        for (pieces, state) in outcomes {
            prop_assert_eq!(&pieces, &whole);
            prop_assert_eq!(&state, &left);
        }
    }
}

#[test]
fn what_is_no_number_stays_so() {
    let shape = DeltaShape { key_heads: 1, value_heads: 2, key_dim: 16, value_dim: 16, kernel: 4 };
    for place in 0..3 {
        let mut case = Case::new(shape, 3, 1);
        [&mut case.qkv, &mut case.a, &mut case.b][place][0] = f32::NAN;
        let (mut before, mut memory) = case.empty();
        let ours = case.run(0..3, &mut before, &mut memory);
        assert!(ours.iter().any(|x| x.is_nan()), "{place}");
    }
}
