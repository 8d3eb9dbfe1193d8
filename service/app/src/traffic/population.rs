//! The people: where they live, what they usually buy, and how often. A person is drawn from the seed and their number
//! alone, so that the same person lives in every run of a seed.

use super::dice::Dice;
use super::world::{CITIES, City, Merchants, near};

/// Purchases that a person makes a day, on average over all people.
pub(super) const PURCHASES_PER_DAY: f64 = 2.0;
/// Purchases a session, by the draws in `honest::session`.
const PURCHASES_PER_SESSION: f64 = 1.45;
/// Number of merchants that a person goes back to.
const FAVOURITES: usize = 8;

/// One person.
#[derive(Clone, Debug)]
pub(super) struct User {
    /// Index of the home city.
    pub(super) home_city: u8,
    /// Home, in degrees.
    pub(super) home: (f64, f64),
    /// Factor on every price that this person pays.
    pub(super) spend: f64,
    /// Sessions a day.
    pub(super) sessions_per_day: f64,
    /// Local hour at which this person is most active.
    pub(super) peak_hour: f64,
    /// Whether this person logs in before most purchases, or stays logged in.
    pub(super) login_share: f64,
    /// Merchants that this person goes back to.
    pub(super) favourites: [u32; FAVOURITES],
    /// City and end of the present trip.
    pub(super) trip: Option<(u8, i64)>,
}

impl User {
    /// The person with this number.
    pub(super) fn new(seed: u64, index: u32, merchants: &Merchants) -> Self {
        let mut dice = Dice::new(seed, super::STREAM_USERS, u64::from(index));
        let home_city = dice.weighted(&CITIES, |city| city.weight);
        let city = &CITIES[home_city];
        // A log-normal of spread 0.7 has a mean of 1.28 times its median.
        let activity = dice.log_normal(0.7).min(6.0) / 1.28;
        Self {
            home_city: home_city as u8,
            home: near(city.latitude, city.longitude, 25.0, &mut dice),
            spend: dice.log_normal(0.45),
            sessions_per_day: activity * PURCHASES_PER_DAY / PURCHASES_PER_SESSION,
            peak_hour: dice.between(10.0, 21.0),
            login_share: if dice.chance(0.15) { 0.1 } else { dice.between(0.75, 1.0) },
            favourites: std::array::from_fn(|_| merchants.any(&mut dice)),
            trip: None,
        }
    }

    /// City and whereabouts at an instant: home, or the city of a trip.
    pub(super) fn place(&mut self, at_ms: i64) -> (&'static City, (f64, f64)) {
        if let Some((city, until_ms)) = self.trip {
            if at_ms < until_ms {
                let city = &CITIES[usize::from(city)];
                return (city, (city.latitude, city.longitude));
            }
            self.trip = None;
        }
        (&CITIES[usize::from(self.home_city)], self.home)
    }

    /// How likely a session is at this hour of the person's day, relative to their peak; never quite nothing.
    pub(super) fn appetite(&self, at_ms: i64) -> f64 {
        let local = at_ms as f64 / 3_600_000.0 + CITIES[usize::from(self.home_city)].utc_offset_hours;
        let away = (local - self.peak_hour).rem_euclid(24.0);
        let away = away.min(24.0 - away);
        0.04 + 0.96 * (-(away / 5.0).powi(2)).exp()
    }
}

/// Mean of [`User::appetite`] over a day: 0.04 + 0.96 · (5 √π · erf(12/5)) / 24.
pub(super) const MEAN_APPETITE: f64 = 0.394;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_appetite_is_what_the_constant_says() {
        let user = User::new(1, 1, &Merchants::new(1, 50));
        let mean: f64 = (0..24_000).map(|i| user.appetite(i * 3_600)).sum::<f64>() / 24_000.0;
        assert!((mean - MEAN_APPETITE).abs() < 0.002, "{mean}");
    }

    #[test]
    fn a_person_is_the_same_in_every_run_and_differs_from_the_next() {
        let merchants = Merchants::new(1, 50);
        let print = |index| format!("{:?}", User::new(9, index, &merchants));
        assert_eq!(print(3), print(3));
        assert_ne!(print(3), print(4));
    }
}
