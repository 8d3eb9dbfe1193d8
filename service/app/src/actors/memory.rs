//! What a user's actor and its shard share: the profile, and whether the actor is busy.

use super::user::UserActor;
use actix::Addr;
use std::cell::{Cell, OnceCell, Ref, RefCell};
use std::rc::{Rc, Weak};
use verdict_core::profile::Profile;

/// What an actor leaves behind when it ends. The actor alone changes the profile (I1); its shard reads it, and takes it
/// when the actor has finished all that it was sent.
pub struct Memory {
    pub(super) user_id: Rc<str>,
    pub(super) profile: RefCell<Profile>,
    /// Events sent and not finished.
    unfinished: Cell<u32>,
    /// Tick of the last event.
    last_used: Cell<u32>,
    /// Whether there was another event since this was last asked.
    used_again: Cell<bool>,
    /// The last checkpoint that this was marked for; 0 for none.
    pub(super) marked_for: Cell<u64>,
    /// The actor's own; another that it makes of itself takes two allocations.
    address: OnceCell<Weak<Addr<UserActor>>>,
}

impl Memory {
    pub(super) fn new(user_id: Rc<str>, profile: Profile) -> Self {
        let (unfinished, last_used, used_again) = (Cell::new(0), Cell::new(0), Cell::new(false));
        let (marked_for, address) = (Cell::new(0), OnceCell::new());
        Self { user_id, profile: RefCell::new(profile), unfinished, last_used, used_again, marked_for, address }
    }

    /// The actor's address, which ends the actor when its last holder drops it.
    pub(super) fn belongs_to(&self, address: &Rc<Addr<UserActor>>) {
        // It is set once, by whoever starts the actor.
        let _ = self.address.set(Rc::downgrade(address));
    }

    /// The actor's address; `None` once nobody holds it.
    pub(super) fn address(&self) -> Option<Rc<Addr<UserActor>>> {
        self.address.get()?.upgrade()
    }

    pub(super) fn user_id(&self) -> &Rc<str> {
        &self.user_id
    }

    /// The profile; not to be kept while anything else runs.
    pub(super) fn profile(&self) -> Ref<'_, Profile> {
        self.profile.borrow()
    }

    /// The profile of an actor that is not busy, and will be sent nothing more.
    pub(super) fn take_profile(&self) -> Profile {
        self.profile.take()
    }

    /// An event is on its way.
    pub(super) fn sent(&self, now: u32) {
        self.last_used.set(now);
        self.unfinished.set(self.unfinished.get() + 1);
    }

    /// An event was answered, or its record is on its way to the journal.
    pub(super) fn finished(&self) {
        self.unfinished.set(self.unfinished.get() - 1);
    }

    /// Whether there are events that the actor has not finished.
    pub(super) fn is_busy(&self) -> bool {
        self.unfinished.get() > 0
    }

    pub(super) fn last_used(&self) -> u32 {
        self.last_used.get()
    }

    /// Another event came; the first says only that the user is there.
    pub(super) fn use_again(&self) {
        self.used_again.set(true);
    }

    /// Whether there was another event since this was last asked.
    pub(super) fn was_used_again(&self) -> bool {
        self.used_again.take()
    }
}
