//! Money against exact rational arithmetic.

use crate::exact::Pair;
use crate::naive::A_MONDAY;
use crate::stories::{currency, payment};
use proptest::prelude::*;
use proptest::sample::select;
use verdict_core::money::{BaseMinor, ConversionError, MAX_MINOR, MAX_SOURCE_MINOR, Money, Rate, Rates};
use verdict_core::profile::Retention;
use verdict_core::time::DAY_MS;

const CODES: [&str; 5] = ["EUR", "GBP", "JPY", "KWD", "CLF"];
const DECIMALS: [u32; 5] = [2, 2, 0, 3, 4];
const BASES: [(&str, u32); 3] = [("USD", 2), ("KRW", 0), ("BHD", 3)];

/// A rate as text, and the same number in units of 10⁻⁹.
fn rates() -> impl Strategy<Value = (String, i128)> {
    let whole = prop_oneof![Just(0_u32), Just(1), 0..2_000_u32, Just(999_999_999)];
    let billionths = prop_oneof![
        1 => Just((0, 0)),
        2 => (1..=9_u32).prop_flat_map(|digits| (Just(digits), 0..10_u32.pow(digits))),
        // Rates that make ties.
        2 => select(vec![(1, 5), (2, 25), (3, 125), (2, 5), (9, 500_000_000)]),
    ];
    (whole, billionths).prop_map(|(whole, (digits, decimals))| {
        let value = i128::from(whole) * 1_000_000_000 + i128::from(decimals) * 10_i128.pow(9 - digits);
        let text = match digits {
            0 => whole.to_string(),
            _ => format!("{whole}.{decimals:0width$}", width = digits as usize),
        };
        (text, value)
    })
}

/// Whether `candidate` is `numerator / denominator` rounded half to even, told without dividing.
fn is_rounded(candidate: i128, numerator: i128, denominator: i128) -> bool {
    let twice_off = 2 * (numerator - candidate * denominator);
    twice_off.abs() < denominator || (twice_off.abs() == denominator && candidate % 2 == 0)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn conversion_is_the_exact_product_rounded_once(
        minor in prop_oneof![
            0..1_000_i64, 0..=MAX_MINOR, Just(MAX_MINOR), 0..=MAX_SOURCE_MINOR, Just(MAX_SOURCE_MINOR),
        ],
        which in 0..CODES.len(),
        base in 0..BASES.len(),
        (text, billionths) in rates(),
    ) {
        prop_assume!(billionths > 0);
        let (code, base_currency) = (currency(CODES[which]), currency(BASES[base].0));
        let rate = Rate::parse(&text).expect("a rate");
        let rates = Rates::new(base_currency, [(code, rate)].into());
        // minor / 10^decimals × billionths / 10⁹ × 10^base decimals, as one fraction.
        let numerator = i128::from(minor) * billionths * 10_i128.pow(BASES[base].1);
        let denominator = 10_i128.pow(9 + DECIMALS[which]);
        match rates.to_base(Money::from_minor(minor, code)) {
            Ok(BaseMinor(found)) => {
                prop_assert!(is_rounded(i128::from(found), numerator, denominator), "{minor} {code} at {text}: {found}");
                prop_assert!((0..=MAX_MINOR).contains(&found));
            }
            Err(ConversionError::TooLarge(_)) => {
                let most = i128::from(MAX_MINOR);
                prop_assert!(numerator > most * denominator, "{minor} {code} at {text} is not too large");
            }
            Err(error) => prop_assert!(false, "{error}"),
        }
    }

    #[test]
    fn the_base_currency_is_itself(
        minor in prop_oneof![0..=MAX_MINOR, MAX_MINOR..=MAX_SOURCE_MINOR], base in 0..BASES.len(),
    ) {
        let base = currency(BASES[base].0);
        let found = Rates::new(base, [].into()).to_base(Money::from_minor(minor, base));
        let expected = if minor <= MAX_MINOR { Ok(BaseMinor(minor)) } else { Err(ConversionError::TooLarge(base)) };
        prop_assert_eq!(found, expected);
    }

    /// Cents that a sum of floats gets wrong: 0.1 + 0.2 a hundred times over.
    #[test]
    fn a_days_spend_is_exact_to_the_cent(
        cents in prop::collection::vec(prop_oneof![1..1_000_i64, Just(10), Just(20), Just(MAX_MINOR), Just(1)], 1..100),
    ) {
        let mut pair = Pair::new(Retention::default());
        let step = DAY_MS / 100;
        let mut total = 0_i128;
        for (cents, n) in cents.iter().zip(0_i64..) {
            let transaction = payment(&format!("t-{n}"), A_MONDAY + n * step, *cents);
            total += i128::from(*cents);
            let (computed, _) = pair.compute(&transaction, currency("USD"))?;
            let spent = computed.features.named("user_spend_today").expect("a feature of the catalogue");
            let exact: f64 = format!("{}.{:02}", total / 100, total % 100).parse().expect("a decimal");
            prop_assert_eq!(spent.to_bits(), exact.to_bits(), "expected {}, found {}", exact, spent);
            pair.accept(&crate::stories::Event::Pay(transaction, None), n as u64);
        }
    }
}
