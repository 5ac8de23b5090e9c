//! Random shapes, formats and numbers of rows.

use kernels::pool::with_pool;
use kernels::{Format, Map, Matrix, Pool, force, gathered, matmul, variants};

use crate::random::{Random, Weights};
use crate::reference;
use crate::{Forcing, cases};

/// Error of a product in fp32, relative to the sum of the sizes of its terms.
const TOLERANCE: f64 = 2e-6;

struct Case {
    weights: Weights,
    matrix: Matrix,
    rows: usize,
    x: Vec<f32>,
    bias: Option<Vec<f32>>,
}

impl Case {
    fn random(seed: u64) -> Case {
        let mut random = Random(seed);
        let format = random.format();
        let (out, inner) = (random.within(1, 150), random.inner(format, 400));
        let rows =
            if random.within(0, 1) == 0 { random.within(1, 3) } else { random.within(1, 40) };
        let experts = random.within(1, 3);
        let weights = random.weights(format, experts, out, inner);
        let bias = (random.within(0, 2) == 0).then(|| random.rows(1, out));
        Case { matrix: weights.pack(), x: random.rows(rows, inner), rows, bias, weights }
    }

    fn expert(&self) -> usize {
        self.matrix.experts() - 1
    }

    fn multiply(&self, x: &[f32]) -> Vec<f32> {
        let rows = x.len() / self.matrix.inner();
        let mut into = vec![0.5; rows * self.matrix.out()];
        let map = Map { matrix: &self.matrix, bias: self.bias.as_deref(), expert: self.expert() };
        matmul(x, rows, &[map], &mut [&mut into]);
        into
    }
}

pub(crate) fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|number| number.to_bits()).collect()
}

#[test]
fn products_are_those_of_the_file() {
    for seed in 0..cases(400, 10_500) {
        let case = Case::random(seed);
        let (out, inner) = (case.matrix.out(), case.matrix.inner());
        let results = case.multiply(&case.x);
        let mut random = Random(!seed);
        // The reference is slow: some rows and outputs of each case.
        for _ in 0..40 {
            let (row, column) = (random.within(0, case.rows - 1), random.within(0, out - 1));
            let x = &case.x[row * inner..][..inner];
            let (exact, size) = reference::product(&case.weights, case.expert(), column, x);
            let bias = case.bias.as_ref().map_or(0.0, |bias| f64::from(bias[column]));
            let result = f64::from(results[row * out + column]);
            let error = (result - exact - bias).abs();
            assert!(
                error <= TOLERANCE * (size + bias.abs()),
                "seed {seed}, {:?}, row {row} of {}, output {column}: {result}, not {}",
                case.matrix,
                case.rows,
                exact + bias
            );
        }
    }
}

#[test]
fn a_row_is_the_same_to_the_bit_alone_and_among_others() {
    for seed in 1_000_000..1_000_000 + cases(150, 2_000) {
        let case = Case::random(seed);
        let (out, inner) = (case.matrix.out(), case.matrix.inner());
        let together = case.multiply(&case.x);
        for row in 0..case.rows {
            let alone = case.multiply(&case.x[row * inner..][..inner]);
            let among = &together[row * out..][..out];
            assert_eq!(
                bits(&alone),
                bits(among),
                "seed {seed}, {:?}, row {row} of {}",
                case.matrix,
                case.rows
            );
        }
    }
}

#[test]
fn all_instruction_sets_compute_the_same_bits() {
    let _forcing = Forcing::begin();
    for seed in 2_000_000..2_000_000 + cases(300, 10_500) {
        let case = Case::random(seed);
        let results: Vec<_> = variants()
            .into_iter()
            .map(|variant| {
                force(Some(variant)).unwrap();
                (variant, bits(&case.multiply(&case.x)))
            })
            .collect();
        for (variant, result) in &results[1..] {
            assert_eq!(
                &results[0].1, result,
                "seed {seed}, {:?}, {} rows, {variant:?}",
                case.matrix, case.rows
            );
        }
    }
}

#[test]
fn numbers_of_every_size_come_out_in_every_instruction_set() {
    let _forcing = Forcing::begin();
    for seed in 3_000_000..3_000_000 + cases(100, 1_000) {
        let mut case = Case::random(seed);
        let mut random = Random(!seed);
        for x in &mut case.x {
            let exponent = random.within(0, 253) as u32;
            *x = f32::from_bits(exponent << 23 | random.next() as u32 & 0x807f_ffff);
            if random.within(0, 3) == 0 {
                *x = random.of(&[0.0, -0.0, f32::MIN_POSITIVE, 1e-40, f32::MAX, 1.0]);
            }
        }
        let mut first: Option<Vec<u32>> = None;
        for variant in variants() {
            force(Some(variant)).unwrap();
            let mut result = case.multiply(&case.x);
            // Which NaN an overflow makes is the processor's business.
            result
                .iter_mut()
                .filter(|number| number.is_nan())
                .for_each(|number| *number = f32::NAN);
            let first = first.get_or_insert_with(|| bits(&result));
            assert_eq!(*first, bits(&result), "seed {seed}, {:?}, {variant:?}", case.matrix);
        }
    }
}

/// What the first row may lose of an output where each group keeps 22 bits of its greatest number.
fn rounding(case: &Case, group: usize, column: usize) -> f64 {
    let groups = case.x[..case.matrix.inner()].chunks_exact(group).enumerate();
    let lost = groups.map(|(index, x)| {
        let top = x.iter().fold(0.0, |top: f32, x| top.max(x.abs()));
        let weights = (index * group..(index + 1) * group).map(|column_of| {
            reference::weight(&case.weights, case.expert(), column, column_of).0.abs()
        });
        f64::from(top) * 2_f64.powi(-22) * weights.sum::<f64>()
    });
    lost.sum()
}

#[test]
fn one_large_number_costs_its_group_no_more_than_22_bits() {
    for seed in 4_000_000..4_000_000 + cases(60, 500) {
        let mut case = Case::random(seed);
        let Format::Affine { group, .. } = case.weights.format else { continue };
        let inner = case.matrix.inner();
        case.x.truncate(inner);
        case.x[inner / 2] *= 1e5;
        let results = case.multiply(&case.x);
        for (column, result) in results.iter().enumerate() {
            let (exact, size) = reference::product(&case.weights, case.expert(), column, &case.x);
            let bias = case.bias.as_ref().map_or(0.0, |bias| f64::from(bias[column]));
            let error = (f64::from(*result) - exact - bias).abs();
            assert!(
                error <= TOLERANCE * (size + bias.abs()) + rounding(&case, group, column),
                "seed {seed}, {:?}",
                case.matrix
            );
        }
    }
}

#[test]
fn groups_keep_22_bits_from_the_least_of_their_range_to_sums_near_the_greatest_float() {
    for seed in 4_500_000..4_500_000 + cases(60, 500) {
        let mut case = Case::random(seed);
        let Format::Affine { group, .. } = case.weights.format else { continue };
        let mut random = Random(!seed);
        let inner = case.matrix.inner();
        case.x.truncate(inner);
        for x in case.x.chunks_exact_mut(group) {
            // The greatest of the group, from the least that has all 22 bits.
            let top = 2_f32.powi(random.of(&[-79, -78, -60, 0, 60, 100, 105]));
            x.iter_mut().for_each(|x| *x = random.unit() * top);
            x[random.within(0, group - 1)] = -top;
        }
        let results = case.multiply(&case.x);
        for (column, result) in results.iter().enumerate() {
            let (exact, size) = reference::product(&case.weights, case.expert(), column, &case.x);
            let bias = case.bias.as_ref().map_or(0.0, |bias| f64::from(bias[column]));
            let error = (f64::from(*result) - exact - bias).abs();
            let allowed = TOLERANCE * (size + bias.abs()) + rounding(&case, group, column);
            assert!(error <= allowed, "seed {seed}, {:?}: {result}, not {exact}", case.matrix);
        }
    }
}

#[test]
fn what_is_no_number_makes_its_row_none_and_leaves_the_others() {
    let _forcing = Forcing::begin();
    for seed in 5_000_000..5_000_000 + cases(60, 500) {
        let case = Case::random(seed);
        let mut random = Random(!seed);
        let (out, inner) = (case.matrix.out(), case.matrix.inner());
        for poison in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let row = random.within(0, case.rows - 1);
            let mut x = case.x.clone();
            x[row * inner + random.within(0, inner - 1)] = poison;
            for variant in variants() {
                force(Some(variant)).unwrap();
                let (clean, poisoned) = (case.multiply(&case.x), case.multiply(&x));
                for (index, (clean, poisoned)) in clean.iter().zip(&poisoned).enumerate() {
                    if index / out == row {
                        assert!(
                            !poisoned.is_finite(),
                            "seed {seed}, {:?}, {variant:?}",
                            case.matrix
                        );
                    } else {
                        assert_eq!(clean.to_bits(), poisoned.to_bits(), "seed {seed}, {variant:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn several_matrices_of_one_input_are_as_one_after_the_other() {
    for seed in 6_000_000..6_000_000 + cases(40, 400) {
        let mut random = Random(seed);
        let (rows, inner) = (random.within(1, 12), 128 * random.within(1, 3));
        let x = random.rows(rows, inner);
        let matrices: Vec<Matrix> = (0..random.within(1, 4))
            .map(|_| {
                let (format, out) = (random.format(), random.within(1, 90));
                random.weights(format, 1, out, inner).pack()
            })
            .collect();
        let maps: Vec<Map<'_>> =
            matrices.iter().map(|matrix| Map { matrix, bias: None, expert: 0 }).collect();
        let mut together: Vec<Vec<f32>> =
            matrices.iter().map(|matrix| vec![0.0; rows * matrix.out()]).collect();
        let mut into: Vec<&mut [f32]> = together.iter_mut().map(Vec::as_mut_slice).collect();
        matmul(&x, rows, &maps, &mut into);
        for (map, together) in maps.iter().zip(&together) {
            let mut alone = vec![0.0; rows * map.matrix.out()];
            matmul(&x, rows, &[*map], &mut [&mut alone]);
            assert_eq!(bits(&alone), bits(together), "seed {seed}, {:?}", map.matrix);
        }
    }
}

#[test]
fn gathered_rows_are_those_of_their_matrices() {
    for seed in 7_000_000..7_000_000 + cases(80, 800) {
        let mut random = Random(seed);
        let format = random.format();
        let (experts, out, inner) =
            (random.within(1, 9), random.within(1, 70), random.inner(format, 300));
        let rows = random.within(1, 40);
        let matrix = random.weights(format, experts, out, inner).pack();
        let x = random.rows(rows, inner);
        let bias = (random.within(0, 1) == 0).then(|| random.rows(experts, out));
        let indices: Vec<u32> = (0..rows).map(|_| random.within(0, experts - 1) as u32).collect();
        let mut together = vec![0.0; rows * out];
        gathered(&x, rows, &indices, &matrix, bias.as_deref(), &mut together);
        for (row, &expert) in indices.iter().enumerate() {
            let expert = expert as usize;
            let map = Map {
                matrix: &matrix,
                bias: bias.as_ref().map(|bias| &bias[expert * out..][..out]),
                expert,
            };
            let mut alone = vec![0.0; out];
            matmul(&x[row * inner..][..inner], 1, &[map], &mut [&mut alone]);
            assert_eq!(
                bits(&alone),
                bits(&together[row * out..][..out]),
                "seed {seed}, {matrix:?}, row {row}"
            );
        }
    }
}

#[test]
fn unpacked_rows_are_those_of_the_file() {
    for seed in 8_000_000..8_000_000 + cases(150, 1_500) {
        let mut random = Random(seed);
        let format = random.format();
        let (experts, out, inner) =
            (random.within(1, 3), random.within(1, 40), random.inner(format, 300));
        let weights = random.weights(format, experts, out, inner);
        let matrix = weights.pack();
        let (expert, row) = (random.within(0, experts - 1), random.within(0, out - 1));
        let mut unpacked = vec![0.0; inner];
        matrix.row(expert, row, &mut unpacked);
        for (column, &value) in unpacked.iter().enumerate() {
            let (exact, size) = reference::weight(&weights, expert, row, column);
            let error = (f64::from(value) - exact).abs();
            assert!(error <= 1.3e-7 * size, "seed {seed}, {matrix:?}: {value}, not {exact}");
        }
    }
}

#[test]
fn any_number_of_threads_computes_the_same_bits() {
    for threads in [1, 2, 3, 7] {
        let pool: &'static Pool = Box::leak(Box::new(Pool::new(threads)));
        for seed in 9_000_000..9_000_000 + cases(40, 400) {
            let case = Case::random(seed);
            let expected = bits(&case.multiply(&case.x));
            let others = with_pool(pool, || {
                let packed = case.weights.pack();
                let own = Case {
                    matrix: packed,
                    weights: case.weights.clone(),
                    x: case.x.clone(),
                    ..case
                };
                bits(&own.multiply(&own.x))
            });
            assert_eq!(expected, others, "seed {seed}, {threads} threads");
        }
    }
}
