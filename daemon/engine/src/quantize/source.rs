//! The tensors of a checkpoint, read in pieces of any size.

use std::{collections::BTreeMap, fs::File, io, os::unix::fs::FileExt, path::PathBuf};

use crate::{files, info::LoadError, weights::Shards};

/// The files, and where tensors lie in them: the file, and the byte.
pub(crate) struct Source {
    files: Vec<(PathBuf, File)>,
    places: BTreeMap<String, (usize, u64)>,
}

impl Source {
    /// Opens the files of `shards`. What does not lie in them as it is asked for is left out.
    pub(crate) fn open(shards: &Shards) -> Result<Source, LoadError> {
        let open = |path: &PathBuf| {
            let file = files::open(path).map_err(|error: io::Error| LoadError::File {
                path: path.clone(),
                reason: error.to_string(),
            })?;
            Ok((path.clone(), file))
        };
        let files = shards.files.iter().map(open).collect::<Result<_, LoadError>>()?;
        let as_it_is = shards.entries().filter(|(_, entry)| entry.origin.is_none());
        let places =
            as_it_is.map(|(name, entry)| (name.clone(), (entry.file, entry.start))).collect();
        Ok(Source { files, places })
    }

    /// Whether the files hold a tensor of this name.
    pub(crate) fn holds(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }

    /// How many tensors there are.
    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    /// So many bytes of a tensor, from `offset`.
    pub(crate) fn read(&self, name: &str, offset: u64, len: usize) -> Result<Vec<u8>, LoadError> {
        let Some((file, start)) = self.places.get(name) else {
            return Err(LoadError::Backend(format!("tensor {name} was there a moment ago")));
        };
        let (path, file) = &self.files[*file];
        let mut bytes = vec![0; len];
        file.read_exact_at(&mut bytes, start + offset).map_err(|error| LoadError::File {
            path: path.clone(),
            reason: format!("tensor {name}: {error}"),
        })?;
        Ok(bytes)
    }
}
