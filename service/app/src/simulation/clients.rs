//! Whoever sends events and keeps what they were answered. Every answer is checked when it comes: what it promises must be
//! true at that moment, and a refusal must have its reason (I2, I6, I7).

use super::events::{Event, Pool};
use super::register::{Between, Moment, Register};
use super::sent::{Now, Outcome, Peek, Sent};
use super::service::AGES;
use crate::actors::messages::{Answer, ListChanged};
use crate::actors::originals::{READS_AT_ONCE, READS_WAITING};
use crate::journal::record::{Body, Decided, Record};
use crate::journal::simulated::Disk;
use crate::wire;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use verdict_core::event::Transaction;
use verdict_core::lists::{ListAction, ListChange};
use verdict_core::profile::Retention;
use verdict_core::time::MINUTE_MS;

/// See the module.
pub(super) struct Clients {
    pub(super) pool: Pool,
    pub(super) sent: Vec<Sent>,
    /// Answered since somebody last looked.
    pub(super) news: BTreeSet<usize>,
    pub(super) broken: Vec<String>,
    /// Refusals over HTTP in this life, by code.
    pub(super) refused: BTreeMap<String, u64>,
    /// Looks at list entries that were not compared yet.
    pub(super) peeks: Vec<Peek>,
    /// Which rules were in force in this life (I8).
    pub(super) reigns: Register<usize>,
    moment: Moment,
    /// Batches that wait for their answers, how many there were, and the most at a time.
    batches: BTreeSet<usize>,
    batches_sent: usize,
    most_batches: usize,
    disk: Disk,
    retention: Retention,
    http: bool,
    /// Records that were answered as new.
    answered_first: BTreeSet<(u16, u64)>,
}

impl Clients {
    pub(super) fn new(disk: Disk, retention: Retention, http: bool) -> Self {
        Self {
            pool: Pool::default(),
            sent: Vec::new(),
            news: BTreeSet::new(),
            broken: Vec::new(),
            refused: BTreeMap::new(),
            peeks: Vec::new(),
            reigns: Register::new(0),
            moment: 0,
            batches: BTreeSet::new(),
            batches_sent: 0,
            most_batches: 0,
            disk,
            retention,
            http,
            answered_first: BTreeSet::new(),
        }
    }

    /// The next moment.
    pub(super) fn tick(&mut self) -> Moment {
        self.moment += 1;
        self.moment
    }

    /// The number of a new batch.
    pub(super) fn open_batch(&mut self) -> usize {
        self.batches_sent += 1;
        self.batches.insert(self.batches_sent);
        self.most_batches = self.most_batches.max(self.batches.len());
        self.batches_sent
    }

    pub(super) fn close_batch(&mut self, batch: usize) {
        self.batches.remove(&batch);
    }

    /// Whether refusals may be counted of which their callers have not heard: those of lines of a batch.
    pub(super) fn waits_for_batches(&self) -> bool {
        !self.batches.is_empty()
    }

    pub(super) fn most_batches(&self) -> usize {
        self.most_batches
    }

    /// Between which moments a transaction was decided, as far as those who sent it since request `first` know.
    pub(super) fn made_between(&self, transaction: &Transaction, first: usize, now: Moment) -> Option<Between> {
        let is_it = |event: &Event| matches!(event, Event::Pay(payment) if payment == transaction);
        let place = self.pool.events.iter().position(is_it)?;
        let senders = || self.sent[first..].iter().filter(|sent| sent.event == place);
        if let Some(maker) = senders().find(|sent| sent.made_it) {
            return Some((maker.from, maker.to.unwrap_or(now)));
        }
        senders().filter(|sent| sent.may_have_begun()).map(|sent| sent.from).min().map(|from| (from, now))
    }

    /// Requests of this life that wait for an answer.
    pub(super) fn pending(&self) -> usize {
        self.sent.iter().filter(|sent| sent.outcome.is_none() && !sent.lost).count()
    }

    /// The service is gone, and all its answers.
    pub(super) fn lose_all(&mut self) {
        self.sent.iter_mut().filter(|sent| sent.outcome.is_none()).for_each(|sent| sent.lost = true);
        self.refused.clear();
        self.batches.clear();
    }

    /// I6: every line that was answered has left one record; the reader of the journal has seen that none left two.
    pub(super) fn check_lines(&self, recorded: &BTreeSet<u64>) -> Result<(), String> {
        for sent in &self.sent {
            let settled = match &sent.outcome {
                None => false,
                Some(Outcome::Refused(code, _)) => matches!(&**code, "TOO_OLD" | "ID_REUSED"),
                Some(_) => true,
            };
            if let Some(line) = sent.line.filter(|line| settled && !recorded.contains(line)) {
                return Err(format!("I6: line {line} was settled and left no record: {sent:?}"));
            }
        }
        Ok(())
    }

    /// I1: the events of a user are journaled in the order in which they were sent, those of a batch in the order of its
    /// lines. `log` is what a life has left; an event that was sent twice in it, or as a line, which waits for its turn,
    /// may stand in either place.
    pub(super) fn check_order(&self, life: usize, log: &[Record]) -> Result<(), String> {
        let mut last: BTreeMap<(&str, u64, Option<usize>), usize> = BTreeMap::new();
        for record in log {
            let of_record = |sent: &Sent| {
                let event = &self.pool.events[sent.event];
                sent.life == life && event.is_in(&record.body)
            };
            let mut candidates = (0..self.sent.len()).filter(|id| of_record(&self.sent[*id]));
            let (Some(id), None) = (candidates.next(), candidates.next()) else { continue };
            if self.sent[id].line.is_some() {
                continue;
            }
            let user = self.pool.events[self.sent[id].event].user();
            if let Some(before) =
                last.insert((user, record.epoch, self.sent[id].batch), id).filter(|before| *before > id)
            {
                return Err(format!("I1: request {id} of {user} was journaled after request {before}"));
            }
        }
        Ok(())
    }

    /// Takes an answer.
    pub(super) fn answered(&mut self, id: usize, outcome: Outcome, now: &Now) {
        if let Err(what) = self.check(id, &outcome, now) {
            let event = &self.pool.events[self.sent[id].event];
            self.broken.push(format!("request {id} ({}): {what}; answered {outcome}", event.name()));
        }
        if let Outcome::Refused(code, Some(_)) = &outcome {
            *self.refused.entry(code.clone()).or_default() += 1;
        }
        self.sent[id].to = Some(self.tick());
        self.sent[id].answered_at = Some(now.wall);
        if self.sent[id].outcome.replace(outcome).is_some() {
            self.broken.push(format!("request {id} was answered twice"));
        }
        self.news.insert(id);
    }

    fn check(&mut self, id: usize, outcome: &Outcome, now: &Now) -> Result<(), String> {
        let sent = self.sent[id].clone();
        let event = self.pool.events[sent.event].clone();
        match (outcome, &event) {
            (Outcome::Decision(answer), Event::Pay(_)) => {
                if !answer.durable {
                    return Err("I2: answered before it is durable".to_owned());
                }
                self.check_decision(id, &event, answer.duplicate, |decided| *decided == *answer.decided)
            }
            (Outcome::Printed(body), Event::Pay(_)) => {
                let json: serde_json::Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
                let duplicate = json["duplicate"] == true;
                self.check_decision(id, &event, duplicate, |decided| {
                    let (mut expected, decided) = (Vec::new(), Arc::new(decided.clone()));
                    wire::decision::to_json(&Answer { decided, durable: true, duplicate }, &mut expected);
                    expected == *body
                })
            }
            (Outcome::Accepted(_), Event::LogIn(_) | Event::Tell(_)) => match self.record_of(&event) {
                Some(_) => Ok(()),
                None => Err("I2: accepted, and in no record".to_owned()),
            },
            (Outcome::Listed(told), Event::List(change)) => self.check_listed(sent.event, change, told),
            (Outcome::SeenBefore, Event::Pay(_)) if sent.line.is_some() => match self.record_of(&event) {
                Some(_) => Ok(()),
                None => Err("I2: seen before, and in no record".to_owned()),
            },
            (Outcome::Refused(code, status), _) => self.check_refusal(&sent, &event, code, *status, now),
            _ => Err("an answer to another kind of event".to_owned()),
        }
    }

    /// The record in which an event counts, if there is one.
    fn record_of(&self, event: &Event) -> Option<Record> {
        // An older word of the same source counts as known.
        let holds = |record: &&Record| match (&record.body, event) {
            (Body::Label(label), Event::Tell(event)) => {
                (&label.user_id, &label.transaction_id, label.source)
                    == (&event.user_id, &event.transaction_id, event.source)
                    && label.at >= event.at
            }
            (body, event) => event.is_in(body),
        };
        self.disk.with_log(|log| log.iter().rev().find(holds).cloned())
    }

    fn check_decision(
        &mut self,
        id: usize,
        event: &Event,
        duplicate: bool,
        is_same: impl Fn(&Decided) -> bool,
    ) -> Result<(), String> {
        let Some(Record { partition, n, body: Body::Decision(decided), .. }) = self.record_of(event) else {
            return Err("I2: answered as durable, and in no record".to_owned());
        };
        if !is_same(&decided) {
            return Err(format!("I2: another decision than record {partition}/{n}: {decided:?}"));
        }
        if !duplicate && !self.answered_first.insert((partition, n)) {
            return Err(format!("I2: record {partition}/{n} was answered as new before"));
        }
        self.sent[id].made_it = !duplicate;
        let place = self.sent[id].event;
        let times_sent = self.sent.iter().filter(|other| other.event == place).count();
        if duplicate && times_sent < 2 {
            return Err("answered as a duplicate, and sent once".to_owned());
        }
        Ok(())
    }

    /// I2: every change that is told to be done has a durable record of its own by then.
    fn check_listed(&self, place: usize, change: &ListChange, told: &[ListChanged]) -> Result<(), String> {
        let deletes = change.action == ListAction::Delete;
        if told.iter().any(|told| (*told == ListChanged::Deleted) != deletes) {
            return Err("an answer to another change".to_owned());
        }
        let done = |sent: &&Sent| {
            let told = |told: &[ListChanged]| !told.contains(&ListChanged::Unchanged);
            sent.event == place && matches!(&sent.outcome, Some(Outcome::Listed(listed)) if told(listed))
        };
        let done = self.sent.iter().filter(done).count() + usize::from(!told.contains(&ListChanged::Unchanged));
        // What was there already came from the record of somebody before.
        let done = done.max(1);
        let records = self.disk.with_log(|log| {
            log.iter().filter(|record| matches!(&record.body, Body::List(of_record) if of_record == change)).count()
        });
        if records >= done { Ok(()) } else { Err(format!("I2: told to be done {done} times, with {records} records")) }
    }

    /// A refusal has its reason.
    fn check_refusal(
        &self,
        sent: &Sent,
        event: &Event,
        code: &str,
        status: Option<u16>,
        now: &Now,
    ) -> Result<(), String> {
        let failed_since = self.disk.last_failure().is_some_and(|failed| failed >= sent.at);
        let late = sent.deadline.is_some_and(|deadline| now.instant >= deadline);
        let others = || self.sent.iter().map(|other| &self.pool.events[other.event]);
        let at = event.at().unwrap_or(sent.wall);
        // A line of a batch is read when its turn comes; meanwhile somebody may set the wall clock, back a little.
        let slack_ms = if sent.batch.is_some() { MINUTE_MS } else { 0 };
        let till = if sent.batch.is_some() { now.wall } else { sent.wall };
        let (earliest, latest) = (sent.wall.min(till) - slack_ms, sent.wall.max(till) + slack_ms);
        let (expected, holds) = match code {
            // The answers of a batch come together; whoever shed a line of it has looked.
            "OVERLOADED" => (429, now.in_flight >= now.limit || sent.batch.is_some()),
            "DEADLINE_EXCEEDED" | "JOURNAL_LATE" => (503, late),
            "JOURNAL_UNAVAILABLE" => (503, failed_since),
            "RECOVERING" => (503, failed_since || !sent.ready),
            "STOPPING" => (503, now.stopping),
            "ORIGINAL_UNAVAILABLE" => {
                let unread = self.disk.last_failed_read().is_some_and(|failed| failed >= sent.at);
                // The first decision of a line is not kept for whoever asks again before it is durable.
                let line = self.sent.iter().any(|other| other.event == sent.event && other.line.is_some());
                let many = now.in_flight >= READS_AT_ONCE + READS_WAITING;
                (503, unread || line || many || late && self.record_of(event).is_some())
            }
            "ID_REUSED" => (409, others().any(|other| other.shares_id(event) && other != event)),
            "TOO_OLD" => {
                let newest = others().filter(|other| other.user() == event.user() && !matches!(other, Event::Tell(_)));
                let newest = newest.filter_map(Event::at).max();
                let forgotten = newest.is_some_and(|newest| at <= newest - self.retention.dedupe_ms);
                // Over HTTP the wall clock bounds how old and how early an event may be as well (I9).
                let age_ms = latest - at;
                let bounded = self.http && !matches!(event, Event::Tell(_));
                (422, forgotten || bounded && AGES.max_age_ms.is_some_and(|most| age_ms >= most))
            }
            "TOO_EARLY" => (422, self.http && AGES.max_ahead_ms.is_some_and(|most| at - earliest >= most)),
            // What was there is looked at when the journal is read.
            "ENTRY_NOT_FOUND" => (404, event.at().is_none()),
            "LISTS_FULL" => (422, event.at().is_none()),
            "TIMESTAMP_INVALID" => (422, self.http && event.ends().is_some_and(|end| end <= sent.wall.max(now.wall))),
            _ => (0, false),
        };
        match status {
            Some(found) if found != expected => Err(format!("expected status {expected} with {code}, found {found}")),
            _ if holds => Ok(()),
            _ => Err(format!("I6: refused without a reason; sent {sent:?}")),
        }
    }
}
