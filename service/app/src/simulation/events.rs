//! What is sent: payments, logins, labels and changes of lists, on time, late, early and too old, again, and again with other content.

use super::plan::Plan;
use crate::journal::record::Body;
use crate::traffic::dice::Dice;
use verdict_core::event::{Label, LabelSource, Login, Transaction};
use verdict_core::geo::Coordinates;
use verdict_core::lists::{List, ListAction, ListChange, ListKey, ListKind, ListSource};
use verdict_core::money::{BaseMinor, Currency, Money};
use verdict_core::time::{DAY_MS, HOUR_MS, MINUTE_MS, Timestamp};

const PLACES: [(f64, f64); 4] = [(40.7128, -74.006), (40.73, -73.99), (34.05, -118.24), (48.85, 2.35)];

/// Something to send.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Event {
    Pay(Transaction),
    LogIn(Login),
    Tell(Label),
    List(ListChange),
}

impl Event {
    /// Whose it is; of a list entry the value that it names.
    pub(super) fn user(&self) -> &str {
        match self {
            Self::List(change) => &change.key.value,
            Self::Pay(payment) => &payment.user_id,
            Self::LogIn(login) => &login.user_id,
            Self::Tell(label) => &label.user_id,
        }
    }

    /// The time of what it tells of; a change of a list tells of nothing.
    pub(super) fn at(&self) -> Option<Timestamp> {
        match self {
            Self::Pay(payment) => Some(payment.at),
            Self::LogIn(login) => Some(login.at),
            Self::Tell(label) => Some(label.at),
            Self::List(_) => None,
        }
    }

    /// When the entry that it asks for ends.
    pub(super) fn ends(&self) -> Option<Timestamp> {
        match self {
            Self::List(ListChange { action: ListAction::Put { expires_at, .. }, .. }) => *expires_at,
            Self::Pay(_) | Self::LogIn(_) | Self::Tell(_) | Self::List(_) => None,
        }
    }

    /// Whether both are the same kind of event of the same user with the same id.
    pub(super) fn shares_id(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Pay(a), Self::Pay(b)) => (&a.user_id, &a.transaction_id) == (&b.user_id, &b.transaction_id),
            (Self::LogIn(a), Self::LogIn(b)) => (&a.user_id, &a.login_id) == (&b.user_id, &b.login_id),
            _ => false,
        }
    }

    /// Whether a record holds this event, and counts it.
    pub(super) fn is_in(&self, body: &Body) -> bool {
        match (body, self) {
            (Body::Decision(decided), Self::Pay(payment)) => decided.transaction == *payment,
            (Body::Login(login), Self::LogIn(event)) => login == event,
            (Body::Label(label), Self::Tell(event)) => label == event,
            (Body::List(change), Self::List(event)) => change == event,
            _ => false,
        }
    }

    /// For a trace.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Pay(payment) => {
                format!("{}/{} of {}", payment.user_id, payment.transaction_id, payment.amount.minor())
            }
            Self::LogIn(login) => format!("{}/{}", login.user_id, login.login_id),
            Self::Tell(label) => format!("{}/{} label at {}", label.user_id, label.transaction_id, label.at),
            Self::List(ListChange { key, action, .. }) => {
                let ListKey { list, kind, value } = key;
                let (list, kind) = (list.name(), kind.name());
                match action {
                    ListAction::Put { reason, expires_at } => format!("{list}/{kind}/{value} {reason} {expires_at:?}"),
                    ListAction::Delete => format!("{list}/{kind}/{value} deleted"),
                }
            }
        }
    }
}

/// Everything that was ever drawn; the same event keeps its place.
#[derive(Default)]
pub(super) struct Pool {
    pub(super) events: Vec<Event>,
}

impl Pool {
    /// The place of the event to send next.
    pub(super) fn draw(&mut self, dice: &mut Dice, plan: &Plan, now: Timestamp) -> usize {
        let known = self.events.len() as u32;
        if known > 0 && dice.chance(0.35) {
            // Most retries come soon.
            let back = if dice.chance(0.7) { dice.below(known.min(6)) } else { dice.below(known) };
            return (known - 1 - back) as usize;
        }
        if known > 0 && dice.chance(0.08) {
            let other = tampered(&self.events[dice.below(known) as usize], dice);
            if let Some(place) = self.events.iter().position(|event| *event == other) {
                return place;
            }
            self.events.push(other);
        } else {
            let event =
                if dice.chance(plan.listings) { listing(dice, plan, now) } else { self.fresh(dice, plan.users, now) };
            if let Some(place) = self.events.iter().position(|known| *known == event) {
                return place;
            }
            self.events.push(event);
        }
        self.events.len() - 1
    }

    fn fresh(&self, dice: &mut Dice, users: u32, now: Timestamp) -> Event {
        let (number, user) = (self.events.len(), format!("u-{}", dice.below(users)));
        let at = when(dice, now);
        let place = dice.chance(0.6).then(|| PLACES[dice.below(PLACES.len() as u32) as usize]);
        let location = place.map(|(latitude, longitude)| Coordinates::new(latitude, longitude).expect("a place"));
        match dice.below(10) {
            0..7 => {
                let usd = Currency::from_code("USD").expect("a currency");
                let minor = i64::from(dice.count(1, 40_000));
                Event::Pay(Transaction {
                    transaction_id: format!("t-{number}").into(),
                    user_id: user.into(),
                    amount: Money::from_minor(minor, usd),
                    base: BaseMinor(minor),
                    merchant_id: named(ListKind::Merchant, dice.below(4)),
                    at,
                    ip_address: dice.chance(0.6).then(|| named(ListKind::Ip, dice.below(3))),
                    user_agent: None,
                    device_id: dice.chance(0.6).then(|| named(ListKind::Device, dice.below(3))),
                    merchant_category: None,
                    location,
                })
            }
            7..9 => Event::LogIn(Login {
                login_id: format!("l-{number}").into(),
                user_id: user.into(),
                at,
                ip_address: None,
                device_id: None,
                user_agent: None,
                location,
                success: dice.chance(0.8),
            }),
            _ => self.label(dice, &user, at),
        }
    }

    /// A label of a transaction of anybody, known or not.
    fn label(&self, dice: &mut Dice, user: &str, at: Timestamp) -> Event {
        let about = self.events.get(dice.below(self.events.len() as u32) as usize);
        let (transaction_id, user_id) = match about {
            Some(Event::Pay(payment)) => (payment.transaction_id.clone(), payment.user_id.clone()),
            _ => ("t-unknown".into(), user.into()),
        };
        Event::Tell(Label {
            transaction_id,
            user_id,
            // A source that says two things at the same instant is nowhere defined: what it says follows the time.
            is_fraud: at.as_millis() % 2 == 0,
            source: LabelSource::ALL[dice.below(2) as usize].0,
            at,
            amount_lost: None,
        })
    }
}

/// One of the few that there are of a kind.
fn named(kind: ListKind, number: u32) -> Box<str> {
    let letter = match kind {
        ListKind::User => "u-",
        ListKind::Merchant => "m-",
        ListKind::Device => "d-",
        ListKind::Ip => "203.0.113.",
    };
    format!("{letter}{number}").into()
}

/// What an entry may be about.
pub(super) fn listed(dice: &mut Dice, users: u32) -> ListKey {
    let (kind, count) = [(ListKind::User, users), (ListKind::Merchant, 4), (ListKind::Device, 3), (ListKind::Ip, 3)]
        [dice.below(4) as usize];
    let (list, _) = List::ALL[dice.below(2) as usize];
    ListKey { list, kind, value: named(kind, dice.below(count)) }
}

/// A change of a list entry; few reasons, so that one is asked for that is there already.
fn listing(dice: &mut Dice, plan: &Plan, now: Timestamp) -> Event {
    let key = listed(dice, plan.users);
    let action = if dice.chance(0.4) {
        ListAction::Delete
    } else {
        let expires_at = match dice.below(10) {
            0..5 => None,
            5..7 => Some(now + i64::from(dice.count(2, 6)) * 1_000),
            7..9 => Some(now + i64::from(dice.count(1, 200)) * MINUTE_MS),
            // Over HTTP this is refused: the moment is over.
            _ => Some(now),
        };
        ListAction::Put { reason: format!("r-{}", dice.below(3)).into(), expires_at }
    };
    Event::List(ListChange { key, source: ListSource::Api, action })
}

fn when(dice: &mut Dice, now: Timestamp) -> Timestamp {
    match dice.below(20) {
        0..10 => now - i64::from(dice.below(5_000)),
        10..12 => now,
        12..15 => now - i64::from(dice.count(1, 180)) * MINUTE_MS,
        15..17 => now - i64::from(dice.count(3, 150)) * HOUR_MS,
        17 => now + i64::from(dice.count(1, 20)) * HOUR_MS,
        18 => now - i64::from(dice.count(1, 6)) * DAY_MS,
        _ => now - i64::from(dice.count(17, 40)) * (DAY_MS / 2),
    }
}

fn tampered(event: &Event, dice: &mut Dice) -> Event {
    let mut event = event.clone();
    match &mut event {
        Event::Pay(payment) if dice.chance(0.5) => payment.merchant_id = "m-other".into(),
        Event::Pay(payment) => payment.at = payment.at + 1,
        Event::LogIn(login) => login.success = !login.success,
        Event::Tell(label) => {
            label.at = label.at + i64::from(dice.below(3));
            label.is_fraud = label.at.as_millis() % 2 == 0;
        }
        Event::List(change) => change.key.list = List::ALL[dice.below(2) as usize].0,
    }
    event
}
