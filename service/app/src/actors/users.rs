//! The users of one shard: the hot ones are actors, all others dormant bytes.
//!
//! A user who is not heard of for a while, or whose place another needs, passivates: the profile goes back to bytes and the
//! actor ends. Nothing is asked for that and nothing waits: shard and actors run on one thread, the shard counts what it
//! sent to an actor, the actor what it has finished, and a user passivates in one step while the two are even. A message
//! comes before that step, and the user is busy; or after it, and wakes the user with the profile as it was left. So
//! none is lost, and none overtakes another.
//!
//! Who goes is found as a clock finds pages: the hand goes round, and who was used again since it last came stays once
//! more. This room starts, finds and ends actors; it never looks into an event.

#![expect(clippy::mutable_key_type, reason = "a user's hash is that of the id, which never changes")]

use super::context::ShardContext;
use super::dormant::Dormant;
use super::memory::Memory;
use super::messages::{ProfileView, Refusal};
use super::recovery::damaged;
use super::user::{UserActor, view};
use super::work::Work;
use crate::journal::Partition;
use crate::journal::checkpoint::Checkpoints;
use crate::journal::profile::{self, ProfileError};
use crate::telemetry::events;
use actix::dev::SendError;
use actix::{Actor, Addr};
use std::borrow::Borrow;
use std::collections::{HashSet, VecDeque};
use std::hash::{Hash, Hasher};
use std::rc::Rc;
use std::sync::Arc;
use tracing::error;
use verdict_core::profile::Profile;

/// Messages that a user's mailbox takes: more than any number of permits.
const USER_MAILBOX: usize = 1 << 20;

/// Steps of the hand when somebody needs a place, before it takes any place that it can.
const STEPS_FOR_A_PLACE: usize = 16;

/// Steps of the hand in one turn of the shard: some 200 us if all of them passivate.
pub(super) const STEPS_PER_TURN: usize = 64;

/// Rounds of the hand in the time after which a user is idle: nobody stays longer than five fourths of it.
const ROUNDS: usize = 4;

/// How many users are actors, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HotBounds {
    /// Most actors of this shard, busy ones apart: those have work in flight, which permits bound.
    pub users: usize,
    /// Ticks after which a user who was not heard of is idle; a tick is a second.
    pub idle_ticks: u32,
}

/// See the module.
pub(super) struct Users {
    /// By id: a set, because the id is in the value.
    entries: HashSet<User>,
    /// Every hot user; the hand is at the front.
    ring: VecDeque<Rc<Memory>>,
    bounds: HotBounds,
    /// Ticks since the start.
    now: u32,
    context: Rc<ShardContext>,
    checkpoints: Option<Arc<dyn Checkpoints>>,
}

/// A user in memory: 16 bytes, so that a table of them stays small.
enum User {
    Dormant(Dormant),
    Hot(Box<Hot>),
}

const _: () = assert!(size_of::<User>() == 16);

struct Hot {
    memory: Rc<Memory>,
    address: Rc<Addr<UserActor>>,
}

impl Users {
    /// The users that were recovered.
    pub(super) fn new(
        recovered: HashSet<Dormant>,
        bounds: HotBounds,
        context: Rc<ShardContext>,
        checkpoints: Option<Arc<dyn Checkpoints>>,
    ) -> Self {
        events::UsersMoved { hot: 0, dormant: count(recovered.len()) }.emit(&context.metrics);
        let entries = recovered.into_iter().map(User::Dormant).collect();
        Self { entries, ring: VecDeque::new(), bounds, now: 0, context, checkpoints }
    }

    /// Gives a user something to do, waking or making the user first if need be. Refuses it when the profile cannot be
    /// read.
    pub(super) fn send(&mut self, partition: Partition, work: Work) {
        let woken = match self.entries.get(work.user_id().as_bytes()) {
            Some(User::Hot(hot)) => {
                hot.memory.use_again();
                return hot.send(work, self.now, &self.context);
            }
            Some(User::Dormant(dormant)) => Some(dormant.wake()),
            None => None,
        };
        let was_dormant = woken.is_some();
        let profile = match woken.unwrap_or_else(|| Ok(Profile::default())) {
            Ok(profile) => profile,
            // The bytes stay as they are, and so does the rest of the shard.
            Err(error) => {
                let refusal = self.unreadable(work.user_id(), &error);
                return match work.into_dead_letter(partition, &refusal) {
                    // A topic's event must leave a record, or its source stands still (I6).
                    Ok(letter) => self.context.commit_in_turn(letter),
                    Err(work) => work.refuse(refusal),
                };
            }
        };
        let hot = self.start(work.user_id().into(), partition, profile);
        // Busy from now on, so that the hand does not take the place that is being made.
        hot.send(work, self.now, &self.context);
        self.ring.push_back(Rc::clone(&hot.memory));
        self.entries.replace(User::Hot(Box::new(hot)));
        let metrics = &self.context.metrics;
        events::UsersMoved { hot: 1, dormant: -i64::from(was_dormant) }.emit(metrics);
        if was_dormant {
            events::UserWoken.emit(metrics);
        }
        self.make_room();
    }

    fn start(&self, user_id: Rc<str>, partition: Partition, profile: Profile) -> Hot {
        let memory = Rc::new(Memory::new(user_id, profile));
        let actor = UserActor::new(Rc::clone(&memory), partition, Rc::clone(&self.context));
        let address = Rc::new(UserActor::create(|ctx| {
            // Before the first message: permits bound what is in flight, so the mailbox never has to refuse.
            ctx.set_mailbox_capacity(USER_MAILBOX);
            actor
        }));
        memory.belongs_to(&address);
        Hot { memory, address }
    }

    /// Takes the hand on until no more users are hot than may be.
    fn make_room(&mut self) {
        for step in 0..2 * STEPS_FOR_A_PLACE {
            if self.ring.len() <= self.bounds.users {
                return;
            }
            let any = step >= STEPS_FOR_A_PLACE;
            self.step(|memory| !memory.was_used_again() || any);
        }
    }

    /// Time moves on by one; gives the steps of the hand that are due, which [`Users::sweep`] takes.
    pub(super) fn tick(&mut self) -> usize {
        self.now = self.now.wrapping_add(1);
        let due = (ROUNDS * self.ring.len()).div_ceil(self.bounds.idle_ticks.max(1) as usize);
        due.min(self.ring.len()).max(self.ring.len().saturating_sub(self.bounds.users))
    }

    /// Takes the hand on by some steps: idle users passivate, and others while too many are hot.
    pub(super) fn sweep(&mut self, steps: usize) {
        let (now, bounds) = (self.now, self.bounds);
        for _ in 0..steps {
            let too_many = self.ring.len() > bounds.users;
            self.step(|memory| too_many || now.wrapping_sub(memory.last_used()) >= bounds.idle_ticks);
        }
    }

    /// Takes the hand on by one: who is not busy passivates if `goes` says so.
    fn step(&mut self, goes: impl FnOnce(&Memory) -> bool) {
        let Some(memory) = self.ring.pop_front() else { return };
        if memory.is_busy() || !goes(&memory) {
            return self.ring.push_back(memory);
        }
        let profile = memory.take_profile();
        // The entry holds the actor's only address: the actor ends, and its memory is free again at the next turn.
        if is_seen(&profile) {
            self.entries.replace(User::Dormant(Dormant::of(memory.user_id(), &profile)));
        } else {
            self.entries.remove(memory.user_id().as_bytes());
        }
        events::UsersMoved { hot: -1, dormant: i64::from(is_seen(&profile)) }.emit(&self.context.metrics);
        events::UserPassivated.emit(&self.context.metrics);
    }

    /// What is known of a user, `None` for one never seen; wakes nobody.
    pub(super) fn view(&self, user_id: &str) -> Result<Option<ProfileView>, Refusal> {
        let shown = |profile: &Profile| view(user_id, profile, &self.context, self.context.clock.now());
        let seen = |profile: &Profile| is_seen(profile).then(|| shown(profile));
        match self.entries.get(user_id.as_bytes()) {
            None => Ok(None),
            Some(User::Hot(hot)) => Ok(seen(&hot.memory.profile())),
            Some(User::Dormant(dormant)) => match dormant.wake() {
                Ok(profile) => Ok(seen(&profile)),
                Err(error) => Err(self.unreadable(user_id, &error)),
            },
        }
    }

    /// A user's profile as it is stored, and the number after the last record that it reflects.
    pub(super) fn stored(&self, user_id: &str) -> Option<(u64, Vec<u8>)> {
        match self.entries.get(user_id.as_bytes())? {
            User::Hot(hot) => {
                let profile = hot.memory.profile();
                Some((profile.next_n(), profile::encode(&profile)))
            }
            // Bytes without a number were refused when they were loaded.
            User::Dormant(dormant) => Some((dormant.next_n().ok()?, dormant.profile().to_vec())),
        }
    }

    fn unreadable(&self, user_id: &str, error: &ProfileError) -> Refusal {
        let error = damaged(self.checkpoints.as_deref(), user_id, error);
        error!(%error, "a user's events are refused");
        Refusal::ProfileUnreadable(error.to_string().into())
    }

    fn moved_out(&self) -> events::UsersMoved {
        let (all, hot) = (count(self.entries.len()), count(self.ring.len()));
        events::UsersMoved { hot: -hot, dormant: hot - all }
    }
}

impl Drop for Users {
    fn drop(&mut self) {
        self.moved_out().emit(&self.context.metrics);
    }
}

/// Users fit into memory, and so does their number into 63 bits.
fn count(users: usize) -> i64 {
    users as i64
}

/// Whether a record is about this user. One who was only refused is unknown, and is not kept.
fn is_seen(profile: &Profile) -> bool {
    profile.next_n() > 0
}

impl Hot {
    fn send(&self, work: Work, now: u32, context: &ShardContext) {
        self.memory.sent(now);
        match self.address.try_send(work) {
            Ok(()) => {}
            Err(SendError::Full(work)) => {
                self.memory.finished();
                work.refuse(Refusal::Overloaded { limit: USER_MAILBOX });
            }
            // Only a panic ends an actor whose address is held.
            Err(SendError::Closed(work)) => {
                context.lose(self.memory.user_id());
                work.refuse(Refusal::Recovering);
            }
        }
    }
}

impl User {
    fn id(&self) -> &[u8] {
        match self {
            Self::Dormant(dormant) => dormant.id(),
            Self::Hot(hot) => hot.memory.user_id().as_bytes(),
        }
    }
}

impl Borrow<[u8]> for User {
    fn borrow(&self) -> &[u8] {
        self.id()
    }
}

impl Hash for User {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id().hash(state);
    }
}

impl PartialEq for User {
    fn eq(&self, other: &Self) -> bool {
        self.id() == other.id()
    }
}

impl Eq for User {}
