//! How a shard comes to serve: profiles and journal, then the answers that were given meanwhile, again and again until it works.

use super::{Meanwhile, ShardActor};
use crate::actors::answered;
use crate::actors::recovery::{Recovered, recover};
use crate::journal::JournalError;
use crate::journal::spill::RecordId;
use crate::telemetry::events;
use actix::{ActorFutureExt, AsyncContext, Context, WrapFuture};
use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracing::{error, info};

/// Pause before a recovery that failed is tried again.
const RECOVERY_PAUSE: Duration = Duration::from_secs(1);

/// Longest that payments wait for the last answers to be journaled: half of the default deadline.
pub(super) const LONGEST_HOLD: Duration = Duration::from_millis(100);

/// Looks for answers that were given during the one before; then no more are given, or a slow journal would not let it serve.
const MOST_LOOKS: u32 = 4;

/// A recovery: what it found, and what stays in the spill for good.
trait Recovering: Future<Output = Result<(Recovered, BTreeSet<RecordId>), JournalError>> + 'static {}

impl<F: Future<Output = Result<(Recovered, BTreeSet<RecordId>), JournalError>> + 'static> Recovering for F {}

impl ShardActor {
    /// Loads profiles and replays the journal, again and again until it works.
    pub(super) fn recover(&mut self, ctx: &mut Context<Self>) {
        self.serving = None;
        self.looks = 0;
        self.settings.readiness.set_shard(self.settings.shard, false);
        let journal = Arc::clone(&self.settings.journal);
        let checkpoints = self.settings.checkpoints.clone();
        let (partitions, retention) = (self.settings.partitions.clone(), self.settings.retention);
        let started = self.settings.clock.instant();
        let (lists, spill, metrics) =
            (Arc::clone(&self.settings.lists), self.settings.spill.clone(), self.settings.metrics.clone());
        let work = async move {
            let mut recovered = recover(&partitions, &*journal, checkpoints.as_deref(), &retention).await?;
            let kept = match &spill {
                Some(spill) => answered::journal_left(&mut recovered, spill, &*journal, &retention, &metrics).await?,
                None => BTreeSet::new(),
            };
            recovered.list(&lists, &partitions).await;
            Ok::<_, JournalError>((recovered, kept))
        };
        self.await_recovery(work, started, ctx);
    }

    fn await_recovery(&mut self, work: impl Recovering, started: Instant, ctx: &mut Context<Self>) {
        let work = work.into_actor(self).map(move |recovered, shard, ctx| match recovered {
            Ok((recovered, kept)) if shard.has_answered_since(&kept) => {
                shard.journal_more(recovered, started, ctx);
            }
            Ok((recovered, _)) => {
                let seconds = shard.settings.clock.since(started).as_secs_f64();
                info!(
                    shard = shard.settings.shard,
                    users = recovered.users.len(),
                    replayed = recovered.replayed,
                    seconds,
                    "recovered"
                );
                events::ShardRecovered { seconds, replayed: recovered.replayed }.emit(&shard.settings.metrics);
                shard.serve(recovered, ctx);
            }
            Err(error) => {
                error!(shard = shard.settings.shard, %error, "cannot recover; trying again");
                shard.settings.readiness.set_journal(Some(error.to_string().into()));
                shard.let_go();
                ctx.run_later(RECOVERY_PAUSE, Self::recover);
            }
        });
        ctx.spawn(work);
    }

    /// Whether payments were answered that no recovery has looked at. What it looked at and could not journal stays.
    fn has_answered_since(&self, kept: &BTreeSet<RecordId>) -> bool {
        let Some(spill) = &self.settings.spill else { return false };
        spill.ids(&self.settings.partitions).iter().any(|id| !kept.contains(id))
    }

    /// Journals what was answered meanwhile. Payments wait for as long, so that this comes to an end, but not for longer than
    /// they can.
    fn journal_more(&mut self, mut recovered: Recovered, started: Instant, ctx: &mut Context<Self>) {
        let Some(spill) = self.settings.spill.clone() else { return };
        self.looks += 1;
        let look = self.looks;
        self.let_go();
        if look > MOST_LOOKS {
            self.meanwhile = Meanwhile::Refuse;
        } else {
            self.meanwhile = Meanwhile::Hold(Vec::new());
            ctx.run_later(LONGEST_HOLD, move |shard, _| {
                if shard.looks == look {
                    shard.let_go();
                }
            });
        }
        let (journal, retention) = (Arc::clone(&self.settings.journal), self.settings.retention);
        let (lists, metrics) = (Arc::clone(&self.settings.lists), self.settings.metrics.clone());
        let work = async move {
            let kept = answered::journal_left(&mut recovered, &spill, &*journal, &retention, &metrics).await?;
            recovered.list_more(&lists);
            Ok::<_, JournalError>((recovered, kept))
        };
        self.await_recovery(work, started, ctx);
    }
}
