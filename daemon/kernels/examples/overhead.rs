//! What an operation costs before it computes anything: a chain of tiny ones, ours and MLX's cheapest, in microseconds per operation.
#![allow(unsafe_code, clippy::undocumented_unsafe_blocks, reason = "every handle is owned here")]
#![allow(clippy::print_stdout, reason = "a tool for the terminal")]

#[cfg(target_os = "macos")]
fn main() {}

#[cfg(not(target_os = "macos"))]
fn main() {
    // One with some work in it, as operations have: then its thread does not fall asleep before the next one.
    for _ in 0..3 {
        chain::measure("ours", &|x| chain::ours(x, 0));
        chain::measure("mlx's negative", &chain::negative);
        chain::measure("ours with 20 us of work", &|x| chain::ours(x, 20_000));
    }
}

#[cfg(not(target_os = "macos"))]
mod chain {
    use std::time::Instant;

    use kernels::primitive::{Dtype, Output, apply};
    use mlx_sys::{mlx_array, mlx_stream};

    const CHAIN: usize = 200;
    const ROUNDS: usize = 200;

    fn stream() -> mlx_stream {
        unsafe { mlx_sys::mlx_default_cpu_stream_new() }
    }

    /// A copy of 16 numbers that takes at least so long.
    pub(super) fn ours(x: mlx_array, work_ns: u128) -> mlx_array {
        let output = Output { shape: vec![16], dtype: Dtype::F32, reuse: None };
        let made = unsafe {
            apply(&[x], &[output], stream(), move |inputs, outputs| {
                let begun = Instant::now();
                outputs[0].f32().copy_from_slice(inputs[0].f32());
                while begun.elapsed().as_nanos() < work_ns {
                    std::hint::spin_loop();
                }
            })
        };
        made.expect("one axis")[0]
    }

    pub(super) fn negative(x: mlx_array) -> mlx_array {
        let mut result = unsafe { mlx_sys::mlx_array_new() };
        assert_eq!(unsafe { mlx_sys::mlx_negative(&raw mut result, x, stream()) }, 0);
        result
    }

    pub(super) fn measure(name: &str, step: &dyn Fn(mlx_array) -> mlx_array) {
        let numbers = [1.0f32; 16];
        let (data, dtype) = (numbers.as_ptr().cast(), mlx_sys::mlx_dtype__MLX_FLOAT32);
        let (mut build, mut whole) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let mut x = unsafe { mlx_sys::mlx_array_new_data(data, [16].as_ptr(), 1, dtype) };
            unsafe { mlx_sys::mlx_array_eval(x) };
            let begun = Instant::now();
            let spent = || begun.elapsed().as_secs_f64() * 1e6 / CHAIN as f64;
            for _ in 0..CHAIN {
                let next = step(x);
                unsafe { mlx_sys::mlx_array_free(x) };
                x = next;
            }
            build.push(spent());
            unsafe { mlx_sys::mlx_array_eval(x) };
            whole.push(spent());
            unsafe { mlx_sys::mlx_array_free(x) };
        }
        build.sort_by(f64::total_cmp);
        whole.sort_by(f64::total_cmp);
        let (build, median, least) = (build[ROUNDS / 2], whole[ROUNDS / 2], whole[0]);
        println!("{name}: graph {build:.2}, with evaluation {median:.2} (least {least:.2})");
    }
}
