//! The profile against the oracle beyond its bounds: what is forgotten is never mistaken, and windows err upwards only.

use crate::exact::{Floors, Pair, login_key};
use crate::naive::{A_MONDAY, Question, Totals};
use crate::stories::{Event, Shape, currency, login, payment, stories};
use proptest::prelude::*;
use proptest::sample::select;
use verdict_core::event::{Label, Login, Transaction};
use verdict_core::features::{Computed, FeatureVector, compute};
use verdict_core::invariant;
use verdict_core::profile::{Admission, Profile, Retention};
use verdict_core::time::{DAY_MS, HOUR_MS, Timestamp};

const WINDOWS: [(&str, i64); 4] = [("1h", HOUR_MS), ("24h", DAY_MS), ("7d", 7 * DAY_MS), ("30d", 30 * DAY_MS)];

/// Logins are exact whatever was forgotten; so are these.
const ALWAYS_EXACT: [&str; 10] = [
    "amount",
    "hour_of_day",
    "is_weekend",
    "is_first_purchase",
    "has_last_login",
    "minutes_since_login",
    "miles_from_login",
    "speed_mph",
    "block_list_hits",
    "allow_list_hits",
];

fn small() -> impl Strategy<Value = Retention> {
    let dedupe_ms = select(vec![8 * DAY_MS, 8 * DAY_MS, 2 * DAY_MS, HOUR_MS]);
    // Most of these bounds are below most of these counts: both ways to answer are asked, and changes between them.
    let index_from = prop_oneof![3 => 1..=24_usize, 1 => 25..=100_usize];
    (dedupe_ms, 1..=24_usize, 1..=8_usize, 1..=6_usize, index_from).prop_map(
        |(dedupe_ms, max_payments, max_logins, max_labels, index_from)| Retention {
            dedupe_ms,
            max_payments,
            max_logins,
            max_labels,
            index_from,
        },
    )
}

fn value(features: &FeatureVector, name: &str) -> f64 {
    features.named(name).expect("a feature of the catalogue")
}

/// The floors that the contract asks for, from what the profile still knows: the dedupe horizon, or the newest accepted
/// payment whose id it has dropped. Of dropped logins every one counts for a login, which could be that one again; for
/// a payment only the successful ones do, since no payment asks for another.
fn contract_floors(pair: &Pair) -> Floors {
    let (payments, logins) = (pair.known_payments(), pair.known_logins());
    let horizon = pair.history.floor(pair.retention.dedupe_ms);
    let dropped_payments = pair.history.decided.iter().filter(|one| !payments.contains(&one.n));
    let floor = dropped_payments.map(|one| one.transaction.at).max().max(horizon);
    let dropped_logins = || pair.history.logins.iter().filter(|login| !logins.contains(&login_key(login)));
    Floors {
        payments: dropped_logins().filter(|login| login.success).map(|login| login.at).max().max(floor),
        logins: dropped_logins().map(|login| login.at).max().max(floor),
    }
}

/// Nothing is dropped inside the horizon while the bounds are not reached.
fn check_dropped_only_when_full(pair: &Pair) -> Result<(), TestCaseError> {
    let (profile, retention) = (&pair.profile, &pair.retention);
    let parts = profile.parts();
    prop_assert!(invariant::profile_bounded(&parts, retention), "{:?} breaks {:?}", parts, retention);
    if pair.history.decided.len() <= retention.max_payments {
        prop_assert!(parts.buckets.is_empty(), "{:?}", parts.buckets);
        if pair.history.logins.len() <= retention.max_logins {
            prop_assert_eq!(pair.floors(), pair.horizon());
        }
    }
    prop_assert_eq!(profile.payments_retained(), parts.recent.len() + parts.older.len());
    Ok(())
}

/// The start of what a window may count when buckets stand in: the hour that holds its open end, the end itself included
/// (an hour that only touches the window errs upwards too).
fn reach(start: i64) -> i64 {
    start - start.rem_euclid(HOUR_MS) - 1
}

fn check_features(pair: &Pair, computed: &Computed, question: &Question<'_>) -> Result<(), TestCaseError> {
    let (at, found) = (question.transaction.at.as_millis(), &computed.features);
    for name in ALWAYS_EXACT {
        prop_assert_eq!(value(found, name).to_bits(), question.feature(name).to_bits(), "{}", name);
    }
    for (window, length_ms) in WINDOWS {
        let (least, most) = (question.window(length_ms), question.totals_after(reach(at - length_ms)));
        check_between(found, window, &least, &most)?;
    }
    // Buckets begin at midnight too, so that today is exact even of them.
    prop_assert_eq!(value(found, "user_spend_today"), question.feature("user_spend_today"));
    prop_assert!(value(found, "user_merchants_24h") <= question.feature("user_merchants_24h"));
    prop_assert!(invariant::windows_nested(found));
    prop_assert!(invariant::means_within(found));
    prop_assert!(invariant::logins_as_of(found));
    if !computed.approximate {
        let difference = invariant::first_difference(&question.features(), found);
        prop_assert!(difference.is_none(), "said to be exact, expected and found: {:?}", difference);
    }
    // The warning is not cried either: with every payment of the longest window kept one by one, nothing stands in.
    let parts = pair.profile.parts();
    let kept = parts.recent.len() + parts.older.len();
    let asked = question.totals_after(reach(at - 30 * DAY_MS)).count - 1;
    let oldest_kept = parts.older.first().map(|spent| spent.at).or(parts.recent.first().map(|payment| payment.at));
    if asked == 0 || oldest_kept.is_some_and(|oldest| oldest.as_millis() <= reach(at - 30 * DAY_MS)) {
        prop_assert!(!computed.approximate, "{} are kept, the window needs {}", kept, asked);
    }
    Ok(())
}

/// Count, sum and maximum of a window lie between those of the exact window and of the hours that overlap it.
fn check_between(found: &FeatureVector, window: &str, least: &Totals, most: &Totals) -> Result<(), TestCaseError> {
    let major = |minor: i128| minor as f64 / 100.0;
    let bounds = [
        ("count", least.count as f64, most.count as f64),
        ("sum", major(least.sum), major(most.sum)),
        ("max", major(least.max), major(most.max)),
    ];
    for (aggregate, least, most) in bounds {
        let name = format!("user_{aggregate}_{window}");
        let found = value(found, &name);
        prop_assert!((least..=most).contains(&found), "{name}: expected {least} to {most}, found {found}");
    }
    let (sum, count) = (value(found, &format!("user_sum_{window}")), value(found, &format!("user_count_{window}")));
    let mean = value(found, &format!("user_mean_{window}"));
    prop_assert!((mean - sum / count).abs() <= 1e-9 * mean.max(1.0), "{}: {} of {} and {}", window, mean, sum, count);
    Ok(())
}

/// A resent event is never new, whatever was forgotten.
fn check_resent(pair: &Pair) -> Result<(), TestCaseError> {
    for (_, event) in &pair.journal {
        let new = match event {
            Event::List(_) => false,
            // Of two at one instant the later arrival wins, also when it is the first that comes again.
            Event::Tell(label) if was_contradicted(pair, label) => false,
            Event::Tell(label) => matches!(pair.profile.admit_label(label, &pair.retention), Admission::New),
            _ => pair.admit(event, pair.floors())?,
        };
        prop_assert!(!new, "{:?} passed as new", event);
    }
    Ok(())
}

/// Whether another label says something else of the same transaction, from the same source and at the same time.
fn was_contradicted(pair: &Pair, label: &Label) -> bool {
    pair.history.labels.iter().any(|other| {
        (&other.transaction_id, other.source, other.at) == (&label.transaction_id, label.source, label.at)
            && other != label
    })
}

fn tell(story: &[Event], retention: Retention) -> Result<(), TestCaseError> {
    let mut pair = Pair::new(retention);
    let mut snapshots = vec![Profile::default()];
    for (event, n) in story.iter().zip(0_u64..) {
        let floors = pair.floors();
        let new = match event {
            Event::Tell(label) => matches!(pair.profile.admit_label(label, &retention), Admission::New),
            _ => pair.admit(event, floors)?,
        };
        if !new {
            continue;
        }
        if let Event::Pay(transaction, _) = event {
            check_one(&pair, transaction)?;
        }
        pair.accept(event, n);
        prop_assert_eq!(pair.floors(), contract_floors(&pair), "the floors after {:?}", event);
        prop_assert!(pair.floors().payments >= floors.payments, "a floor never sinks");
        prop_assert!(pair.floors().logins >= floors.logins, "a floor never sinks");
        check_dropped_only_when_full(&pair)?;
        check_resent(&pair)?;
        if let Event::Tell(label) = event {
            let kept = pair.profile.labels().any(|kept| kept.at == label.at && kept.source == label.source);
            let oldest = pair.profile.labels().all(|kept| kept.at >= label.at);
            prop_assert!(kept || oldest, "only the oldest label is forgotten, not {:?}", label);
        }
        snapshots.push(pair.profile.clone());
    }
    let every = snapshots.len().div_ceil(4);
    let some: Vec<Profile> = snapshots.into_iter().step_by(every).collect();
    pair.check_fold(&some)
}

fn check_one(pair: &Pair, transaction: &Transaction) -> Result<(), TestCaseError> {
    let (computed, question) = pair.compute(transaction, currency("USD"))?;
    check_features(pair, &computed, &question)
}

/// Successful logins that were forgotten raise the floor of payments too: a late payment that might have asked for one of
/// them is refused instead of being decided as if nobody had ever logged in.
#[test]
fn forgotten_logins_refuse_the_payments_that_ask_for_them() {
    let retention = Retention { max_logins: 1, ..Retention::default() };
    let mut pair = Pair::new(retention);
    for n in 0..3_u64 {
        let at = Timestamp::from_millis(n as i64 * HOUR_MS);
        pair.accept(&Event::LogIn(login(&format!("l-{n}"), at)), n);
    }
    let admit = |at: i64| pair.profile.admit_transaction(&payment("t-1", at, 100), &retention);
    let floor = Timestamp::from_millis(HOUR_MS);
    assert_eq!(admit(HOUR_MS / 2), Admission::TooOld { floor });
    assert_eq!(admit(HOUR_MS), Admission::TooOld { floor });
    assert_eq!(admit(HOUR_MS + 1), Admission::New);
    assert_eq!(pair.profile.last_login(floor + 1).map(|login| login.at), Some(floor));
}

/// Somebody who guesses a customer's password, at the default bounds: the customer's payments of the last seconds are
/// decided, after the login that they ask for, and what was decided or seen before is still known.
#[test]
fn failed_logins_refuse_no_payment() {
    let retention = Retention::default();
    let mut pair = Pair::new(retention);
    let own = login("own", Timestamp::from_millis(A_MONDAY));
    let paid = payment("t-1", A_MONDAY + 1_000, 100);
    pair.accept(&Event::LogIn(own.clone()), 0);
    pair.accept(&Event::Pay(paid.clone(), None), 1);
    for n in 0..3_000_u64 {
        let at = Timestamp::from_millis(A_MONDAY + 60_000 + n as i64);
        pair.accept(&Event::LogIn(Login { success: false, ..login(&format!("guess-{n}"), at) }), 2 + n);
    }
    let profile = &pair.profile;
    assert_eq!(profile.parts().logins.len(), retention.max_logins);
    let late = payment("t-2", A_MONDAY + 2_000, 100);
    assert_eq!(profile.admit_transaction(&late, &retention), Admission::New);
    assert_eq!(profile.last_login(late.at).map(|login| login.at), Some(own.at));
    assert_eq!(profile.admit_transaction(&paid, &retention), Admission::Duplicate { n: 1 });
    assert_eq!(profile.admit_transaction(&payment("t-1", A_MONDAY, 100), &retention), Admission::IdReused);
    assert_eq!(profile.admit_login(&own, &retention), Admission::Duplicate { n: 0 });
    // A guess that was forgotten must not pass as new.
    let floor = Timestamp::from_millis(A_MONDAY + 60_000 + 1_000);
    for again in ["guess-0", "guess-1000", "unknown"] {
        let again = login(again, if again == "guess-0" { own.at + 60_000 } else { floor });
        assert_eq!(profile.admit_login(&again, &retention), Admission::TooOld { floor });
    }
}

/// A payment that was decided is answered again as long as its id is known, whatever the floor.
#[test]
fn a_known_payment_below_the_floor_is_a_duplicate() {
    let retention = Retention { max_logins: 1, ..Retention::default() };
    let mut pair = Pair::new(retention);
    let paid = payment("t-1", 0, 100);
    pair.accept(&Event::Pay(paid.clone(), None), 0);
    for n in 1..3_u64 {
        pair.accept(&Event::LogIn(login(&format!("l-{n}"), Timestamp::from_millis(n as i64 * 1_000))), n);
    }
    let admit = |transaction: &Transaction| pair.profile.admit_transaction(transaction, &retention);
    assert_eq!(admit(&paid), Admission::Duplicate { n: 0 });
    assert_eq!(admit(&payment("t-2", 0, 100)), Admission::TooOld { floor: Timestamp::from_millis(1_000) });
}

/// At the default bounds: one payment a second by a user who never stops.
#[test]
fn twenty_thousand_payments_are_kept_and_the_rest_is_counted() {
    let retention = Retention::default();
    let (kept, extra) = (retention.max_payments as i64, 150_i64);
    let mut pair = Pair::new(retention);
    for n in 0..kept + extra {
        let mut transaction = payment(&format!("t-{n}"), A_MONDAY + n * 1_000, 100);
        transaction.merchant_id = format!("m-{n}").into();
        pair.accept(&Event::Pay(transaction, None), n as u64);
    }
    let profile = &pair.profile;
    let newest_dropped = A_MONDAY + (extra - 1) * 1_000;
    assert_eq!(profile.payments_retained(), retention.max_payments);
    assert_eq!(profile.payment_floor(&retention), Some(Timestamp::from_millis(newest_dropped)));
    assert!(invariant::profile_bounded(&profile.parts(), &retention));
    let admit = |n: i64| {
        let mut again = payment(&format!("t-{n}"), A_MONDAY + n * 1_000, 100);
        again.merchant_id = format!("m-{n}").into();
        profile.admit_transaction(&again, &retention)
    };
    assert_eq!(admit(extra - 1), Admission::TooOld { floor: Timestamp::from_millis(newest_dropped) });
    assert_eq!(admit(extra), Admission::Duplicate { n: extra as u64 });
    assert_eq!(admit(kept + extra), Admission::New);

    let last = payment("t-last", A_MONDAY + (kept + extra) * 1_000, 100);
    let computed = compute(profile, &last, &[], currency("USD"));
    let total = (kept + extra + 1) as f64;
    assert!(computed.approximate);
    for name in ["user_count_24h", "user_count_30d", "user_sum_7d", "user_spend_today"] {
        assert_eq!(value(&computed.features, name), total, "{name}");
    }
    assert_eq!(value(&computed.features, "user_count_1h"), 3_600.0);
    assert_eq!(value(&computed.features, "user_merchants_24h"), kept as f64 + 1.0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn beyond_its_bounds_a_profile_errs_on_the_safe_side(
        story in stories(Shape { most_events: 80, ids: 200, long_gaps: true }), retention in small(),
    ) {
        tell(&story, retention)?;
    }

    #[test]
    fn a_busy_day_beyond_the_bounds(
        story in stories(Shape { most_events: 120, ids: 250, long_gaps: false }), retention in small(),
    ) {
        tell(&story, retention)?;
    }
}
