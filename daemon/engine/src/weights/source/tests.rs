#![allow(clippy::disallowed_methods, reason = "tests write scratch files")]

use std::{
    fs,
    io::{Seek, SeekFrom, Write},
    path::Path,
    sync::atomic::AtomicUsize,
};

use serde_json::json;

use super::*;

/// A file with tensors `a` of some blocks, `b` of few bytes and `c` of none, and the numbers in them.
fn model(dir: &Path) -> Vec<u8> {
    let len = 5 * BLOCK_BYTES + 12;
    let floats: Vec<u8> = (0..len / 4).flat_map(|i| (i as f32).to_le_bytes()).collect();
    let header = json!({
        "b": {"dtype": "BF16", "shape": [3], "data_offsets": [len, len + 6]},
        "a": {"dtype": "F32", "shape": [len / 4], "data_offsets": [0, len]},
        "c": {"dtype": "U8", "shape": [0, 7], "data_offsets": [len, len]},
    });
    let header = header.to_string();
    let bytes = [floats.as_slice(), &[1, 2, 3, 4, 5, 6]].concat();
    let head = (header.len() as u64).to_le_bytes();
    let all = [head.as_slice(), header.as_bytes(), &bytes].concat();
    fs::write(dir.join("model.safetensors"), all).unwrap();
    bytes
}

fn open(shards: &Shards, watch: LoadWatch) -> Source {
    let places: Vec<Place> = ["b", "a"].map(|name| shards.get(name).unwrap().place()).to_vec();
    Source::open(shards, &places, watch).unwrap()
}

fn read(source: &mut Source, name: &str) -> Result<Tensor, LoadError> {
    let entry = source.get(name).unwrap().clone();
    source.read(&entry)
}

#[test]
fn tensors_come_whole_in_any_order_and_more_than_once() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = model(dir.path());
    let shards = Shards::open(dir.path(), "").unwrap();
    let (a, b) = bytes.split_at(bytes.len() - 6);
    let mut source = open(&shards, LoadWatch::nobody());
    for forgets in [false, true] {
        source.forgets = forgets;
        for (name, wanted) in [("a", a), ("c", &[]), ("b", b), ("a", a)] {
            let tensor = read(&mut source, name).unwrap();
            assert!(*tensor.bytes == *wanted && !tensor.has_nan, "{name}");
            assert_eq!(tensor.shape, shards.get(name).unwrap().shape);
        }
    }
}

/// Where the file system cannot do that, they are read in the usual way.
#[test]
fn past_the_page_cache_tensors_are_the_same_and_a_stop_is_heeded() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = model(dir.path());
    let shards = Shards::open(dir.path(), "").unwrap();
    let (a, b) = bytes.split_at(bytes.len() - 6);
    let places = ["b", "a"].map(|name| shards.get(name).unwrap().place());
    let told = Arc::new(AtomicUsize::new(0));
    let counted = told.clone();
    let mut source = open(
        &shards,
        LoadWatch::new(move |_| match counted.fetch_add(1, Ordering::SeqCst) {
            usize::MAX => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }),
    );
    source.pass_cache(&places);
    for (name, wanted) in [("b", b), ("c", &[]), ("a", a), ("a", a)] {
        let tensor = read(&mut source, name).unwrap();
        assert!(*tensor.bytes == *wanted && !tensor.has_nan, "{name}");
    }
    source.pass_cache(&places);
    told.store(usize::MAX, Ordering::SeqCst);
    assert!(matches!(read(&mut source, "a").err(), Some(LoadError::Cancelled)));

    // It is truncated while it is open.
    let path = dir.path().join("model.safetensors");
    let mut source = open(&shards, LoadWatch::nobody());
    source.pass_cache(&places);
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(400).unwrap();
    let Some(LoadError::Weights { path: named, reason }) = read(&mut source, "a").err() else {
        panic!("it was read");
    };
    assert!(named == path && reason.starts_with("was truncated while"), "{reason}");
}

#[test]
fn nan_is_found_in_any_block() {
    let dir = tempfile::tempdir().unwrap();
    for block in [0, 3, 5] {
        model(dir.path());
        let path = dir.path().join("model.safetensors");
        let shards = Shards::open(dir.path(), "").unwrap();
        let start = shards.get("a").unwrap().start + (block * BLOCK_BYTES) as u64;
        let mut file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.seek(SeekFrom::Start(start)).unwrap();
        file.write_all(&f32::NAN.to_le_bytes()).unwrap();
        drop(file);
        let shards = Shards::open(dir.path(), "").unwrap();
        let mut source = open(&shards, LoadWatch::nobody());
        assert!(read(&mut source, "a").unwrap().has_nan, "{block}");
        assert!(!read(&mut source, "b").unwrap().has_nan);
    }
}

#[test]
fn a_file_that_changes_is_named_with_what_became_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    let write = || fs::OpenOptions::new().append(true).open(&path).unwrap();
    let refused = |read: Result<Tensor, LoadError>| match read.err() {
        Some(LoadError::Weights { path: named, reason }) if named == path => reason,
        other => panic!("{other:?}"),
    };
    model(dir.path());
    let shards = Shards::open(dir.path(), "").unwrap();
    let mut source = open(&shards, LoadWatch::nobody());
    write().write_all(&[0]).unwrap();
    assert!(refused(read(&mut source, "b")).starts_with("was changed while"));

    model(dir.path());
    let shards = Shards::open(dir.path(), "").unwrap();
    let mut source = open(&shards, LoadWatch::nobody());
    write().set_len(shards.get("a").unwrap().start + 100).unwrap();
    assert!(refused(read(&mut source, "a")).starts_with("was truncated while"));

    // Between the headers and the opening of the files.
    model(dir.path());
    let shards = Shards::open(dir.path(), "").unwrap();
    fs::rename(&path, dir.path().join("old")).unwrap();
    model(dir.path());
    let opened = Source::open(&shards, &[], LoadWatch::nobody());
    assert!(matches!(opened.err(), Some(LoadError::Weights { path: named, .. }) if named == path));
}

#[test]
fn whoever_watches_sees_it_grow_and_may_stop_it() {
    let dir = tempfile::tempdir().unwrap();
    let total = model(dir.path()).len() as u64;
    let shards = Shards::open(dir.path(), "").unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = seen.clone();
    let mut source = open(
        &shards,
        LoadWatch::new(move |progress| {
            sink.lock().unwrap().push(progress.bytes);
            assert_eq!(progress.total, total);
            ControlFlow::Continue(())
        }),
    );
    read(&mut source, "b").unwrap();
    read(&mut source, "a").unwrap();
    let seen = seen.lock().unwrap();
    assert_eq!((seen[0], *seen.last().unwrap()), (0, total));
    assert!(seen.is_sorted(), "{seen:?}");

    let told = AtomicUsize::new(0);
    let mut source = open(
        &shards,
        LoadWatch::new(move |_| match told.fetch_add(1, Ordering::SeqCst) {
            0 => ControlFlow::Continue(()),
            _ => ControlFlow::Break(()),
        }),
    );
    assert!(matches!(read(&mut source, "a").err(), Some(LoadError::Cancelled)));
}

#[test]
fn a_stop_stays_one_whatever_fails_after_it() {
    let mut failed = None;
    keep_first(&mut failed, None);
    assert!(failed.is_none());
    keep_first(&mut failed, Some(Failure::Stopped));
    keep_first(&mut failed, Some(Failure::System(io::ErrorKind::UnexpectedEof.into())));
    assert!(matches!(failed, Some(Failure::Stopped)));
}
