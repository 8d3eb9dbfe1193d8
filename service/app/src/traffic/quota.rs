//! How many events of each kind are wanted: the rest of the stream is left out, spread over all of it, so that a run has
//! exactly the payments and logins that were asked for.

use super::{Event, Kind};

/// How many of each kind; `None` leaves the kind as it comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// Payments, with which the stream ends.
    pub transactions: Option<u64>,
    /// Logins, never more for each payment than in the whole.
    pub logins: Option<u64>,
    /// Labels, the first of them.
    pub labels: Option<u64>,
}

/// A stream cut to a quota.
#[derive(Debug)]
pub struct Selected<I> {
    events: I,
    quota: Quota,
    transactions: u64,
    logins: u64,
    labels: u64,
}

impl Quota {
    /// The events of a stream that are wanted.
    pub const fn of<I: Iterator<Item = Event>>(self, events: I) -> Selected<I> {
        Selected { events, quota: self, transactions: 0, logins: 0, labels: 0 }
    }
}

impl<I> Selected<I> {
    fn is_done(&self) -> bool {
        self.quota
            .transactions
            .is_some_and(|all| self.transactions >= all && self.quota.logins.is_none_or(|logins| self.logins >= logins))
    }

    fn wants(&mut self, event: &Event) -> bool {
        let Quota { transactions, logins, labels } = self.quota;
        let (wanted, count) = match event.kind {
            Kind::Purchase(_) => (transactions.is_none_or(|all| self.transactions < all), &mut self.transactions),
            Kind::Login(_) => {
                let in_time = transactions
                    .zip(logins)
                    .is_none_or(|(all, logins)| self.logins * all <= self.transactions * logins);
                (in_time && logins.is_none_or(|logins| self.logins < logins), &mut self.logins)
            }
            Kind::Label(_) => (labels.is_none_or(|all| self.labels < all), &mut self.labels),
        };
        *count += u64::from(wanted);
        wanted
    }
}

impl<I: Iterator<Item = Event>> Iterator for Selected<I> {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        while !self.is_done() {
            let event = self.events.next()?;
            if self.wants(&event) {
                return Some(event);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Generator, Shape};
    use super::*;

    fn kinds(quota: Quota) -> Vec<usize> {
        let events = quota.of(Generator::new(Shape::natural(200, 5_000, 3, 0))).take(20_000);
        events.map(|event| ["p", "l", "w"].iter().position(|kind| *kind == name(event.kind)).unwrap_or(9)).collect()
    }

    fn name(kind: Kind) -> &'static str {
        match kind {
            Kind::Purchase(_) => "p",
            Kind::Login(_) => "l",
            Kind::Label(_) => "w",
        }
    }

    fn counts(kinds: &[usize]) -> [usize; 3] {
        [0, 1, 2].map(|kind| kinds.iter().filter(|found| **found == kind).count())
    }

    #[test]
    fn exactly_what_was_asked_for_comes_and_logins_are_spread() {
        let found = kinds(Quota { transactions: Some(1_000), logins: Some(100), labels: Some(0) });
        assert_eq!(counts(&found), [1_000, 100, 0]);
        let half = counts(&found[..found.len() / 2]);
        assert!((45..=55).contains(&half[1]), "{half:?}");
    }

    #[test]
    fn without_a_quota_nothing_is_left_out() {
        let all: Vec<Event> = Generator::new(Shape::natural(50, 500, 3, 0)).take(500).collect();
        let same: Vec<Event> = Quota::default().of(Generator::new(Shape::natural(50, 500, 3, 0))).take(500).collect();
        assert_eq!(all, same);
        let found = kinds(Quota { transactions: Some(500), ..Quota::default() });
        let [purchases, logins, _] = counts(&found);
        assert!(purchases == 500 && logins > 100, "{purchases} and {logins}");
    }
}
