//! Answers for a shard that does not serve: lists and the declared policy decide, without the user's profile (DESIGN 10). What
//! is answered so is in the spill first, and the recovery under way journals it before the shard serves.
//!
//! Nothing is known of what the journal holds meanwhile. A payment that was decided before may get another answer here, which
//! then leaves a record of its own beside the first; one that is still in the spill gets the answer that is there.

use super::appending::{answer_undurable, keep_refusal};
use super::context::{InForce, Ticket};
use super::messages::{Answer, Refusal, Settled};
use super::replica::ListReader;
use super::shard::ShardSettings;
use super::work::Work;
use crate::journal::Partition;
use crate::journal::record::Decided;
use crate::journal::spill::{Kept, NotKept, Spill};
use crate::telemetry::Metrics;
use crate::telemetry::clock::Clock;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use verdict_core::event::{Source, Transaction};

/// See the module.
pub(super) struct Fallback {
    spill: Arc<Spill>,
    lists: ListReader,
    judge: InForce,
    clock: Clock,
    metrics: Metrics,
}

impl Fallback {
    /// `None` where no answer is given that is not durable.
    pub(super) fn new(settings: &ShardSettings, judge: InForce) -> Option<Self> {
        let spill = settings.spill.clone()?;
        let (clock, metrics) = (settings.clock.clone(), settings.metrics.clone());
        Some(Self { spill, lists: settings.lists.reader(), judge, clock, metrics })
    }

    /// Whether it answers this: a payment of somebody who takes such an answer, once all lists were known.
    pub(super) fn answers(&self, work: &Work) -> bool {
        let Work::Transaction(_, ticket) = work else { return false };
        let wanted = ticket.undurable && ticket.deadline.is_some() && matches!(ticket.source, Source::Http);
        wanted && self.lists.replica().is_complete()
    }

    /// Whether it would still be in time for this after such a wait.
    pub(super) fn can_wait(&self, work: &Work, wait: Duration) -> bool {
        let Work::Transaction(_, Ticket { deadline: Some(deadline), .. }) = work else { return false };
        self.answers(work) && deadline.saturating_duration_since(self.clock.instant()) >= wait + wait / 2
    }

    /// Answers, or refuses what it does not answer.
    pub(super) fn answer(&self, partition: Partition, work: Work) {
        if !self.answers(&work) {
            return work.refuse(Refusal::Recovering);
        }
        let Work::Transaction(transaction, ticket) = work else { return };
        let Some(ticket) = ticket.begin(&self.clock) else { return };
        match self.decide(partition, *transaction, &ticket) {
            Ok((answer, kept)) => answer_undurable(self.metrics.clone(), ticket, answer, kept),
            Err(refusal) => ticket.answer(Err(refusal)),
        }
    }

    fn decide(
        &self,
        partition: Partition,
        mut transaction: Transaction,
        ticket: &Ticket<Settled>,
    ) -> Result<(Answer, Kept), Refusal> {
        if let Some((decided, kept)) = self.spill.known(&transaction.user_id, &transaction.transaction_id) {
            let same = decided.transaction.content_hash() == transaction.content_hash();
            let answer = Answer { decided, durable: false, duplicate: true };
            return if same { Ok((answer, kept)) } else { Err(Refusal::IdReused) };
        }
        let judge = Rc::clone(&self.judge.borrow());
        transaction.base = judge.rules.rates().to_base(transaction.amount).map_err(Refusal::Unpriced)?;
        let (received_at, mut list_hits) = (ticket.received_at, Vec::new());
        self.lists.hit_user(&transaction.user_id, received_at, &mut list_hits);
        self.lists.hit(&transaction, received_at, &mut list_hits);
        let (features, decision) = judge.rules.fall_back(&transaction, list_hits);
        let decided = Arc::new(Decided {
            transaction,
            features,
            decision,
            generation: Arc::clone(&judge.generation),
            evaluated_at: self.clock.evaluated_at(received_at),
            latency_us: u32::try_from(self.clock.since(ticket.started).as_micros()).unwrap_or(u32::MAX),
            as_answered: true,
        });
        let kept = self.spill.put_unnumbered(partition, received_at, &decided);
        let refused = |why: NotKept| keep_refusal(&self.metrics, &why);
        Ok((Answer { decided, durable: false, duplicate: false }, kept.map_err(refused)?))
    }
}
