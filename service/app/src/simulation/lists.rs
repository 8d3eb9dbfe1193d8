//! The lists as whoever asks for changes knows them: every entry that the journal leaves, and what each may have been
//! while changes were under way.
//!
//! A change shows from the moment it was sent at the earliest, and to everybody who comes after its answer. One that was
//! never answered may have shown for a while all the same. Shares no code with the replica or with profiles.

use super::clients::Clients;
use super::events::Event;
use super::register::{Between, Moment, Register};
use super::sent::Outcome;
use crate::actors::messages::ListChanged;
use crate::journal::record::{Body, Decided, Record};
use std::collections::BTreeMap;
use verdict_core::lists::{List, ListAction, ListChange, ListEntry, ListHit, ListKey, ListKind, ListSource};
use verdict_core::time::Timestamp;

/// See the module.
pub(super) struct Lists {
    /// What the durable records leave, expired entries included.
    entries: BTreeMap<ListKey, ListEntry>,
    registers: BTreeMap<ListKey, Register<Option<ListEntry>>>,
    max_asked: usize,
    /// Entries that end by then may be gone, also after the wall clock was set back.
    swept: Timestamp,
}

/// Requests for one change since the journal was read last.
#[derive(Default)]
struct Askers {
    /// Answered as done.
    done: Vec<usize>,
    /// Answered as done or there already, which HTTP does not tell apart.
    there: Vec<usize>,
    /// Never answered, or with a failure: it may have left a record.
    lost: Vec<usize>,
    records: usize,
}

impl Askers {
    fn all(&self) -> impl Iterator<Item = usize> {
        self.done.iter().chain(&self.there).chain(&self.lost).copied()
    }

    /// When the record after so many others was made.
    fn between(&self, records: usize, clients: &Clients, now: Moment) -> Between {
        let over = |id: usize| clients.sent[id].to.unwrap_or(now);
        match (self.done.get(records), self.there.len() + self.lost.len()) {
            (Some(id), 0) => (clients.sent[*id].from, over(*id)),
            (None, 1) if self.done.is_empty() => {
                let id = self.all().next().unwrap_or_default();
                (clients.sent[id].from, over(id))
            }
            _ => (self.all().map(|id| clients.sent[id].from).min().unwrap_or(now), now),
        }
    }
}

impl Lists {
    pub(super) fn new(max_asked: usize) -> Self {
        let (entries, registers) = (BTreeMap::new(), BTreeMap::new());
        Self { entries, registers, max_asked, swept: Timestamp::from_millis(i64::MIN) }
    }

    /// Entries that end by then are removed.
    pub(super) fn sweep(&mut self, now: Timestamp) {
        self.swept = self.swept.max(now);
    }

    /// The entries that are surely kept: what may have been swept is left out of every comparison.
    pub(super) fn kept(&self) -> BTreeMap<&ListKey, &ListEntry> {
        self.entries.iter().filter(|(_, entry)| !self.is_swept(entry)).collect()
    }

    pub(super) fn is_swept(&self, entry: &ListEntry) -> bool {
        entry.expires_at.is_some_and(|end| end <= self.swept)
    }

    /// I6: learns the new records, each of which somebody asked for since request `first`, and holds every answer since
    /// then against what was there. Nothing is in flight.
    pub(super) fn learn(&mut self, news: &[Record], first: usize, clients: &mut Clients) -> Result<(), String> {
        let now = clients.tick();
        let mut askers = askers(first, clients);
        for record in news {
            let placed = |what: String| format!("record {}/{}: {what}", record.partition, record.n);
            match &record.body {
                Body::List(change) => {
                    let of_change = askers.iter_mut().find(|(asked, _)| asked == change).map(|(_, askers)| askers);
                    let of_change = of_change.ok_or_else(|| placed(format!("I6: nobody asked for {change:?}")))?;
                    self.change(record, change, of_change, clients, now).map_err(placed)?;
                }
                Body::Decision(decided) => self.enter(decided, first, clients, now),
                Body::Login(_)
                | Body::Label(_)
                | Body::Answered(_)
                | Body::Duplicate { .. }
                | Body::DeadLetter { .. }
                | Body::Skipped { .. } => {}
            }
        }
        for (change, askers) in &askers {
            let known = askers.done.len() + askers.there.len() + askers.lost.len();
            if askers.records < askers.done.len() || askers.records > known {
                return Err(format!(
                    "I2: {} changes {change:?} are done and {known} may be, {} have records",
                    askers.done.len(),
                    askers.records
                ));
            }
            if askers.records < known {
                for id in &askers.lost {
                    let between = (clients.sent[*id].from, now);
                    self.register(&change.key).lose(change.entry(), between);
                }
            }
        }
        (first..clients.sent.len()).try_for_each(|id| self.check_answer(id, clients))?;
        std::mem::take(&mut clients.peeks).iter().try_for_each(|peek| {
            let holds =
                self.possible(&peek.key, peek.between).any(|state| self.shows(state, peek.found.as_ref(), peek.now));
            if holds { Ok(()) } else { Err(format!("the lists showed {peek:?}")) }
        })
    }

    /// A change that somebody asked for: it changes something, and its callers were told what.
    fn change(
        &mut self,
        record: &Record,
        change: &ListChange,
        askers: &mut Askers,
        clients: &Clients,
        now: Moment,
    ) -> Result<(), String> {
        let before = self.entries.get(&change.key);
        let unsure = before.is_some_and(|entry| self.is_swept(entry));
        let before = before.filter(|entry| binds(entry, record.received_at));
        let expected = match (&change.action, before) {
            (ListAction::Delete, None) => return Err(format!("I6: nothing to delete: {change:?}")),
            (ListAction::Delete, Some(_)) => ListChanged::Deleted,
            (ListAction::Put { .. }, Some(before)) if change.entry().as_ref() == Some(before) && !unsure => {
                return Err(format!("I6: it was there: {change:?}"));
            }
            (ListAction::Put { .. }, Some(_)) => ListChanged::Replaced,
            (ListAction::Put { .. }, None) => ListChanged::Created,
        };
        let told =
            |id: &usize| matches!(&clients.sent[*id].outcome, Some(Outcome::Listed(told)) if told.contains(&expected));
        if askers.lost.is_empty() && askers.there.is_empty() && !unsure && !askers.done.iter().any(told) {
            return Err(format!("{change:?} is {expected:?}, and nobody was told so"));
        }
        let between = askers.between(askers.records, clients, now);
        askers.records += 1;
        self.set(&change.key, change.entry(), between);
        Ok(())
    }

    /// A decision makes an entry, unless one that binds as long is there.
    fn enter(&mut self, decided: &Decided, first: usize, clients: &Clients, now: Moment) {
        let Some(entry) = &decided.decision.block_entry else { return };
        let key = ListKey { list: entry.list, kind: ListKind::User, value: decided.transaction.user_id.clone() };
        let end = |entry: &ListEntry| entry.expires_at.map_or(i64::MAX, Timestamp::as_millis);
        if self.entries.get(&key).is_some_and(|old| end(old) >= end(entry)) {
            return;
        }
        let between = clients.made_between(&decided.transaction, first, now).unwrap_or((0, now));
        self.set(&key, Some(entry.clone()), between);
    }

    fn set(&mut self, key: &ListKey, entry: Option<ListEntry>, between: Between) {
        self.register(key).write(entry.clone(), between);
        match entry {
            Some(entry) => self.entries.insert(key.clone(), entry),
            None => self.entries.remove(key),
        };
    }

    fn register(&mut self, key: &ListKey) -> &mut Register<Option<ListEntry>> {
        self.registers.entry(key.clone()).or_insert_with(|| Register::new(None))
    }

    fn possible(&self, key: &ListKey, between: Between) -> impl Iterator<Item = Option<&ListEntry>> {
        let register = self.registers.get(key);
        let states = register.into_iter().flat_map(move |register| register.possible(between)).map(Option::as_ref);
        states.chain(register.is_none().then_some(None))
    }

    /// Whether a look at an entry in this state finds that one.
    fn shows(&self, state: Option<&ListEntry>, found: Option<&ListEntry>, now: Timestamp) -> bool {
        match (state.filter(|entry| binds(entry, now)), found) {
            (None, None) => true,
            (Some(entry), None) => self.is_swept(entry),
            (state, found) => state == found,
        }
    }

    /// Every answer that says what was there.
    fn check_answer(&self, id: usize, clients: &Clients) -> Result<(), String> {
        let sent = &clients.sent[id];
        let (Event::List(change), Some(to)) = (&clients.pool.events[sent.event], sent.to) else { return Ok(()) };
        let between = (sent.from, to);
        let late = sent.wall.max(sent.answered_at.unwrap_or(sent.wall));
        let absent = |state: Option<&ListEntry>| state.is_none_or(|entry| !binds(entry, late) || self.is_swept(entry));
        let holds = match &sent.outcome {
            Some(Outcome::Listed([ListChanged::Unchanged])) => {
                self.possible(&change.key, between).any(|state| state == change.entry().as_ref())
            }
            Some(Outcome::Refused(code, _)) if code == "ENTRY_NOT_FOUND" => {
                change.action == ListAction::Delete && self.possible(&change.key, between).any(absent)
            }
            Some(Outcome::Refused(code, _)) if code == "LISTS_FULL" => {
                let asked = |state: Option<&ListEntry>| state.is_some_and(|entry| entry.source() == ListSource::Api);
                let most = self.registers.keys().filter(|key| self.possible(key, between).any(asked)).count();
                change.action != ListAction::Delete && most >= self.max_asked
            }
            _ => true,
        };
        if holds {
            return Ok(());
        }
        let states: Vec<_> = self.possible(&change.key, between).collect();
        Err(format!("I6: request {id} of {change:?} found one of {states:?}; sent {sent:?}"))
    }

    /// The entries about merchant, device and address that a decision made between these moments recorded: each was there,
    /// and of those that were surely there none is missing.
    pub(super) fn shared_hits(
        &self,
        decided: &Decided,
        received_at: Timestamp,
        between: Between,
    ) -> Result<Vec<ListHit>, String> {
        let (transaction, recorded) = (&decided.transaction, &decided.decision.list_hits);
        let mut hits = Vec::new();
        for kind in ListKind::SHARED {
            let Some(value) = kind.named_by(transaction) else { continue };
            for (list, _) in List::ALL {
                let hit = recorded.iter().find(|hit| (hit.kind, hit.list, &*hit.value) == (kind, list, value));
                let key = ListKey { list, kind, value: value.into() };
                let explains = |state: Option<&ListEntry>| match (state.filter(|entry| binds(entry, received_at)), hit)
                {
                    (None, None) => true,
                    (Some(entry), None) => self.is_swept(entry),
                    (Some(entry), Some(hit)) => entry.reason == hit.reason,
                    (None, Some(_)) => false,
                };
                if !self.possible(&key, between).any(explains) {
                    let states: Vec<_> = self.possible(&key, between).collect();
                    return Err(format!("I2: met {hit:?} of {key:?}, which was one of {states:?}"));
                }
                hits.extend(hit.cloned());
            }
        }
        let shared = recorded.iter().filter(|hit| hit.kind != ListKind::User).count();
        if shared == hits.len() { Ok(hits) } else { Err(format!("I2: met entries of others: {recorded:?}")) }
    }
}

fn binds(entry: &ListEntry, now: Timestamp) -> bool {
    entry.expires_at.is_none_or(|end| now.as_millis() < end.as_millis())
}

/// Who asked for each change since request `first`, and may have got it.
fn askers(first: usize, clients: &Clients) -> Vec<(ListChange, Askers)> {
    let mut found: Vec<(ListChange, Askers)> = Vec::new();
    for (id, sent) in clients.sent.iter().enumerate().skip(first) {
        let Event::List(change) = &clients.pool.events[sent.event] else { continue };
        let place = found.iter().position(|(asked, _)| asked == change).unwrap_or_else(|| {
            found.push((change.clone(), Askers::default()));
            found.len() - 1
        });
        let askers = &mut found[place].1;
        match &sent.outcome {
            Some(Outcome::Listed([ListChanged::Unchanged])) => {}
            Some(Outcome::Listed(told)) if told.contains(&ListChanged::Unchanged) => askers.there.push(id),
            Some(Outcome::Listed(_)) => askers.done.push(id),
            _ if sent.may_have_begun() => askers.lost.push(id),
            _ => {}
        }
    }
    found
}
