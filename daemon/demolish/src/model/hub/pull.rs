//! A whole model: what is listed is brought, several files at once, and the manifest is written last.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;

use super::checksum::Expected;
use super::fetch::{AGAIN, Job, of_disk};
use super::http::Client;
use super::listing::{Listing, Remote, list};
use super::manifest::{
    self, Held, MANIFEST_FILE, Manifest, PULL_FILE, Unfinished, Version, with_part, write,
};
use super::{Patience, Token, Trouble, Url, names};
use crate::model::space;

/// The most files that are brought at once.
const FILES_AT_ONCE_MAX: usize = 4;
/// How often progress is told.
const TICK: Duration = Duration::from_millis(100);
/// How often a listing is asked for before the hub is given up.
const LISTINGS_MAX: u32 = 3;

/// What is to be pulled.
#[derive(Debug, Clone)]
pub(crate) struct Pull {
    pub(crate) repo: String,
    pub(crate) revision: String,
    pub(crate) hub: Url,
    pub(crate) token: Option<Token>,
    pub(crate) dir: PathBuf,
    /// Names that are wanted, with `*` in them; none: what a model needs.
    pub(crate) include: Vec<String>,
    pub(crate) patience: Patience,
}

/// What happens meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Note<'n> {
    /// It is known what there is: files, bytes (as far as the hub says), and bytes that are there already.
    Listed { commit: &'n str, files: usize, bytes: u64, there: u64 },
    /// So many bytes are there.
    Progress { done: u64, total: u64 },
    /// A file is whole.
    File { name: &'n str, bytes: u64 },
}

/// What was pulled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pulled {
    pub(crate) manifest: Manifest,
    /// Nothing had to be brought.
    pub(crate) was_there: bool,
}

/// Pulls a model. Dropping the future leaves what is there, and the next pull goes on with it.
pub(crate) async fn pull(pull: &Pull, told: &mut dyn FnMut(Note<'_>)) -> Result<Pulled, Trouble> {
    let client = Client::new(pull.hub.clone(), pull.token.clone(), pull.patience)?;
    let listing = listed(&client, pull).await?;
    if let Some(manifest) = whole(pull, &listing) {
        return Ok(Pulled { manifest, was_there: true });
    }
    let (state, _lock) = begin(pull, &listing)?;
    let there: u64 = listing.files.iter().map(|file| present(&pull.dir, file, &state)).sum();
    let total = state.bytes;
    space::check(&pull.dir, total.saturating_sub(there)).map_err(Trouble::Away)?;
    let (commit, files) = (listing.commit.as_str(), listing.files.len());
    told(Note::Listed { commit, files, bytes: total, there });
    let obsolete = state.obsolete.clone();
    let manifest = bring(&client, pull, &listing, state, there, told).await?;
    if pull.include.is_empty() {
        clear(&pull.dir, &obsolete)?;
    }
    let path = pull.dir.join(MANIFEST_FILE);
    write(&path, &manifest).map_err(|error| of_disk(&path, &error))?;
    let path = pull.dir.join(PULL_FILE);
    fs::remove_file(&path).map_err(|error| of_disk(&path, &error))?;
    Ok(Pulled { manifest, was_there: false })
}

async fn listed(client: &Client, pull: &Pull) -> Result<Listing, Trouble> {
    let mut tried = 0;
    loop {
        match list(client, &pull.repo, &pull.revision, &pull.include).await {
            Err(Trouble::Passing(why)) => {
                tried += 1;
                if tried == LISTINGS_MAX {
                    return Err(Trouble::Away(format!("{why}; tried {tried} times; {AGAIN}")));
                }
                tokio::time::sleep(pull.patience.pause * tried).await;
            }
            other => return other,
        }
    }
}

/// The manifest, if everything that is listed is there already.
fn whole(pull: &Pull, listing: &Listing) -> Option<Manifest> {
    let manifest = manifest::manifest(&pull.dir)?;
    let is_there = |file: &Remote| {
        let held = manifest.files.iter().find(|held| held.name == file.name);
        let len = |name: &str| fs::metadata(pull.dir.join(name)).ok().map(|meta| meta.len());
        // The name of the commit may be no more than that of a branch, which moves.
        let is_listed = |held: &Held| {
            file.bytes.is_none_or(|bytes| bytes == held.bytes)
                && !matches!(&file.expected, Some(Expected::Sha256(sum)) if *sum != held.sha256)
        };
        held.is_some_and(|held| is_listed(held) && len(&held.name) == Some(held.bytes))
    };
    let is_same = manifest.repo == pull.repo && manifest.commit == listing.commit;
    let is_finished = manifest::unfinished(&pull.dir).is_none();
    (is_same && is_finished && listing.files.iter().all(is_there)).then_some(manifest)
}

/// Prepares the folder: what another pull left there is taken over where it is still the same, and nobody else pulls into it as
/// long as the lock is held.
fn begin(pull: &Pull, listing: &Listing) -> Result<(Unfinished, File), Trouble> {
    let dir = &pull.dir;
    let failed = |error: io::Error| of_disk(dir, &error);
    fs::create_dir_all(dir).map_err(failed)?;
    let lock = File::open(dir).map_err(failed)?;
    if lock.try_lock().is_err() {
        let dir = dir.display();
        return Err(Trouble::Away(format!("another pull writes into {dir}; wait for it")));
    }
    let (old, finished) = (manifest::unfinished(dir), manifest::manifest(dir));
    let owner = old.as_ref().map(|old| &old.repo).or(finished.as_ref().map(|old| &old.repo));
    let refused = |what: String| {
        let dir = dir.display();
        Err(Trouble::Refused(format!("{dir} {what}; name another folder with --to")))
    };
    match owner {
        Some(owner) if *owner != pull.repo => return refused(format!("holds {owner}")),
        None if fs::read_dir(dir).map_err(failed)?.next().is_some() => {
            return refused("is not empty, and no pull began there".to_owned());
        }
        _ => {}
    }
    let state = taken_over(pull, listing, old, finished).map_err(failed)?;
    write(&dir.join(PULL_FILE), &state).map_err(failed)?;
    absent(fs::remove_file(dir.join(MANIFEST_FILE))).map_err(failed)?;
    Ok((state, lock))
}

/// What is still worth something of an earlier pull.
fn taken_over(
    pull: &Pull,
    listing: &Listing,
    old: Option<Unfinished>,
    finished: Option<Manifest>,
) -> io::Result<Unfinished> {
    let commits = [old.as_ref().map(|old| &old.commit), finished.as_ref().map(|old| &old.commit)];
    let is_same_commit = commits.iter().flatten().all(|commit| **commit == listing.commit);
    let mut done = BTreeMap::new();
    for held in finished.into_iter().flat_map(|manifest| manifest.files) {
        done.insert(held.name, held.sha256);
    }
    let (mut versions, mut obsolete) = (BTreeMap::new(), BTreeSet::new());
    if let Some(old) = old {
        done.extend(old.done);
        obsolete = old.obsolete;
        obsolete.extend(old.files);
        versions = old.versions;
    }
    let files: BTreeSet<String> = listing.files.iter().map(|file| file.name.clone()).collect();
    obsolete.extend(done.keys().cloned());
    obsolete.retain(|name| !files.contains(name));
    if !is_same_commit {
        versions.clear();
        for file in &listing.files {
            absent(fs::remove_file(with_part(&pull.dir.join(&file.name))))?;
        }
    }
    // Only a checksum tells that a file of another commit is still the same one.
    done.retain(|name, sum| {
        let file = listing.files.iter().find(|file| file.name == *name);
        file.is_some_and(|file| match &file.expected {
            Some(Expected::Sha256(expected)) => expected == sum,
            _ => is_same_commit,
        })
    });
    Ok(Unfinished {
        repo: pull.repo.clone(),
        revision: pull.revision.clone(),
        commit: listing.commit.clone(),
        from: pull.hub.to_string(),
        bytes: listing.files.iter().filter_map(|file| file.bytes).sum(),
        files,
        obsolete,
        done,
        versions,
    })
}

/// Removes what an earlier pull brought and the hub no longer has: a shard too many would be loaded with the others.
fn clear(dir: &Path, obsolete: &BTreeSet<String>) -> Result<(), Trouble> {
    for name in obsolete.iter().filter(|name| names::trouble(name).is_none()) {
        let path = dir.join(name);
        for path in [with_part(&path), path] {
            absent(fs::remove_file(&path)).map_err(|error| of_disk(&path, &error))?;
        }
    }
    Ok(())
}

/// That a file was not there is no failure to remove it.
fn absent(removed: io::Result<()>) -> io::Result<()> {
    removed.or_else(|error| match error.kind() {
        io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    })
}

/// How many bytes of a file are there.
fn present(dir: &Path, file: &Remote, state: &Unfinished) -> u64 {
    if let Some(held) = held(dir, file, state) {
        return held.bytes;
    }
    let part = fs::metadata(with_part(&dir.join(&file.name))).map_or(0, |meta| meta.len());
    let is_known = file.expected.is_some()
        || state.versions.get(&file.name).is_some_and(|version| version.etag.is_some());
    let fits = file.bytes.is_none_or(|bytes| part <= bytes);
    if is_known && fits { part } else { 0 }
}

/// A file that is whole.
fn held(dir: &Path, file: &Remote, state: &Unfinished) -> Option<Held> {
    let sha256 = state.done.get(&file.name)?.clone();
    let bytes = fs::metadata(dir.join(&file.name)).ok()?.len();
    let is_whole = file.bytes.is_none_or(|expected| expected == bytes);
    is_whole.then(|| Held { name: file.name.clone(), bytes, sha256 })
}

async fn bring(
    client: &Client,
    pull: &Pull,
    listing: &Listing,
    state: Unfinished,
    there: u64,
    told: &mut dyn FnMut(Note<'_>),
) -> Result<Manifest, Trouble> {
    let (done, total) = (AtomicU64::new(there), state.bytes);
    let mut files: Vec<Held> =
        listing.files.iter().filter_map(|file| held(&pull.dir, file, &state)).collect();
    let is_missing = |file: &&Remote| files.iter().all(|held| held.name != file.name);
    let mut missing: Vec<&Remote> = listing.files.iter().filter(is_missing).collect();
    // The small ones first: a mistake shows at once, and the large ones have the line to themselves.
    missing.sort_by_key(|file| file.bytes);
    let (state, state_path) = (RefCell::new(state), pull.dir.join(PULL_FILE));
    let save = |change: &dyn Fn(&mut Unfinished)| {
        change(&mut state.borrow_mut());
        if let Err(error) = write(&state_path, &*state.borrow()) {
            tracing::warn!("{}: {error}", state_path.display());
        }
    };
    let root = format!("/{}/resolve/{}", pull.repo, listing.commit);
    let fetch = |file: &Remote| {
        let counted = present(&pull.dir, file, &state.borrow());
        let (file, version) = (file.clone(), state.borrow().versions.get(&file.name).cloned());
        let url = client.hub().below(&format!("{root}/{}", file.name));
        let (save, done) = (&save, &done);
        async move {
            let keep = |version: &Version| {
                save(&|state: &mut Unfinished| {
                    state.versions.insert(file.name.clone(), version.clone());
                });
            };
            let (file, dir, keep) = (&file, pull.dir.as_path(), &keep);
            let (version, greatest) = (version.unwrap_or_default(), counted);
            Job { client, url, file, dir, version, keep, done, counted, greatest }.run().await
        }
    };
    let mut running =
        stream::iter(missing.into_iter().map(fetch)).buffer_unordered(FILES_AT_ONCE_MAX);
    let mut ticks = tokio::time::interval(TICK);
    loop {
        tokio::select! {
            next = running.next() => {
                let Some(held) = next.transpose()? else { break };
                save(&|state: &mut Unfinished| {
                    state.versions.remove(&held.name);
                    state.done.insert(held.name.clone(), held.sha256.clone());
                });
                told(Note::File { name: &held.name, bytes: held.bytes });
                files.push(held);
            }
            _ = ticks.tick() => {
                let done = done.load(Ordering::Relaxed);
                told(Note::Progress { done, total: total.max(done) });
            }
        }
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    let Unfinished { repo, revision, commit, from, .. } = state.borrow().clone();
    Ok(Manifest { repo, revision, commit, from, files })
}
