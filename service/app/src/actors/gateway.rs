//! The way in: routes an event to the shard of its user, with a permit, and waits for the answer.
//!
//! A permit is taken before anything is sent and given back with the answer, so that what is in flight is bounded (I7).
//! Requests are refused when there is none; topics and files wait.

use super::claim::Claim;
use super::context::{Judge, Ticket};
use super::messages::{Accepted, Answer, ListChanged, ListPage, ListQuery, ProfileView, Refusal, Settled, Submission};
use super::partition::{partition_of, partition_of_entry};
use super::permits::Permits;
use super::replica::ListReplica;
use super::requests::{Adopt, Checkpoint, Refuse, Relist, Stop, Submit, TellWhenServing, View};
use super::shard::ShardActor;
use super::work::Work;
use crate::journal::Partition;
use actix::Addr;
use futures_util::FutureExt;
use futures_util::future::{Either, join_all, ready};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use verdict_core::event::{Label, Login, Transaction};
use verdict_core::lists::{ListChange, ListEntry, ListKey};
use verdict_core::time::Timestamp;

/// Cheap to clone; every ingress holds one.
#[derive(Clone)]
pub struct Gateway {
    shards: Arc<[Addr<ShardActor>]>,
    partitions: Partition,
    permits: Permits,
    lists: Arc<ListReplica>,
    stopping: Arc<AtomicBool>,
}

/// The answer to what was sent.
pub type Reply<T> = oneshot::Receiver<Result<T, Refusal>>;

impl Gateway {
    /// A gateway to shards that own partition p at index p mod their number, and that have the same permits.
    #[must_use]
    pub fn new(
        shards: Vec<Addr<ShardActor>>,
        partitions: Partition,
        permits: Permits,
        lists: Arc<ListReplica>,
    ) -> Self {
        Self { shards: shards.into(), partitions, permits, lists, stopping: Arc::default() }
    }

    /// Has a transaction decided; what is returned waits until the decision is durable.
    ///
    /// # Errors
    /// [`Refusal`] says what to tell the caller.
    pub fn decide(&self, sent: Submission<Transaction>) -> impl Future<Output = Result<Answer, Refusal>> + use<> {
        self.ask(sent, Work::Transaction).map(|settled| match settled? {
            Settled::Answer(answer) => Ok(answer),
            Settled::SeenBefore => Err(Refusal::OriginalUnavailable),
        })
    }

    /// Has a login remembered; what is returned waits until it is durable.
    ///
    /// # Errors
    /// [`Refusal`] says what to tell the caller.
    pub fn login(&self, sent: Submission<Login>) -> impl Future<Output = Result<Accepted, Refusal>> + use<> {
        self.ask(sent, Work::Login)
    }

    /// Has a label remembered; what is returned waits until it is durable.
    ///
    /// # Errors
    /// [`Refusal`] says what to tell the caller.
    pub fn label(&self, sent: Submission<Label>) -> impl Future<Output = Result<Accepted, Refusal>> + use<> {
        self.ask(sent, Work::Label)
    }

    /// What is known of a user, `None` for one never seen.
    ///
    /// # Errors
    /// [`Refusal`] says what to tell the caller.
    pub async fn profile(&self, user_id: &str) -> Result<Option<ProfileView>, Refusal> {
        let permit = self.permit()?;
        let (reply, answer) = oneshot::channel();
        let shard = self.shard(partition_of(user_id, self.partitions));
        if shard.try_send(View { user_id: user_id.into(), reply, permit }).is_err() {
            return Err(Refusal::Stopping);
        }
        answer.await.unwrap_or(Err(Refusal::Stopping))
    }

    /// Has an entry put on a list or taken off; what is returned waits until that is durable.
    ///
    /// # Errors
    /// [`Refusal`] says what to tell the caller.
    pub fn change_list(
        &self,
        sent: Submission<ListChange>,
    ) -> impl Future<Output = Result<ListChanged, Refusal>> + use<> {
        let asked = self.open(sent).map(|(change, ticket, answer)| {
            let partition = partition_of_entry(&change.key, self.partitions);
            // A shard that is gone drops the ticket, and the receiver says so.
            let _ = self.shard(partition).try_send(Relist { partition, change: *change, ticket });
            answer
        });
        async { asked?.await }
    }

    /// The entry of a list that binds at `now`.
    ///
    /// # Errors
    /// While not all entries are known.
    pub fn list_entry(&self, key: &ListKey, now: Timestamp) -> Result<Option<ListEntry>, Refusal> {
        if !self.lists.is_complete() {
            return Err(Refusal::Recovering);
        }
        Ok(self.lists.get(key).filter(|entry| entry.binds(now)))
    }

    /// A page of the entries of a list that bind at `now`.
    ///
    /// # Errors
    /// While not all entries are known.
    pub fn list_page(&self, query: &ListQuery, now: Timestamp) -> Result<ListPage, Refusal> {
        if !self.lists.is_complete() {
            return Err(Refusal::Recovering);
        }
        Ok(self.lists.page(query, now))
    }

    /// Waits until every shard has recovered; sources that do not retry start then.
    ///
    /// # Errors
    /// When the service stops first.
    pub async fn serving(&self) -> Result<(), Refusal> {
        for shard in self.shards.iter() {
            let (told, serving) = oneshot::channel();
            shard.send(TellWhenServing(told)).await.map_err(|_| Refusal::Stopping)?;
            serving.await.map_err(|_| Refusal::Stopping)?;
        }
        Ok(())
    }

    /// A permit for an event of a topic or a file, which waits for its turn.
    ///
    /// # Errors
    /// When the service stops.
    pub async fn turn(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        self.permits.wait().await.map_err(|_| Refusal::Stopping)
    }

    /// Sends a transaction; its place among the user's events is taken when this returns.
    pub fn send_transaction(&self, sent: Submission<Transaction>, permit: OwnedSemaphorePermit) -> Reply<Settled> {
        self.send(sent, permit, Work::Transaction)
    }

    /// Sends a login; its place among the user's events is taken when this returns.
    pub fn send_login(&self, sent: Submission<Login>, permit: OwnedSemaphorePermit) -> Reply<Accepted> {
        self.send(sent, permit, Work::Login)
    }

    /// Sends a label; its place among the user's events is taken when this returns.
    pub fn send_label(&self, sent: Submission<Label>, permit: OwnedSemaphorePermit) -> Reply<Accepted> {
        self.send(sent, permit, Work::Label)
    }

    /// Number of journal partitions.
    #[must_use]
    pub const fn partitions(&self) -> Partition {
        self.partitions
    }

    /// Sends what is no event to where it leaves a dead letter; `sent.original` holds its bytes.
    pub fn send_dead_letter(
        &self,
        sent: Submission<()>,
        reason: &'static str,
        detail: &str,
        permit: OwnedSemaphorePermit,
    ) -> Reply<Accepted> {
        // Without a user, any partition will do, as long as the same bytes always go to the same one.
        let partition = match &sent.original {
            Some(bytes) => (crc32fast::hash(bytes) % u32::from(self.partitions)) as Partition,
            None => 0,
        };
        let (_, ticket, answer) = split(sent, permit, None);
        // A shard that is gone drops the ticket, and the receiver says so.
        let _ = self.shard(partition).try_send(Refuse { partition, reason, detail: detail.into(), ticket });
        answer
    }

    /// Puts another generation in force, one judge a shard, and waits until every shard has it.
    pub async fn adopt(&self, judges: Vec<Judge>) {
        let adopting = self.shards.iter().zip(judges).map(|(shard, judge)| shard.send(Adopt(judge)));
        // A shard that is gone decides nothing any more.
        drop(join_all(adopting).await);
    }

    /// Saves every changed profile; `false` when a shard could not.
    pub async fn checkpoint(&self) -> bool {
        let mut all_saved = true;
        for shard in self.shards.iter() {
            let (done, saved) = oneshot::channel();
            all_saved &= shard.try_send(Checkpoint { done: Some(done) }).is_ok() && saved.await.unwrap_or(false);
        }
        all_saved
    }

    /// Takes nothing more, and waits until nothing is in flight.
    pub async fn drain(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.permits.drain().await;
    }

    /// Ends the shards.
    pub async fn end(&self) {
        for shard in self.shards.iter() {
            // One that is gone already has nothing to stop.
            let _ = shard.send(Stop).await;
        }
    }

    /// Takes nothing more, waits for what is in flight, saves every profile and ends the shards.
    pub async fn stop(&self) {
        self.drain().await;
        self.checkpoint().await;
        self.end().await;
    }

    /// Events between receipt and answer.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.permits.in_flight()
    }

    fn permit(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        use tokio::sync::TryAcquireError;
        if self.stopping.load(Ordering::Relaxed) {
            return Err(Refusal::Stopping);
        }
        self.permits.take().map_err(|error| match error {
            TryAcquireError::NoPermits => Refusal::Overloaded { limit: self.permits.limit() },
            TryAcquireError::Closed => Refusal::Stopping,
        })
    }

    pub(super) fn shard(&self, partition: Partition) -> &Addr<ShardActor> {
        &self.shards[usize::from(partition) % self.shards.len()]
    }

    /// Sends an event; what is returned waits for its answer, no longer than its deadline.
    fn ask<E, T, W: FnOnce(Box<E>, Ticket<T>) -> Work>(
        &self,
        sent: Submission<E>,
        work: W,
    ) -> impl Future<Output = Result<T, Refusal>> + use<E, T, W> {
        // Not an async block, which would hold twice what it awaits: a request's future is moved, and has to be allocated.
        match self.open(sent) {
            Ok((event, ticket, answer)) => {
                self.submit(work(event, ticket));
                Either::Left(answer)
            }
            Err(refusal) => Either::Right(ready(Err(refusal))),
        }
    }

    /// What a caller asks, with a permit, and the answer, which is waited for no longer than its deadline.
    #[expect(clippy::type_complexity, reason = "what `split` gives, but for the answer")]
    fn open<E, T>(
        &self,
        sent: Submission<E>,
    ) -> Result<(Box<E>, Ticket<T>, impl Future<Output = Result<T, Refusal>> + use<E, T>), Refusal> {
        let permit = self.permit()?;
        let timed = sent.deadline.map(|deadline| (deadline, Claim::default()));
        let claim = timed.as_ref().map(|(_, claim)| claim.clone());
        let (event, ticket, answer) = split(sent, permit, claim);
        Ok((event, ticket, in_time(timed, answer)))
    }

    fn send<E, T>(
        &self,
        sent: Submission<E>,
        permit: OwnedSemaphorePermit,
        work: impl FnOnce(Box<E>, Ticket<T>) -> Work,
    ) -> Reply<T> {
        let (event, ticket, answer) = split(sent, permit, None);
        self.submit(work(event, ticket));
        answer
    }

    fn submit(&self, work: Work) {
        let partition = partition_of(work.user_id(), self.partitions);
        // A shard that is gone drops the ticket, and the receiver says so.
        let _ = self.shard(partition).try_send(Submit { partition, work, turn: None });
    }
}

pub(super) fn split<E, T>(
    sent: Submission<E>,
    permit: OwnedSemaphorePermit,
    claim: Option<Claim>,
) -> (Box<E>, Ticket<T>, Reply<T>) {
    let (reply, answer) = oneshot::channel();
    let Submission { event, source, received_at, started, deadline, undurable, original } = sent;
    (event, Ticket { source, received_at, started, deadline, undurable, original, reply, permit, claim }, answer)
}

/// Waits for the answer until the deadline. What was begun by then is in the journal all the same, and a retry gets it;
/// what was not is given up, and never will be.
async fn in_time<T>(
    timed: Option<(Instant, Claim)>,
    answer: impl Future<Output = Result<Result<T, Refusal>, oneshot::error::RecvError>>,
) -> Result<T, Refusal> {
    let answered = match timed {
        None => answer.await,
        Some((deadline, claim)) => match tokio::time::timeout_at(deadline.into(), answer).await {
            Ok(answered) => answered,
            Err(_) if claim.give_up() => return Err(Refusal::DeadlineExceeded),
            Err(_) if claim.is_decided_before() => return Err(Refusal::OriginalUnavailable),
            Err(_) => return Err(Refusal::JournalLate),
        },
    };
    // A ticket that was dropped went down with the state of an epoch that ended.
    answered.unwrap_or(Err(Refusal::Recovering))
}
