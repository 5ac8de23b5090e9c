//! Reading the files of a model: plain files alone, since a pipe would have the reader wait for ever.

use std::{fs, io, path::Path};

/// All of a file.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    check(path)?;
    fs::read(path)
}

/// All of a file of text.
pub(crate) fn read_text(path: &Path) -> io::Result<String> {
    check(path)?;
    fs::read_to_string(path)
}

/// Opens a file for reading.
#[cfg(feature = "mlx")]
pub(crate) fn open(path: &Path) -> io::Result<fs::File> {
    check(path)?;
    fs::File::open(path)
}

fn check(path: &Path) -> io::Result<()> {
    // Links are followed, as in Hugging Face's cache.
    if fs::metadata(path)?.is_file() { Ok(()) } else { Err(io::Error::other("not a regular file")) }
}
