//! The first answer to a transaction that comes again: from memory if it was decided lately, else read back from the
//! journal. Refuses to give anybody the answer to another transaction, whatever a profile says.

use super::appending::tell_undurable;
use super::claim::Claim;
use super::completion::{Completion, answered_again};
use super::context::{ShardContext, Ticket};
use super::messages::{Answer, Refusal, Settled};
use crate::journal::Partition;
use crate::journal::record::{Body, Decided, Record};
use std::rc::Rc;
use std::sync::Arc;
use verdict_core::event::Transaction;

/// Decisions read back from the journal at once, a shard: so that retries never crowd out decisions there.
pub const READS_AT_ONCE: usize = 8;

/// Retries that wait for a read, a shard; so that their permits never crowd out decisions, more are refused.
pub const READS_WAITING: usize = 256;

impl ShardContext {
    /// Answers a transaction that was decided in record `n`, once that is durable: from memory if it is recent, else from
    /// the journal.
    pub fn answer_again(
        self: &Rc<Self>,
        partition: Partition,
        n: u64,
        transaction: &Transaction,
        ticket: Ticket<Settled>,
    ) {
        let on_its_way = self.spill.as_ref().and_then(|spill| Some((spill, self.on_its_way(partition, n)?)));
        let spilled = on_its_way.as_ref().and_then(|(spill, id)| spill.get(id));
        let known = spilled.as_ref().or(self.recent.borrow().get(partition, n)).cloned();
        match known.map(|decided| first_answer(decided, partition, n, transaction)) {
            Some(Err(refusal)) => ticket.answer(Err(refusal)),
            // Behind the one that is in the spill, no more may wait than permits allow for.
            Some(Ok(answer)) if spilled.is_some() && ticket.undurable => tell_undurable(&self.metrics, ticket, answer),
            Some(Ok(answer)) => {
                let id = on_its_way.map(|(_, id)| id);
                let completion = Completion::Decided(ticket, Answer { durable: false, ..answer }, id);
                if self.spill.is_some() && id.is_none() && !self.is_closed() {
                    // Nothing that is on its way to the brokers holds up what is durable already.
                    completion.complete(Ok(()), &self.metrics, self.clock.instant());
                } else {
                    self.after_commits(completion);
                }
            }
            None => self.read_back(partition, n, transaction.clone(), ticket),
        }
    }

    /// Answers a duplicate from the journal, in its turn.
    fn read_back(self: &Rc<Self>, partition: Partition, n: u64, transaction: Transaction, ticket: Ticket<Settled>) {
        if self.reads.get() >= READS_AT_ONCE + READS_WAITING {
            return ticket.answer(Err(Refusal::OriginalUnavailable));
        }
        self.reads.set(self.reads.get() + 1);
        ticket.claim.iter().for_each(Claim::was_decided_before);
        let context = Rc::clone(self);
        actix::spawn(async move {
            // Nobody closes it.
            let turn = context.reading.acquire().await;
            let late = ticket.deadline.is_some_and(|deadline| context.clock.instant() >= deadline);
            let read = if late { Ok(None) } else { context.journal.read(partition, n).await };
            drop(turn);
            context.reads.set(context.reads.get() - 1);
            let answer = match read {
                Ok(Some(Record { body: Body::Decision(decided), .. })) => {
                    first_answer(decided, partition, n, &transaction).map(Settled::Answer)
                }
                Ok(Some(_)) => Err(not_of_this_history(partition, n, &transaction)),
                // Too late, or not durable yet and of a topic, whose decisions are not kept.
                Ok(None) => Err(Refusal::OriginalUnavailable),
                Err(error) => {
                    tracing::error!(%error, partition, n, "cannot read a decision back");
                    Err(Refusal::OriginalUnavailable)
                }
            };
            if answer.is_ok() {
                answered_again(&ticket, &context.metrics, context.clock.instant());
            }
            ticket.answer(answer);
        });
    }
}

/// The answer to a duplicate, from a durable record: never another customer's, whatever the profile says.
fn first_answer(
    decided: Arc<Decided>,
    partition: Partition,
    n: u64,
    transaction: &Transaction,
) -> Result<Answer, Refusal> {
    let Transaction { user_id, transaction_id, .. } = &decided.transaction;
    if (user_id, transaction_id) == (&transaction.user_id, &transaction.transaction_id) {
        Ok(Answer { decided, durable: true, duplicate: true })
    } else {
        Err(not_of_this_history(partition, n, transaction))
    }
}

/// A profile and a journal that contradict one another: a recovery refuses all such pairs that it can tell.
fn not_of_this_history(partition: Partition, n: u64, transaction: &Transaction) -> Refusal {
    let what = format!(
        "it says that transaction {:?} was decided in record {n} of partition {partition}, found another event there; \
         profiles.db is not of this journal: stop the service and move it away, profiles are made again from the journal",
        transaction.transaction_id
    );
    tracing::error!(user_id = &*transaction.user_id, error = what, "a duplicate has no first answer");
    Refusal::ProfileUnreadable(what.into())
}
