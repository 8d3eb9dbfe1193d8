//! Stops runs of a model that take longer than they may: the thread of a run cannot do it itself.
//!
//! ONNX Runtime looks between two operators whether it is to stop, inside loops as well. A single operator that does not
//! end cannot be stopped; nothing short of another process could.
//!
//! One thread a model, which sleeps until the earliest time that a run must end by. Runs come by the thousand a second
//! and end long before that, so it is woken only for a run that must end earlier than it meant to look.

use crate::telemetry::clock;
use ort::logging::LogLevel;
use ort::session::{NoSelectedOutputs, RunOptions};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{self, Thread};
use std::time::Instant;
use tracing::error;

/// Nothing to look at.
const NEVER: u64 = u64::MAX;

/// The thread; it ends with the last of those who hold this.
pub(super) struct Watchdog {
    pub(super) shared: Arc<Shared>,
    thread: Thread,
}

pub(super) struct Shared {
    since: Instant,
    /// When the thread looks next, in nanoseconds after `since`.
    looks_at: AtomicU64,
    ended: AtomicBool,
    sessions: Mutex<Vec<Weak<Runs>>>,
}

/// The runs of one session, one at a time.
struct Runs {
    options: RunOptions<NoSelectedOutputs>,
    run: Mutex<Run>,
}

#[derive(Default)]
struct Run {
    /// When the run must end; `None` while there is none.
    until: Option<Instant>,
    stopped: bool,
}

/// A session's place with the watchdog.
pub(super) struct Leash {
    watchdog: Arc<Watchdog>,
    runs: Arc<Runs>,
}

impl Watchdog {
    /// Starts the thread.
    pub(super) fn start() -> io::Result<Arc<Self>> {
        let shared = Arc::new(Shared {
            since: clock::instant(),
            looks_at: AtomicU64::new(NEVER),
            ended: AtomicBool::new(false),
            sessions: Mutex::default(),
        });
        let watching = Arc::clone(&shared);
        let handle = thread::Builder::new().name("model-watchdog".to_owned()).spawn(move || watching.watch())?;
        Ok(Arc::new(Self { shared, thread: handle.thread().clone() }))
    }

    /// A place for one session.
    pub(super) fn leash(self: &Arc<Self>) -> ort::Result<Leash> {
        let mut options = RunOptions::new()?;
        // What ONNX Runtime would print of a run that is stopped comes back as its error.
        options.set_log_level(LogLevel::Fatal)?;
        let runs = Arc::new(Runs { options, run: Mutex::default() });
        lock(&self.shared.sessions).push(Arc::downgrade(&runs));
        Ok(Leash { watchdog: Arc::clone(self), runs })
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

impl Leash {
    /// Begins a run that must end by `until`; it is to run under these options.
    pub(super) fn begin(&self, until: Instant) -> ort::Result<&RunOptions<NoSelectedOutputs>> {
        let mut run = lock(&self.runs.run);
        if run.stopped {
            self.runs.options.unterminate()?;
        }
        *run = Run { until: Some(until), stopped: false };
        drop(run);
        // The thread announces its next look before it takes each lock, so that whichever of us was first at the lock,
        // either it has seen this run or we see that it means to look too late.
        let Watchdog { shared, thread } = &*self.watchdog;
        if shared.nanos(until) < shared.looks_at.load(Ordering::Acquire) {
            thread.unpark();
        }
        Ok(&self.runs.options)
    }

    /// Ends the run; `true` if it was stopped.
    pub(super) fn end(&self) -> bool {
        let mut run = lock(&self.runs.run);
        run.until = None;
        run.stopped
    }
}

impl Shared {
    fn watch(&self) {
        while !self.ended.load(Ordering::Acquire) {
            self.looks_at.store(NEVER, Ordering::Release);
            let now = clock::instant();
            match self.look(now) {
                Some(next) => {
                    self.looks_at.store(self.nanos(next), Ordering::Release);
                    thread::park_timeout(next.saturating_duration_since(now));
                }
                None => thread::park(),
            }
        }
    }

    /// Stops every run whose time is over; gives the earliest time of the others.
    fn look(&self, now: Instant) -> Option<Instant> {
        let mut next: Option<Instant> = None;
        lock(&self.sessions).retain(|session| {
            let Some(runs) = session.upgrade() else { return false };
            let mut run = lock(&runs.run);
            match run.until {
                Some(until) if until <= now => {
                    run.until = None;
                    run.stopped = true;
                    if let Err(why) = runs.options.terminate() {
                        error!(%why, "a run of the model that takes too long cannot be stopped");
                    }
                }
                Some(until) => next = Some(next.map_or(until, |next| next.min(until))),
                None => {}
            }
            true
        });
        next
    }

    fn nanos(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.since).as_nanos()).unwrap_or(NEVER)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change under these locks is whole before anything can panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
