//! The index against the walk, and against an index built anew: equal after any history, whatever the order of arrival.

use super::*;
use crate::event::Transaction;
use crate::money::{BaseMinor, Currency, Money};
use crate::profile::Retention;
use crate::profile::spending::Spending;
use proptest::prelude::*;
use proptest::sample::select;

const MONDAY: i64 = 1_795_392_000_000;

/// One payment, its time told by the newest before it.
#[derive(Clone, Debug)]
struct Step {
    after_newest_ms: i64,
    id: u16,
    merchant: u8,
    minor: i64,
    /// How far a login advances the profile's newest timestamp beyond the payment's.
    login_ms: i64,
    /// Whether the profile is copied first, and so loses its index.
    copied: bool,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let ahead = || prop_oneof![6 => 0..60_000_i64, 4 => 0..4 * HOUR_MS, 1 => select(vec![HOUR_MS, DAY_MS, 7 * DAY_MS])];
    let behind = prop_oneof![
        4 => -5_000..0_i64,
        2 => -2 * DAY_MS..0,
        // Below every floor: decided elsewhere, and folded as decided.
        1 => -45 * DAY_MS..0,
        1 => select(vec![-HOUR_MS, -DAY_MS, -7 * DAY_MS, 1 - DAY_MS, -30 * DAY_MS]),
    ];
    let at = prop_oneof![3 => ahead(), 1 => behind, 1 => Just(0)];
    let minor = prop_oneof![4 => 1..1_000_i64, 1 => 1..4_i64, 1 => Just(100_000_000_000)];
    let login = prop_oneof![20 => Just(0_i64), 1 => ahead(), 1 => Just(31 * DAY_MS)];
    let step = (at, 0..60_u16, 0..12_u8, minor, login, prop::bool::weighted(0.05));
    let step = step.prop_map(|(after_newest_ms, id, merchant, minor, login_ms, copied)| Step {
        after_newest_ms,
        id,
        merchant,
        minor,
        login_ms,
        copied,
    });
    prop::collection::vec(step, 1..150)
}

fn retentions() -> impl Strategy<Value = Retention> {
    let bounds = (select(vec![8 * DAY_MS, HOUR_MS, 0]), select(vec![5_usize, 40, 20_000]), 1..=40_usize);
    bounds.prop_map(|(dedupe_ms, max_payments, index_from)| Retention {
        dedupe_ms,
        max_payments,
        index_from,
        ..Retention::default()
    })
}

fn payment(step: &Step, at: Timestamp) -> Transaction {
    let currency = Currency::from_code("EUR").expect("a currency of the tables");
    Transaction {
        transaction_id: format!("t-{}", step.id).into(),
        user_id: "u-7".into(),
        amount: Money::from_minor(step.minor, currency),
        base: BaseMinor(step.minor),
        merchant_id: format!("m-{}", step.merchant).into(),
        at,
        ip_address: None,
        user_agent: None,
        device_id: None,
        merchant_category: None,
        location: None,
    }
}

/// The index equals one of the same payments that never saw them arrive.
fn check_built(spending: &Spending) -> Result<bool, TestCaseError> {
    let Some(found) = spending.index.get() else { return Ok(false) };
    let payments = Payments { older: &spending.older, recent: &spending.recent };
    let mut built = Index::starting_at(found.front, found.before, payments).expect("in order, or there is no index");
    // Of two payments of one id at one instant, the first to go takes the id along; no floor lets anybody ask for it.
    let dropped = spending.dropped.unwrap_or(Timestamp::MIN);
    built.ids.retain(|_, at| *at > dropped);
    let mut ids = found.ids.clone();
    ids.retain(|_, at| *at > dropped);
    prop_assert_eq!(&ids, &built.ids);
    built.ids = found.ids.clone();
    prop_assert_eq!(found, &built);
    prop_assert!(found.ids.len() <= spending.recent.len(), "nothing is kept of what is gone");
    Ok(true)
}

/// Every question has the answer of a profile without an index.
fn check_answers(spending: &Spending, step: &Step, newest: Timestamp, floor: Timestamp) -> Result<(), TestCaseError> {
    let plain = spending.clone();
    prop_assert!(plain.index.get().is_none(), "a copy starts without");
    let last = spending.recent.back().map_or(newest, |payment| payment.at);
    for distance in [0, 1, HOUR_MS, DAY_MS - 1, DAY_MS, 8 * DAY_MS, 31 * DAY_MS, -1, -5_000, -HOUR_MS, -DAY_MS] {
        for with in [None, Some((step.minor, "m-1")), Some((1, "m-new"))] {
            let at = last + distance;
            prop_assert_eq!(spending.windows(at, with), plain.windows(at, with), "{} {:?}", distance, with);
        }
    }
    for payment_at in [newest, last, last - HOUR_MS] {
        for id in [step.id, step.id + 1, 61] {
            let again = payment(&Step { id, ..step.clone() }, payment_at);
            for floor in [floor, last - 2 * HOUR_MS, last] {
                prop_assert_eq!(spending.admit(&again, Some(floor)), plain.admit(&again, Some(floor)));
            }
        }
    }
    Ok(())
}

fn tell(steps: &[Step], retention: &Retention) -> Result<(), TestCaseError> {
    let mut spending = Spending::default();
    let mut newest = Timestamp::from_millis(MONDAY);
    for (step, n) in steps.iter().zip(0..) {
        if step.copied {
            spending = spending.clone();
        }
        let at = newest + step.after_newest_ms;
        newest = newest.max(at);
        spending.insert(&payment(step, at), n, newest, retention);
        newest = newest + step.login_ms;
        let indexed = check_built(&spending)?;
        let payments = Payments { older: &spending.older, recent: &spending.recent };
        if spending.len() >= retention.index_from {
            prop_assert_eq!(indexed, payments.in_order(), "{} payments", spending.len());
        }
        prop_assert!(!indexed || 2 * spending.len() >= retention.index_from, "{} payments", spending.len());
        check_answers(&spending, step, newest, newest - retention.dedupe_ms)?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_index_equals_the_walk(steps in steps(), retention in retentions()) {
        tell(&steps, &retention)?;
    }

    /// Looked for from anywhere, a place is where counting finds it.
    #[test]
    fn a_place_is_found_from_anywhere(times in prop::collection::vec(0..40_i64, 0..40), bound in -1..41_i64) {
        let mut times = times;
        times.sort_unstable();
        let older: VecDeque<Spent> =
            times.iter().map(|at| Spent { at: Timestamp::from_millis(*at), minor: 1 }).collect();
        let payments = Payments { older: &older, recent: &VecDeque::new() };
        let expected = times.iter().filter(|at| **at <= bound).count();
        for near in 0..=times.len() {
            prop_assert_eq!(payments.until(Timestamp::from_millis(bound), near), expected, "from {}", near);
        }
    }
}

/// A light user has no index; one about the bound keeps what was built, until payments are clearly fewer.
#[test]
fn only_many_payments_are_indexed() {
    let retention = Retention { dedupe_ms: 0, index_from: 8, ..Retention::default() };
    let mut spending = Spending::default();
    let step = Step { after_newest_ms: 0, id: 1, merchant: 1, minor: 5, login_ms: 0, copied: false };
    let pay = |spending: &mut Spending, n: u64, at: i64| {
        let at = Timestamp::from_millis(MONDAY + at);
        spending.insert(&payment(&step, at), n, at, &retention);
        spending.index.get().is_some()
    };
    for n in 0..7 {
        assert!(!pay(&mut spending, n, n as i64 * DAY_MS), "{n}");
    }
    assert!(pay(&mut spending, 7, 7 * DAY_MS));
    assert!(pay(&mut spending, 8, 33 * DAY_MS + 1), "five are left, and this one");
    assert_eq!(spending.len(), 5);
    assert!(!pay(&mut spending, 9, 36 * DAY_MS + 1));
    assert_eq!(spending.len(), 3);
}
