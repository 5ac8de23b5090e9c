//! Operations of the graph that our own kernels compute.

#![allow(unsafe_code)]

use kernels::primitive::{self, In, Out, Output};
use mlx_rs::{Array, Stream, error::Exception};

use super::Result;

/// The arrays that `work` makes of `inputs`, on the CPU stream of this thread. See [`kernels::primitive`].
///
/// A result takes the buffer of its input over if nobody else holds that array any more when it is computed: drop yours before.
pub(crate) fn native<W>(inputs: &[&Array], outputs: &[Output], work: W) -> Result<Vec<Array>>
where
    W: Fn(&[In<'_>], &mut [Out<'_>]) + Send + Sync + 'static,
{
    let stream = Stream::thread_local_or_default();
    let inputs: Vec<mlx_sys::mlx_array> = inputs.iter().map(|input| input.as_ptr()).collect();
    // SAFETY: the handles are alive for the call; those that come back are nobody else's.
    unsafe {
        let results = primitive::apply(&inputs, outputs, stream.as_ref().as_ptr(), work);
        let results = results.map_err(|refused| Exception::custom(refused.to_string()))?;
        Ok(results.into_iter().map(|result| Array::from_ptr(result)).collect())
    }
}

#[cfg(test)]
mod tests {
    use kernels::primitive::Dtype;
    use mlx_rs::transforms::eval;

    use super::*;

    #[test]
    fn it_computes_between_mlx_operations() {
        let x = Array::from_slice(&[1.0f32, 2.0, 3.0, 4.0], &[2, 2]);
        let turned = x.transpose().unwrap();
        let output = Output { shape: vec![2, 2], dtype: Dtype::F32, reuse: None };
        let doubled = native(&[&turned], &[output], |inputs, outputs| {
            for (out, x) in outputs[0].f32().iter_mut().zip(inputs[0].f32()) {
                *out = 2.0 * x;
            }
        });
        let sum = doubled.unwrap().remove(0).add(&x).unwrap();
        eval([&sum]).unwrap();
        assert_eq!(sum.try_as_slice::<f32>().unwrap(), [3.0, 8.0, 7.0, 12.0]);
    }
}
