//! What honest people do, the things that make them look like thieves included.

use super::Client;
use super::dice::Dice;
use super::generator::{Basket, Generator, Plan};
use super::world::{CITIES, City, DIGITAL, near};

/// Chance that a session starts a trip to another city.
const TRIP: f64 = 0.008;
/// Chance that a login comes out of a gateway in another city (a VPN, a company network).
const FAR_GATEWAY: f64 = 0.006;
/// Chance of a spree: many purchases at everyday prices within the hour.
const SPREE: f64 = 0.02;
/// Chance of a burst of small digital purchases, such as items in a game.
const SMALL_BURST: f64 = 0.012;
/// Chance that a purchase is a rare large one: a holiday, a fridge, a ring.
const LARGE: f64 = 0.02;

const DAY_SECS: f64 = 86_400.0;

/// What kind of session it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    Everyday,
    Spree,
    SmallBurst,
}

impl Generator {
    /// Plans a session: usually a login, then one or more purchases.
    pub(super) fn honest_session(&mut self, user: u32, at_ms: i64) {
        if self.users[user as usize].trip.is_none() && self.dice.chance(TRIP) {
            let city = self.dice.weighted(&CITIES, |city| city.weight) as u8;
            let until_ms = at_ms + self.dice.seconds_ms(DAY_SECS, 8.0 * DAY_SECS);
            self.users[user as usize].trip = Some((city, until_ms));
        }
        let person = &mut self.users[user as usize];
        let (city, place) = person.place(at_ms);
        let login_share = person.login_share;
        let client = own_client(user, place, &mut self.dice);
        let mut at_ms = at_ms;
        if self.dice.chance(login_share) {
            at_ms = self.honest_login(user, at_ms, client);
        }
        self.honest_purchases(user, at_ms, city, client);
    }

    /// Plans a login, now and then with a mistyped password first; returns when the person starts to shop.
    fn honest_login(&mut self, user: u32, at_ms: i64, client: Client) -> i64 {
        let mut client = client;
        if self.dice.chance(FAR_GATEWAY) {
            let gateway = &CITIES[self.dice.weighted(&CITIES, |city| city.weight)];
            client.location = Some((gateway.latitude, gateway.longitude));
            client.address = self.dice.below(u32::MAX);
        } else if self.dice.chance(0.05) {
            client.location = None;
        }
        let mut at_ms = at_ms;
        if self.dice.chance(0.03) {
            self.plan(at_ms, user, Plan::Login(client, false));
            at_ms += self.dice.seconds_ms(4.0, 40.0);
        }
        self.plan(at_ms, user, Plan::Login(client, true));
        // Most buy within minutes; some come back to the open page hours later.
        let browsing_secs = if self.dice.chance(0.1) { 4.0 * 3600.0 } else { 900.0 };
        at_ms + self.dice.seconds_ms(20.0, browsing_secs)
    }

    fn honest_purchases(&mut self, user: u32, at_ms: i64, city: &'static City, client: Client) {
        let (mood, count, pause_secs) = match self.dice.unit() {
            part if part < SPREE => (Mood::Spree, self.dice.count(4, 9), 600.0),
            part if part < SPREE + SMALL_BURST => (Mood::SmallBurst, self.dice.count(4, 9), 150.0),
            _ => (Mood::Everyday, 1 + u32::from(self.dice.chance(0.2)) + u32::from(self.dice.chance(0.06)), 1500.0),
        };
        let mut at_ms = at_ms;
        for _ in 0..count {
            let basket = self.honest_basket(user, mood, city, client);
            self.plan(at_ms, user, Plan::Purchase(basket));
            at_ms += self.dice.seconds_ms(15.0, pause_secs);
        }
    }

    fn honest_basket(&mut self, user: u32, mood: Mood, city: &'static City, client: Client) -> Basket {
        let person = &self.users[user as usize];
        let travelling = person.trip.is_some();
        let spend = person.spend;
        let favourite = person.favourites[self.dice.below(person.favourites.len() as u32) as usize];
        let merchant = match mood {
            Mood::SmallBurst => self.merchants.selling(&DIGITAL, &mut self.dice),
            Mood::Everyday if !travelling && self.dice.chance(0.8) => favourite,
            Mood::Everyday | Mood::Spree => self.merchants.any(&mut self.dice),
        };
        let category = self.merchants.category(merchant);
        let usd = if mood == Mood::SmallBurst {
            self.dice.between(0.5, 5.0)
        } else {
            let rare = if self.dice.chance(LARGE) { self.dice.between(2.5, 9.0) } else { 1.0 };
            category.median_usd * spend * rare * self.dice.log_normal(category.sigma)
        };
        let mut client = client;
        if self.dice.chance(0.1) {
            client.location = None;
        } else if let Some((latitude, longitude)) = client.location {
            client.location = Some(near(latitude, longitude, 12.0, &mut self.dice));
        }
        Basket { merchant, usd, currency: city.currency, client, fraud: false }
    }
}

/// A person's own phone or computer where they are.
pub(super) fn own_client(user: u32, place: (f64, f64), dice: &mut Dice) -> Client {
    let device = u64::from(user) * 4 + u64::from(dice.chance(0.25));
    let address = super::dice::mix(u64::from(user)) as u32;
    Client { location: Some(near(place.0, place.1, 8.0, dice)), device, address }
}
