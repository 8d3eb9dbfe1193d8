//! What thieves do: four scenarios, each with the variety that keeps it from being a fingerprint.

use super::Client;
use super::generator::{Basket, Generator, Plan};
use super::honest::own_client;
use super::world::{CITIES, City, DIGITAL, RESOLD, near};

const MINUTE_SECS: f64 = 60.0;
const HOUR_SECS: f64 = 3_600.0;
const DAY_SECS: f64 = 86_400.0;
/// First device number of thieves; people's own stay below (4 a user).
const FOREIGN_DEVICES: u64 = 1 << 40;

#[derive(Clone, Copy, Debug)]
enum Scenario {
    AccountTakeover,
    CardTesting,
    LeakedCard,
    CompromisedMerchant,
}

/// Scenarios by how often they start; how many purchases each makes is in its function.
const SCENARIOS: [(Scenario, f64); 4] = [
    (Scenario::AccountTakeover, 0.42),
    (Scenario::CardTesting, 0.22),
    (Scenario::LeakedCard, 0.30),
    (Scenario::CompromisedMerchant, 0.06),
];

impl Generator {
    /// Plans one episode of fraud, against anyone who is there.
    pub(super) fn start_episode(&mut self, now_ms: i64) {
        let at_ms = now_ms + (self.dice.exponential(20.0 * MINUTE_SECS) * 1000.0) as i64 + 1;
        let victim = self.dice.below(self.users.len() as u32);
        match SCENARIOS[self.dice.weighted(&SCENARIOS, |(_, weight)| *weight)].0 {
            Scenario::AccountTakeover => self.account_takeover(victim, at_ms),
            Scenario::CardTesting => self.card_testing(victim, at_ms),
            Scenario::LeakedCard => self.leaked_card(victim, at_ms),
            Scenario::CompromisedMerchant => self.compromised_merchant(at_ms),
        }
    }

    /// A thief with the password: a login from elsewhere, then quick purchases of what can be sold again.
    fn account_takeover(&mut self, victim: u32, at_ms: i64) {
        let (city, thief) = self.thief();
        let mut at_ms = at_ms;
        if self.dice.chance(0.2) {
            for _ in 0..self.dice.count(1, 4) {
                self.plan(at_ms, victim, Plan::Login(thief, false));
                at_ms += self.dice.seconds_ms(2.0, 20.0);
            }
        }
        self.plan(at_ms, victim, Plan::Login(thief, true));
        // Some hide behind an address near the victim once they are in.
        let masked = self.dice.chance(0.45);
        let greed = self.dice.between(1.2, 3.5);
        for _ in 0..self.dice.count(2, 7) {
            at_ms += self.dice.seconds_ms(30.0, 9.0 * MINUTE_SECS);
            let codes = if self.dice.chance(0.7) { &RESOLD[..] } else { &["5311", "5651", "4511"][..] };
            let merchant = self.merchants.selling(codes, &mut self.dice);
            let client = if masked { self.masked(victim, thief) } else { thief };
            self.steal(victim, at_ms, merchant, greed, city, client);
        }
    }

    /// A thief with a list of card numbers: tiny amounts to see which work, then the real thing.
    fn card_testing(&mut self, victim: u32, at_ms: i64) {
        let (city, thief) = self.thief();
        let merchant = self.merchants.selling(&DIGITAL, &mut self.dice);
        let mut at_ms = at_ms;
        for _ in 0..self.dice.count(3, 9) {
            let usd = self.dice.between(0.5, 4.0);
            let basket = Basket { merchant, usd, currency: city.currency, client: thief, fraud: true };
            self.plan(at_ms, victim, Plan::Purchase(basket));
            at_ms += self.dice.seconds_ms(5.0, 90.0);
        }
        for _ in 0..self.dice.count(1, 2) {
            at_ms += self.dice.seconds_ms(2.0 * MINUTE_SECS, 40.0 * MINUTE_SECS);
            let merchant = self.merchants.selling(&RESOLD, &mut self.dice);
            self.steal(victim, at_ms, merchant, 3.0, city, thief);
        }
    }

    /// A card number for sale: purchases of three to five times the usual, over days, between the owner's own.
    fn leaked_card(&mut self, victim: u32, at_ms: i64) {
        let (city, thief) = self.thief();
        let days = self.dice.between(1.5, 12.0);
        for _ in 0..self.dice.count(3, 9) {
            let when_ms = at_ms + self.dice.seconds_ms(0.0, days * DAY_SECS);
            let favourites = self.users[victim as usize].favourites;
            let usual = self.merchants.category(favourites[self.dice.below(favourites.len() as u32) as usize]).code;
            let merchant = self.merchants.selling(&[usual], &mut self.dice);
            let factor = self.dice.between(3.0, 5.0);
            let client = if self.dice.chance(0.5) { self.masked(victim, thief) } else { thief };
            self.steal(victim, when_ms, merchant, factor, city, client);
        }
    }

    /// A merchant whose terminal copies cards: for some days, customers are charged there again, and more.
    fn compromised_merchant(&mut self, at_ms: i64) {
        let merchant = self.merchants.any(&mut self.dice);
        let days = self.dice.between(2.0, 8.0);
        for _ in 0..self.dice.count(6, 16) {
            let victim = self.dice.below(self.users.len() as u32);
            let (city, place) = self.users[victim as usize].place(at_ms);
            let client = own_client(victim, place, &mut self.dice);
            let mut when_ms = at_ms + self.dice.seconds_ms(0.0, days * DAY_SECS);
            for _ in 0..self.dice.count(1, 2) {
                let factor = self.dice.between(1.5, 5.0);
                self.steal(victim, when_ms, merchant, factor, city, client);
                when_ms += self.dice.seconds_ms(MINUTE_SECS, 12.0 * HOUR_SECS);
            }
        }
    }

    /// Plans a stolen purchase of `factor` times what the victim would spend there.
    fn steal(&mut self, victim: u32, at_ms: i64, merchant: u32, factor: f64, city: &City, client: Client) {
        let category = self.merchants.category(merchant);
        let spend = self.users[victim as usize].spend;
        let usd = category.median_usd * spend * factor * self.dice.log_normal(category.sigma * 0.6);
        let mut client = client;
        if self.dice.chance(0.1) {
            client.location = None;
        }
        let basket = Basket { merchant, usd, currency: city.currency, client, fraud: true };
        self.plan(at_ms, victim, Plan::Purchase(basket));
    }

    fn thief(&mut self) -> (&'static City, Client) {
        let city = &CITIES[self.dice.below(CITIES.len() as u32) as usize];
        let location = Some(near(city.latitude, city.longitude, 30.0, &mut self.dice));
        let device = FOREIGN_DEVICES + u64::from(self.dice.below(u32::MAX));
        (city, Client { location, device, address: self.dice.below(u32::MAX) })
    }

    /// The thief's device behind an address near the victim's home.
    fn masked(&mut self, victim: u32, thief: Client) -> Client {
        let (latitude, longitude) = self.users[victim as usize].home;
        Client { location: Some(near(latitude, longitude, 60.0, &mut self.dice)), ..thief }
    }
}
