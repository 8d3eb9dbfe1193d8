//! The places, currencies and merchants of the simulated world. Tables only: nothing here is drawn at random but which
//! row is taken.

use super::dice::Dice;

/// A city where people live or travel to.
#[derive(Clone, Copy, Debug)]
pub(super) struct City {
    /// Degrees.
    pub(super) latitude: f64,
    /// Degrees.
    pub(super) longitude: f64,
    /// Hours ahead of UTC (no daylight saving: it would change nothing that matters here).
    pub(super) utc_offset_hours: f64,
    /// What people pay with.
    pub(super) currency: Currency,
    /// Share of the population, relative to the others.
    pub(super) weight: f64,
}

/// A currency that the rule set's rate table holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Currency {
    Usd,
    Eur,
    Gbp,
    Cad,
    Aud,
    Jpy,
}

impl Currency {
    /// Code, units for one US dollar (round figures: prices need to look right, not to be right), and decimals.
    pub(super) const fn terms(self) -> (&'static str, f64, u8) {
        match self {
            Self::Usd => ("USD", 1.0, 2),
            Self::Eur => ("EUR", 0.92, 2),
            Self::Gbp => ("GBP", 0.79, 2),
            Self::Cad => ("CAD", 1.37, 2),
            Self::Aud => ("AUD", 1.52, 2),
            Self::Jpy => ("JPY", 150.0, 0),
        }
    }
}

const fn city(latitude: f64, longitude: f64, utc_offset_hours: f64, currency: Currency, weight: f64) -> City {
    City { latitude, longitude, utc_offset_hours, currency, weight }
}

use Currency::{Aud, Cad, Eur, Gbp, Jpy, Usd};

/// Coordinates are city centres.
pub(super) const CITIES: [City; 32] = [
    city(40.71, -74.01, -5.0, Usd, 9.0),  // New York
    city(34.05, -118.24, -8.0, Usd, 7.0), // Los Angeles
    city(41.88, -87.63, -6.0, Usd, 5.0),  // Chicago
    city(29.76, -95.37, -6.0, Usd, 4.0),  // Houston
    city(33.45, -112.07, -7.0, Usd, 3.0), // Phoenix
    city(39.95, -75.17, -5.0, Usd, 3.0),  // Philadelphia
    city(25.76, -80.19, -5.0, Usd, 3.0),  // Miami
    city(47.61, -122.33, -8.0, Usd, 3.0), // Seattle
    city(39.74, -104.99, -7.0, Usd, 2.0), // Denver
    city(33.75, -84.39, -5.0, Usd, 3.0),  // Atlanta
    city(42.36, -71.06, -5.0, Usd, 3.0),  // Boston
    city(44.98, -93.27, -6.0, Usd, 2.0),  // Minneapolis
    city(32.72, -117.16, -8.0, Usd, 2.0), // San Diego
    city(43.65, -79.38, -5.0, Cad, 3.0),  // Toronto
    city(45.50, -73.57, -5.0, Cad, 2.0),  // Montreal
    city(49.28, -123.12, -8.0, Cad, 2.0), // Vancouver
    city(51.51, -0.13, 0.0, Gbp, 5.0),    // London
    city(53.48, -2.24, 0.0, Gbp, 2.0),    // Manchester
    city(55.95, -3.19, 0.0, Gbp, 1.0),    // Edinburgh
    city(48.86, 2.35, 1.0, Eur, 4.0),     // Paris
    city(52.52, 13.40, 1.0, Eur, 4.0),    // Berlin
    city(40.42, -3.70, 1.0, Eur, 3.0),    // Madrid
    city(41.90, 12.50, 1.0, Eur, 2.0),    // Rome
    city(52.37, 4.90, 1.0, Eur, 2.0),     // Amsterdam
    city(48.14, 11.58, 1.0, Eur, 2.0),    // Munich
    city(53.35, -6.26, 0.0, Eur, 1.0),    // Dublin
    city(38.72, -9.14, 0.0, Eur, 1.0),    // Lisbon
    city(-33.87, 151.21, 10.0, Aud, 3.0), // Sydney
    city(-37.81, 144.96, 10.0, Aud, 2.0), // Melbourne
    city(35.68, 139.69, 9.0, Jpy, 4.0),   // Tokyo
    city(34.69, 135.50, 9.0, Jpy, 2.0),   // Osaka
    city(43.06, 141.35, 9.0, Jpy, 1.0),   // Sapporo
];

/// What a kind of merchant sells.
#[derive(Clone, Copy, Debug)]
pub(super) struct Category {
    /// ISO 18245 code.
    pub(super) code: &'static str,
    /// Median purchase in US dollars.
    pub(super) median_usd: f64,
    /// Spread of the logarithm of a purchase.
    pub(super) sigma: f64,
    /// Share of the merchants, relative to the others.
    pub(super) weight: f64,
}

const fn category(code: &'static str, median_usd: f64, sigma: f64, weight: f64) -> Category {
    Category { code, median_usd, sigma, weight }
}

/// Medians are everyday prices; the spread makes a grocery bill of 150 dollars unremarkable.
pub(super) const CATEGORIES: [Category; 14] = [
    category("5411", 42.0, 0.65, 20.0), // groceries
    category("5812", 31.0, 0.60, 16.0), // restaurants
    category("5541", 38.0, 0.40, 9.0),  // fuel
    category("5912", 22.0, 0.60, 7.0),  // pharmacies
    category("5651", 65.0, 0.60, 8.0),  // clothing
    category("5311", 78.0, 0.70, 6.0),  // department stores
    category("4121", 17.0, 0.50, 6.0),  // taxis
    category("5815", 9.0, 0.60, 8.0),   // digital media
    category("4900", 105.0, 0.45, 4.0), // utilities
    category("7011", 210.0, 0.60, 3.0), // hotels
    category("4511", 320.0, 0.60, 2.0), // airlines
    category("5732", 190.0, 0.80, 4.0), // electronics
    category("5944", 240.0, 0.80, 1.5), // jewellery
    category("5947", 48.0, 0.55, 3.0),  // gift cards
];

/// Where stolen money goes: goods that are easy to sell again.
pub(super) const RESOLD: [&str; 3] = ["5732", "5944", "5947"];
/// Where stolen cards are tried out.
pub(super) const DIGITAL: [&str; 1] = ["5815"];

/// All merchants; a merchant is its index.
#[derive(Clone, Debug)]
pub(super) struct Merchants {
    categories: Vec<u8>,
}

impl Merchants {
    /// `count` merchants.
    pub(super) fn new(seed: u64, count: u32) -> Self {
        let mut dice = Dice::new(seed, super::STREAM_MERCHANTS, 0);
        // The first merchants cover every category, so that a search for one always ends.
        let categories = (0..count.max(CATEGORIES.len() as u32))
            .map(|index| match CATEGORIES.get(index as usize) {
                Some(_) => index as u8,
                None => dice.weighted(&CATEGORIES, |c| c.weight) as u8,
            })
            .collect();
        Self { categories }
    }

    /// What a merchant sells.
    pub(super) fn category(&self, merchant: u32) -> &'static Category {
        &CATEGORIES[usize::from(self.categories[merchant as usize])]
    }

    /// Any merchant.
    pub(super) fn any(&self, dice: &mut Dice) -> u32 {
        dice.below(self.categories.len() as u32)
    }

    /// A merchant that sells one of these.
    pub(super) fn selling(&self, codes: &[&str], dice: &mut Dice) -> u32 {
        let from = self.any(dice) as usize;
        let matches = |index: &usize| codes.contains(&CATEGORIES[usize::from(self.categories[*index])].code);
        let found = (from..self.categories.len()).find(matches).or_else(|| (0..from).find(matches));
        found.unwrap_or(from) as u32
    }
}

/// A point within about `km` of a place. A degree of latitude is 111 km.
pub(super) fn near(latitude: f64, longitude: f64, km: f64, dice: &mut Dice) -> (f64, f64) {
    let degrees = km / 111.0;
    (
        latitude + dice.between(-degrees, degrees),
        longitude + dice.between(-degrees, degrees) / latitude.to_radians().cos().max(0.2),
    )
}
