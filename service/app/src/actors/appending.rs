//! One append on its way: who waits for it is told when it is durable. A decision whose time runs out before goes to the
//! spill, and is answered from there (PROTOCOL, "Answers that are not durable").
//!
//! An answer from the spill gives its permit back: what is answered and not durable is bounded by the spill alone. Where that
//! refuses, the permit stays until the append is through, as without a spill.

use super::completion::Completion;
use super::context::{Account, ShardContext, Ticket, Wake};
use super::messages::{Answer, Refusal, Settled};
use super::outbox::When;
use crate::journal::record::{Body, Record};
use crate::journal::spill::{Kept, NotKept, RecordId, Spill};
use crate::journal::{AppendError, Partition};
use crate::telemetry::{Metrics, events};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use std::future::Future;
use std::mem;
use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use verdict_core::event::Source;

/// The part of a decision's time that is left to the spill, and to a thread that is late: 50 ms of the default deadline, in which
/// a disk writes and syncs many times.
const SPILL_SHARE: u32 = 4;

/// Most that is left to it.
const SPILL_TIME: Duration = Duration::from_millis(250);

/// Decisions that are due within this time go to the spill together.
const TOGETHER: Duration = Duration::from_millis(2);

/// How often the thread looks at its sockets before what callers wait for is appended. Each look is up to 61 tasks away, and at
/// once where there is nothing to do; a request is five or six.
const LOOKS: usize = 3;

/// Hands what waits to the journal at its time.
pub(super) fn append_at(context: Rc<ShardContext>, when: When) {
    match when {
        // Not by a message: it would come behind those who are about to put in as much again.
        When::Now => append(&context),
        When::Soon => context.wake(Wake::AppendSoon),
        When::Idle => {
            let emptied = context.outbox.borrow().emptied();
            actix::spawn(async move {
                for _ in 0..LOOKS {
                    tokio::task::yield_now().await;
                }
                if context.outbox.borrow().emptied() == emptied {
                    context.wake(Wake::Append);
                }
            });
        }
    }
}

/// Hands what waits to the journal, and sees to everybody who waits for it.
pub(super) fn append(context: &Rc<ShardContext>) {
    let (records, completions) = context.outbox.borrow_mut().take();
    if completions.is_empty() {
        return;
    }
    let (written, started) = (records.len() as u64, context.clock.instant());
    let ends = ends(&records);
    let appended = context.journal.append(records);
    let oldest = context.under_way.borrow().front().copied();
    context.under_way.borrow_mut().push_back(started);
    let (context, (before, told)) = (Rc::clone(context), context.line_up());
    actix::spawn(async move {
        let appended = outcome(appended, before);
        let mut waiting = Waiting { context: &context, completions, due: Vec::new(), put: Vec::new() };
        let appended = match &context.spill {
            None => appended.await,
            Some(spill) => waiting.spill_what_is_late(spill, oldest, appended).await,
        };
        context.under_way.borrow_mut().pop_front();
        // Nobody may come after it.
        let _ = told.send(appended.is_ok());
        let Waiting { completions, put, .. } = waiting;
        let (metrics, now) = (&context.metrics, context.clock.instant());
        match appended {
            Ok(()) => {
                let seconds = now.saturating_duration_since(started).as_secs_f64();
                events::JournalCommitted { records: written, seconds }.emit(metrics);
                ends.iter().for_each(|(partition, next_n)| context.became_durable(*partition, *next_n));
                if let Some(spill) = context.spill.as_ref().filter(|_| !put.is_empty()) {
                    spill.remove(put);
                }
                completions.into_iter().for_each(|completion| completion.complete(Ok(()), metrics, now));
            }
            Err(error) => {
                events::JournalFailed.emit(metrics);
                let refusal = Refusal::JournalUnavailable(error.to_string().into());
                context.fail(completions, &refusal);
                if !context.is_closed() {
                    context.close(&refusal);
                    context.wake(Wake::Recover);
                }
            }
        }
    });
}

/// For every partition the number behind the last of these records.
fn ends(records: &[Record]) -> Vec<(Partition, u64)> {
    let mut ends: Vec<(Partition, u64)> = Vec::new();
    for record in records {
        match ends.iter_mut().find(|(partition, _)| *partition == record.partition) {
            Some((_, end)) => *end = record.n + 1,
            None => ends.push((record.partition, record.n + 1)),
        }
    }
    ends
}

/// What becomes of an append. One without records names no epoch: it may succeed right after one of its epoch failed, before
/// that is known here. What is durable then is not what its completions wait for (I2).
async fn outcome(
    appended: impl Future<Output = Result<(), AppendError>>,
    before: Option<oneshot::Receiver<bool>>,
) -> Result<(), AppendError> {
    let appended = appended.await;
    if let Some(before) = before
        && !matches!(before.await, Ok(true))
    {
        return appended.and(Err(AppendError::Store("an append before it failed".into())));
    }
    appended
}

/// Those who wait for an append.
struct Waiting<'a> {
    context: &'a Rc<ShardContext>,
    completions: Vec<Completion>,
    /// When which of them goes to the spill, the first at the end.
    due: Vec<(Instant, usize)>,
    /// What was put there.
    put: Vec<RecordId>,
}

impl Waiting<'_> {
    /// Waits for the append, and has those answered from the spill whose time runs out before. `oldest` is when the first
    /// append began that is before it and not through.
    async fn spill_what_is_late(
        &mut self,
        spill: &Spill,
        oldest: Option<Instant>,
        appended: impl Future<Output = Result<(), AppendError>>,
    ) -> Result<(), AppendError> {
        let due = |(at, completion): (usize, &Completion)| Some((due(completion, oldest)?, at));
        self.due = self.completions.iter().enumerate().filter_map(due).collect();
        self.due.sort_unstable_by(|a, b| b.cmp(a));
        let mut appended = pin!(appended);
        let mut keeping = FuturesUnordered::new();
        loop {
            let next = self.due.last().map(|(due, _)| *due);
            let late = async {
                match next {
                    Some(next) => tokio::time::sleep_until(next.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                // What is known of the append comes first: nothing is put for an epoch that has ended.
                result = &mut appended => return result,
                Some((at, kept)) = keeping.next() => self.answer(at, kept),
                () = late => keeping.extend(self.put_what_is_due(next, spill)),
            }
        }
    }

    /// Puts those into the spill that are due with the first of them.
    fn put_what_is_due(
        &mut self,
        first: Option<Instant>,
        spill: &Spill,
    ) -> Vec<impl Future<Output = (usize, Result<(), NotKept>)> + use<>> {
        let mut keeping = Vec::new();
        while let Some((_, at)) = self.due.pop_if(|(due, _)| first.is_none_or(|first| *due <= first + TOGETHER)) {
            match self.put(at, spill) {
                Some(Ok(kept)) => keeping.push(async move {
                    (at, kept.await.unwrap_or_else(|_| Err(NotKept::Failed("the spill is closed".into()))))
                }),
                Some(Err(refused)) => self.refuse(at, &refused),
                None => {}
            }
        }
        keeping
    }

    /// Puts a decision into the spill; `None` if there is no need, or no use.
    fn put(&mut self, at: usize, spill: &Spill) -> Option<Result<Kept, NotKept>> {
        // What is left in the spill is journaled by a recovery, which has looked for the last time.
        if self.context.is_superseded() {
            return None;
        }
        let Some(Completion::Decided(ticket, answer, Some(id))) = self.completions.get(at) else { return None };
        let id = *id;
        // The first answer to a duplicate may have become durable in an append of its own.
        if self.context.on_its_way(id.partition, id.n) != Some(id) {
            let durable = mem::replace(&mut self.completions[at], Completion::Nobody);
            durable.complete(Ok(()), &self.context.metrics, self.context.clock.instant());
            return None;
        }
        let kept = spill.put(&record_of(ticket, answer, id));
        if kept.is_ok() {
            self.put.push(id);
        }
        Some(kept)
    }

    /// Answers a decision that is in the spill, or is not after all.
    fn answer(&mut self, at: usize, kept: Result<(), NotKept>) {
        if let Err(refused) = kept {
            return self.refuse(at, &refused);
        }
        let Some(completion) = self.completions.get_mut(at) else { return };
        let Completion::Decided(_, Answer { decided, duplicate, .. }, _) = completion else { return };
        // A first decision is counted when it is durable.
        let left = if *duplicate { Completion::Nobody } else { Completion::AnsweredBefore(decided.clone()) };
        if let Completion::Decided(ticket, answer, _) = mem::replace(completion, left) {
            tell_undurable(&self.context.metrics, ticket, answer);
        }
    }

    /// Tells a caller that there is no answer; the permit stays with what is on its way.
    fn refuse(&mut self, at: usize, why: &NotKept) {
        if let Some(Completion::Decided(ticket, ..)) = self.completions.get_mut(at) {
            let refusal = keep_refusal(&self.context.metrics, why);
            // One who no longer waits is no error.
            let _ = mem::replace(&mut ticket.reply, oneshot::channel().0).send(Err(refusal));
        }
    }
}

/// When a decision goes to the spill: `None` for one that must be durable, has no end, or is durable. What has been in front of
/// it for as long as it may wait itself is not expected to be through by then: while the brokers take nothing, only the first
/// decisions wait, and all others are answered at once.
fn due(completion: &Completion, oldest: Option<Instant>) -> Option<Instant> {
    let Completion::Decided(ticket, _, Some(_)) = completion else { return None };
    let Ticket { deadline, started, undurable: true, .. } = ticket else { return None };
    let allowed = (*deadline)?.saturating_duration_since(*started);
    let waits = allowed.saturating_sub((allowed / SPILL_SHARE).min(SPILL_TIME));
    Some(oldest.map_or(*started, |oldest| oldest.min(*started)) + waits)
}

impl ShardContext {
    /// What identifies record `n` of a partition, if it was numbered here and is not known to be durable.
    pub(super) fn on_its_way(&self, partition: Partition, n: u64) -> Option<RecordId> {
        let ledger = self.ledger.borrow();
        let Account { tenure, durable_n, .. } = ledger.get(usize::from(partition))?.as_ref()?;
        (n >= *durable_n).then_some(RecordId { partition, epoch: tenure.epoch, n })
    }

    /// Records of a partition before `next_n` are durable.
    fn became_durable(&self, partition: Partition, next_n: u64) {
        if let Some(Some(account)) = self.ledger.borrow_mut().get_mut(usize::from(partition)) {
            account.durable_n = account.durable_n.max(next_n);
        }
    }

    /// Tells those whose records did not become durable under this epoch. A decision that was made for somebody who takes such
    /// an answer is given from the spill: the recovery that follows journals it, if its record did not land after all.
    pub(super) fn fail(&self, completions: impl IntoIterator<Item = Completion>, refusal: &Refusal) {
        let now = self.clock.instant();
        for completion in completions {
            if let Some(left) = self.rescue(completion) {
                left.complete(Err(refusal.clone()), &self.metrics, now);
            }
        }
    }

    /// Has the spill answer, if it may; gives back whoever is to be told otherwise.
    fn rescue(&self, completion: Completion) -> Option<Completion> {
        let spill = match &self.spill {
            Some(spill) if !self.is_superseded() => spill,
            _ => return Some(completion),
        };
        let (ticket, answer, id) = match completion {
            Completion::Decided(ticket, answer, Some(id)) if ticket.undurable && ticket.deadline.is_some() => {
                (ticket, answer, id)
            }
            other => return Some(other),
        };
        match spill.put(&record_of(&ticket, &answer, id)) {
            Ok(kept) => answer_undurable(self.metrics.clone(), ticket, answer, kept),
            Err(why) => ticket.answer(Err(keep_refusal(&self.metrics, &why))),
        }
        None
    }
}

/// The record of a decision that is on its way, as the spill keeps it.
fn record_of(ticket: &Ticket<Settled>, answer: &Answer, id: RecordId) -> Record {
    let RecordId { partition, epoch, n } = id;
    let received_at = if answer.duplicate { answer.decided.evaluated_at } else { ticket.received_at };
    Record { partition, epoch, n, source: Source::Http, received_at, body: Body::Decision(answer.decided.clone()) }
}

/// What a caller hears whose answer the spill does not take.
pub(super) fn keep_refusal(metrics: &Metrics, why: &NotKept) -> Refusal {
    events::SpillRefused.emit(metrics);
    match why {
        NotKept::Full { .. } => Refusal::SpillFull,
        NotKept::Failed(_) => Refusal::SpillFailed,
    }
}

/// Answers a decision once the spill has it.
pub(super) fn answer_undurable(metrics: Metrics, ticket: Ticket<Settled>, answer: Answer, kept: Kept) {
    actix::spawn(async move {
        match kept.await.unwrap_or_else(|_| Err(NotKept::Failed("the spill is closed".into()))) {
            Ok(()) => tell_undurable(&metrics, ticket, answer),
            Err(why) => ticket.answer(Err(keep_refusal(&metrics, &why))),
        }
    });
}

/// Answers a decision that is in the spill.
pub(super) fn tell_undurable(metrics: &Metrics, ticket: Ticket<Settled>, answer: Answer) {
    if answer.duplicate {
        events::DuplicateSeen.emit(metrics);
    }
    events::AnswerSpilled.emit(metrics);
    ticket.answer(Ok(Settled::Answer(Answer { durable: false, ..answer })));
}
