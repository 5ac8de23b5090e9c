//! The models on this machine: where they are, whose they are, and whether they are whole.

use std::fs;
use std::path::{Path, PathBuf};

use super::hub::manifest::{self, with_part};
use super::{expanded, places};
use crate::{config, env_vars};

/// The most folders that are looked at below one that holds models.
const ENTRIES_MAX: usize = 4096;

/// Why a folder is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A setting names it, or it is the default model.
    Named,
    /// `demolish model pull` brought it.
    Pulled,
    /// It is in a folder of `model.folders`.
    Folder,
    /// Another program took it from a hub.
    Cache,
}

impl Origin {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Origin::Named => "named",
            Origin::Pulled => "pulled",
            Origin::Folder => "folder",
            Origin::Cache => "cache",
        }
    }
}

/// A model's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// What it is called: `org/name`, or the folder's name.
    pub(crate) name: String,
    pub(crate) dir: PathBuf,
    pub(crate) origin: Origin,
}

/// All of them, those that are used first.
pub(crate) fn models(settings: &config::Model) -> Vec<Place> {
    let mut found: Vec<Place> = Vec::new();
    let mut add = |place: Place| {
        let is_known = |known: &Place| {
            known.dir == place.dir || known.dir.canonicalize().ok() == place.dir.canonicalize().ok()
        };
        if !found
            .iter()
            .any(|known| known.dir == place.dir || place.dir.exists() && is_known(known))
        {
            found.push(place);
        }
    };
    for dir in places(settings) {
        let name = pulled_name(&dir).unwrap_or_else(|| folder_name(&dir));
        add(Place { name, dir, origin: Origin::Named });
    }
    for dir in env_vars::models_dir().iter().flat_map(|dir| below(dir)) {
        let name = pulled_name(&dir).unwrap_or_else(|| folder_name(&dir));
        add(Place { name, dir, origin: Origin::Pulled });
    }
    for folder in &settings.folders {
        for dir in below(&expanded(Path::new(folder))) {
            let name = pulled_name(&dir).unwrap_or_else(|| folder_name(&dir));
            add(Place { name, dir, origin: Origin::Folder });
        }
    }
    env_vars::hub_cache().iter().flat_map(|dir| cached(dir)).for_each(add);
    found
}

/// The folder that `asked` means: a folder, or the name of a model in the list.
///
/// # Errors
/// Neither, or several: one sentence with the remedy.
pub(crate) fn resolve(settings: &config::Model, asked: &Path) -> Result<Place, String> {
    let dir = expanded(asked);
    if dir.is_dir() {
        let name = pulled_name(&dir).unwrap_or_else(|| folder_name(&dir));
        return Ok(Place { name, dir, origin: Origin::Named });
    }
    let all = models(settings);
    let asked = asked.to_string_lossy();
    let is_called = |place: &&Place| {
        place.name == asked || place.name.rsplit('/').next() == Some(asked.as_ref())
    };
    let fitting: Vec<&Place> = all.iter().filter(is_called).collect();
    match fitting[..] {
        [one] => Ok(one.clone()),
        [] => Err(format!(
            "there is no model {asked}: neither a folder nor a name that `demolish model list` shows"
        )),
        [first, second, ..] => Err(format!(
            "{asked} may be {} or {}; say which",
            first.dir.display(),
            second.dir.display()
        )),
    }
}

/// Why a folder holds no whole model, if that is so: a pull that is not finished, a missing file.
pub(crate) fn incomplete(dir: &Path) -> Option<String> {
    if let Some(pull) = manifest::unfinished(dir) {
        let again = format!("`demolish model pull {}@{}` goes on", pull.repo, pull.revision);
        return Some(format!("its pull is not finished; {again}"));
    }
    if let Some(manifest) = manifest::manifest(dir) {
        for held in &manifest.files {
            let len = fs::metadata(dir.join(&held.name)).ok().map(|meta| meta.len());
            if len != Some(held.bytes) {
                let again = format!("`demolish model pull {}` brings it", manifest.repo);
                return Some(match len {
                    None => format!("{} is missing; {again}", held.name),
                    Some(len) => {
                        format!("{} has {len} bytes, not {}; {again} again", held.name, held.bytes)
                    }
                });
            }
        }
    }
    if with_part(dir).exists() && !dir.exists() {
        return Some("it is still being written".to_owned());
    }
    None
}

/// How many bytes of a model's files are there.
pub(crate) fn bytes(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let files = entries.filter_map(|entry| fs::metadata(entry.path()).ok());
    files.filter(fs::Metadata::is_file).map(|meta| meta.len()).sum()
}

/// `nano/model` is called `nano`, as the engine calls it.
fn folder_name(dir: &Path) -> String {
    let name =
        |dir: &Path| dir.file_name().unwrap_or(dir.as_os_str()).to_string_lossy().into_owned();
    match dir.parent().filter(|_| dir.ends_with("model")) {
        Some(parent) => name(parent),
        None => name(dir),
    }
}

fn pulled_name(dir: &Path) -> Option<String> {
    manifest::manifest(dir)
        .map(|manifest| manifest.repo)
        .or_else(|| Some(manifest::unfinished(dir)?.repo))
}

/// The models of a folder, and those one level deeper: `org/name`.
fn below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for dir in folders(folder) {
        if is_model(&dir) {
            found.push(dir);
        } else {
            found.extend(folders(&dir).into_iter().filter(|dir| is_model(dir)));
        }
    }
    found
}

fn is_model(dir: &Path) -> bool {
    dir.join("config.json").is_file() || manifest::unfinished(dir).is_some()
}

fn folders(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().take(ENTRIES_MAX);
    let mut dirs: Vec<PathBuf> =
        entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    dirs.sort();
    dirs
}

/// The models of a cache in Hugging Face's layout, `models--org--name/snapshots/COMMIT`; of each the snapshot of its `main`.
fn cached(folder: &Path) -> Vec<Place> {
    let mut found = Vec::new();
    for dir in folders(folder) {
        let folder = folder_name(&dir);
        let Some(name) = folder.strip_prefix("models--").map(|name| name.replace("--", "/")) else {
            continue;
        };
        let main = fs::read_to_string(dir.join("refs/main")).unwrap_or_default();
        let snapshots = dir.join("snapshots");
        let main = Some(snapshots.join(main.trim())).filter(|dir| *dir != snapshots);
        let all = main.into_iter().chain(folders(&snapshots));
        // Other things are cached too; a model has weights.
        let mut whole = all.filter(|dir| is_model(dir) && has_weights(dir));
        if let Some(dir) = whole.next() {
            found.push(Place { name, dir, origin: Origin::Cache });
        }
    }
    found
}

fn has_weights(dir: &Path) -> bool {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .any(|path| path.extension().is_some_and(|end| end == "safetensors"))
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "the test writes files")]
mod tests {
    use super::*;

    #[test]
    fn caches_and_folders_of_folders_are_searched() {
        let house = tempfile::tempdir().unwrap();
        let model = |path: &str| {
            let dir = house.path().join(path);
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join("config.json"), "{}").unwrap();
            fs::write(dir.join("model.safetensors"), "").unwrap();
        };
        for path in [
            "a/flat",
            "a/org/deep",
            "hub/models--org--name/snapshots/c1",
            "hub/models--org--name/snapshots/c2",
        ] {
            model(path);
        }
        fs::create_dir_all(house.path().join("hub/models--org--name/refs")).unwrap();
        fs::write(house.path().join("hub/models--org--name/refs/main"), "c2\n").unwrap();
        fs::create_dir_all(house.path().join("hub/models--org--empty/snapshots/c1")).unwrap();
        let settings = config::Model {
            folders: vec![house.path().join("a").display().to_string()],
            ..config::Model::default()
        };
        let names: Vec<String> = models(&settings)
            .into_iter()
            .filter(|place| place.origin == Origin::Folder)
            .map(|place| place.name)
            .collect();
        assert_eq!(names, ["flat", "deep"]);
        let cached = cached(&house.path().join("hub"));
        assert_eq!(cached.len(), 1);
        assert_eq!(cached[0].name, "org/name");
        assert!(cached[0].dir.ends_with("snapshots/c2"));
        assert!(resolve(&settings, Path::new("deep")).unwrap().dir.ends_with("a/org/deep"));
        assert!(resolve(&settings, Path::new("nothing")).unwrap_err().contains("no model nothing"));
    }
}
