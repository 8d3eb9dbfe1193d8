//! What is under way: appends that wait to be read back, and take-overs that wait for their epoch. No I/O, no clock.
//!
//! The writer admits, the tail says what it read, both under one lock; whoever waits is told by the caller once that lock is
//! free. An append that failed ends the epochs that have a part in it; its other records may still come to count.

use super::entry::Claim;
use crate::journal::ledger::{Key, Ledger};
use crate::journal::{AppendError, JournalError, Partition, Tenure};
use std::collections::{HashMap, VecDeque};
use std::time::Instant;
use tokio::sync::oneshot;

/// Who waits for an append.
pub(super) type AppendDone = oneshot::Sender<Result<(), AppendError>>;
/// Who waits for a take-over.
pub(super) type TakeOverDone = oneshot::Sender<Result<Vec<Tenure>, JournalError>>;

/// Something to tell somebody.
#[derive(Debug)]
pub(super) enum Outcome {
    /// To an owner, whose append was of this size.
    Append { done: AppendDone, result: Result<(), AppendError>, size: Size },
    /// To a new owner.
    TakeOver(TakeOverDone, Result<Vec<Tenure>, JournalError>),
}

/// What an append holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) bytes: usize,
    pub(super) records: usize,
}

/// An append that waits.
#[derive(Debug)]
struct Append {
    /// Partitions where it has records to be read.
    lanes: usize,
    /// Its partitions and their epochs.
    parts: Vec<Key>,
    size: Size,
    done: AppendDone,
}

/// A part of an append that waits in its partition.
#[derive(Debug)]
struct Waiting {
    epoch: u64,
    /// Number behind its last record.
    end: u64,
    append: u64,
}

/// A take-over that waits for its epochs.
#[derive(Debug)]
struct TakeOver {
    claim: Claim,
    wanted: Vec<Partition>,
    tenures: HashMap<Partition, Tenure>,
    /// When it began, or last came forward.
    since: Instant,
    done: TakeOverDone,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Flight {
    ledger: Ledger,
    lanes: Vec<VecDeque<Waiting>>,
    /// By their numbers.
    appends: HashMap<u64, Append>,
    next_append: u64,
    take_overs: Vec<TakeOver>,
}

impl Flight {
    pub(super) fn new(partitions: Partition) -> Self {
        Self {
            ledger: Ledger::unowned(partitions.into()),
            lanes: (0..partitions).map(|_| VecDeque::new()).collect(),
            appends: HashMap::new(),
            next_append: 0,
            take_overs: Vec::new(),
        }
    }

    /// Whether nobody waits for an append.
    pub(super) fn is_empty(&self) -> bool {
        self.appends.is_empty()
    }

    /// Takes an append to be produced, `false` if it was refused. Without records it waits for all that is under way.
    pub(super) fn admit(&mut self, keys: &[Key], size: Size, done: AppendDone, outcomes: &mut Vec<Outcome>) -> bool {
        if let Err(error) = self.ledger.admit(keys) {
            outcomes.push(Outcome::Append { done, result: Err(error), size });
            return false;
        }
        let (append, mut lanes) = (self.next_append, 0);
        self.next_append += 1;
        let mut parts: Vec<Key> = Vec::new();
        for key in keys {
            match self.lanes[usize::from(key.partition)].back_mut() {
                Some(last) if last.append == append => last.end = key.n + 1,
                _ => {
                    self.lanes[usize::from(key.partition)].push_back(Waiting {
                        epoch: key.epoch,
                        end: key.n + 1,
                        append,
                    });
                    parts.push(*key);
                    lanes += 1;
                }
            }
        }
        if keys.is_empty() {
            for lane in &mut self.lanes {
                if let Some(Waiting { epoch, end, .. }) = lane.back() {
                    lane.push_back(Waiting { epoch: *epoch, end: *end, append });
                    lanes += 1;
                }
            }
        }
        if lanes == 0 {
            outcomes.push(Outcome::Append { done, result: Ok(()), size });
        } else {
            self.appends.insert(append, Append { lanes, parts, size, done });
        }
        true
    }

    /// The records of a partition before `next_n` count.
    pub(super) fn counted(&mut self, partition: Partition, next_n: u64, outcomes: &mut Vec<Outcome>) {
        let lane = usize::from(partition);
        while let Some(front) = self.lanes[lane].front()
            && front.end <= next_n
        {
            let append = front.append;
            self.lanes[lane].pop_front();
            let Some(waiting) = self.appends.get_mut(&append) else { continue };
            waiting.lanes -= 1;
            if waiting.lanes == 0
                && let Some(Append { size, done, .. }) = self.appends.remove(&append)
            {
                outcomes.push(Outcome::Append { done, result: Ok(()), size });
            }
        }
    }

    /// An epoch began in a partition, behind the records before `next_n`. Whether the partition is still of interest here:
    /// it is whoever's claim this was, or somebody here is about to take it over.
    pub(super) fn began(
        &mut self,
        (partition, epoch, next_n): (Partition, u64, u64),
        claim: Claim,
        outcomes: &mut Vec<Outcome>,
    ) -> bool {
        self.drain(partition, None, outcomes);
        self.ledger.end(partition);
        let ours = |take_over: &TakeOver| take_over.claim == claim && take_over.wanted.contains(&partition);
        let Some(at) = self.take_overs.iter().position(ours) else {
            return self.take_overs.iter().any(|take_over| take_over.wanted.contains(&partition));
        };
        let tenure = self.ledger.start(partition, epoch, next_n);
        let TakeOver { tenures, wanted, .. } = &mut self.take_overs[at];
        tenures.insert(partition, tenure);
        if wanted.iter().all(|partition| tenures.contains_key(partition)) {
            let TakeOver { wanted, tenures, done, .. } = self.take_overs.swap_remove(at);
            let tenures = wanted.iter().filter_map(|partition| tenures.get(partition).copied()).collect();
            outcomes.push(Outcome::TakeOver(done, Ok(tenures)));
        }
        true
    }

    /// Ends the current epoch of a partition, if it is this one (`None`: whichever it is), because of an error.
    pub(super) fn fail(
        &mut self,
        partition: Partition,
        epoch: Option<u64>,
        error: &AppendError,
        outcomes: &mut Vec<Outcome>,
    ) {
        let current = self.ledger.epochs()[usize::from(partition)];
        if epoch.is_none_or(|epoch| epoch == current) {
            self.ledger.end(partition);
            self.drain(partition, Some(error), outcomes);
        }
    }

    /// Ends every epoch.
    pub(super) fn fail_all(&mut self, error: &AppendError, outcomes: &mut Vec<Outcome>) {
        // invariant: made from a Partition
        for partition in 0..self.lanes.len() as Partition {
            self.fail(partition, None, error, outcomes);
        }
    }

    /// Answers all that waits in a partition: with the error, or that its epoch has ended. Barriers have waited enough.
    fn drain(&mut self, partition: Partition, error: Option<&AppendError>, outcomes: &mut Vec<Outcome>) {
        for Waiting { epoch, append, .. } in std::mem::take(&mut self.lanes[usize::from(partition)]) {
            let Some(waiting) = self.appends.get_mut(&append) else { continue };
            let barrier = waiting.parts.is_empty();
            waiting.lanes -= 1;
            if barrier && waiting.lanes > 0 {
                continue;
            }
            if let Some(Append { parts, size, done, .. }) = self.appends.remove(&append) {
                self.ledger.fail(&parts);
                let fenced = || AppendError::Fenced { partition, epoch };
                let result = if barrier { Ok(()) } else { Err(error.cloned().unwrap_or_else(fenced)) };
                outcomes.push(Outcome::Append { done, result, size });
            }
        }
    }

    /// Begins to take partitions over; their epochs until now take nothing more. `false` if it was answered at once.
    pub(super) fn take_over(
        &mut self,
        wanted: Vec<Partition>,
        claim: Claim,
        since: Instant,
        done: TakeOverDone,
        outcomes: &mut Vec<Outcome>,
    ) -> bool {
        if let Err(error) = self.ledger.check_partitions(&wanted) {
            outcomes.push(Outcome::TakeOver(done, Err(error)));
            return false;
        }
        if wanted.is_empty() {
            outcomes.push(Outcome::TakeOver(done, Ok(Vec::new())));
            return false;
        }
        wanted.iter().for_each(|partition| self.ledger.end(*partition));
        self.take_overs.push(TakeOver { claim, wanted, tenures: HashMap::new(), since, done });
        true
    }

    /// Gives up the take-overs that have to do with a partition (`None`: all), and started before `before` if that is given.
    pub(super) fn give_up(
        &mut self,
        partition: Option<Partition>,
        before: Option<Instant>,
        error: &JournalError,
        outcomes: &mut Vec<Outcome>,
    ) {
        let concerned = |take_over: &mut TakeOver| {
            partition.is_none_or(|partition| take_over.wanted.contains(&partition))
                && before.is_none_or(|before| take_over.since < before)
        };
        for TakeOver { wanted, done, .. } in self.take_overs.extract_if(.., concerned) {
            wanted.iter().for_each(|partition| self.ledger.end(*partition));
            outcomes.push(Outcome::TakeOver(done, Err(error.clone())));
        }
    }

    /// Something of this partition was read, so that whoever waits for its epoch waits with reason.
    pub(super) fn came_forward(&mut self, partition: Partition, now: Instant) {
        let waiting = self.take_overs.iter_mut().filter(|take_over| take_over.wanted.contains(&partition));
        waiting.for_each(|take_over| take_over.since = now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::clock::instant;

    type Answer = oneshot::Receiver<Result<(), AppendError>>;

    /// A flight with two partitions, both owned: of epochs 0 and 10.
    fn owned() -> Flight {
        let mut flight = Flight::new(2);
        let (done, mut tenures) = oneshot::channel();
        let mut outcomes = Vec::new();
        assert!(flight.take_over(vec![1, 0], 7, instant(), done, &mut outcomes));
        assert!(flight.began((0, 0, 0), 7, &mut outcomes) && outcomes.is_empty());
        assert!(flight.began((1, 10, 5), 7, &mut outcomes));
        tell(outcomes);
        let tenures = tenures.try_recv().expect("answered").expect("taken over");
        let tenure = |partition, epoch, next_n| Tenure { partition, epoch, next_n };
        assert_eq!(tenures, [tenure(1, 10, 5), tenure(0, 0, 0)]);
        flight
    }

    fn tell(outcomes: Vec<Outcome>) {
        for outcome in outcomes {
            match outcome {
                Outcome::Append { done, result, .. } => drop(done.send(result)),
                Outcome::TakeOver(done, result) => drop(done.send(result)),
            }
        }
    }

    fn append(flight: &mut Flight, keys: &[(Partition, u64, u64)]) -> Answer {
        let (done, answer) = oneshot::channel();
        let keys: Vec<Key> = keys.iter().map(|&(partition, epoch, n)| Key { partition, epoch, n }).collect();
        let mut outcomes = Vec::new();
        flight.admit(&keys, Size::default(), done, &mut outcomes);
        tell(outcomes);
        answer
    }

    fn counted(flight: &mut Flight, partition: Partition, next_n: u64) {
        let mut outcomes = Vec::new();
        flight.counted(partition, next_n, &mut outcomes);
        tell(outcomes);
    }

    #[track_caller]
    fn waits(answer: &mut Answer) {
        assert!(answer.try_recv().is_err());
    }

    #[track_caller]
    fn is_durable(mut answer: Answer) {
        answer.try_recv().expect("answered").expect("durable");
    }

    #[track_caller]
    fn is_fenced(mut answer: Answer) {
        let refused = answer.try_recv().expect("answered");
        assert!(matches!(refused, Err(AppendError::Fenced { .. })), "{refused:?}");
    }

    #[test]
    fn an_append_waits_for_all_its_partitions_and_a_barrier_for_all_before_it() {
        let mut flight = owned();
        is_durable(append(&mut flight, &[]));
        let mut both = append(&mut flight, &[(0, 0, 0), (1, 10, 5), (0, 0, 1)]);
        let mut barrier = append(&mut flight, &[]);
        let mut behind = append(&mut flight, &[(1, 10, 6)]);
        counted(&mut flight, 0, 1);
        counted(&mut flight, 1, 6);
        waits(&mut both);
        waits(&mut barrier);
        counted(&mut flight, 0, 2);
        is_durable(both);
        is_durable(barrier);
        waits(&mut behind);
        counted(&mut flight, 1, 9);
        is_durable(behind);
        assert!(flight.is_empty());
    }

    #[test]
    fn a_newer_epoch_fences_what_waits_and_all_that_had_a_part_in_it() {
        let mut flight = owned();
        let both = append(&mut flight, &[(0, 0, 0), (1, 10, 5)]);
        let mut other = append(&mut flight, &[(1, 10, 6)]);
        let barrier = append(&mut flight, &[]);
        let mut outcomes = Vec::new();
        assert!(!flight.began((0, 20, 0), 99, &mut outcomes), "of no more interest here");
        tell(outcomes);
        is_fenced(both);
        is_fenced(append(&mut flight, &[(0, 0, 1)]));
        // Its record in the other partition is there all the same, and so are those behind it; more are not taken.
        waits(&mut other);
        is_fenced(append(&mut flight, &[(1, 10, 7)]));
        counted(&mut flight, 1, 7);
        is_durable(other);
        is_durable(barrier);
        assert!(flight.is_empty());
    }

    #[test]
    fn a_take_over_ends_the_epochs_before_it_and_one_that_is_given_up_starts_none() {
        let mut flight = owned();
        let mut waiting = append(&mut flight, &[(0, 0, 0)]);
        let (done, mut tenures) = oneshot::channel();
        let (mut outcomes, since) = (Vec::new(), instant());
        assert!(flight.take_over(vec![0, 1], 8, since, done, &mut outcomes));
        is_fenced(append(&mut flight, &[(0, 0, 1)]));
        waits(&mut waiting);
        counted(&mut flight, 0, 1);
        is_durable(waiting);
        assert!(flight.began((0, 30, 1), 99, &mut outcomes), "its own epoch is to come");
        assert!(flight.began((0, 31, 1), 8, &mut outcomes));
        let error = JournalError::Store("a test".into());
        flight.give_up(Some(1), Some(since), &error, &mut outcomes);
        flight.came_forward(1, instant());
        assert!(outcomes.is_empty(), "it began no earlier");
        flight.give_up(Some(1), None, &error, &mut outcomes);
        tell(outcomes);
        assert!(tenures.try_recv().expect("answered").is_err());
        is_fenced(append(&mut flight, &[(0, 31, 1)]));
    }

    #[test]
    fn an_error_ends_the_epoch_that_it_is_about() {
        let mut flight = owned();
        let mut waiting = append(&mut flight, &[(0, 0, 0)]);
        let (mut outcomes, error) = (Vec::new(), AppendError::Store("a test".into()));
        flight.fail(0, Some(5), &error, &mut outcomes);
        assert!(outcomes.is_empty());
        waits(&mut waiting);
        flight.fail(0, Some(0), &error, &mut outcomes);
        tell(outcomes);
        assert!(matches!(waiting.try_recv().expect("answered"), Err(AppendError::Store(_))));
        is_fenced(append(&mut flight, &[(0, 0, 1)]));
        is_durable(append(&mut flight, &[]));
    }
}
