#![allow(clippy::disallowed_methods, reason = "tests write scratch files")]

use std::{fs, path::PathBuf};

use super::*;

/// A file of so many bytes, no two of whose pages are the same.
fn file(dir: &Path, bytes: usize) -> (PathBuf, Vec<u8>) {
    let numbers: Vec<u8> = (0..bytes).map(|at| (at % 251 + at / PAGE) as u8).collect();
    let path = dir.join("numbers");
    fs::write(&path, &numbers).unwrap();
    (path, numbers)
}

fn steps(places: &[(u64, u64)]) -> Vec<Step> {
    let step = |&(start, bytes): &(u64, u64)| Step {
        place: Place { file: 0, start, bytes },
        dtype: "U8".to_owned(),
    };
    places.iter().map(step).collect()
}

/// Threads that read a file as anybody does: not every file system can pass its cache.
fn start(path: &Path, steps: &[Step]) -> Direct {
    Direct::start(vec![File::open(path).unwrap()], steps.to_vec(), Arc::default()).unwrap()
}

fn take(direct: &Direct, step: &Step) -> Option<Ready> {
    match direct.take(step.place, &mut |_| ControlFlow::Continue(())) {
        ControlFlow::Continue(ready) => ready,
        ControlFlow::Break(()) => panic!("nobody stopped it"),
    }
}

#[test]
fn tensors_come_whole_wherever_they_begin_and_each_once() {
    let dir = tempfile::tempdir().unwrap();
    let (path, numbers) = file(dir.path(), 3 * REQUEST_BYTES + 77);
    let len = numbers.len() as u64;
    let steps = steps(&[
        (0, 10),
        (10, 5000),
        (10, 20),
        (5010, 2 * REQUEST_BYTES as u64),
        (8192, 4096),
        (4095, 2),
        (len - 7, 7),
        (20, 0),
    ]);
    let direct = start(&path, &steps);
    for step in &steps {
        let Place { start, bytes, .. } = step.place;
        let wanted = &numbers[start as usize..][..bytes as usize];
        match take(&direct, step) {
            Some(ready) => assert!(*ready.bytes == *wanted && !ready.has_nan, "{step:?}"),
            None => assert_eq!(bytes, 0),
        }
        assert!(take(&direct, step).is_none(), "{step:?}");
    }
}

#[test]
fn what_the_file_system_reads_past_its_cache_is_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let (path, numbers) = file(dir.path(), REQUEST_BYTES + 77);
    // Where it cannot, models are read in the usual way.
    let Ok(passing) = open(&path, &Arc::default()) else { return };
    let steps = steps(&[(10, 5000), (5010, numbers.len() as u64 - 5010)]);
    let direct = Direct::start(vec![passing], steps.clone(), Arc::default()).unwrap();
    for step in &steps {
        let Place { start, bytes, .. } = step.place;
        let ready = take(&direct, step).unwrap();
        assert!(*ready.bytes == numbers[start as usize..][..bytes as usize], "{step:?}");
    }
}

#[test]
fn what_lies_beyond_the_window_waits_and_what_is_passed_over_makes_room() {
    let dir = tempfile::tempdir().unwrap();
    let (path, _) = file(dir.path(), 1 << 20);
    // Nobody could hold what these say that they have.
    let mut steps = steps(&[(0, 1 << 10), (1 << 10, 1 << 10), (1 << 11, 1 << 10)]);
    let shared = |steps: &[Step]| {
        let slots = steps.iter().map(|_| Slot::Open).collect();
        let state = State { slots, next: 0, held: 0, wanted: None, is_over: false };
        let files = vec![File::open(&path).unwrap()];
        let (state, moved) = (Mutex::new(state), Condvar::new());
        Shared { files, steps: steps.to_vec(), spares: Arc::default(), state, moved }
    };
    for step in &mut steps {
        step.place.bytes = WINDOW_BYTES_MAX / 2;
    }
    let all = shared(&steps);
    assert_eq!([all.claim(), all.claim()], [Some(0), Some(1)]);
    assert_eq!(all.lock().held, WINDOW_BYTES_MAX);
    for turn in 0..2 {
        let bytes = all.spares.take_pages(0, 1);
        all.lock().slots[turn] = Slot::Read(Ready { bytes, has_nan: false });
    }
    all.pass_over(&mut all.lock(), 2);
    assert_eq!(all.lock().held, 0);
    assert_eq!(all.claim(), Some(2));
    assert_eq!(all.claim(), None);

    // One that is larger than the window comes alone, or when it is waited for.
    steps[0].place.bytes = 1;
    steps[1].place.bytes = 2 * WINDOW_BYTES_MAX;
    let all = shared(&steps);
    assert_eq!(all.claim(), Some(0));
    all.pass_over(&mut all.lock(), 1);
    assert_eq!(all.claim(), Some(1));
    all.lock().is_over = true;
    assert_eq!(all.claim(), None);
}

#[test]
fn tensors_out_of_turn_are_there_or_read_otherwise() {
    let dir = tempfile::tempdir().unwrap();
    let (path, numbers) = file(dir.path(), 1 << 20);
    let places: Vec<(u64, u64)> = (0..64).map(|index| (index << 14, 1 << 14)).collect();
    let steps = steps(&places);
    let direct = start(&path, &steps);
    for step in steps.iter().rev() {
        let start = step.place.start as usize;
        if let Some(ready) = take(&direct, step) {
            assert!(*ready.bytes == numbers[start..][..1 << 14]);
        }
    }
    let other = Step { place: Place { file: 0, start: 5, bytes: 5 }, dtype: "U8".to_owned() };
    assert!(take(&direct, &other).is_none());
}

#[test]
fn a_file_that_ends_too_soon_is_left_to_whoever_reads_otherwise() {
    let dir = tempfile::tempdir().unwrap();
    let (path, _) = file(dir.path(), 10_000);
    let steps = steps(&[(9_000, 2_000), (20_000, 5), (0, 10)]);
    let direct = start(&path, &steps);
    assert!(take(&direct, &steps[0]).is_none());
    assert!(take(&direct, &steps[1]).is_none());
}

#[test]
fn whoever_waits_hears_how_far_it_is_and_may_stop() {
    let dir = tempfile::tempdir().unwrap();
    let (path, _) = file(dir.path(), 2 * REQUEST_BYTES);
    let steps = steps(&[(0, 2 * REQUEST_BYTES as u64)]);
    let direct = start(&path, &steps);
    let mut heard = vec![0];
    let ready = direct.take(steps[0].place, &mut |bytes| {
        heard.push(bytes);
        ControlFlow::Continue(())
    });
    assert!(matches!(ready, ControlFlow::Continue(Some(_))));
    assert!(heard.is_sorted() && heard.iter().all(|bytes| *bytes <= steps[0].place.bytes));

    // It is being read, and some of it is there.
    let mut direct = start(&path, &[]);
    let slots = vec![Slot::Reading(7)];
    *direct.shared.lock() = State { slots, next: 1, held: 7, wanted: None, is_over: false };
    direct.turns = [((0, 0, steps[0].place.bytes), 0)].into();
    let stopped = direct.take(steps[0].place, &mut |bytes| {
        assert_eq!(bytes, 7);
        ControlFlow::Break(())
    });
    assert!(stopped.is_break());
}

#[test]
fn no_number_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("floats");
    let floats = [1.0_f32, 2.0, f32::NAN, 3.0].map(f32::to_le_bytes).concat();
    fs::write(&path, floats).unwrap();
    let mut steps = steps(&[(0, 8), (8, 8)]);
    steps.iter_mut().for_each(|step| step.dtype = "F32".to_owned());
    let direct = start(&path, &steps);
    let has_nan = |step| take(&direct, step).unwrap().has_nan;
    assert_eq!([has_nan(&steps[0]), has_nan(&steps[1])], [false, true]);
}
