//! Packs the tensors of a plan and writes them: several threads pack pieces, one writes them in order.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
};

use mlx_rs::{Array, Dtype, Stream, error::Exception, with_stream};
use serde_json::{Map, Value, json};

use super::{
    Step,
    plan::{Module, Plan, float_bytes},
    source::Source,
};
use crate::{info::LoadError, ops};

/// The most bytes that one thread reads at a time, one row excepted.
const CHUNK_BYTES_MAX: u64 = 16 << 20;
/// The most threads that pack.
const PACKERS_MAX: usize = 8;

/// Rows of a piece that are packed at once.
struct Chunk {
    module: usize,
    piece: usize,
    first: usize,
    rows: usize,
}

/// Bytes of weights, scales and biases.
type Made = Result<Vec<Vec<u8>>, LoadError>;

/// Writes `model*.safetensors` into `dir`.
pub(super) fn weights(
    source: &Source,
    plan: &Plan,
    dir: &Path,
    told: &mut dyn FnMut(Step<'_>),
) -> Result<(), LoadError> {
    let chunks = chunks(plan);
    let packers = thread::available_parallelism().map_or(1, usize::from).min(PACKERS_MAX);
    thread::scope(|scope| {
        let mut made = Vec::new();
        for packer in 0..packers {
            let (sender, receiver) = sync_channel(1);
            let own = chunks.iter().skip(packer).step_by(packers);
            scope.spawn(move || pack_all(source, plan, own, &sender));
            made.push(receiver);
        }
        write_all(plan, &chunks, &made, dir, told)
    })
}

/// What a file is called.
pub(super) fn shard_name(index: usize, count: usize) -> String {
    match count {
        1 => "model.safetensors".to_owned(),
        _ => format!("model-{:05}-of-{count:05}.safetensors", index + 1),
    }
}

fn chunks(plan: &Plan) -> Vec<Chunk> {
    let mut chunks = Vec::new();
    for (module, what) in plan.modules.iter().enumerate() {
        let row_bytes = what.columns as u64 * float_bytes(&what.dtypes[0]);
        let most = (CHUNK_BYTES_MAX / row_bytes.max(1)).max(1) as usize;
        for (piece, rows) in what.pieces.iter().enumerate() {
            // What is turned has to be seen as a whole.
            let most = if rows.is_turned { rows.rows } else { most };
            for first in (0..rows.rows).step_by(most.max(1)) {
                let rows = most.min(rows.rows - first);
                chunks.push(Chunk { module, piece, first, rows });
            }
        }
    }
    chunks
}

fn pack_all<'c>(
    source: &Source,
    plan: &Plan,
    chunks: impl Iterator<Item = &'c Chunk>,
    made: &SyncSender<Made>,
) {
    let stream = Stream::new();
    with_stream(&stream, || {
        for chunk in chunks {
            // Nobody listens any more when something went wrong elsewhere.
            if made.send(pack(source, &plan.modules[chunk.module], chunk)).is_err() {
                return;
            }
        }
    });
}

fn pack(source: &Source, module: &Module, chunk: &Chunk) -> Made {
    let piece = &module.pieces[chunk.piece];
    let row_bytes = module.columns as u64 * float_bytes(&module.dtypes[0]);
    let offset = (piece.first + chunk.first) as u64 * row_bytes;
    let bytes = source.read(&piece.tensor, offset, chunk.rows * row_bytes as usize)?;
    let is_same = module.packing.is_none() && module.dtypes[0] == module.dtypes[1];
    if is_same && !module.adds_one && !piece.is_turned {
        return Ok(vec![bytes]);
    }
    let shape = [chunk.rows, module.columns];
    let make = || -> Result<Vec<Vec<u8>>, Exception> {
        let mut array = ops::from_bytes(&bytes, &shape, &module.dtypes[0])?;
        if module.adds_one {
            array = array.add(Array::from_f32(1.0).as_dtype(array.dtype())?)?;
        }
        if piece.is_turned {
            array = array.swap_axes(0, 1)?.contiguous()?;
        }
        let array = array.as_dtype(dtype(&module.dtypes[1]))?;
        let Some(packing) = module.packing else { return Ok(vec![ops::to_bytes(&array)?]) };
        let (weight, scales, biases) = ops::quantize(&array, packing)?;
        [Some(weight), Some(scales), biases].iter().flatten().map(ops::to_bytes).collect()
    };
    make().map_err(|error| LoadError::Backend(format!("{}: {}", module.path, error.what())))
}

fn dtype(name: &str) -> Dtype {
    match name {
        "BF16" => Dtype::Bfloat16,
        "F16" => Dtype::Float16,
        _ => Dtype::Float32,
    }
}

/// Writes what the packers make, in the plan's order. The weights go to the file at once; what they share is kept until they are there.
fn write_all(
    plan: &Plan,
    chunks: &[Chunk],
    made: &[Receiver<Made>],
    dir: &Path,
    told: &mut dyn FnMut(Step<'_>),
) -> Result<(), LoadError> {
    let mut next = chunks.iter().zip(made.iter().cycle()).peekable();
    let mut done = 0;
    for shard in 0..plan.result.files {
        let path = dir.join(shard_name(shard, plan.result.files));
        let failed =
            |error: io::Error| LoadError::File { path: path.clone(), reason: error.to_string() };
        let mut file = BufWriter::new(File::create(&path).map_err(failed)?);
        file.write_all(&header(plan, shard)).map_err(failed)?;
        for (index, module) in
            plan.modules.iter().enumerate().filter(|(_, module)| module.shard == shard)
        {
            let mut shared = vec![Vec::new(); module.outputs.len() - 1];
            while let Some((chunk, made)) = next.next_if(|(chunk, _)| chunk.module == index) {
                let gone = || LoadError::Backend("a thread that packs is gone".to_owned());
                let mut parts = made.recv().map_err(|_| gone())??.into_iter();
                file.write_all(&parts.next().unwrap_or_default()).map_err(failed)?;
                for (whole, part) in shared.iter_mut().zip(parts) {
                    whole.extend(part);
                }
                done += (chunk.rows * module.columns) as u64 * float_bytes(&module.dtypes[0]);
                told(Step { done, total: plan.bytes_read, module: &module.path });
            }
            shared.iter().try_for_each(|part| file.write_all(part)).map_err(failed)?;
        }
        let file = file.into_inner().map_err(|error| failed(error.into_error()))?;
        file.sync_all().map_err(failed)?;
    }
    Ok(())
}

/// The header of a file, with its length before it. The data begins at a multiple of 8 bytes.
fn header(plan: &Plan, shard: usize) -> Vec<u8> {
    let mut entries = BTreeMap::new();
    let mut start = 0;
    for output in plan
        .modules
        .iter()
        .filter(|module| module.shard == shard)
        .flat_map(|module| &module.outputs)
    {
        let end = start + output.bytes;
        let entry =
            json!({"dtype": output.dtype, "shape": output.shape, "data_offsets": [start, end]});
        entries.insert(output.name.clone(), entry);
        start = end;
    }
    let mut header = Map::new();
    header.insert("__metadata__".to_owned(), json!({"format": "mlx"}));
    header.extend(entries);
    let mut text = Value::Object(header).to_string();
    while !text.len().is_multiple_of(8) {
        text.push(' ');
    }
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}
