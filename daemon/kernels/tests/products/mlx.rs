//! Products against MLX's own, in every mode: `mlx.bin` was made by `make_mlx.py` beside it.

use kernels::{FloatType, Format, Map, Matrix, Source, force, matmul, variants};

use crate::Forcing;

const OUT: usize = 19;
const INNER: usize = 128;
const ROWS: usize = 3;

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

#[test]
fn products_are_those_of_mlx() {
    let _forcing = Forcing::begin();
    let mut rest: &[u8] = include_bytes!("mlx.bin");
    let mut formats = Vec::new();
    while let Some((head, behind)) = rest.split_first_chunk::<32>() {
        let head: Vec<usize> =
            head.as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word) as usize).collect();
        let mut parts = behind;
        let [weight, scales, biases, x, expected] = [3, 4, 5, 6, 7].map(|place| {
            let (part, behind) = parts.split_at(head[place]);
            parts = behind;
            part
        });
        rest = parts;
        let affine = Format::Affine { bits: head[1] as u8, group: head[2] };
        let format = [affine, Format::Mxfp4, Format::Nvfp4, Format::Mxfp8][head[0]];
        formats.push(format);
        let scale_type = FloatType::F32;
        let source = Source {
            format,
            experts: 1,
            out: OUT,
            inner: INNER,
            weight,
            scales,
            biases,
            scale_type,
        };
        let matrix = Matrix::pack(&source).unwrap();
        for variant in variants() {
            force(Some(variant)).unwrap();
            let mut into = vec![0.0; ROWS * OUT];
            matmul(
                &floats(x),
                ROWS,
                &[Map { matrix: &matrix, bias: None, expert: 0 }],
                &mut [&mut into],
            );
            for (place, (ours, mlx)) in into.iter().zip(floats(expected)).enumerate() {
                // Sums of 128 products of about normal numbers.
                assert!(
                    (ours - mlx).abs() < 3e-5,
                    "{format}, {variant:?}, {place}: {ours}, not {mlx}"
                );
            }
        }
    }
    assert_eq!(formats.len(), 10);
}
