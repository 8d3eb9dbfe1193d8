//! Reads the durable journal against everything that must hold of it, record by record, and keeps the naive history and
//! the folded profile of every user, to compare a running service with.

use super::clients::Clients;
use super::history::{Decided as Known, History, Listing};
use super::lists::Lists;
use super::naive::Question;
use super::plan::Plan;
use super::ports::{Rules, score_of};
use crate::actors::recovery::fold;
use crate::journal::checkpoint::Totals;
use crate::journal::record::{Body, Decided, Record};
use crate::journal::simulated::Saved;
use crate::journal::{Partition, profile};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use verdict_core::decision::{Degradation, ModelVerdict};
use verdict_core::event::Source;
use verdict_core::features::compute;
use verdict_core::invariant;
use verdict_core::lists::{List, ListKind};
use verdict_core::profile::{Admission, Profile, Retention};

/// What was read so far.
pub(super) struct Audit {
    retention: Retention,
    has_model: bool,
    read: usize,
    /// The epoch and the number of the last record, by partition.
    last: BTreeMap<Partition, (u64, u64)>,
    pub(super) totals: BTreeMap<Partition, Totals>,
    pub(super) users: HashMap<Box<str>, Box<Profile>>,
    histories: BTreeMap<Box<str>, History>,
    /// Lines of files that left a record.
    pub(super) lines: BTreeSet<u64>,
    pub(super) lists: Lists,
    /// Requests that were sent before the journal was last read: all of them have come to their end.
    requests: usize,
}

impl Audit {
    pub(super) fn new(plan: &Plan) -> Self {
        Self {
            retention: plan.retention,
            has_model: plan.model.is_some(),
            read: 0,
            last: BTreeMap::new(),
            totals: BTreeMap::new(),
            users: HashMap::new(),
            histories: BTreeMap::new(),
            lines: BTreeSet::new(),
            lists: Lists::new(plan.max_listed),
            requests: 0,
        }
    }

    /// Reads what was appended since the last time, when nothing is in flight.
    pub(super) fn read(&mut self, log: &[Record], rules: &Rules, clients: &mut Clients) -> Result<(), String> {
        self.lists.learn(&log[self.read..], self.requests, clients)?;
        for record in &log[self.read..] {
            self.check(record, rules, clients).map_err(|what| {
                format!("record {}/{} of epoch {}: {what}", record.partition, record.n, record.epoch)
            })?;
            fold(&mut self.users, record, &self.retention);
            self.totals.entry(record.partition).or_default().count(record);
        }
        self.read = log.len();
        self.requests = clients.sent.len();
        Ok(())
    }

    fn check(&mut self, record: &Record, rules: &Rules, clients: &mut Clients) -> Result<(), String> {
        let last = self.last.insert(record.partition, (record.epoch, record.n));
        if !invariant::contiguous(last.map(|(_, n)| n), record.n) {
            return Err(format!("I6: expected the record after {last:?}"));
        }
        if last.is_some_and(|(epoch, _)| record.epoch < epoch) {
            return Err(format!("I1: an epoch that had ended after {last:?}"));
        }
        if let Source::File { line } = record.source
            && !self.lines.insert(line)
        {
            return Err(format!("I6: line {line} has left a record before"));
        }
        match &record.body {
            Body::Decision(decided) => self.check_decision(record, decided, rules, clients),
            Body::Login(login) => {
                let history = self.histories.entry(login.user_id.clone()).or_default();
                let floor = history.floor(self.retention.dedupe_ms);
                let admitted = history.admit_login(login, floor, |known| Some(known.at) > floor);
                history.logins.push(login.clone());
                if admitted == super::history::Answer::New {
                    Ok(())
                } else {
                    Err(format!("I2: counts again: {admitted:?}"))
                }
            }
            Body::Label(label) => {
                let history = self.histories.entry(label.user_id.clone()).or_default();
                let admitted = history.admit_label(label);
                history.labels.push(label.clone());
                if admitted == super::history::Answer::New {
                    Ok(())
                } else {
                    Err(format!("I2: counts again: {admitted:?}"))
                }
            }
            Body::List(change) if change.key.kind == ListKind::User => {
                let history = self.histories.entry(change.key.value.clone()).or_default();
                history.listings.push(Listing::Asked(change.clone()));
                Ok(())
            }
            Body::List(_) => Ok(()),
            Body::Answered(_) => Err("nobody answers before a record is durable, without a spill".to_owned()),
            Body::Duplicate { .. } | Body::DeadLetter { .. } | Body::Skipped { .. } => match record.source {
                Source::Http => Err("I6: a request leaves a record only if it counts".to_owned()),
                Source::File { .. } | Source::Topic { .. } => Ok(()),
            },
        }
    }

    /// I2: it is new. I9: features are those of the naive history. I3: the decision follows. I8: from one generation.
    fn check_decision(
        &mut self,
        record: &Record,
        decided: &Decided,
        rules: &Rules,
        clients: &mut Clients,
    ) -> Result<(), String> {
        let Decided { transaction, features, decision, generation, .. } = decided;
        let user_id = &*transaction.user_id;
        let history = self.histories.entry(user_id.into()).or_default();
        let floor = history.floor(self.retention.dedupe_ms);
        let admitted = history.admit_transaction(transaction, floor, |known| Some(known.transaction.at) > floor);
        if admitted != Admission::New {
            return Err(format!("I2: counts again: {admitted:?}"));
        }
        let now = clients.tick();
        let between = clients.made_between(transaction, self.requests, now).ok_or("I6: nobody sent it")?;
        // What follows is computed with the rules that the record names, so that a mix of two does not come out.
        let which = rules.named(generation, self.has_model).ok_or(format!("I8: no generation is {generation:?}"))?;
        if !clients.reigns.possible(between).any(|in_force| *in_force == which) {
            let reigns = &clients.reigns;
            return Err(format!("I8: generation {which} was not in force between {between:?}: {reigns:?}"));
        }
        let rules = rules.set(which);
        let shared = self.lists.shared_hits(decided, record.received_at, between)?;
        let hits = |list| {
            let met = shared.iter().filter(|hit| hit.list == list).count();
            usize::from(history.listed(list, record.received_at).is_some()) + met
        };
        let question = Question {
            history,
            transaction,
            block_hits: hits(List::Block),
            allow_hits: hits(List::Allow),
            minor_per_major: rules.rates().base().minor_per_major(),
        };
        let expected = question.features();
        if let Some(difference) = invariant::first_difference(features, &expected) {
            return Err(format!("I9: {difference:?} (recomputed by the naive history)"));
        }
        let model = match (decision.score, self.has_model) {
            (_, false) => ModelVerdict::Absent,
            (Some(_), true) => ModelVerdict::Score(score_of(which, &expected)),
            (None, true) if decision.degraded.contains(&Degradation::ModelError) => {
                ModelVerdict::Missing(Degradation::ModelError)
            }
            (None, true) => ModelVerdict::Missing(Degradation::ModelTimeout),
        };
        let unseen = Profile::default();
        let profile = self.users.get(user_id).map_or(&unseen, |profile| profile);
        let mut list_hits = profile.list_hits(user_id, record.received_at);
        list_hits.extend(shared);
        let computed = compute(profile, transaction, &list_hits, rules.rates().base());
        let recomputed = rules.evaluate_and_decide(transaction, &computed, list_hits, model, record.received_at);
        if !invariant::replay_equals((features, decision), (&computed.features, &recomputed)) {
            return Err(format!("I3: recorded {decision:?}, recomputed {recomputed:?}"));
        }
        let sound = invariant::decision_coherent(decision)
            && invariant::windows_nested(features)
            && invariant::means_within(features)
            && invariant::logins_as_of(features);
        if !sound {
            return Err(format!("an incoherent decision: {decided:?}"));
        }
        history.decided.push(Known { n: record.n, transaction: transaction.clone() });
        history.listings.extend(decision.block_entry.clone().map(Listing::Automatic));
        Ok(())
    }

    /// I3: what a checkpoint holds after everything was saved is the fold of the journal, byte for byte, and its marks
    /// are the journal's ends and books (I6).
    pub(super) fn check_saved(&self, saved: &Saved, ends: &BTreeMap<Partition, u64>) -> Result<(), String> {
        let profiles: BTreeMap<&str, &[u8]> =
            saved.profiles.iter().map(|((_, user_id), profile)| (&**user_id, &*profile.bytes)).collect();
        if profiles.len() != self.users.len() {
            return Err(format!("I3: expected {} saved profiles, found {}", self.users.len(), profiles.len()));
        }
        for (user_id, profile) in self.users.iter().collect::<BTreeMap<_, _>>() {
            if profiles.get(&**user_id) != Some(&&*profile::encode(profile)) {
                return Err(format!("I3: the saved profile of {user_id} is not the fold of the journal"));
            }
        }
        let listed = saved.lists.values().flat_map(|listed| &listed.entries);
        let listed: BTreeMap<_, _> =
            listed.map(|(key, entry)| (key, entry)).filter(|(_, entry)| !self.lists.is_swept(entry)).collect();
        if listed != self.lists.kept() {
            return Err(format!("I3: expected the saved list entries {:?}, found {listed:?}", self.lists.kept()));
        }
        for (partition, end) in ends {
            let mark = saved.marks.get(partition);
            let totals = self.totals.get(partition).copied().unwrap_or_default();
            if mark.is_none_or(|mark| mark.next_n != *end || mark.totals != totals) || totals.records() != *end {
                return Err(format!(
                    "I6: expected {end} records and {totals:?} in partition {partition}, found {mark:?}"
                ));
            }
        }
        Ok(())
    }
}
