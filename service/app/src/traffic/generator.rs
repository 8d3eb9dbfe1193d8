//! The clock of the simulated world: a queue of what is going to happen, taken in order of time.
//!
//! It decides when people arrive, return and report fraud; what they do is in `honest`, what thieves do in `fraud`.

use super::dice::Dice;
use super::population::{MEAN_APPETITE, User};
use super::world::{Currency, Merchants};
use super::{Client, DAY_MS, Event, Kind, Label, Login, Purchase, SHARE_FROM_START, Shape};
use std::cmp::Ordering;
use std::collections::BinaryHeap;

const HOUR_MS: f64 = 3_600_000.0;
/// A stolen purchase counts when it is planned if it comes within this time, so that episodes do not pile up, and else
/// when it happens, so that a leaked card of next week does not stand for the fraud of today.
const FRAUD_COUNTED_AHEAD_MS: i64 = 3_600_000;

/// Something that is going to happen.
#[derive(Clone, Copy, Debug)]
pub(super) enum Plan {
    /// The next person arrives.
    Arrival,
    /// A person may buy something.
    Session,
    /// A purchase.
    Purchase(Basket),
    /// A login.
    Login(Client, bool),
    /// A report.
    Label(Label),
}

/// A purchase that is going to happen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Basket {
    /// Who is paid.
    pub(super) merchant: u32,
    /// The price in US dollars.
    pub(super) usd: f64,
    /// What is paid with.
    pub(super) currency: Currency,
    /// Where from.
    pub(super) client: Client,
    /// The truth.
    pub(super) fraud: bool,
}

#[derive(Clone, Copy, Debug)]
struct Scheduled {
    at_ms: i64,
    /// Order among plans of the same instant: first planned, first done.
    sequence: u64,
    user: u32,
    plan: Plan,
    planned_ms: i64,
}

impl Ord for Scheduled {
    /// Reversed: the heap gives its greatest, and the earliest is wanted.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at_ms, other.sequence).cmp(&(self.at_ms, self.sequence))
    }
}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Scheduled {}

/// An endless stream of events in event-time order.
#[derive(Debug)]
pub struct Generator {
    shape: Shape,
    pub(super) dice: Dice,
    pub(super) merchants: Merchants,
    pub(super) users: Vec<User>,
    queue: BinaryHeap<Scheduled>,
    sequence: u64,
    purchases: u64,
    logins: u64,
    /// The present of this world.
    now_ms: i64,
    /// Fraudulent purchases that were counted when they were planned or when they happened.
    fraud_counted: u64,
    /// Purchases up to this number were not shown to anyone, so nobody reports them.
    unseen: u64,
}

impl Generator {
    /// A world of this shape.
    #[must_use]
    pub fn new(shape: Shape) -> Self {
        let shape = Shape { users: shape.users.max(1), ..shape };
        let merchants = Merchants::new(shape.seed, (shape.users / 4).clamp(200, 20_000));
        let mut world = Self {
            dice: Dice::new(shape.seed, super::STREAM_EVENTS, 0),
            merchants,
            users: Vec::new(),
            queue: BinaryHeap::new(),
            sequence: 0,
            purchases: 0,
            logins: 0,
            now_ms: shape.start_ms,
            fraud_counted: 0,
            unseen: 0,
            shape,
        };
        let from_start = ((f64::from(shape.users) * SHARE_FROM_START) as u32).max(1);
        for _ in 0..from_start {
            world.arrive(shape.start_ms);
        }
        world.plan_arrival();
        world
    }

    /// Lets the world run without anyone looking: the events before this time are gone, reports about them included.
    pub fn run_until(&mut self, at_ms: i64) {
        while self.queue.peek().is_some_and(|next| next.at_ms < at_ms) {
            self.step();
        }
        self.unseen = self.purchases;
    }

    /// Puts something on the agenda.
    pub(super) fn plan(&mut self, at_ms: i64, user: u32, plan: Plan) {
        let soon = at_ms < self.now_ms + FRAUD_COUNTED_AHEAD_MS;
        if soon && matches!(plan, Plan::Purchase(Basket { fraud: true, .. })) {
            self.fraud_counted += 1;
        }
        self.sequence += 1;
        self.queue.push(Scheduled { at_ms, sequence: self.sequence, user, plan, planned_ms: self.now_ms });
    }

    fn arrive(&mut self, at_ms: i64) {
        let index = self.users.len() as u32;
        self.users.push(User::new(self.shape.seed, index, &self.merchants));
        self.plan_session(index, at_ms);
    }

    fn plan_arrival(&mut self) {
        let there = self.users.len() as u32;
        if there < self.shape.users {
            let share = (f64::from(there) / f64::from(self.shape.users) - SHARE_FROM_START) / (1.0 - SHARE_FROM_START);
            let at_ms = self.shape.start_ms + (share.max(0.0) * self.shape.span_ms as f64) as i64;
            self.plan(at_ms, 0, Plan::Arrival);
        }
    }

    /// Candidates for sessions come at a constant rate; how many are taken depends on the hour of the day.
    fn plan_session(&mut self, user: u32, now_ms: i64) {
        let a_day = self.users[user as usize].sessions_per_day * self.shape.pace / MEAN_APPETITE;
        let wait_ms = self.dice.exponential(DAY_MS / a_day.max(1e-6));
        self.plan(now_ms + wait_ms as i64, user, Plan::Session);
    }

    fn session(&mut self, user: u32, at_ms: i64) {
        let appetite = self.users[user as usize].appetite(at_ms);
        if self.dice.chance(appetite) {
            self.honest_session(user, at_ms);
        }
        self.plan_session(user, at_ms);
    }

    fn purchase(&mut self, user: u32, at_ms: i64, basket: Basket, planned_ms: i64) -> Purchase {
        self.purchases += 1;
        if basket.fraud && at_ms >= planned_ms + FRAUD_COUNTED_AHEAD_MS {
            self.fraud_counted += 1;
        }
        let number = self.purchases;
        // Chance spreads the starts; the comparison keeps the share.
        if (self.fraud_counted as f64) < self.shape.fraud_share * self.purchases as f64 && self.dice.chance(0.1) {
            self.start_episode(at_ms);
        }
        if basket.fraud {
            let (source, delay_ms) = self.fraud_report();
            self.plan(at_ms + delay_ms, user, Plan::Label(Label { purchase: number, fraud: true, source }));
        } else if self.dice.chance(0.0005) {
            let delay_ms = self.delay(self.shape.label_delay_scale, 1.0, 24.0);
            self.plan(at_ms + delay_ms, user, Plan::Label(Label { purchase: number, fraud: false, source: "analyst" }));
        }
        let (currency, per_usd, decimals) = basket.currency.terms();
        let amount_minor = ((basket.usd * per_usd * 10_f64.powi(i32::from(decimals))).round() as i64).max(1);
        let category = self.merchants.category(basket.merchant).code;
        let Basket { merchant, client, fraud, .. } = basket;
        Purchase { number, merchant, category, currency, amount_minor, decimals, client, fraud }
    }

    /// Who reports a fraud, and how much later: customers within days, issuers within a week, chargebacks take weeks.
    fn fraud_report(&mut self) -> (&'static str, i64) {
        let scale = self.shape.label_delay_scale;
        match self.dice.unit() {
            part if part < 0.35 => ("customer", self.delay(scale, 1.0, 48.0)),
            part if part < 0.50 => ("issuer", self.delay(scale, 6.0, 120.0)),
            _ => ("chargeback", self.delay(scale, 72.0, 480.0)),
        }
    }

    fn delay(&mut self, scale: f64, low_hours: f64, high_hours: f64) -> i64 {
        (self.dice.between(low_hours, high_hours) * HOUR_MS * scale) as i64
    }

    /// Does what is next; `None` if nothing came of it that the service would see.
    fn step(&mut self) -> Option<Event> {
        // invariant: every session plans the next one, so the queue never runs empty.
        let Scheduled { at_ms, user, plan, planned_ms, .. } = self.queue.pop()?;
        self.now_ms = at_ms;
        let kind = match plan {
            Plan::Arrival => {
                self.arrive(at_ms);
                self.plan_arrival();
                return None;
            }
            Plan::Session => {
                self.session(user, at_ms);
                return None;
            }
            Plan::Purchase(basket) => Kind::Purchase(self.purchase(user, at_ms, basket, planned_ms)),
            Plan::Login(client, success) => {
                self.logins += 1;
                Kind::Login(Login { number: self.logins, client, success })
            }
            Plan::Label(label) if label.purchase <= self.unseen => return None,
            Plan::Label(label) => Kind::Label(label),
        };
        Some(Event { at_ms, user, kind })
    }
}

impl Iterator for Generator {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.step() {
                return Some(event);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::EVENTS_PER_USER_DAY;
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    const START_MS: i64 = 1_767_571_200_000;

    fn events(users: u32, count: usize, seed: u64) -> Vec<Event> {
        Generator::new(Shape::natural(users, count as u64, seed, START_MS)).take(count).collect()
    }

    fn purchases(events: &[Event]) -> impl Iterator<Item = (&Event, &Purchase)> {
        events.iter().filter_map(|event| match &event.kind {
            Kind::Purchase(purchase) => Some((event, purchase)),
            _ => None,
        })
    }

    #[test]
    fn a_month_has_the_promised_fraud_and_density() {
        for seed in [1, 2, 3] {
            let events = events(1_500, 120_000, seed);
            let fraud = purchases(&events).filter(|(_, p)| p.fraud).count() as f64;
            let share = fraud / purchases(&events).count() as f64;
            assert!((0.007..=0.012).contains(&share), "seed {seed}: fraud share {share}");
            let days = (events[events.len() - 1].at_ms - START_MS) as f64 / DAY_MS;
            let a_day = events.len() as f64 / days / 1_500.0 / super::super::MEAN_SHARE_PRESENT;
            assert!((a_day / EVENTS_PER_USER_DAY - 1.0).abs() < 0.1, "seed {seed}: {a_day} events a user and day");
        }
    }

    #[test]
    fn the_first_hours_have_their_share_of_fraud() {
        let mut fraud = 0.0;
        let mut all = 0.0;
        for seed in 0..5 {
            for (_, purchase) in purchases(&events(50_000, 15_000, seed)) {
                all += 1.0;
                fraud += f64::from(u8::from(purchase.fraud));
            }
        }
        assert!((0.005..0.013).contains(&(fraud / all)), "{fraud} of {all}");
    }

    #[test]
    fn the_share_of_fraud_can_be_set() {
        for share in [0.0, 0.05, 0.2] {
            let shape = Shape { fraud_share: share, ..Shape::natural(1_000, 60_000, 4, START_MS) };
            let events: Vec<Event> = Generator::new(shape).take(60_000).collect();
            let fraud = purchases(&events).filter(|(_, p)| p.fraud).count() as f64;
            let found = fraud / purchases(&events).count() as f64;
            assert!((share * 0.7..=share * 1.2).contains(&found), "expected {share}, found {found}");
        }
    }

    #[test]
    fn what_nobody_saw_is_not_reported() {
        let shape = Shape { label_delay_scale: 0.001, ..Shape::natural(500, 20_000, 6, START_MS) };
        let mut world = Generator::new(shape);
        let from_ms = START_MS + 2 * DAY_MS as i64;
        world.run_until(from_ms);
        let events: Vec<Event> = world.take(20_000).collect();
        assert!(events[0].at_ms >= from_ms);
        let seen: std::collections::HashSet<u64> = purchases(&events).map(|(_, purchase)| purchase.number).collect();
        let labels = events.iter().filter_map(|event| match event.kind {
            Kind::Label(label) => Some(label.purchase),
            _ => None,
        });
        let mut reported = 0;
        for purchase in labels {
            assert!(seen.contains(&purchase), "purchase {purchase} was never seen");
            reported += 1;
        }
        assert!(reported > 20, "{reported}");
    }

    #[test]
    fn new_people_arrive_until_the_end() {
        let events = events(1_000, 60_000, 5);
        let mut first_seen: HashMap<u32, usize> = HashMap::new();
        for (index, event) in events.iter().enumerate() {
            first_seen.entry(event.user).or_insert(index);
        }
        let late = first_seen.values().filter(|index| **index > events.len() * 3 / 4).count();
        assert!(late > 60, "{late} people first seen in the last quarter");
    }

    #[test]
    fn people_spend_in_several_currencies_and_thieves_do_not_stand_out_by_being_new() {
        let events = events(2_000, 100_000, 11);
        let mut by_currency: HashMap<&str, usize> = HashMap::new();
        let mut seen = std::collections::HashSet::new();
        let (mut first, mut first_fraud) = (0.0, 0.0);
        for (event, purchase) in purchases(&events) {
            *by_currency.entry(purchase.currency).or_default() += 1;
            if seen.insert(event.user) {
                first += 1.0;
                first_fraud += f64::from(u8::from(purchase.fraud));
            }
        }
        assert_eq!(by_currency.len(), 6, "{by_currency:?}");
        assert!(by_currency["USD"] > by_currency["JPY"]);
        assert!(first_fraud / first < 0.02, "{first_fraud} of {first} first purchases");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// Order, identity, and labels that speak of purchases that happened before.
        #[test]
        fn the_stream_is_a_history(seed: u64, users in 1_u32..400) {
            let history = events(users, 4_000, seed);
            let mut bought: HashMap<u64, (u32, bool, i64)> = HashMap::new();
            let mut logins = std::collections::HashSet::new();
            let mut last_ms = START_MS;
            for event in &history {
                prop_assert!(event.at_ms >= last_ms);
                last_ms = event.at_ms;
                match event.kind {
                    Kind::Purchase(purchase) => {
                        prop_assert!(purchase.amount_minor >= 1);
                        let known = bought.insert(purchase.number, (event.user, purchase.fraud, event.at_ms));
                        prop_assert!(known.is_none());
                    }
                    Kind::Login(login) => prop_assert!(logins.insert(login.number)),
                    Kind::Label(label) => {
                        let (user, fraud, at_ms) = bought[&label.purchase];
                        prop_assert_eq!((user, fraud), (event.user, label.fraud));
                        prop_assert!(at_ms < event.at_ms);
                    }
                }
            }
            prop_assert_eq!(&history, &events(users, 4_000, seed));
        }
    }
}
