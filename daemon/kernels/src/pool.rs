//! The threads that share the work of one operation: they stay between operations, and use no processor time when there is none.
//!
//! A decode step has some hundred regions of parallel work with microseconds between them, so a worker looks for the next region
//! for a moment before it sleeps. Tasks are claimed one by one from a counter, by the caller too: a worker that the system does
//! not run (another process has its core) claims nothing, and the others do its share; the caller waits for claimed tasks alone.
//!
//! One region runs at a time. Whoever calls while one runs, from another thread or from inside of a task, does its tasks alone:
//! there is no core left that would help.

use std::{
    any::Any,
    cell::{Cell, UnsafeCell},
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// More threads than this do not help: they would wait for memory.
pub const THREADS_MAX: usize = 64;
/// So long a worker looks for the next region, and the caller for the end of the last task, before it sleeps. Longer than what lies
/// between two regions of a pass: whoever sleeps there is woken too late for the next, and half of the threads miss most of the work.
const SPIN: Duration = Duration::from_micros(200);
/// So many times it looks between two looks at the clock; then it lets others have the processor, who may be of this pool too: a worker
/// that was woken on the caller's own.
const LOOKS: usize = 64;
/// A region's tasks are counted in 32 bits, and every worker may count one too many.
const TASKS_MAX: usize = u32::MAX as usize - THREADS_MAX;

/// The pool of the process: as many threads as it may use processors (its affinity and its share count).
pub fn pool() -> &'static Pool {
    static POOL: OnceLock<Pool> = OnceLock::new();
    OTHER.get().unwrap_or_else(|| {
        POOL.get_or_init(|| Pool::new(thread::available_parallelism().map_or(1, usize::from)))
    })
}

/// Calls `act` with another pool in the place of the process's on this thread: for tests and measurements.
pub fn with_pool<T>(pool: &'static Pool, act: impl FnOnce() -> T) -> T {
    struct Back(Option<&'static Pool>);
    impl Drop for Back {
        fn drop(&mut self) {
            OTHER.set(self.0);
        }
    }
    let _back = Back(OTHER.replace(Some(pool)));
    act()
}

thread_local! {
    /// What stands in for the process's pool.
    static OTHER: Cell<Option<&'static Pool>> = const { Cell::new(None) };
    /// A task runs on this thread.
    static IS_INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Threads that compute.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<thread::JoinHandle<()>>,
}

/// Nothing else lies in the cache lines of what is inside.
#[repr(align(128))]
struct Apart<T>(T);

struct Shared {
    /// The tasks of the region (upper half) and the next of them that nobody has claimed (lower half, may be beyond the end).
    claims: Apart<AtomicU64>,
    /// How many tasks of the region are done.
    done: Apart<AtomicUsize>,
    /// What a task does. Written by who holds `caller`, while no task is claimed; read by who has claimed one.
    work: UnsafeCell<Option<Work>>,
    /// The first panic of a task.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    /// Whoever runs the region.
    caller: Mutex<()>,
    /// Workers that sleep, or are about to.
    sleeping: AtomicUsize,
    /// The caller sleeps, or is about to.
    is_awaited: AtomicBool,
    is_closed: AtomicBool,
    lock: Mutex<()>,
    /// There is a region.
    begun: Condvar,
    /// The last task is done.
    ended: Condvar,
}

/// A function that the caller of [`Pool::run`] keeps alive until all tasks are done.
type Work = *const (dyn Fn(usize) + Sync);

// SAFETY: `work` is the one field that is not Send and Sync by itself. It is written while no task is claimed and read by whoever has
// claimed one, which the orderings of `claims` and `done` keep apart; what it points to is Sync.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("threads", &self.threads()).finish()
    }
}

impl Pool {
    /// A pool of so many threads, the caller's among them; at least one, at most [`THREADS_MAX`]. There are fewer if the system
    /// gives no more.
    pub fn new(threads: usize) -> Pool {
        let shared = Arc::new(Shared {
            claims: Apart(AtomicU64::new(0)),
            done: Apart(AtomicUsize::new(0)),
            work: UnsafeCell::new(None),
            panic: Mutex::new(None),
            caller: Mutex::new(()),
            sleeping: AtomicUsize::new(0),
            is_awaited: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
            lock: Mutex::new(()),
            begun: Condvar::new(),
            ended: Condvar::new(),
        });
        let workers = (1..threads.min(THREADS_MAX)).map_while(|_| {
            let shared = shared.clone();
            thread::Builder::new().name("kernels".to_owned()).spawn(move || shared.serve()).ok()
        });
        Pool { workers: workers.collect(), shared: shared.clone() }
    }

    /// How many threads take part in a region, the caller's among them.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `work` once for each number below `tasks`, on any threads and in any order; returns when all calls have returned.
    ///
    /// # Panics
    /// With the first panic of a task, after all the others are done.
    pub fn run(&self, tasks: usize, work: &(dyn Fn(usize) + Sync)) {
        if tasks > 1 && tasks <= TASKS_MAX && !self.workers.is_empty() && !IS_INSIDE.get() {
            // Taken by another caller: all cores work.
            if let Ok(caller) = self.shared.caller.try_lock() {
                self.shared.region(tasks, work, caller);
                return;
            }
        }
        let mut first = None;
        for task in 0..tasks {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| work(task))) {
                first.get_or_insert(panic);
            }
        }
        if let Some(panic) = first {
            resume_unwind(panic);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.is_closed.store(true, Ordering::SeqCst);
        drop(held(&self.shared.lock));
        self.shared.begun.notify_all();
        for worker in self.workers.drain(..) {
            let _ = worker.join();
        }
    }
}

/// No thread panics while it holds one of the locks.
fn held<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn region(&self, tasks: usize, work: &(dyn Fn(usize) + Sync), caller: MutexGuard<'_, ()>) {
        // SAFETY: the lifetime is left out; the pointer is followed for claimed tasks alone, and this function returns when all
        // tasks have been claimed and are done.
        let work: Work = unsafe { std::mem::transmute::<&(dyn Fn(usize) + Sync), Work>(work) };
        // SAFETY: all tasks of the last region are done and those of this one do not exist yet: nobody reads it.
        unsafe { *self.work.get() = Some(work) };
        self.done.0.store(0, Ordering::Relaxed);
        self.claims.0.store((tasks as u64) << 32, Ordering::SeqCst);
        if self.sleeping.load(Ordering::SeqCst) > 0 {
            drop(held(&self.lock));
            self.begun.notify_all();
        }
        self.take_part();
        self.wait_for(tasks);
        let panic = held(&self.panic).take();
        drop(caller);
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }

    /// Does tasks until all are claimed.
    fn take_part(&self) {
        IS_INSIDE.set(true);
        while self.has_tasks() {
            let (tasks, task) = halves(self.claims.0.fetch_add(1, Ordering::AcqRel));
            if task >= tasks {
                break;
            }
            // SAFETY: the task is claimed and not done: the region lasts, and its work was written before the claims were opened.
            let work = unsafe { (*self.work.get()).map(|work| &*work) };
            let result = catch_unwind(AssertUnwindSafe(|| work.map(|work| work(task))));
            if let Err(panic) = result {
                held(&self.panic).get_or_insert(panic);
            }
            // From here on the region may be over.
            if self.done.0.fetch_add(1, Ordering::SeqCst) + 1 == tasks
                && self.is_awaited.load(Ordering::SeqCst)
            {
                drop(held(&self.lock));
                self.ended.notify_all();
            }
        }
        IS_INSIDE.set(false);
    }

    fn has_tasks(&self) -> bool {
        let (tasks, next) = halves(self.claims.0.load(Ordering::Acquire));
        next < tasks
    }

    fn wait_for(&self, tasks: usize) {
        let is_over = || self.done.0.load(Ordering::SeqCst) == tasks;
        if is_soon(is_over) {
            return;
        }
        self.is_awaited.store(true, Ordering::SeqCst);
        let mut guard = held(&self.lock);
        while !is_over() {
            guard = self.ended.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        self.is_awaited.store(false, Ordering::SeqCst);
    }

    /// What a worker does all its life.
    fn serve(&self) {
        while !self.is_closed.load(Ordering::SeqCst) {
            if is_soon(|| self.has_tasks()) {
                self.take_part();
                continue;
            }
            self.sleeping.fetch_add(1, Ordering::SeqCst);
            let guard = held(&self.lock);
            if !self.has_work() && !self.is_closed.load(Ordering::SeqCst) {
                // Whoever is woken looks around again, even if the region that woke it is over by now: the next one is near.
                drop(self.begun.wait(guard).unwrap_or_else(PoisonError::into_inner));
            }
            self.sleeping.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// As [`Shared::has_tasks`], in one order with the caller's look at who sleeps.
    fn has_work(&self) -> bool {
        let (tasks, next) = halves(self.claims.0.load(Ordering::SeqCst));
        next < tasks
    }
}

fn halves(claims: u64) -> (usize, usize) {
    ((claims >> 32) as usize, (claims & u64::from(u32::MAX)) as usize)
}

/// Whether it is so within [`SPIN`].
fn is_soon(is_so: impl Fn() -> bool) -> bool {
    let mut begun = None;
    loop {
        for _ in 0..LOOKS {
            if is_so() {
                return true;
            }
            std::hint::spin_loop();
        }
        thread::yield_now();
        if begun.get_or_insert_with(Instant::now).elapsed() >= SPIN {
            return false;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Barrier, atomic::AtomicU32};

    use super::*;

    /// Every task runs once.
    fn check(pool: &Pool, tasks: usize) {
        let counts: Vec<AtomicU32> = (0..tasks).map(|_| AtomicU32::new(0)).collect();
        pool.run(tasks, &|task| {
            counts[task].fetch_add(1, Ordering::Relaxed);
        });
        assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1), "{tasks} tasks");
    }

    #[test]
    fn every_task_runs_once_in_pools_of_every_size() {
        for threads in [0, 1, 2, 3, 4, 9] {
            let pool = Pool::new(threads);
            assert_eq!(pool.threads(), threads.max(1));
            for tasks in [0, 1, 2, 3, 4, 7, 64, 1000] {
                check(&pool, tasks);
            }
        }
        assert_eq!(Pool::new(1000).threads(), THREADS_MAX);
        check(pool(), 100);
    }

    /// Many short regions of changing sizes, with pauses in which workers fall asleep in all stages of it: a late worker must never
    /// take a task of one region for another's.
    #[test]
    fn regions_do_not_meet() {
        let pool = Pool::new(4);
        let mut seed = 1u32;
        for region in 0..40_000u32 {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let tasks = 1 + (seed >> 16) as usize % 9;
            let sums: [AtomicU32; 9] = Default::default();
            pool.run(tasks, &|task| {
                sums[task].fetch_add(region + 1, Ordering::Relaxed);
            });
            for (task, sum) in sums.iter().enumerate() {
                let expected = if task < tasks { region + 1 } else { 0 };
                assert_eq!(sum.load(Ordering::Relaxed), expected, "region {region}, task {task}");
            }
            match seed % 1024 {
                0 => thread::sleep(Duration::from_micros(200)),
                1..=20 => {
                    let begun = Instant::now();
                    let pause = SPIN.mul_f64(f64::from(seed >> 22) / 512.0);
                    while begun.elapsed() < pause {}
                }
                _ => {}
            }
        }
    }

    #[test]
    fn callers_at_the_same_time_and_inside_of_tasks_get_their_own() {
        let pool = Pool::new(4);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for tasks in 0..400 {
                        check(&pool, tasks % 23);
                    }
                });
            }
        });
        let count = AtomicU32::new(0);
        pool.run(8, &|_| {
            pool.run(5, &|_| {
                count.fetch_add(1, Ordering::Relaxed);
            });
        });
        assert_eq!(count.load(Ordering::Relaxed), 40);
    }

    #[test]
    fn all_threads_take_part() {
        let pool = Pool::new(4);
        // No task ends before all four have begun.
        let barrier = Barrier::new(4);
        for _ in 0..100 {
            pool.run(4, &|_| {
                barrier.wait();
            });
        }
    }

    #[test]
    fn a_panic_reaches_the_caller_after_the_other_tasks_are_done() {
        for (threads, threads_apart) in [(1, false), (1, true), (3, false), (3, true)] {
            let pool = Pool::new(threads);
            let count = AtomicU32::new(0);
            let result = catch_unwind(AssertUnwindSafe(|| {
                pool.run(20, &|task| {
                    if task == 7 || (threads_apart && task == 12) {
                        resume_unwind(Box::new("on purpose"));
                    }
                    count.fetch_add(1, Ordering::Relaxed);
                });
            }));
            assert_eq!(result.unwrap_err().downcast_ref(), Some(&"on purpose"));
            assert_eq!(count.load(Ordering::Relaxed), if threads_apart { 18 } else { 19 });
            check(&pool, 50);
        }
    }

    #[test]
    fn a_caller_waits_asleep_for_a_long_task() {
        let pool = Pool::new(2);
        let barrier = Barrier::new(2);
        let mut is_done = AtomicBool::new(false);
        for _ in 0..20 {
            let caller = thread::current().id();
            pool.run(2, &|_| {
                barrier.wait();
                if thread::current().id() != caller {
                    thread::sleep(Duration::from_millis(2));
                    is_done.store(true, Ordering::Relaxed);
                }
            });
            assert!(std::mem::take(is_done.get_mut()));
        }
    }

    #[test]
    fn another_pool_stands_in_on_this_thread() {
        let other: &'static Pool = Box::leak(Box::new(Pool::new(3)));
        with_pool(other, || assert_eq!(pool().threads(), 3));
        assert!(!std::ptr::eq(pool(), other));
    }
}
