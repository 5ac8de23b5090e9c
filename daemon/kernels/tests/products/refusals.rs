//! What has no kernel is refused with words; what is empty is nothing.

use kernels::{FloatType, Format, Map, Matrix, gathered, matmul};

use crate::random::Random;

fn refusal(format: Format, out: usize, inner: usize) -> String {
    Matrix::supports(format, out, inner).unwrap_err().to_string()
}

#[test]
fn bits_and_groups_without_a_kernel_are_named() {
    let affine = |bits, group| Format::Affine { bits, group };
    assert_eq!(
        refusal(affine(7, 64), 8, 64),
        "7 bits in groups of 64: no kernel for this many bits"
    );
    assert_eq!(
        refusal(affine(1, 64), 8, 64),
        "1 bits in groups of 64: no kernel for this many bits"
    );
    assert_eq!(
        refusal(affine(4, 16), 8, 64),
        "4 bits in groups of 16: no kernel for groups of this size"
    );
    assert_eq!(
        refusal(affine(4, 0), 8, 64),
        "4 bits in groups of 0: no kernel for groups of this size"
    );
    assert_eq!(
        refusal(affine(4, 64), 8, 96),
        "4 bits in groups of 64: 96 columns are no whole groups"
    );
    assert_eq!(refusal(Format::Mxfp4, 8, 48), "mxfp4: 48 columns are no whole groups");
    assert_eq!(refusal(Format::Float(FloatType::F32), 0, 48), "a matrix of 0 × 48 is empty");
    for bits in [2, 3, 4, 5, 6, 8] {
        for group in [32, 64, 128] {
            assert_eq!(Matrix::supports(affine(bits, group), 1, group), Ok(()));
        }
    }
    assert_eq!(Matrix::supports(Format::Float(FloatType::Bf16), 1, 1), Ok(()));
}

#[test]
fn bytes_that_are_too_few_or_too_many_are_refused() {
    let mut random = Random(1);
    let weights = random.weights(Format::Affine { bits: 4, group: 32 }, 2, 5, 64);
    let mut short = weights.clone();
    short.weight.pop();
    let error = Matrix::pack(&short.source()).unwrap_err().to_string();
    assert_eq!(error, "weights have 319 bytes; 2 × 5 × 64 in 4 bits in groups of 32 need 320");
    let mut long = weights.clone();
    long.scales.push(0);
    assert!(Matrix::pack(&long.source()).unwrap_err().to_string().starts_with("scales have "));
    let mut bare = weights;
    bare.biases.clear();
    assert!(
        Matrix::pack(&bare.source()).unwrap_err().to_string().starts_with("biases have 0 bytes")
    );
}

#[test]
fn sizes_beyond_all_memory_are_refused() {
    let mut weights = Random(1).weights(Format::Mxfp4, 1, 1, 32);
    weights.out = usize::MAX / 2;
    let error = Matrix::pack(&weights.source()).unwrap_err().to_string();
    assert!(error.contains("need too many"), "{error}");
}

#[test]
fn no_rows_and_no_matrices_are_nothing() {
    let matrix = Random(1).weights(Format::Mxfp4, 2, 20, 64).pack();
    matmul(&[], 0, &[Map { matrix: &matrix, bias: None, expert: 0 }], &mut [&mut []]);
    matmul(&[1.0], 1, &[], &mut []);
    gathered(&[], 0, &[], &matrix, None, &mut []);
}

#[test]
fn a_row_of_an_expert_that_is_not_there_is_no_number() {
    let mut random = Random(1);
    let matrix = random.weights(Format::Mxfp4, 2, 20, 64).pack();
    let x = random.rows(3, 64);
    let mut into = vec![0.0; 60];
    gathered(&x, 3, &[1, 2, 0], &matrix, None, &mut into);
    let finite: Vec<bool> =
        into.chunks(20).map(|row| row.iter().all(|number| number.is_finite())).collect();
    assert_eq!(finite, [true, false, true]);
    assert!(into[20..40].iter().all(|number| number.is_nan()));
}
