//! What tells one model's caches from another's.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::Path,
    time::UNIX_EPOCH,
};

use crate::info::ModelInfo;

/// More of a shard's header than this is not looked at.
const HEADER_BYTES_MAX: u64 = 64 << 20;

/// Of the files of a model as they are now, and of the arithmetic that it is run with: another configuration, other tensors, other
/// files of the same names, or caches of another kind give another fingerprint.
pub(crate) fn fingerprint(info: &ModelInfo) -> io::Result<String> {
    let mut sum = crc32fast::Hasher::new();
    let mut total = 0;
    if info.path.as_os_str().is_empty() {
        return Ok(format!("{}-{:?}", info.name, info.compute)); // A scripted model has no files.
    }
    sum.update(&fs::read(info.path.join("config.json"))?);
    let mut shards: Vec<_> = fs::read_dir(&info.path)?.collect::<io::Result<_>>()?;
    shards.sort_by_key(fs::DirEntry::file_name);
    for shard in shards {
        let name = shard.file_name();
        if Path::new(&name).extension().is_some_and(|ending| ending == "safetensors") {
            sum.update(name.as_encoded_bytes());
            total += add(&shard.path(), &mut sum)?;
        }
    }
    let compute = format!("{:?}", info.compute).to_lowercase();
    Ok(format!("{:08x}-{total}-{compute}-{}", sum.finalize(), info.bytes_per_token))
}

/// A shard's header, size and time; says the size.
fn add(path: &Path, sum: &mut crc32fast::Hasher) -> io::Result<u64> {
    let metadata = fs::metadata(path)?;
    let changed = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
    sum.update(&metadata.len().to_le_bytes());
    sum.update(&changed.as_nanos().to_le_bytes());
    let mut file = File::open(path)?;
    let mut len = [0; 8];
    file.read_exact(&mut len)?;
    let mut header = Vec::new();
    file.take(u64::from_le_bytes(len).min(HEADER_BYTES_MAX)).read_to_end(&mut header)?;
    sum.update(&header);
    Ok(metadata.len())
}

/// The folder of a model's files: its name, enough of its place that two of one name do not meet, and the arithmetic and form of its
/// caches, so that who tries another one does not delete the files.
pub(crate) fn folder(info: &ModelInfo) -> String {
    let name: String = info.name.chars().filter(|c| c.is_ascii_alphanumeric()).collect();
    let place = crc32fast::hash(info.path.as_os_str().as_encoded_bytes());
    let compute = format!("{:?}", info.compute).to_lowercase();
    format!("{name}-{place:08x}-{compute}-{}", info.bytes_per_token)
}
