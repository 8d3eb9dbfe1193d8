//! What waits for a scribe's transactions, and which of it goes next.

use super::{Message, ScribeError};
use std::collections::VecDeque;
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

const FIRST_BACK_OFF: Duration = Duration::from_millis(100);
const LAST_BACK_OFF: Duration = Duration::from_secs(5);

/// What a scribe's thread is told.
pub(super) enum Order {
    /// To write a job.
    Write(Job),
    /// To look up when it must end.
    Close,
}

/// Messages that go out together.
pub(super) struct Job {
    pub(super) messages: Vec<Message>,
    done: oneshot::Sender<Result<(), ScribeError>>,
    tries: u32,
    /// When it may be tried again.
    not_before: Option<Instant>,
    /// Its share of the room, until it is answered.
    _room: OwnedSemaphorePermit,
}

impl Job {
    pub(super) fn new(
        messages: Vec<Message>,
        done: oneshot::Sender<Result<(), ScribeError>>,
        room: OwnedSemaphorePermit,
    ) -> Self {
        Self { messages, done, tries: 0, not_before: None, _room: room }
    }

    pub(super) fn answer(self, outcome: Result<(), ScribeError>) {
        // Whoever dropped the future does not want to know.
        let _ = self.done.send(outcome);
    }

    /// Whether it has failed before: it may be why its transaction failed, and goes alone from then on.
    pub(super) fn goes_alone(&self) -> bool {
        self.tries > 0
    }

    /// Counts a failure; how long it then waits.
    fn fail(&mut self, now: Instant) -> Duration {
        let back_off = back_off(self.tries);
        self.tries += 1;
        self.not_before = Some(now + back_off);
        back_off
    }
}

fn back_off(tries: u32) -> Duration {
    FIRST_BACK_OFF.saturating_mul(1 << tries.min(16)).min(LAST_BACK_OFF)
}

/// Jobs in the order in which they came; one that failed is behind those that came meanwhile.
#[derive(Default)]
pub(super) struct Waiting(VecDeque<Job>);

impl Waiting {
    pub(super) fn push(&mut self, job: Job) {
        self.0.push_back(job);
    }

    /// Takes jobs back whose transaction failed; the shortest time that one of them waits.
    pub(super) fn take_back(&mut self, jobs: Vec<Job>, now: Instant) -> Duration {
        let mut shortest = LAST_BACK_OFF;
        for mut job in jobs {
            shortest = shortest.min(job.fail(now));
            self.0.push_back(job);
        }
        shortest
    }

    /// The first that may go.
    pub(super) fn next(&mut self, now: Instant) -> Option<Job> {
        let at = self.0.iter().position(|job| job.not_before.is_none_or(|at| at <= now))?;
        self.0.remove(at)
    }

    /// The first that never failed, for a transaction that others are in.
    pub(super) fn next_untried(&mut self) -> Option<Job> {
        let at = self.0.iter().position(|job| !job.goes_alone())?;
        self.0.remove(at)
    }

    /// How long until one may go; `None` without any.
    pub(super) fn until_next(&self, now: Instant) -> Option<Duration> {
        self.0.iter().map(|job| job.not_before.map_or(Duration::ZERO, |at| at.saturating_duration_since(now))).min()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Answers all of them the same.
    pub(super) fn fail_all(&mut self, error: &ScribeError) {
        self.0.drain(..).for_each(|job| job.answer(Err(error.clone())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::clock;
    use std::sync::Arc;
    use tokio::sync::Semaphore;

    fn job(name: &str) -> Job {
        let room = Arc::new(Semaphore::new(1)).try_acquire_owned().expect("room");
        Job::new(vec![Message { topic: name.into(), ..Message::default() }], oneshot::channel().0, room)
    }

    fn name(job: &Job) -> &str {
        &job.messages[0].topic
    }

    #[test]
    fn a_job_that_fails_goes_alone_and_holds_nobody_up() {
        let now = clock::instant();
        let mut waiting = Waiting::default();
        for name in ["a", "b", "c"] {
            waiting.push(job(name));
        }
        let first = waiting.next(now).expect("a job");
        let second = waiting.next_untried().expect("another");
        assert_eq!((name(&first), name(&second), first.goes_alone()), ("a", "b", false));
        assert_eq!(waiting.take_back(vec![first, second], now), FIRST_BACK_OFF);
        assert_eq!(waiting.until_next(now), Some(Duration::ZERO));
        waiting.push(job("d"));
        assert_eq!(name(&waiting.next(now).expect("one that never failed")), "c");
        assert_eq!(name(&waiting.next_untried().expect("another")), "d");
        assert!(waiting.next(now).is_none() && waiting.next_untried().is_none());
        assert_eq!(waiting.until_next(now), Some(FIRST_BACK_OFF));
        let later = now + FIRST_BACK_OFF;
        let first = waiting.next(later).expect("its time has come");
        assert!(first.goes_alone());
        assert_eq!(waiting.take_back(vec![first], later), FIRST_BACK_OFF * 2);
        assert_eq!(name(&waiting.next(later).expect("the other")), "b");
        assert!(!waiting.is_empty());
    }

    #[test]
    fn back_off_has_an_end() {
        let longest: Vec<Duration> = [0, 1, 5, 6, 40, u32::MAX].map(back_off).into();
        let ms = Duration::from_millis;
        assert_eq!(longest, [ms(100), ms(200), ms(3_200), ms(5_000), ms(5_000), ms(5_000)]);
    }
}
