//! The profile against the oracle where everything is kept that a window may ask for: equal at every step.

use crate::history::{Answer, Decided, History, Listing};
use crate::naive::Question;
use crate::stories::{Event, Shape, currency, decision, payment, stories};
use proptest::prelude::*;
use proptest::sample::select;
use std::collections::HashSet;
use verdict_core::event::{Login, Transaction, id_hash};
use verdict_core::features::{Computed, FeatureVector, compute};
use verdict_core::geo::Coordinates;
use verdict_core::invariant;
use verdict_core::lists::{List, ListAction, ListHit};
use verdict_core::money::{BaseMinor, Currency};
use verdict_core::profile::{Admission, Change, Profile, Retention};
use verdict_core::time::{DAY_MS, HOUR_MS, Timestamp};

const USER: &str = "u-7";

/// At or below these, what is not known is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Floors {
    pub(crate) payments: Option<Timestamp>,
    pub(crate) logins: Option<Timestamp>,
}

/// What tells a login from every other.
pub(crate) fn login_key(login: &Login) -> (u64, u64, Timestamp) {
    (id_hash(&login.login_id), login.content_hash(), login.at)
}

/// A profile and a history that are told the same.
pub(crate) struct Pair {
    pub(crate) retention: Retention,
    pub(crate) profile: Profile,
    pub(crate) history: History,
    /// What was accepted, with record numbers.
    pub(crate) journal: Vec<(u64, Event)>,
}

impl Pair {
    pub(crate) fn new(retention: Retention) -> Self {
        Self { retention, profile: Profile::default(), history: History::default(), journal: Vec::new() }
    }

    /// Record `n` of the partition holds this accepted event: both learn it.
    pub(crate) fn accept(&mut self, event: &Event, n: u64) {
        fold(&mut self.profile, event, n, &self.retention);
        match event {
            Event::Pay(transaction, entry) => {
                self.history.decided.push(Decided { n, transaction: transaction.clone() });
                self.history.listings.extend(entry.clone().map(Listing::Automatic));
            }
            Event::List(change) => self.history.listings.push(Listing::Asked(change.clone())),
            Event::LogIn(login) => self.history.logins.push(login.clone()),
            Event::Tell(label) => self.history.labels.push(label.clone()),
        }
        self.journal.push((n, event.clone()));
    }

    /// Whether both find the event new; they must agree. What is not known is new only above these floors.
    pub(crate) fn admit(&self, event: &Event, floors: Floors) -> Result<bool, TestCaseError> {
        match event {
            Event::Pay(transaction, _) => {
                let found = self.profile.admit_transaction(transaction, &self.retention);
                let known = self.known_payments();
                let expected =
                    self.history.admit_transaction(transaction, floors.payments, |one| known.contains(&one.n));
                prop_assert_eq!(found, expected, "{:?}", event);
                Ok(found == Admission::New)
            }
            Event::LogIn(login) => {
                let found = Answer::from(self.profile.admit_login(login, &self.retention));
                let known = self.known_logins();
                let expected = self.history.admit_login(login, floors.logins, |one| known.contains(&login_key(one)));
                prop_assert_eq!(found, expected, "{:?}", event);
                Ok(found == Answer::New)
            }
            Event::Tell(label) => {
                let found = Answer::from(self.profile.admit_label(label, &self.retention));
                prop_assert_eq!(found, self.history.admit_label(label), "{:?}", event);
                Ok(found == Answer::New)
            }
            // Whoever asks may ask again: what is there already is for the caller to see.
            Event::List(_) => Ok(true),
        }
    }

    /// The payments whose ids the profile knows, by their records.
    pub(crate) fn known_payments(&self) -> HashSet<u64> {
        let parts = self.profile.parts();
        parts.recent.iter().filter(|payment| Some(payment.at) > parts.dropped).map(|payment| payment.n).collect()
    }

    /// The logins whose ids the profile knows.
    pub(crate) fn known_logins(&self) -> HashSet<(u64, u64, Timestamp)> {
        self.profile.parts().logins.iter().map(|login| (login.id, login.content, login.at)).collect()
    }

    /// The floors of a profile that dropped nothing inside its dedupe horizon.
    pub(crate) fn horizon(&self) -> Floors {
        let floor = self.history.floor(self.retention.dedupe_ms);
        Floors { payments: floor, logins: floor }
    }

    /// The floors as the profile has them.
    pub(crate) fn floors(&self) -> Floors {
        let (profile, retention) = (&self.profile, &self.retention);
        Floors { payments: profile.payment_floor(retention), logins: profile.login_floor(retention) }
    }

    /// The user's own list entries at `now`, on which both must agree.
    fn hits(&self, now: Timestamp) -> Result<Vec<ListHit>, TestCaseError> {
        let found = self.profile.list_hits(USER, now);
        for list in [List::Block, List::Allow] {
            let reasons: Vec<&str> = found.iter().filter(|hit| hit.list == list).map(|hit| &*hit.reason).collect();
            let listed = self.history.listed(list, now);
            let expected: Vec<&str> = listed.iter().map(|entry| &*entry.reason).collect();
            prop_assert_eq!(reasons, expected, "{:?} list at {}", list, now);
            let entry = self.history.entry(list);
            prop_assert_eq!(self.profile.entry(list), entry.as_ref());
        }
        prop_assert!(found.iter().all(|hit| &*hit.value == USER));
        Ok(found)
    }

    /// The features of a transaction by both, and the question that the oracle was asked.
    pub(crate) fn compute<'a>(
        &'a self,
        transaction: &'a Transaction,
        base: Currency,
    ) -> Result<(Computed, Question<'a>), TestCaseError> {
        let hits = self.hits(transaction.at)?;
        let count = |list: List| hits.iter().filter(|hit| hit.list == list).count();
        let question = Question {
            history: &self.history,
            transaction,
            block_hits: count(List::Block),
            allow_hits: count(List::Allow),
            minor_per_major: base.minor_per_major(),
        };
        let computed = compute(&self.profile, transaction, &hits, base);
        Ok((computed, question))
    }

    fn check_features(&self, transaction: &Transaction, base: Currency) -> Result<(), TestCaseError> {
        let (computed, question) = self.compute(transaction, base)?;
        same_features(&question.features(), &computed.features, transaction)?;
        prop_assert!(!computed.approximate, "everything is kept, nothing may be approximate");
        prop_assert!(invariant::windows_nested(&computed.features));
        prop_assert!(invariant::means_within(&computed.features));
        prop_assert!(invariant::logins_as_of(&computed.features));
        Ok(())
    }

    /// Features of payments that never happen, at the edges of what is still accepted.
    fn check_probes(&self) -> Result<(), TestCaseError> {
        let (Some(newest), Some(floor)) = (self.history.newest(), self.history.floor(self.retention.dedupe_ms)) else {
            return Ok(());
        };
        for at in [floor + 1, newest, newest + HOUR_MS, newest + DAY_MS] {
            let mut probe = payment("probe", at.as_millis(), 7);
            probe.location = Coordinates::new(48.85, 2.35).ok();
            self.check_features(&probe, currency("USD"))?;
        }
        Ok(())
    }

    /// What the profile shows of itself agrees with the history.
    fn check_contents(&self) -> Result<(), TestCaseError> {
        let floor = self.history.floor(self.retention.dedupe_ms);
        prop_assert_eq!(self.floors(), self.horizon());
        let known: Vec<_> = self.profile.recent_payments().collect();
        prop_assert!(known.is_sorted_by(|newer, older| newer.at >= older.at), "newest first");
        let mut found: Vec<_> =
            known.iter().filter(|payment| Some(payment.at) > floor).map(|payment| (payment.n, payment.id)).collect();
        found.sort_unstable();
        let decided = self.history.decided.iter().filter(|decided| Some(decided.transaction.at) > floor);
        let expected: Vec<_> = decided.map(|one| (one.n, id_hash(&one.transaction.transaction_id))).collect();
        prop_assert_eq!(found, expected);

        let key = |subject: u64, source, at: Timestamp| (subject, source, at);
        let mut found: Vec<_> =
            self.profile.labels().map(|label| key(label.transaction, label.source, label.at)).collect();
        let in_force = self.history.labels_in_force();
        let mut expected: Vec<_> =
            in_force.iter().map(|label| key(id_hash(&label.transaction_id), label.source, label.at)).collect();
        found.sort_unstable();
        expected.sort_unstable();
        prop_assert_eq!(found, expected);
        for label in self.profile.labels() {
            let told = in_force.iter().any(|known| {
                let content = (known.is_fraud, known.amount_lost.map(|BaseMinor(minor)| minor));
                id_hash(&known.transaction_id) == label.transaction && content == (label.is_fraud, label.lost_minor)
            });
            prop_assert!(told, "{:?} was never told", label);
        }
        prop_assert!(invariant::profile_bounded(&self.profile.parts(), &self.retention));
        Ok(())
    }

    /// I3: taken apart and put together, folded twice, folded again from every snapshot: the same profile.
    pub(crate) fn check_fold(&self, snapshots: &[Profile]) -> Result<(), TestCaseError> {
        for snapshot in snapshots {
            let mut replayed = Profile::from_parts(snapshot.parts()).expect("the parts of a profile");
            prop_assert_eq!(&replayed, snapshot);
            for (n, event) in &self.journal {
                fold(&mut replayed, event, *n, &self.retention);
            }
            prop_assert_eq!(&replayed, &self.profile);
        }
        Ok(())
    }
}

pub(crate) fn fold(profile: &mut Profile, event: &Event, n: u64, retention: &Retention) {
    match event {
        Event::Pay(transaction, entry) => {
            profile.apply(Change::Decided(transaction, &decision(entry.clone())), n, retention);
        }
        Event::LogIn(login) => profile.apply(Change::LoggedIn(login), n, retention),
        Event::Tell(label) => profile.apply(Change::Labelled(label), n, retention),
        Event::List(change) => profile.apply(Change::Listed(change), n, retention),
    }
}

/// Bit for bit.
pub(crate) fn same_features(
    expected: &FeatureVector,
    found: &FeatureVector,
    transaction: &Transaction,
) -> Result<(), TestCaseError> {
    let difference = invariant::first_difference(expected, found);
    prop_assert!(
        difference.is_none(),
        "expected (recorded) and found (recomputed): {:?} of {:?}",
        difference,
        transaction
    );
    Ok(())
}

/// Tells a story to both and compares them after every event.
fn compare(story: &[Event], retention: Retention, base: Currency) -> Result<(), TestCaseError> {
    let mut pair = Pair::new(retention);
    let mut snapshots = vec![Profile::default()];
    for (event, step) in story.iter().zip(1_u64..) {
        // Other users' records lie between.
        let n = 3 * step;
        let new = pair.admit(event, pair.horizon())?;
        if let (true, Event::Pay(transaction, _)) = (new, event) {
            pair.check_features(transaction, base)?;
        }
        if !new {
            continue;
        }
        pair.accept(event, n);
        prop_assert_eq!(pair.profile.next_n(), n + 1);
        pair.check_contents()?;
        pair.check_probes()?;
        let mut twice = pair.profile.clone();
        fold(&mut twice, event, n, &retention);
        prop_assert_eq!(&twice, &pair.profile, "record {} was reflected already", n);
        let again = pair.admit(event, pair.horizon())?;
        prop_assert_eq!(again, matches!(event, Event::List(_)), "events are accepted once only");
        snapshots.push(pair.profile.clone());
    }
    let some = snapshots.len().div_ceil(6);
    snapshots.retain({
        let mut index = 0;
        move |_| {
            index += 1;
            index % some == 1 % some
        }
    });
    pair.check_fold(&snapshots)
}

fn retentions() -> impl Strategy<Value = Retention> {
    let dedupe_ms = select(vec![8 * DAY_MS, 8 * DAY_MS, 8 * DAY_MS, 2 * DAY_MS, HOUR_MS, 30 * DAY_MS]);
    (dedupe_ms, prop_oneof![3 => 1..=24_usize, 1 => 25..=100_usize]).prop_map(|(dedupe_ms, index_from)| Retention {
        dedupe_ms,
        index_from,
        ..Retention::default()
    })
}

fn bases() -> impl Strategy<Value = Currency> {
    select(vec!["USD", "USD", "JPY", "KWD"]).prop_map(currency)
}

/// A mean is divided once: of equal amounts it is that amount, to the last bit.
#[test]
fn the_mean_of_equal_amounts_is_the_amount() {
    for minor in [5, 7, 10, 333, 1_999] {
        let mut pair = Pair::new(Retention::default());
        for n in 0..7_u32 {
            let transaction = payment(&format!("t-{n}"), i64::from(n), minor);
            let features = compute(&pair.profile, &transaction, &[], currency("USD")).features;
            assert_eq!(features.named("user_mean_1h"), features.named("amount"), "{n} payments of {minor}");
            pair.accept(&Event::Pay(transaction, None), u64::from(n));
        }
    }
}

const SHAPE: Shape = Shape { most_events: 80, ids: 200, long_gaps: true };

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_profile_equals_a_history_that_forgets_nothing(
        story in stories(SHAPE), retention in retentions(), base in bases(),
    ) {
        compare(&story, retention, base)?;
    }

    /// I9: nothing but the distance between events counts. A whole number of weeks later, everything is the same.
    #[test]
    fn a_story_weeks_later_is_the_same_story(story in stories(SHAPE), weeks in 1..2_000_i64) {
        let vectors = |shift: i64| {
            let mut pair = Pair::new(Retention::default());
            let mut vectors = Vec::new();
            for (event, n) in story.iter().zip(0..) {
                let event = later(event.clone(), shift);
                if !pair.admit(&event, pair.horizon())? {
                    continue;
                }
                if let Event::Pay(transaction, _) = &event {
                    vectors.push(compute(&pair.profile, transaction, &[], currency("USD")).features);
                }
                pair.accept(&event, n);
            }
            Ok::<_, TestCaseError>(vectors)
        };
        prop_assert_eq!(vectors(0)?, vectors(weeks * 7 * DAY_MS)?);
    }
}

fn later(mut event: Event, shift: i64) -> Event {
    match &mut event {
        Event::Pay(transaction, entry) => {
            transaction.at = transaction.at + shift;
            if let Some(entry) = entry {
                entry.expires_at = entry.expires_at.map(|end| end + shift);
            }
        }
        Event::LogIn(login) => login.at = login.at + shift,
        Event::Tell(label) => label.at = label.at + shift,
        Event::List(change) => {
            if let ListAction::Put { expires_at, .. } = &mut change.action {
                *expires_at = expires_at.map(|end| end + shift);
            }
        }
    }
    event
}
