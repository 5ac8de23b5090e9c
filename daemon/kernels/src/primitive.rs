//! An operation of MLX's graph that calls a Rust function on the CPU.
//!
//! The function runs on the thread of its stream, in the order of the graph, between MLX's own operations. It sees its inputs as
//! slices with strides, and writes the results into buffers that MLX has allocated or that an input leaves to them.

use std::{
    ffi::c_void,
    marker::PhantomData,
    panic::{AssertUnwindSafe, catch_unwind},
    slice,
};

use mlx_sys::{demolish_output, demolish_view, mlx_array, mlx_stream};

/// The types of elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dtype {
    /// 32-bit floats.
    F32,
    /// Unsigned 32-bit integers.
    U32,
    /// Signed 32-bit integers.
    I32,
}

impl Dtype {
    fn code(self) -> i32 {
        (match self {
            Dtype::F32 => mlx_sys::mlx_dtype__MLX_FLOAT32,
            Dtype::U32 => mlx_sys::mlx_dtype__MLX_UINT32,
            Dtype::I32 => mlx_sys::mlx_dtype__MLX_INT32,
        }) as i32
    }
}

/// A result of the operation.
#[derive(Debug, Clone)]
pub struct Output {
    /// At most [`mlx_sys::DEMOLISH_AXES_MAX`] axes.
    pub shape: Vec<i32>,
    /// The type of its elements.
    pub dtype: Dtype,
    /// It begins as this input, and takes over its buffer if nobody else holds the array when it is computed: otherwise it is a copy.
    /// The work does not see that input.
    pub reuse: Option<usize>,
}

/// An input, as the work sees it.
#[derive(Debug)]
pub struct In<'a> {
    view: &'a demolish_view,
    /// A result has its buffer.
    is_gone: bool,
}

impl<'a> In<'a> {
    /// Elements per axis.
    pub fn shape(&self) -> &'a [i32] {
        &self.view.shape[..self.view.axes as usize]
    }

    /// Elements between neighbours along each axis; 1 along the last one, 0 where an axis is broadcast, never negative. Along an
    /// axis of one element it may be anything.
    pub fn strides(&self) -> &'a [i64] {
        &self.view.strides[..self.view.axes as usize]
    }

    /// The elements from the first to the last, with whatever lies between them; nothing if they are of another type, or if a result
    /// has taken the buffer over.
    pub fn f32(&self) -> &'a [f32] {
        self.elements(Dtype::F32)
    }

    /// The same of unsigned integers.
    pub fn u32(&self) -> &'a [u32] {
        self.elements(Dtype::U32)
    }

    /// The same of integers.
    pub fn i32(&self) -> &'a [i32] {
        self.elements(Dtype::I32)
    }

    fn elements<T>(&self, dtype: Dtype) -> &'a [T] {
        if self.is_gone || self.view.dtype != dtype.code() || self.shape().contains(&0) {
            return &[];
        }
        let last: i64 = self
            .shape()
            .iter()
            .zip(self.strides())
            .filter(|(len, _)| **len > 1)
            .map(|(len, stride)| i64::from(len - 1) * stride)
            .sum();
        // SAFETY: MLX holds the buffer until the work is done, and nobody writes to it meanwhile: a result that has taken it over
        // was excluded above. All elements lie between the first and the last, as strides are not negative.
        unsafe { slice::from_raw_parts(self.view.data.cast(), last as usize + 1) }
    }
}

/// A result, as the work sees it: dense, in the order of its rows.
#[derive(Debug)]
pub struct Out<'a> {
    view: demolish_view,
    marker: PhantomData<&'a mut [f32]>,
}

impl Out<'_> {
    /// Elements per axis.
    pub fn shape(&self) -> &[i32] {
        &self.view.shape[..self.view.axes as usize]
    }

    /// The elements: those of the input that it takes over, or else whatever the memory held, which the work must write before it
    /// reads it. Nothing if they are of another type.
    pub fn f32(&mut self) -> &mut [f32] {
        self.elements(Dtype::F32)
    }

    /// The same of unsigned integers.
    pub fn u32(&mut self) -> &mut [u32] {
        self.elements(Dtype::U32)
    }

    /// The same of integers.
    pub fn i32(&mut self) -> &mut [i32] {
        self.elements(Dtype::I32)
    }

    fn elements<T>(&mut self, dtype: Dtype) -> &mut [T] {
        let len = self.shape().iter().map(|&len| len as usize).product();
        if len == 0 || self.view.dtype != dtype.code() {
            return &mut [];
        }
        // SAFETY: the buffer was allocated for so many elements of this size and is this operation's alone until it is done; any
        // bits are a number of these types. Memory that no input was taken over from comes from the allocator as it is: the work
        // writes an element before it reads it, as the methods above demand.
        unsafe { slice::from_raw_parts_mut(self.view.data.cast(), len) }
    }
}

/// What is handed over to the graph.
struct Job<W> {
    work: W,
    /// Inputs that results take over.
    taken: Vec<usize>,
}

/// A new node of the graph: the arrays that `work` will make of `inputs` on `stream`.
///
/// If `work` panics, floats become NaN and integers 0. Nothing is computed if nobody asks for a result.
///
/// # Errors
/// More axes than an operation can have, an output that takes over an input that is not there or has another shape or type, or a
/// stream that is gone; the text is also given to MLX's handler of errors.
///
/// # Safety
/// The handles must be alive for the call, and the stream be one of the CPU. The handles that are returned belong to the caller.
pub unsafe fn apply<W>(
    inputs: &[mlx_array],
    outputs: &[Output],
    stream: mlx_stream,
    work: W,
) -> Result<Vec<mlx_array>, Refused>
where
    W: Fn(&[In<'_>], &mut [Out<'_>]) + Send + Sync + 'static,
{
    let described: Vec<demolish_output> = outputs
        .iter()
        .map(|output| demolish_output {
            shape: output.shape.as_ptr(),
            axes: output.shape.len() as i32,
            dtype: output.dtype.code(),
            reuse: output.reuse.map_or(-1, |input| input as i32),
        })
        .collect();
    let taken = outputs.iter().filter_map(|output| output.reuse).collect();
    let job = Box::into_raw(Box::new(Job { work, taken }));
    let mut results = vec![mlx_array { ctx: std::ptr::null_mut() }; outputs.len()];
    // SAFETY: the lists are as long as is said, and the handles alive. The box goes over to the callee, which hands it to `run` and
    // `drop` of its own type alone.
    let status = unsafe {
        mlx_sys::demolish_native(
            results.as_mut_ptr(),
            inputs.as_ptr(),
            inputs.len(),
            described.as_ptr(),
            described.len(),
            stream,
            job.cast(),
            run::<W>,
            drop_job::<W>,
        )
    };
    if status == 0 { Ok(results) } else { Err(Refused) }
}

/// MLX did not take the operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused;

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MLX did not take an operation of the daemon's own")
    }
}

impl std::error::Error for Refused {}

/// # Safety
/// `job` is a `Job<W>`, and the lists are as long as is said.
unsafe extern "C" fn run<W: Fn(&[In<'_>], &mut [Out<'_>])>(
    job: *mut c_void,
    inputs: *const demolish_view,
    input_count: usize,
    outputs: *mut demolish_view,
    output_count: usize,
) {
    // SAFETY: as this function demands; the job is dropped after its last run, and MLX runs it on one thread at a time or, if not,
    // the work is Sync.
    let (job, inputs, outputs) = unsafe {
        (
            &*job.cast::<Job<W>>(),
            if input_count == 0 { &[] } else { slice::from_raw_parts(inputs, input_count) },
            slice::from_raw_parts(outputs, output_count),
        )
    };
    let inputs: Vec<In<'_>> = inputs
        .iter()
        .enumerate()
        .map(|(index, view)| In { view, is_gone: job.taken.contains(&index) })
        .collect();
    let mut outs: Vec<Out<'_>> =
        outputs.iter().map(|&view| Out { view, marker: PhantomData }).collect();
    // The outputs are overwritten after a panic, so that nobody sees what it left half done.
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (job.work)(&inputs, &mut outs))) {
        outs.iter_mut().for_each(|out| {
            out.f32().fill(f32::NAN);
            out.u32().fill(0);
            out.i32().fill(0);
        });
        // What a panic carries may panic when it is dropped.
        std::mem::forget(panic);
    }
}

/// # Safety
/// `job` is a `Job<W>` that nobody uses any more.
unsafe extern "C" fn drop_job<W>(job: *mut c_void) {
    // SAFETY: as this function demands.
    let job = unsafe { Box::from_raw(job.cast::<Job<W>>()) };
    let _ = catch_unwind(AssertUnwindSafe(|| drop(job)));
}
