//! The journal over a simulated disk: the contract of the port, with faults.

use super::{Disk, Faults, pause};
use crate::journal::ledger::{Key, Ledger};
use crate::journal::record::Record;
use crate::journal::{AppendError, Cursor, Journal, JournalError, Partition, Tenure, Wanted};
use crate::telemetry::clock::virtual_now;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, StreamExt};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{oneshot, watch};

/// See the module. One that was opened is gone with its process; the disk stays.
#[derive(Clone)]
pub(crate) struct SimJournal(Arc<Inner>);

struct Inner {
    disk: Disk,
    memory: Mutex<Memory>,
    durable: watch::Sender<Vec<u64>>,
}

/// What a crash takes.
struct Memory {
    ledger: Ledger,
    queue: VecDeque<Command>,
    writer_runs: bool,
    /// Whether a write failed since the file's end was last read.
    uncertain: bool,
    /// Appends that had waited when a write last failed. Whoever waits for one of them hears of the failure after it.
    echoes: usize,
}

enum Command {
    Append(Append),
    TakeOver(Vec<Partition>, oneshot::Sender<Result<Vec<Tenure>, JournalError>>),
}

struct Append {
    records: Vec<Record>,
    done: oneshot::Sender<Result<(), AppendError>>,
}

/// What the writer does next.
enum Turn {
    Write(Vec<Append>),
    TakeOver(Vec<Partition>, oneshot::Sender<Result<Vec<Tenure>, JournalError>>),
}

fn disk_failed() -> AppendError {
    AppendError::Store("the simulated disk failed".into())
}

fn unreadable() -> JournalError {
    JournalError::Store("the simulated disk cannot be read".into())
}

impl SimJournal {
    /// What a process finds on the disk when it starts.
    pub(crate) fn open(disk: Disk) -> Self {
        let (ends, epochs) = {
            let state = disk.state();
            (state.ends.clone(), state.epochs.clone())
        };
        let memory = Memory {
            ledger: Ledger::new(ends.clone(), epochs),
            queue: VecDeque::new(),
            writer_runs: false,
            uncertain: false,
            echoes: 0,
        };
        Self(Arc::new(Inner { disk, memory: Mutex::new(memory), durable: watch::Sender::new(ends) }))
    }
}

impl Inner {
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a command and sees to it that somebody works on it; on a quiet disk that is the caller, here and now.
    fn submit(self: &Arc<Self>, command: Command) {
        if self.disk.state().off {
            return;
        }
        let mut memory = self.memory();
        memory.queue.push_back(command);
        let waiting = memory.queue.iter().map(|command| match command {
            Command::Append(append) => append.records.len(),
            Command::TakeOver(..) => 0,
        });
        let (waiting, runs) = (waiting.sum::<usize>(), memory.writer_runs);
        let quiet = {
            let mut state = self.disk.state();
            state.most_waiting = state.most_waiting.max(waiting + state.writing.len());
            state.faults.is_quiet()
        };
        memory.writer_runs = true;
        drop(memory);
        if runs {
            return;
        }
        let writer = Arc::clone(self).work();
        if quiet {
            // Nothing to wait for: it is done when polled once.
            assert!(writer.now_or_never().is_some(), "a quiet disk keeps nobody waiting");
        } else {
            tokio::task::spawn_local(writer);
        }
    }

    async fn work(self: Arc<Self>) {
        while let Some(turn) = self.next_turn() {
            match turn {
                Turn::Write(batch) => self.write(batch).await,
                Turn::TakeOver(partitions, reply) => {
                    let tenures = self.take_over(&partitions).await;
                    // A shard that is gone does not want to know.
                    let _ = reply.send(tenures);
                }
            }
        }
    }

    /// The next batch, or a take-over when all before it is written; without either the writer ends.
    fn next_turn(&self) -> Option<Turn> {
        let mut memory = self.memory();
        let most = self.disk.state().dice.count(1, 12);
        let mut batch = Vec::new();
        while batch.len() < most as usize {
            match memory.queue.pop_front() {
                Some(Command::Append(append)) => match self.admit(&mut memory, &append.records) {
                    Ok(()) => batch.push(append),
                    Err(error) => {
                        memory.echoes = memory.echoes.saturating_sub(1);
                        let _ = append.done.send(Err(error));
                    }
                },
                Some(Command::TakeOver(partitions, reply)) if batch.is_empty() => {
                    return Some(Turn::TakeOver(partitions, reply));
                }
                Some(take_over) => {
                    memory.queue.push_front(take_over);
                    break;
                }
                None => break,
            }
        }
        memory.writer_runs = !batch.is_empty();
        memory.writer_runs.then_some(Turn::Write(batch))
    }

    fn admit(&self, memory: &mut Memory, records: &[Record]) -> Result<(), AppendError> {
        let keys: Vec<Key> = records.iter().map(Key::from).collect();
        memory.ledger.check_epochs(&keys)?;
        if keys.is_empty() {
            return Ok(());
        }
        if let Err(error) = self.settle(memory) {
            memory.ledger.fail(&keys);
            return Err(AppendError::Store(error.to_string().into()));
        }
        let admitted = memory.ledger.admit(&keys);
        if let Err(error @ AppendError::Gap { .. }) = &admitted {
            // An owner numbers what it appends without a gap, or knows that its epoch has ended.
            self.disk.state().breaches.push(format!("an append of a current epoch leaves a gap: {error}"));
        }
        admitted
    }

    /// After a failure, learns from the disk what landed.
    fn settle(&self, memory: &mut Memory) -> Result<(), JournalError> {
        if memory.uncertain {
            let mut state = self.disk.state();
            if state.fails(|faults| faults.recovery_fails) {
                return Err(unreadable());
            }
            memory.ledger.correct(&state.ends);
            memory.uncertain = false;
            let ends = state.ends.clone();
            drop(state);
            self.durable.send_replace(ends);
        }
        Ok(())
    }

    async fn write(&self, batch: Vec<Append>) {
        let (records, waiters): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|append| (append.records, append.done)).unzip();
        let records: Vec<Record> = records.into_iter().flatten().collect();
        let answered = waiters.len();
        let answer = |outcome: &Result<(), AppendError>| {
            for waiter in waiters {
                // Whoever dropped the future does not want to know.
                let _ = waiter.send(outcome.clone());
            }
        };
        if records.is_empty() {
            return answer(&Ok(()));
        }
        let delay = {
            let mut state = self.disk.state();
            state.writing = records;
            state.delay()
        };
        pause(delay).await;
        let (keys, failed, late) = {
            let mut state = self.disk.state();
            let records = std::mem::take(&mut state.writing);
            let keys: Vec<Key> = records.iter().map(Key::from).collect();
            let failed = state.fails(|faults| faults.append_fails);
            let Faults { lands_anyway, late_words, .. } = state.faults;
            if !failed || state.dice.chance(lands_anyway) {
                state.land(records);
            }
            let late = if !failed && state.dice.chance(late_words) { state.delay() } else { Duration::ZERO };
            (keys, failed, late)
        };
        if !failed {
            let ends = self.disk.state().ends.clone();
            self.durable.send_replace(ends);
            pause(late).await;
            self.echo(answered);
            return answer(&Ok(()));
        }
        let mut memory = self.memory();
        memory.uncertain = true;
        memory.ledger.fail(&keys);
        answer(&Err(disk_failed()));
        let behind = memory
            .queue
            .iter()
            .filter(|command| matches!(command, Command::Append(append) if !append.records.is_empty()));
        memory.echoes = behind.count();
        // What was queued behind it: barriers, and appends of the epochs that ended with it.
        for command in std::mem::take(&mut memory.queue) {
            match command {
                Command::Append(append) if append.records.is_empty() => _ = append.done.send(Err(disk_failed())),
                other => memory.queue.push_back(other),
            }
        }
    }

    /// Takes an answer to so many appends for a word of the failure that they had waited behind.
    fn echo(&self, answered: usize) {
        let mut memory = self.memory();
        if memory.echoes > 0 {
            memory.echoes = memory.echoes.saturating_sub(answered);
            self.disk.state().last_failure = Some(virtual_now());
        }
    }

    async fn take_over(&self, partitions: &[Partition]) -> Result<Vec<Tenure>, JournalError> {
        let delay = self.disk.state().delay();
        pause(delay).await;
        let mut memory = self.memory();
        self.settle(&mut memory)?;
        let epochs = memory.ledger.next_epochs(partitions)?;
        let mut state = self.disk.state();
        let failed = state.fails(|faults| faults.recovery_fails);
        if !failed || state.dice.chance(0.5) {
            for (partition, epoch) in &epochs {
                state.epochs[usize::from(*partition)] = *epoch;
            }
        }
        if failed { Err(unreadable()) } else { Ok(memory.ledger.take_over(&epochs)) }
    }
}

impl Journal for SimJournal {
    fn partitions(&self) -> Partition {
        // invariant: made from a Partition
        self.0.durable.borrow().len() as Partition
    }

    fn take_over(&self, partitions: Vec<Partition>) -> BoxFuture<'_, Result<Vec<Tenure>, JournalError>> {
        let (reply, answer) = oneshot::channel();
        self.0.submit(Command::TakeOver(partitions, reply));
        answer.map(|answer| answer.unwrap_or_else(|_| Err(unreadable()))).boxed()
    }

    fn append(&self, records: Vec<Record>) -> BoxFuture<'static, Result<(), AppendError>> {
        let (done, outcome) = oneshot::channel();
        self.0.submit(Command::Append(Append { records, done }));
        outcome.map(|outcome| outcome.unwrap_or(Err(AppendError::Closed))).boxed()
    }

    /// Gives every record, as it may, whatever is wanted; but none that landed while nobody knows.
    fn replay(&self, from: Cursor, _: Wanted) -> BoxStream<'_, Result<Record, JournalError>> {
        let mut state = self.0.disk.state();
        let durable = self.0.durable.borrow().clone();
        let wanted = |record: &&Record| {
            let (partition, is_known) = (record.partition, record.n < durable[usize::from(record.partition)]);
            is_known && from.iter().any(|&(of, n)| of == partition && record.n >= n)
        };
        let records: Vec<Record> = state.log.iter().filter(wanted).cloned().collect();
        let mut stream: Vec<Result<Record, JournalError>> = records.into_iter().map(Ok).collect();
        if state.fails(|faults| faults.recovery_fails) {
            let read = state.dice.below(stream.len() as u32 + 1);
            stream.truncate(read as usize);
            stream.push(Err(unreadable()));
        }
        let delay = state.delay();
        stream::once(async move {
            pause(delay).await;
            stream::iter(stream)
        })
        .flatten()
        .boxed()
    }

    fn read(&self, partition: Partition, n: u64) -> BoxFuture<'_, Result<Option<Record>, JournalError>> {
        let mut state = self.0.disk.state();
        let (delay, fails) = (state.delay(), state.fails(|faults| faults.read_fails));
        let found = state.log.iter().find(|record| record.partition == partition && record.n == n).cloned();
        drop(state);
        let disk = self.0.disk.clone();
        async move {
            pause(delay).await;
            if fails {
                disk.state().last_failed_read = Some(virtual_now());
                return Err(unreadable());
            }
            Ok(found)
        }
        .boxed()
    }

    fn durable(&self) -> watch::Receiver<Vec<u64>> {
        self.0.durable.subscribe()
    }
}
