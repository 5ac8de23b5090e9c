//! The threads that share the work of one operation: they stay between operations, and use no processor time when there is none.
//!
//! A decode step has some hundred regions of parallel work with microseconds between them, so a worker looks for the next region
//! for a moment before it sleeps, and brings near what it will read there ([`ahead`]). Each thread has a share of neighbouring tasks,
//! which it claims one by one from a counter, and then what is left of the others' shares; the caller too. A worker that the system
//! does not run (another process has its core) claims nothing, and the others do its share; the caller waits for claimed tasks alone.
//!
//! One region runs at a time. Whoever calls while one runs, from another thread or from inside of a task, does its tasks alone:
//! there is no core left that would help.

mod ahead;

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

use ahead::Wishes;
pub(crate) use ahead::{AHEAD_BYTES_MAX, Span};

/// More threads than this do not help: they would wait for memory.
pub const THREADS_MAX: usize = 64;
/// So long a worker looks for the next region, and the caller for the end of the last task, before it sleeps. Longer than what lies
/// between two regions of a pass: whoever sleeps there is woken too late for the next, and half of the threads miss most of the work.
const SPIN: Duration = Duration::from_micros(200);
/// So many times it looks between two looks at the clock; then it lets others have the processor, who may be of this pool too: a worker
/// that was woken on the caller's own.
const LOOKS: usize = 256;
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
    /// For each thread the end of its share of the tasks (upper half) and the next of them that nobody has claimed (lower half, may be
    /// beyond the end). The caller's is the first.
    claims: Box<[Apart<AtomicU64>]>,
    /// How many regions there have been: changes when all shares of a region are open.
    regions: Apart<AtomicU64>,
    /// What the threads may bring near while they wait.
    wishes: Wishes,
    /// How many tasks of the region are done, as far as threads have told.
    done: Apart<AtomicUsize>,
    /// What a task does, and how many there are. Written by who holds `caller`, while no task is claimed; read by who has claimed one.
    work: UnsafeCell<Option<(Work, usize)>>,
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
        let threads = threads.clamp(1, THREADS_MAX);
        let shared = Arc::new(Shared {
            claims: (0..threads).map(|_| Apart(AtomicU64::new(0))).collect(),
            regions: Apart(AtomicU64::new(0)),
            wishes: Wishes::new(threads),
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
        let workers = (1..threads).map_while(|place| {
            let shared = shared.clone();
            let serve = move || shared.serve(place);
            thread::Builder::new().name("kernels".to_owned()).spawn(serve).ok()
        });
        Pool { workers: workers.collect(), shared: shared.clone() }
    }

    /// How many threads take part in a region, the caller's among them.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// The share of a thread in so many tasks, unless others are quicker: first and last. The caller of a region is thread 0.
    pub(crate) fn share(&self, tasks: usize, thread: usize) -> (usize, usize) {
        share(tasks, thread, self.shared.claims.len())
    }

    /// From now on the threads may bring near what `spans` names for each of them, while they have nothing else to do. It needs not
    /// exist any more when they do.
    pub(crate) fn expect(&self, spans: &dyn Fn(usize, &mut Vec<Span>)) {
        if !self.workers.is_empty() {
            self.shared.wishes.set(spans);
        }
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
        unsafe { *self.work.get() = Some((work, tasks)) };
        self.done.0.store(0, Ordering::Relaxed);
        let threads = self.claims.len();
        for (thread, claims) in self.claims.iter().enumerate() {
            let (first, end) = share(tasks, thread, threads);
            claims.0.store((end as u64) << 32 | first as u64, Ordering::Release);
        }
        self.regions.0.fetch_add(1, Ordering::SeqCst);
        if self.sleeping.load(Ordering::SeqCst) > 0 {
            drop(held(&self.lock));
            self.begun.notify_all();
        }
        self.take_part(0);
        self.wait_for(tasks);
        let panic = held(&self.panic).take();
        drop(caller);
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }

    /// Does tasks until all are claimed: first those of its own share.
    fn take_part(&self, thread: usize) {
        IS_INSIDE.set(true);
        let (mut done, mut tasks) = (0, 0);
        let (before, from) = self.claims.split_at(thread);
        for claims in from.iter().chain(before) {
            while let Some(task) = claim(&claims.0) {
                tasks = self.perform(task);
                done += 1;
            }
        }
        IS_INSIDE.set(false);
        // Told once: a counter that all threads write after each task would cost as much as a short one. From here on the region may be over.
        if done > 0
            && self.done.0.fetch_add(done, Ordering::SeqCst) + done == tasks
            && self.is_awaited.load(Ordering::SeqCst)
        {
            drop(held(&self.lock));
            self.ended.notify_all();
        }
    }

    /// One task that was claimed: how many the region has.
    fn perform(&self, task: usize) -> usize {
        // SAFETY: the task is claimed and not told as done: the region lasts, and its work was written before the claims were opened.
        let Some((work, tasks)) =
            (unsafe { (*self.work.get()).map(|(work, tasks)| (&*work, tasks)) })
        else {
            return 0;
        };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| work(task))) {
            held(&self.panic).get_or_insert(panic);
        }
        tasks
    }

    fn wait_for(&self, tasks: usize) {
        let is_over = || self.done.0.load(Ordering::SeqCst) == tasks;
        if self.is_soon(0, is_over) {
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
    fn serve(&self, thread: usize) {
        let mut seen = 0;
        let is_new = |seen| self.regions.0.load(Ordering::SeqCst) != seen;
        while !self.is_closed.load(Ordering::SeqCst) {
            if self.is_soon(thread, || is_new(seen)) {
                seen = self.regions.0.load(Ordering::SeqCst);
                self.take_part(thread);
                continue;
            }
            self.sleeping.fetch_add(1, Ordering::SeqCst);
            let guard = held(&self.lock);
            if !is_new(seen) && !self.is_closed.load(Ordering::SeqCst) {
                // Whoever is woken looks around again, even if the region that woke it is over by now: the next one is near.
                drop(self.begun.wait(guard).unwrap_or_else(PoisonError::into_inner));
            }
            self.sleeping.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// Whether it is so within [`SPIN`]. Meanwhile brings near what the thread will read.
    fn is_soon(&self, thread: usize, is_so: impl Fn() -> bool) -> bool {
        let mut begun = None;
        loop {
            for _ in 0..LOOKS {
                if is_so() {
                    return true;
                }
                if !self.wishes.fetch_some(thread) {
                    std::hint::spin_loop();
                }
            }
            thread::yield_now();
            if begun.get_or_insert_with(Instant::now).elapsed() >= SPIN {
                return false;
            }
        }
    }
}

/// The next task of a share that has one.
fn claim(claims: &AtomicU64) -> Option<usize> {
    let (end, next) = halves(claims.load(Ordering::Acquire));
    if next >= end {
        return None;
    }
    let (end, next) = halves(claims.fetch_add(1, Ordering::AcqRel));
    (next < end).then_some(next)
}

/// The first and the last task of a thread's share; the first threads have a task where others have none.
fn share(tasks: usize, thread: usize, threads: usize) -> (usize, usize) {
    let begin = |thread: usize| (tasks as u64 * thread as u64).div_ceil(threads as u64) as usize;
    (begin(thread), begin(thread + 1))
}

fn halves(claims: u64) -> (usize, usize) {
    ((claims >> 32) as usize, (claims & u64::from(u32::MAX)) as usize)
}

#[cfg(test)]
mod tests;
