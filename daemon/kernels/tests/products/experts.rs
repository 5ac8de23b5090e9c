//! Mixtures of experts against the same sums made one product at a time.

use kernels::{Activation, Experts, Format, Map, Matrix, force, matmul, mixture, variants};

use crate::cases::bits;
use crate::random::Random;
use crate::{Forcing, cases};

struct Layer {
    gate: Matrix,
    up: Matrix,
    down: Matrix,
    biases: Option<[Vec<f32>; 3]>,
    activation: Activation,
    rows: usize,
    slots: usize,
    x: Vec<f32>,
    chosen: Vec<u32>,
    scores: Vec<f32>,
}

impl Layer {
    fn random(seed: u64) -> Layer {
        let mut random = Random(seed);
        let (experts, slots) = (random.within(1, 12), random.within(1, 4));
        let (width, inner) = (128 * random.within(1, 2), 128 * random.within(1, 2));
        let rows = random.of(&[1, 1, 2, 5, 19, 40]);
        let format = random.format();
        // In MLX's mixes down may have more bits than the others.
        let down = if random.within(0, 2) == 0 { random.format() } else { format };
        let mut stack =
            |format: Format, out, inner| random.weights(format, experts, out, inner).pack();
        let (gate, up, down) =
            (stack(format, inner, width), stack(format, inner, width), stack(down, width, inner));
        let biases = (random.within(0, 1) == 0)
            .then(|| [inner, inner, width].map(|out| random.rows(experts, out)));
        let activation =
            random.of(&[Activation::Swiglu, Activation::ClampedGlu { limit: 7.0, slope: 1.702 }]);
        Layer {
            x: random.rows(rows, width),
            chosen: (0..rows * slots).map(|_| random.within(0, experts - 1) as u32).collect(),
            scores: (0..rows * slots).map(|_| random.unit().abs()).collect(),
            gate,
            up,
            down,
            biases,
            activation,
            rows,
            slots,
        }
    }

    /// Some rows of it.
    fn mixture(&self, first: usize, rows: usize) -> Vec<f32> {
        let width = self.gate.inner();
        let experts = Experts {
            gate: &self.gate,
            up: &self.up,
            down: &self.down,
            biases: self.biases.as_ref().map(|biases| biases.each_ref().map(Vec::as_slice)),
            activation: self.activation,
            then: &[],
        };
        let mut into = vec![3.0; rows * self.down.out()];
        let choices = first * self.slots..(first + rows) * self.slots;
        mixture(
            &self.x[first * width..][..rows * width],
            rows,
            &self.chosen[choices.clone()],
            &self.scores[choices],
            &experts,
            &mut into,
        );
        into
    }

    fn product(&self, which: usize, expert: usize, x: &[f32]) -> Vec<f32> {
        let matrix = [&self.gate, &self.up, &self.down][which];
        let out = matrix.out();
        let bias = self.biases.as_ref().map(|biases| &biases[which][expert * out..][..out]);
        let mut into = vec![0.0; out];
        matmul(x, 1, &[Map { matrix, bias, expert }], &mut [&mut into]);
        into
    }

    /// One row, made of single products, and the sum of the sizes of its terms.
    fn expected(&self, row: usize) -> (Vec<f64>, Vec<f64>) {
        let x = &self.x[row * self.gate.inner()..][..self.gate.inner()];
        let mut sums = (vec![0.0; self.down.out()], vec![0.0; self.down.out()]);
        for slot in row * self.slots..(row + 1) * self.slots {
            let expert = self.chosen[slot] as usize;
            let (gate, up) = (self.product(0, expert, x), self.product(1, expert, x));
            let inner: Vec<f32> = gate
                .iter()
                .zip(&up)
                .map(|(&gate, &up)| {
                    activated(self.activation, f64::from(gate), f64::from(up)) as f32
                })
                .collect();
            for (index, value) in self.product(2, expert, &inner).iter().enumerate() {
                let term = f64::from(self.scores[slot]) * f64::from(*value);
                sums.0[index] += term;
                sums.1[index] += term.abs();
            }
        }
        sums
    }
}

fn activated(activation: Activation, gate: f64, up: f64) -> f64 {
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    match activation {
        Activation::Swiglu => gate * sigmoid(gate) * up,
        Activation::ClampedGlu { limit, slope } => {
            let (limit, slope) = (f64::from(limit), f64::from(slope));
            let gate = gate.min(limit);
            gate * sigmoid(slope * gate) * (up.clamp(-limit, limit) + 1.0)
        }
    }
}

#[test]
fn a_mixture_is_the_sum_of_its_experts() {
    for seed in 0..cases(60, 1_000) {
        let layer = Layer::random(seed);
        let results = layer.mixture(0, layer.rows);
        let out = layer.down.out();
        for row in 0..layer.rows.min(5) {
            let (expected, sizes) = layer.expected(row);
            let results = &results[row * out..][..out];
            // Terms of one output may cancel: the error is measured against the row's largest.
            let size = sizes.iter().fold(0.0, |size: f64, term| size.max(*term));
            for (index, (result, expected)) in results.iter().zip(&expected).enumerate() {
                let error = (f64::from(*result) - expected).abs();
                assert!(
                    error <= 4e-6 * size,
                    "seed {seed}, {:?}, row {row}, output {index}: {result}, not {expected}",
                    layer.gate
                );
            }
        }
    }
}

#[test]
fn a_row_of_a_mixture_does_not_depend_on_the_others_nor_on_instructions() {
    let _forcing = Forcing::begin();
    for seed in 100_000..100_000 + cases(60, 600) {
        let layer = Layer::random(seed);
        let out = layer.down.out();
        let together = layer.mixture(0, layer.rows);
        for row in 0..layer.rows {
            let alone = layer.mixture(row, 1);
            assert_eq!(bits(&alone), bits(&together[row * out..][..out]), "seed {seed}, row {row}");
        }
        for variant in variants() {
            force(Some(variant)).unwrap();
            assert_eq!(
                bits(&together),
                bits(&layer.mixture(0, layer.rows)),
                "seed {seed}, {variant:?}"
            );
        }
    }
}

#[test]
fn a_choice_beyond_the_experts_makes_its_row_no_number() {
    let mut layer = Layer::random(7);
    while layer.rows < 3 {
        layer = Layer::random(layer.x.len() as u64 + u64::from(layer.x[0].to_bits()));
    }
    let clean = layer.mixture(0, layer.rows);
    let out = layer.down.out();
    layer.chosen[layer.slots] = layer.gate.experts() as u32;
    let poisoned = layer.mixture(0, layer.rows);
    assert!(poisoned[out..2 * out].iter().all(|number| number.is_nan()));
    assert_eq!(bits(&poisoned[..out]), bits(&clean[..out]));
    assert_eq!(bits(&poisoned[2 * out..]), bits(&clean[2 * out..]));
}
