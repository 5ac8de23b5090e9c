//! The operation of MLX's graph that calls a Rust function.
#![cfg(all(feature = "mlx", not(target_os = "macos")))]
#![allow(
    unsafe_code,
    clippy::undocumented_unsafe_blocks,
    reason = "every array is evaluated and owned by the test"
)]

use std::{
    ffi::{CStr, c_char, c_void},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use kernels::primitive::{Dtype, In, Out, Output, apply};
use mlx_sys::{mlx_array, mlx_stream};

/// A handle that is freed.
struct Array(mlx_array);

impl Drop for Array {
    fn drop(&mut self) {
        unsafe { mlx_sys::mlx_array_free(self.0) };
    }
}

impl Array {
    fn new(numbers: &[f32], shape: &[i32]) -> Array {
        let (data, axes) = (numbers.as_ptr().cast(), shape.len() as i32);
        let dtype = mlx_sys::mlx_dtype__MLX_FLOAT32;
        Array(unsafe { mlx_sys::mlx_array_new_data(data, shape.as_ptr(), axes, dtype) })
    }

    fn of(call: impl FnOnce(*mut mlx_array) -> i32) -> Array {
        let mut result = Array(unsafe { mlx_sys::mlx_array_new() });
        assert_eq!(call(&raw mut result.0), 0);
        result
    }

    fn eval(&self) -> *const f32 {
        unsafe {
            assert_eq!(mlx_sys::mlx_array_eval(self.0), 0);
            mlx_sys::mlx_array_data_float32(self.0)
        }
    }

    fn numbers(&self) -> Vec<f32> {
        let data = self.eval();
        unsafe { std::slice::from_raw_parts(data, mlx_sys::mlx_array_size(self.0)).to_vec() }
    }
}

fn stream() -> mlx_stream {
    unsafe { mlx_sys::mlx_default_cpu_stream_new() }
}

fn output(shape: &[i32], reuse: Option<usize>) -> Output {
    Output { shape: shape.to_vec(), dtype: Dtype::F32, reuse }
}

fn run<W>(inputs: &[&Array], outputs: &[Output], work: W) -> Vec<Array>
where
    W: Fn(&[In<'_>], &mut [Out<'_>]) + Send + Sync + 'static,
{
    let inputs: Vec<mlx_array> = inputs.iter().map(|input| input.0).collect();
    let results = unsafe { apply(&inputs, outputs, stream(), work) };
    results.unwrap().into_iter().map(Array).collect()
}

fn add_one(x: &Array) -> Array {
    let one = Array::new(&[1.0], &[]);
    Array::of(|res| unsafe { mlx_sys::mlx_add(res, x.0, one.0, stream()) })
}

#[test]
fn it_takes_its_turn_between_mlx_operations() {
    let x = Array::new(&[1.0, 2.0, 3.0], &[3]);
    let mut y = add_one(&x);
    for _ in 0..50 {
        let doubled = run(&[&y], &[output(&[3], None)], |inputs, outputs| {
            for (out, x) in outputs[0].f32().iter_mut().zip(inputs[0].f32()) {
                *out = x / 2.0;
            }
        });
        y = add_one(&doubled[0]);
    }
    assert_eq!(y.numbers(), [2.0, 2.0, 2.0]);
}

#[test]
fn rows_with_gaps_come_with_strides_and_columns_as_rows() {
    let x = Array::new(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &[2, 3]);
    let turned = Array::of(|res| unsafe { mlx_sys::mlx_transpose(res, x.0, stream()) });
    let cut = |start: [i32; 2], stop: [i32; 2], step: [i32; 2]| {
        Array::of(|res| unsafe {
            let (start, stop, step) = (start.as_ptr(), stop.as_ptr(), step.as_ptr());
            mlx_sys::mlx_slice(res, x.0, start, 2, stop, 2, step, 2, stream())
        })
    };
    let part = cut([0, 1], [2, 3], [1, 1]);
    let backwards = cut([1, 0], [-3, 3], [-1, 1]);
    let wide = Array::of(|res| unsafe {
        mlx_sys::mlx_broadcast_to(res, part.0, [3, 2, 2].as_ptr(), 3, stream())
    });
    let work = |inputs: &[In<'_>], outputs: &mut [Out<'_>]| {
        assert_eq!(inputs[0].strides(), [2, 1]);
        assert_eq!(inputs[1].strides(), [3, 1]);
        assert_eq!(inputs[1].f32(), [2.0, 3.0, 4.0, 5.0, 6.0]);
        assert_eq!(inputs[2].f32(), [4.0, 5.0, 6.0, 1.0, 2.0, 3.0]);
        assert_eq!(inputs[3].strides()[..2], [0, 3]);
        assert_eq!(inputs[3].f32().len(), 5);
        assert!(inputs[0].u32().is_empty());
        outputs[0].f32().copy_from_slice(inputs[0].f32());
    };
    let y = run(&[&turned, &part, &backwards, &wide], &[output(&[3, 2], None)], work);
    assert_eq!(y[0].numbers(), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
}

/// Writes a number at a place of the first result, and the sum of both caches into the last.
fn written(caches: [&Array; 2], at: usize, number: f32) -> Vec<Array> {
    let outputs = [output(&[2, 4], Some(0)), output(&[2, 4], Some(1)), output(&[1], None)];
    run(&caches, &outputs, move |inputs, outputs| {
        assert!(inputs.iter().all(|input| input.f32().is_empty()));
        outputs[0].f32()[at] = number;
        outputs[1].f32()[at] = -number;
        let sum = outputs[0].f32().iter().sum();
        outputs[2].f32()[0] = sum;
    })
}

#[test]
fn a_buffer_that_nobody_else_holds_is_written_in_place() {
    let caches =
        written([&Array::new(&[0.0; 8], &[2, 4]), &Array::new(&[0.0; 8], &[2, 4])], 0, 1.0);
    assert_eq!(caches[2].numbers(), [1.0]);
    let places = [caches[0].eval(), caches[1].eval()];
    let mut held = caches;
    for step in 1..8 {
        let next = written([&held[0], &held[1]], step, 1.0);
        drop(held);
        assert_eq!(next[2].numbers(), [1.0 + step as f32]);
        assert_eq!([next[0].eval(), next[1].eval()], places, "step {step}");
        held = next;
    }
    assert_eq!(held[0].numbers(), [1.0; 8]);
    assert_eq!(held[1].numbers(), [-1.0; 8]);
}

#[test]
fn a_buffer_that_somebody_holds_is_copied() {
    let first = Array::new(&[5.0; 8], &[2, 4]);
    let second = Array::new(&[6.0; 8], &[2, 4]);
    let view = Array::of(|res| unsafe {
        let (start, stop, one) = ([0, 0].as_ptr(), [2, 3].as_ptr(), [1, 1].as_ptr());
        mlx_sys::mlx_slice(res, second.0, start, 2, stop, 2, one, 2, stream())
    });
    view.eval();
    let next = written([&first, &second], 2, 1.0);
    drop(second);
    assert_eq!(next[0].numbers(), [5.0, 5.0, 1.0, 5.0, 5.0, 5.0, 5.0, 5.0]);
    assert_eq!(next[1].numbers(), [6.0, 6.0, -1.0, 6.0, 6.0, 6.0, 6.0, 6.0]);
    assert_eq!(first.numbers(), [5.0; 8]);
    assert_eq!(add_one(&view).numbers(), [7.0; 6]);
}

#[test]
fn a_panic_makes_nan_and_the_next_operation_runs() {
    let x = Array::new(&[1.0, 2.0], &[2]);
    let panics = |_: &[In<'_>], outputs: &mut [Out<'_>]| {
        outputs[0].f32()[0] = 1.0;
        std::panic::resume_unwind(Box::new("on purpose"));
    };
    let y = run(&[&x], &[output(&[2], None)], panics);
    assert!(y[0].numbers().iter().all(|number| number.is_nan()));
    assert_eq!(add_one(&x).numbers(), [2.0, 3.0]);
}

#[test]
fn a_result_of_a_failed_evaluation_fails_again_and_its_work_never_runs() {
    unsafe extern "C" fn keep(message: *const c_char, _: *mut c_void) {
        let message = unsafe { CStr::from_ptr(message) };
        MESSAGES.lock().unwrap().push(message.to_string_lossy().into_owned());
    }
    unsafe { mlx_sys::mlx_set_error_handler(Some(keep), std::ptr::null_mut(), None) };
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = runs.clone();
    let x = Array::new(&[1.0, 2.0], &[2]);
    // There is no memory for the second result.
    let outputs = [output(&[2], Some(0)), output(&[1 << 30, 1 << 30], None)];
    let y = run(&[&x], &outputs, move |_, _| {
        counted.fetch_add(1, Ordering::SeqCst);
    });
    for (index, result) in [&y[0], &y[1], &y[0]].into_iter().enumerate() {
        let status = unsafe { mlx_sys::mlx_array_eval(result.0) };
        assert_ne!(status, 0, "evaluation {index}, {:?}", MESSAGES.lock().unwrap());
    }
    assert_eq!(runs.load(Ordering::SeqCst), 0);
    let messages = MESSAGES.lock().unwrap();
    assert!(messages[1].contains("its inputs are gone"), "{messages:?}");
}

static MESSAGES: Mutex<Vec<String>> = Mutex::new(Vec::new());

#[test]
fn the_work_is_dropped_once_whatever_happens() {
    let drops = Arc::new(AtomicUsize::new(0));
    struct Counted(Arc<AtomicUsize>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let work = || {
        let counted = Counted(drops.clone());
        move |_: &[In<'_>], outputs: &mut [Out<'_>]| {
            let _held = &counted;
            outputs[0].f32().fill(3.0);
        }
    };
    let x = Array::new(&[1.0, 2.0], &[2]);
    // Never computed.
    drop(run(&[&x], &[output(&[2], None)], work()));
    assert_eq!(drops.load(Ordering::SeqCst), 1);
    // Refused.
    unsafe extern "C" fn silent(_: *const std::ffi::c_char, _: *mut std::ffi::c_void) {}
    unsafe { mlx_sys::mlx_set_error_handler(Some(silent), std::ptr::null_mut(), None) };
    for (refused, inputs) in
        [(output(&[3], Some(0)), 1), (output(&[2], Some(7)), 1), (output(&[1; 9], None), 0)]
    {
        let before = drops.load(Ordering::SeqCst);
        assert!(unsafe { apply(&[x.0; 1][..inputs], &[refused], stream(), work()) }.is_err());
        assert_eq!(drops.load(Ordering::SeqCst), before + 1);
    }
    // Computed; the thread of the stream drops it after that.
    let before = drops.load(Ordering::SeqCst);
    let y = run(&[&x], &[output(&[2], None)], work());
    assert_eq!(y[0].numbers(), [3.0, 3.0]);
    drop(y);
    assert_eq!(add_one(&x).numbers(), [2.0, 3.0]);
    assert_eq!(drops.load(Ordering::SeqCst), before + 1);
}
