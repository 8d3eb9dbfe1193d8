//! Random stories of one user: few ids, so that they meet again, and times that crowd around every boundary.

use crate::naive::A_MONDAY;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use verdict_core::decision::{Decision, Outcome};
use verdict_core::event::{Label, LabelSource, Login, Transaction};
use verdict_core::geo::Coordinates;
use verdict_core::lists::{List, ListAction, ListChange, ListEntry, ListKey, ListKind, ListSource};
use verdict_core::money::{BaseMinor, Currency, MAX_MINOR, Money};
use verdict_core::time::Timestamp;

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// An event as it arrives.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Pay(Transaction, Option<ListEntry>),
    LogIn(Login),
    Tell(Label),
    List(ListChange),
}

/// When something happens, told by what happened before.
#[derive(Clone, Debug)]
enum When {
    /// After the newest event (before it, when negative).
    AfterNewest(i64),
    /// At a distance from one of the last events.
    Near(Index, i64),
    /// Around midnight, so many days before the newest event's.
    Midnight(i64, i64),
}

/// A step before its time is known.
#[derive(Clone, Debug)]
enum Step {
    Pay {
        id: u8,
        minor: i64,
        base: i64,
        merchant: u8,
        place: Option<(f64, f64)>,
        entry: Option<(List, Option<i64>)>,
    },
    LogIn {
        id: u8,
        success: bool,
        place: Option<(f64, f64)>,
    },
    Tell {
        transaction: u8,
        source: usize,
        shift: i64,
    },
    /// Puts an entry on a list for so long, or for ever, or takes it off.
    List {
        list: List,
        put: Option<Option<i64>>,
    },
    /// The same event once more.
    Again(Index),
    /// The same id once more, with other content.
    Tampered(Index, u8),
}

/// What a story is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) most_events: usize,
    /// Different transaction ids; login ids are half as many.
    pub(crate) ids: u8,
    /// Whether the user may fall silent for more than a month.
    pub(crate) long_gaps: bool,
}

/// A story with its beginning.
pub(crate) fn stories(shape: Shape) -> impl Strategy<Value = Vec<Event>> {
    let ids = prop_oneof![Just(8.min(shape.ids)), Just(shape.ids)];
    let start = select(vec![A_MONDAY, A_MONDAY + 5 * DAY - 1, A_MONDAY + 13 * HOUR + 17, -5 * DAY]);
    (ids, start).prop_flat_map(move |(ids, start)| {
        prop::collection::vec((step(ids), when(shape.long_gaps)), 1..=shape.most_events)
            .prop_map(move |steps| resolve(start, &steps))
    })
}

fn when(long_gaps: bool) -> impl Strategy<Value = When> {
    let lengths = [0, 1_000, HOUR, DAY, 7 * DAY, 8 * DAY];
    let jitter = || prop_oneof![4 => Just(0_i64), 1 => Just(-1), 1 => Just(1)];
    let gap = if long_gaps { 1 } else { 0 };
    prop_oneof![
        8 => (0..3 * HOUR).prop_map(When::AfterNewest),
        4 => Just(When::AfterNewest(0)),
        4 => (-8 * DAY..0).prop_map(When::AfterNewest),
        4 => (select(lengths.to_vec()), jitter()).prop_map(|(length, jitter)| When::AfterNewest(jitter - length)),
        8 => (any::<Index>(), select(vec![0, HOUR, DAY, -HOUR, -DAY]), jitter())
            .prop_map(|(index, length, jitter)| When::Near(index, length + jitter)),
        2 => (any::<Index>(), select(lengths.to_vec()), jitter())
            .prop_map(|(index, length, jitter)| When::Near(index, length + jitter)),
        3 => (0..9_i64, jitter()).prop_map(|(days, jitter)| When::Midnight(days, jitter)),
        gap => (select(vec![29 * DAY, 30 * DAY, 38 * DAY, 40 * DAY]), jitter())
            .prop_map(|(length, jitter)| When::AfterNewest(length + jitter)),
    ]
}

fn step(ids: u8) -> impl Strategy<Value = Step> {
    let minor = || prop_oneof![4 => 1..200_000_i64, 1 => Just(0), 1 => Just(1), 1 => Just(MAX_MINOR)];
    let places = vec![(0.0, 0.0), (-0.0, 0.0), (40.7128, -74.006), (34.05, -118.24), (89.9, 10.0), (0.0, 180.0)];
    let place = move || prop::option::weighted(0.6, select(places.clone()));
    let expiry = prop::option::weighted(0.8, select(vec![0, 1, HOUR, DAY, 2 * DAY]));
    let list = || prop_oneof![3 => Just(List::Block), 1 => Just(List::Allow)];
    let entry = prop::option::weighted(0.1, (list(), expiry.clone()));
    let put = prop::option::weighted(0.7, expiry);
    prop_oneof![
        12 => (0..ids, minor(), minor(), 0..5_u8, place(), entry)
            .prop_map(|(id, minor, base, merchant, place, entry)| Step::Pay { id, minor, base, merchant, place, entry }),
        5 => (0..ids.div_ceil(2), prop::bool::weighted(0.7), place())
            .prop_map(|(id, success, place)| Step::LogIn { id, success, place }),
        2 => (0..4_u8, 0..LabelSource::ALL.len(), -3..3_i64)
            .prop_map(|(transaction, source, shift)| Step::Tell { transaction, source, shift }),
        1 => (list(), put).prop_map(|(list, put)| Step::List { list, put }),
        2 => any::<Index>().prop_map(Step::Again),
        1 => (any::<Index>(), 0..6_u8).prop_map(|(index, field)| Step::Tampered(index, field)),
    ]
}

/// Gives every step its time.
fn resolve(start: i64, steps: &[(Step, When)]) -> Vec<Event> {
    let mut events: Vec<Event> = Vec::with_capacity(steps.len());
    let mut times: Vec<i64> = vec![start];
    for (step, when) in steps {
        let newest = times.iter().copied().max().unwrap_or(start);
        let at = match when {
            When::AfterNewest(shift) => newest + shift,
            When::Near(index, shift) => {
                let last = &times[times.len().saturating_sub(8)..];
                last[index.index(last.len())] + shift
            }
            When::Midnight(days, jitter) => newest - newest.rem_euclid(DAY) - days * DAY + jitter,
        };
        let earlier = |index: &Index| events.get(index.index(events.len().max(1))).cloned();
        let event = match step {
            Step::Again(index) => earlier(index),
            Step::Tampered(index, field) => earlier(index).map(|event| tampered(event, *field)),
            fresh => Some(told(fresh, at)),
        };
        let Some(event) = event else { continue };
        if matches!(step, Step::Pay { .. } | Step::LogIn { .. }) {
            times.push(at);
        }
        events.push(event);
    }
    events
}

fn told(step: &Step, at: i64) -> Event {
    let when = Timestamp::from_millis(at);
    let point = |place: &Option<(f64, f64)>| place.map(|(lat, lon)| Coordinates::new(lat, lon).expect("a place"));
    match step {
        Step::Pay { id, minor, base, merchant, place, entry } => {
            let entry = entry.map(|(list, length)| {
                let expires_at = length.map(|length| when + length);
                // Entries that end together are the same, so that it does not matter which of them stays.
                ListEntry { list, reason: format!("until {expires_at:?}").into(), alert_id: None, expires_at }
            });
            let mut transaction = payment(&format!("t-{id}"), at, *minor);
            transaction.base = BaseMinor(*base);
            transaction.merchant_id = format!("m-{merchant}").into();
            transaction.location = point(place);
            Event::Pay(transaction, entry)
        }
        Step::LogIn { id, success, place } => {
            let login = login(&format!("l-{id}"), when);
            Event::LogIn(Login { location: point(place), success: *success, ..login })
        }
        Step::Tell { transaction, source, shift } => {
            let at = A_MONDAY + shift * HOUR;
            Event::Tell(Label {
                transaction_id: format!("t-{transaction}").into(),
                user_id: "u-7".into(),
                // A source that says two things at the same instant is nowhere defined: what it says follows the time.
                is_fraud: shift % 2 == 0,
                source: LabelSource::ALL[*source].0,
                at: Timestamp::from_millis(at),
                amount_lost: (shift % 3 == 0).then_some(BaseMinor(at % 1_000)),
            })
        }
        Step::List { list, put } => {
            let action = match put {
                Some(length) => {
                    let expires_at = length.map(|length| when + length);
                    ListAction::Put { reason: format!("asked until {expires_at:?}").into(), expires_at }
                }
                None => ListAction::Delete,
            };
            let key = ListKey { list: *list, kind: ListKind::User, value: "u-7".into() };
            Event::List(ListChange { key, source: ListSource::Api, action })
        }
        Step::Again(_) | Step::Tampered(..) => unreachable!("these have their event already"),
    }
}

/// A plain payment of the story's user.
pub(crate) fn payment(id: &str, at: i64, minor: i64) -> Transaction {
    Transaction {
        transaction_id: id.into(),
        user_id: "u-7".into(),
        amount: Money::from_minor(minor, currency("EUR")),
        base: BaseMinor(minor),
        merchant_id: "m-1".into(),
        at: Timestamp::from_millis(at),
        ip_address: None,
        user_agent: None,
        device_id: Some("d-1".into()),
        merchant_category: None,
        location: None,
    }
}

/// A plain successful login of the story's user.
pub(crate) fn login(id: &str, at: Timestamp) -> Login {
    Login {
        login_id: id.into(),
        user_id: "u-7".into(),
        at,
        ip_address: None,
        device_id: Some("d-1".into()),
        user_agent: None,
        location: None,
        success: true,
    }
}

/// Changes one part of an event and keeps its id; a base amount is no part of the content.
fn tampered(event: Event, field: u8) -> Event {
    match event {
        Event::Pay(mut payment, entry) => {
            match field {
                0 => payment.amount = Money::from_minor(payment.amount.minor() + 1, payment.amount.currency()),
                1 => payment.amount = Money::from_minor(payment.amount.minor(), currency("GBP")),
                2 => payment.merchant_id = "m-other".into(),
                3 => payment.at = payment.at + 1,
                4 => payment.device_id = None,
                _ => payment.base = BaseMinor(payment.base.0 + 1),
            }
            Event::Pay(payment, entry)
        }
        Event::LogIn(mut login) => {
            match field {
                0 | 1 => login.success = !login.success,
                2 => login.at = login.at + 1,
                3 => login.user_agent = Some("".into()),
                _ => login.location = None,
            }
            Event::LogIn(login)
        }
        other @ (Event::Tell(_) | Event::List(_)) => other,
    }
}

/// A decision that does nothing but perhaps put the user on a list.
pub(crate) fn decision(block_entry: Option<ListEntry>) -> Decision {
    let outcome = if block_entry.is_some() { Outcome::Block } else { Outcome::Approve };
    Decision {
        outcome,
        score: None,
        risk_level: outcome.into(),
        reasons: Vec::new(),
        degraded: Vec::new(),
        rule_hits: Vec::new(),
        list_hits: Vec::new(),
        alert: block_entry.is_some(),
        block_entry,
    }
}

pub(crate) fn currency(code: &str) -> Currency {
    Currency::from_code(code).expect("a currency of the tables")
}
