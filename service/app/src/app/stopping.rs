//! The signals that ask for the stop, and its bound: a disk that never answers or a model that never ends must not keep
//! a service alive that was told to go. It drains and saves nothing itself; `Service::run` does, and says how far it is.
//!
//! It has a thread of its own, as whatever hangs may hang any other, down to the last value that is dropped. When the
//! grace time is over, or a second signal comes, it ends the process on the spot: nothing that waits can hold that up,
//! neither a thread that is joined nor a library's work at exit. Nothing is lost by that (I2): an answer that said
//! `durable` came after its record was on the disk, and the next start replays the journal, as after `kill -9`.
//!
//! The exit code is 0 either way. It says that the service stopped because it was asked to and kept what it promised;
//! a code of failure would have supervisors restart it or call for a rollback, where what failed is a disk or a model. The
//! log says that, as an error.

use anyhow::Context as _;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;
use tokio::runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tracing::{error, info, warn};

/// What a stop does, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Not begun: the service has not come to hear of the signal.
    Begin,
    /// Requests in flight are answered.
    Drain,
    /// Changed profiles are saved.
    Checkpoint,
    /// The shards end, and callers read their last answers.
    Answers,
    /// Journal, profiles and projections are closed.
    Files,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Begin => "the service to hear of it",
            Self::Drain => "drain: requests in flight",
            Self::Checkpoint => "checkpoint: profiles to be saved",
            Self::Answers => "answers: callers to read the last ones",
            Self::Files => "files: journal, profiles and projections to be closed",
        })
    }
}

/// How far the stop is; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Progress(Arc<Mutex<State>>);

#[derive(Clone, Copy, Debug)]
struct State {
    step: Step,
    /// Whether the journal has confirmed everything that waited for it when the stop began.
    journal_answered: bool,
}

impl Progress {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(State { step: Step::Begin, journal_answered: false })))
    }

    /// The stop has come to this step.
    pub(super) fn at(&self, step: Step) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).step = step;
    }

    /// The journal has confirmed everything that waited for it when the stop began.
    pub(super) fn journal_answered(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).journal_answered = true;
    }

    /// What the stop waits for, for people.
    fn waiting_for(&self) -> String {
        let State { step, journal_answered } = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let cause = match (step, journal_answered) {
            (Step::Begin, _) | (Step::Answers | Step::Files, true) => "",
            (_, false) => "; the journal's disk has not answered since the stop began",
            (Step::Drain | Step::Checkpoint, true) => {
                "; the journal answers, so look at the model and at the disk's load"
            }
        };
        format!("{step}{cause}")
    }
}

/// Hears the signals from now on.
#[derive(Debug)]
pub(super) struct Stopping {
    /// How far the stop is.
    pub(super) progress: Progress,
    asked: oneshot::Receiver<&'static str>,
}

impl Stopping {
    /// Starts the thread. From the first signal on, the process has `grace` to end by itself.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub(super) fn listen(grace: Duration) -> anyhow::Result<Self> {
        let progress = Progress::new();
        let (ask, asked) = oneshot::channel();
        let told = progress.clone();
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        // Heard by the thread's runtime rather than by that of the caller, which may hang.
        let entered = runtime.enter();
        let signals = Signals::new()?;
        drop(entered);
        let watching = move || {
            let why = runtime.block_on(wait(signals, ask, grace));
            why.log(grace, &told);
            end_now();
        };
        thread::Builder::new().name("stop".to_owned()).spawn(watching).context("a thread for the stop cannot start")?;
        Ok(Self { progress, asked })
    }

    /// Waits for the first signal and names it.
    pub(super) async fn asked(&mut self) -> anyhow::Result<&'static str> {
        (&mut self.asked).await.context("the thread that hears signals has ended")
    }
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }
}

/// Where signals come from.
trait Heard {
    async fn next(&mut self) -> &'static str;
}

impl Heard for Signals {
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Why the process is ended from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    GraceOver,
    Signal(&'static str),
}

/// Passes the first signal on; then waits for a second one, or until the grace time is over.
async fn wait(mut signals: impl Heard, ask: oneshot::Sender<&'static str>, grace: Duration) -> Cause {
    let first = signals.next().await;
    info!(signal = first, grace_secs = grace.as_secs(), "stopping: no new requests, finishing those in flight");
    // A service that failed meanwhile is on its way out as well, within the same time.
    let _ = ask.send(first);
    tokio::select! {
        second = signals.next() => Cause::Signal(second),
        () = tokio::time::sleep(grace) => Cause::GraceOver,
    }
}

impl Cause {
    fn log(self, grace: Duration, progress: &Progress) {
        let waiting_for = progress.waiting_for();
        match self {
            Self::GraceOver => error!(
                waiting_for,
                grace_secs = grace.as_secs(),
                "the grace time is over, ending at once; everything answered as durable is in the journal, and the next \
                 start replays it"
            ),
            Self::Signal(signal) => {
                warn!(signal, waiting_for, "stopping at once; the journal has everything answered");
            }
        }
    }
}

/// Ends the process with exit code 0, and runs nothing on the way.
fn end_now() -> ! {
    #[expect(unsafe_code, reason = "the standard library has no exit that runs no handlers; this one takes no pointer")]
    unsafe {
        libc::_exit(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    /// Signals after so many seconds each; then none.
    struct Planned(VecDeque<(u64, &'static str)>);

    impl Heard for Planned {
        async fn next(&mut self) -> &'static str {
            match self.0.pop_front() {
                Some((secs, name)) => {
                    tokio::time::sleep(Duration::from_secs(secs)).await;
                    name
                }
                None => std::future::pending().await,
            }
        }
    }

    #[test]
    fn the_first_signal_starts_the_grace_time_and_the_second_ends_it() {
        let cases = [
            (vec![(1_000, "SIGTERM")], Cause::GraceOver, 1_025),
            (vec![(0, "SIGINT")], Cause::GraceOver, 25),
            (vec![(5, "SIGTERM"), (24, "SIGTERM")], Cause::Signal("SIGTERM"), 29),
            (vec![(5, "SIGTERM"), (3, "SIGINT")], Cause::Signal("SIGINT"), 8),
        ];
        for (signals, expected, after_secs) in cases {
            let runtime = runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            runtime.block_on(async {
                let (ask, asked) = oneshot::channel();
                let planned = Planned(signals.iter().copied().collect());
                let ended = wait(planned, ask, Duration::from_secs(25));
                let just_before = tokio::time::sleep(Duration::from_millis(after_secs * 1_000 - 1));
                let mut ended = std::pin::pin!(ended);
                tokio::select! {
                    cause = &mut ended => panic!("{signals:?}: {cause:?} came too early"),
                    () = just_before => {}
                }
                let cause = tokio::time::timeout(Duration::from_millis(1), ended).await;
                assert_eq!(cause.ok(), Some(expected), "{signals:?}");
                assert_eq!(asked.await.ok(), Some(signals[0].1), "the service hears the first one");
            });
        }
    }

    #[test]
    fn what_it_waits_for_is_named() {
        let progress = Progress::new();
        assert_eq!(progress.waiting_for(), "the service to hear of it");
        progress.at(Step::Drain);
        assert!(progress.waiting_for().starts_with("drain: ") && progress.waiting_for().contains("the journal's disk"));
        progress.clone().journal_answered();
        assert!(progress.waiting_for().contains("look at the model"), "{}", progress.waiting_for());
        progress.at(Step::Answers);
        assert_eq!(progress.waiting_for(), "answers: callers to read the last ones");
    }
}
