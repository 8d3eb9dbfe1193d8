//! Money in minor units: exact from the wire to the answer, never a float.
//!
//! An amount is parsed against its currency's ISO 4217 exponent and held as an integer. Rates turn it into minor units
//! of the base currency with integer arithmetic, rounded half to even once.

use std::collections::BTreeMap;
use std::fmt;
use thiserror::Error;

/// Largest amount in minor units of the base currency. Far above any card payment, and small enough that even 90,000 of the
/// largest (a profile keeps 20,000) sum to less than 2⁵³, below which a feature slot (an `f64`) is exact to the cent.
pub const MAX_MINOR: i64 = 100_000_000_000;

/// Largest amount in minor units of its own currency: what it is worth in the base currency is what counts, and a rial is
/// worth little. Converted by the largest rate it fits an `i128`.
pub const MAX_SOURCE_MINOR: i64 = 1_000_000_000_000_000;

/// An ISO 4217 currency with a known exponent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency {
    code: [u8; 3],
    exponent: u8,
}

/// ISO 4217 currencies whose minor unit is not a hundredth.
const EXPONENTS: [(&str, u8); 26] = [
    ("BIF", 0),
    ("CLP", 0),
    ("DJF", 0),
    ("GNF", 0),
    ("ISK", 0),
    ("JPY", 0),
    ("KMF", 0),
    ("KRW", 0),
    ("PYG", 0),
    ("RWF", 0),
    ("UGX", 0),
    ("UYI", 0),
    ("VND", 0),
    ("VUV", 0),
    ("XAF", 0),
    ("XOF", 0),
    ("XPF", 0),
    ("BHD", 3),
    ("IQD", 3),
    ("JOD", 3),
    ("KWD", 3),
    ("LYD", 3),
    ("OMR", 3),
    ("TND", 3),
    ("CLF", 4),
    ("UYW", 4),
];

/// ISO 4217 currencies in hundredths.
const HUNDREDTHS: &str = "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BOV BRL BSD BTN BWP BYN BZD \
    CAD CDF CHE CHF CHW CNY COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD \
    HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU \
    MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK \
    SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST XCD XCG \
    YER ZAR ZMW ZWG";

impl Currency {
    /// The currency of an ISO 4217 alphabetic code in capitals, or `None` if there is none.
    #[must_use]
    pub fn from_code(code: &str) -> Option<Self> {
        let bytes: [u8; 3] = code.as_bytes().try_into().ok()?;
        let exponent = match EXPONENTS.iter().find(|(known, _)| *known == code) {
            Some((_, exponent)) => *exponent,
            None if HUNDREDTHS.split_ascii_whitespace().any(|known| known == code) => 2,
            None => return None,
        };
        Some(Self { code: bytes, exponent })
    }

    /// The alphabetic code, such as `USD`.
    #[must_use]
    pub fn code(&self) -> &str {
        // Only ASCII letters of the tables above get in.
        std::str::from_utf8(&self.code).unwrap_or("???")
    }

    /// Number of decimals of the minor unit.
    #[must_use]
    pub const fn exponent(self) -> u8 {
        self.exponent
    }

    /// Minor units in one major unit.
    #[must_use]
    pub const fn minor_per_major(self) -> i64 {
        10_i64.pow(self.exponent as u32)
    }

    /// The smallest accepted amount: 0.01, or one minor unit where the currency has fewer than two decimals.
    #[must_use]
    pub const fn least_minor(self) -> i64 {
        if self.exponent > 2 { 10_i64.pow(self.exponent as u32 - 2) } else { 1 }
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// An amount in a currency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Money {
    minor: i64,
    currency: Currency,
}

/// Minor units of the base currency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct BaseMinor(pub i64);

/// Why a text is no amount.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AmountError {
    /// Anything but digits with at most one decimal point between them.
    #[error("expected plain digits with at most one decimal point, such as \"123.45\", found {0:?}")]
    NotDigits(String),
    /// More decimals than the currency has.
    #[error("expected at most {allowed} decimals for {currency}, found {found}")]
    TooPrecise {
        /// The currency.
        currency: Currency,
        /// Its exponent.
        allowed: u8,
        /// Decimals in the text.
        found: usize,
    },
    /// Below the least amount.
    #[error("expected at least {least}, found {found}")]
    TooSmall {
        /// The least accepted amount.
        least: Money,
        /// What was sent.
        found: Money,
    },
    /// Above [`MAX_SOURCE_MINOR`].
    #[error("expected at most {most}, found {found:?}")]
    TooLarge {
        /// The largest accepted amount.
        most: Money,
        /// What was sent.
        found: String,
    },
}

impl Money {
    /// An amount that was checked before, for example one read from a journal.
    #[must_use]
    pub const fn from_minor(minor: i64, currency: Currency) -> Self {
        Self { minor, currency }
    }

    /// Parses plain digits such as `123.45`: no sign, no exponent, no spaces, at most the currency's decimals, at least
    /// [`Currency::least_minor`], at most [`MAX_SOURCE_MINOR`]. What it may be worth [`Rates::to_base`] says.
    ///
    /// # Errors
    /// Says which of these the text breaks.
    pub fn parse(text: &str, currency: Currency) -> Result<Self, AmountError> {
        let shown = || text.chars().take(40).collect::<String>();
        let (whole, decimals) = match text.split_once('.') {
            Some((whole, decimals)) if !decimals.is_empty() => (whole, decimals),
            Some(_) => return Err(AmountError::NotDigits(shown())),
            None => (text, ""),
        };
        let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty() || !digits(whole) || !digits(decimals) {
            return Err(AmountError::NotDigits(shown()));
        }
        let exponent = currency.exponent();
        if decimals.len() > usize::from(exponent) {
            return Err(AmountError::TooPrecise { currency, allowed: exponent, found: decimals.len() });
        }
        let padding = usize::from(exponent) - decimals.len();
        let minor = whole
            .bytes()
            .chain(decimals.bytes())
            .chain(std::iter::repeat_n(b'0', padding))
            .try_fold(0_i64, |sum, digit| sum.checked_mul(10)?.checked_add(i64::from(digit - b'0')))
            .filter(|minor| *minor <= MAX_SOURCE_MINOR)
            .ok_or_else(|| AmountError::TooLarge {
                most: Self::from_minor(MAX_SOURCE_MINOR, currency),
                found: shown(),
            })?;
        if minor < currency.least_minor() {
            return Err(AmountError::TooSmall {
                least: Self::from_minor(currency.least_minor(), currency),
                found: Self::from_minor(minor, currency),
            });
        }
        Ok(Self { minor, currency })
    }

    /// Minor units.
    #[must_use]
    pub const fn minor(self) -> i64 {
        self.minor
    }

    /// The currency.
    #[must_use]
    pub const fn currency(self) -> Currency {
        self.currency
    }

    /// The amount as a decimal string without the currency, such as `123.45`.
    #[must_use]
    pub fn decimal(self) -> String {
        let per_major = self.currency.minor_per_major();
        let width = usize::from(self.currency.exponent());
        match width {
            0 => self.minor.to_string(),
            _ => format!("{}.{:0width$}", self.minor / per_major, self.minor % per_major),
        }
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.decimal(), self.currency)
    }
}

/// The base currency and what one unit of each other currency is worth in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rates {
    base: Currency,
    rates: BTreeMap<Currency, Rate>,
}

/// A positive decimal number, `mantissa / 10^scale`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    mantissa: i64,
    scale: u32,
}

/// Why a text is no rate.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "expected a positive decimal with at most 9 digits before and 9 after the point, such as \"1.0842\", found {0:?}"
)]
pub struct RateError(pub String);

impl Rate {
    /// Parses a positive decimal such as `1.0842`.
    ///
    /// # Errors
    /// When the text is anything else, or has more than 9 digits on a side.
    pub fn parse(text: &str) -> Result<Self, RateError> {
        let error = || RateError(text.chars().take(40).collect());
        let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
        let digits = |part: &str| part.len() <= 9 && part.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty() || !digits(whole) || !digits(decimals) || text.ends_with('.') {
            return Err(error());
        }
        let mantissa: i64 = format!("{whole}{decimals}").parse().map_err(|_| error())?;
        if mantissa == 0 {
            return Err(error());
        }
        Ok(Self { mantissa, scale: decimals.len() as u32 })
    }
}

/// An amount that cannot be turned into the base currency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ConversionError {
    /// The rates file does not name the currency.
    #[error("expected a currency with a rate, found {0}")]
    NoRate(Currency),
    /// The amount in base currency exceeds [`MAX_MINOR`].
    #[error("expected an amount worth at most {}, found more", Money::from_minor(MAX_MINOR, *.0))]
    TooLarge(Currency),
}

impl Rates {
    /// Rates around a base currency.
    #[must_use]
    pub fn new(base: Currency, rates: BTreeMap<Currency, Rate>) -> Self {
        Self { base, rates }
    }

    /// The currency that windows are summed in.
    #[must_use]
    pub const fn base(&self) -> Currency {
        self.base
    }

    /// The amount in minor units of the base currency, rounded half to even.
    ///
    /// # Errors
    /// When the currency has no rate, or the result is too large.
    pub fn to_base(&self, amount: Money) -> Result<BaseMinor, ConversionError> {
        let currency = amount.currency();
        let minor = if currency == self.base {
            i128::from(amount.minor())
        } else {
            let rate = self.rates.get(&currency).ok_or(ConversionError::NoRate(currency))?;
            // At most 10^15 × 10^18 × 10^4 = 10^37, inside i128.
            let numerator =
                i128::from(amount.minor()) * i128::from(rate.mantissa) * 10_i128.pow(u32::from(self.base.exponent()));
            divide_half_even(numerator, 10_i128.pow(rate.scale + u32::from(currency.exponent())))
        };
        i64::try_from(minor)
            .ok()
            .filter(|minor| *minor <= MAX_MINOR)
            .map(BaseMinor)
            .ok_or(ConversionError::TooLarge(self.base))
    }
}

/// `numerator / denominator` for non-negative numbers, ties to the even neighbour.
fn divide_half_even(numerator: i128, denominator: i128) -> i128 {
    let (quotient, remainder) = (numerator / denominator, numerator % denominator);
    let up = match (remainder * 2).cmp(&denominator) {
        std::cmp::Ordering::Greater => true,
        std::cmp::Ordering::Equal => quotient % 2 == 1,
        std::cmp::Ordering::Less => false,
    };
    quotient + i128::from(up)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn currency(code: &str) -> Currency {
        Currency::from_code(code).expect("a currency of the tables")
    }

    #[test]
    fn amounts_by_exponent() {
        let check = |text: &str, code: &str, expected: Result<i64, &str>| {
            let found = Money::parse(text, currency(code)).map(Money::minor).map_err(|e| e.to_string());
            match (expected, found) {
                (Ok(minor), found) => assert_eq!(found, Ok(minor), "{text} {code}"),
                (Err(part), Err(message)) => {
                    assert!(message.contains(part), "{text} {code}: {message}");
                }
                (Err(part), Ok(minor)) => {
                    panic!("{text} {code} gave {minor}, expected an error with {part:?}")
                }
            }
        };
        check("123.45", "USD", Ok(12_345));
        check("123.4", "USD", Ok(12_340));
        check("123", "USD", Ok(12_300));
        check("0.01", "USD", Ok(1));
        check("007.10", "USD", Ok(710));
        check("1000", "JPY", Ok(1_000));
        check("1.234", "BHD", Ok(1_234));
        check("0.010", "BHD", Ok(10));
        check("0.001", "BHD", Err("at least 0.010 BHD"));
        check("0.00", "USD", Err("at least 0.01 USD"));
        check("0", "JPY", Err("at least 1 JPY"));
        check("1.5", "JPY", Err("at most 0 decimals"));
        check("1.234", "USD", Err("at most 2 decimals"));
        for text in ["", ".5", "5.", "-1", "+1", "1e3", "1,000", " 1", "1 ", "1.2.3", "NaN", "٣"] {
            check(text, "USD", Err("plain digits"));
        }
        check("10000000000000.00", "USD", Ok(MAX_SOURCE_MINOR));
        check("10000000000000.01", "USD", Err("at most 10000000000000.00 USD"));
        check("1000000000000000", "KRW", Ok(MAX_SOURCE_MINOR));
        check("1000000000000001", "KRW", Err("at most 1000000000000000 KRW"));
        check("99999999999999999999999999", "USD", Err("at most"));
    }

    #[test]
    fn conversion_is_exact_and_half_even() {
        let rates = Rates::new(
            currency("USD"),
            [("EUR", "1.0845"), ("JPY", "0.0065"), ("KWD", "3.25"), ("GBP", "0.5")]
                .map(|(code, rate)| (currency(code), Rate::parse(rate).expect("a rate")))
                .into(),
        );
        let check = |text: &str, code: &str, expected: i64| {
            let amount = Money::parse(text, currency(code)).expect("an amount");
            assert_eq!(rates.to_base(amount), Ok(BaseMinor(expected)), "{text} {code}");
        };
        check("10.00", "USD", 1_000);
        check("100.00", "EUR", 10_845);
        check("1000", "JPY", 650);
        check("1.000", "KWD", 325);
        check("0.01", "GBP", 0); // half a cent, to even
        check("0.03", "GBP", 2); // one and a half, to even
        check("0.05", "GBP", 2); // two and a half, to even
        // The limit is one of worth: a thousand million dollars, whatever the currency's units are.
        check("1000000000.00", "USD", MAX_MINOR);
        check("153000000000", "JPY", 99_450_000_000);
        for (text, code) in [("1000000000.01", "USD"), ("154000000000", "JPY"), ("2000000000.04", "GBP")] {
            let found = rates.to_base(Money::parse(text, currency(code)).expect("an amount"));
            assert_eq!(found, Err(ConversionError::TooLarge(currency("USD"))), "{text} {code}");
            let message = found.map_err(|error| error.to_string());
            assert_eq!(message, Err("expected an amount worth at most 1000000000.00 USD, found more".to_owned()));
        }
        let swiss = Money::parse("1.00", currency("CHF")).expect("an amount");
        assert_eq!(rates.to_base(swiss), Err(ConversionError::NoRate(currency("CHF"))));
        for bad in ["", "0", "-1", "1.", ".5", "1e5", "12345678901"] {
            assert!(Rate::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn codes() {
        assert_eq!(Currency::from_code("usd"), None);
        assert_eq!(Currency::from_code("XXX"), None);
        assert_eq!(Currency::from_code("USDX"), None);
        assert_eq!(currency("CLF").exponent(), 4);
        assert_eq!(currency("CLF").least_minor(), 100);
    }

    proptest! {
        #[test]
        fn printing_and_parsing_agree(minor in 1..=MAX_SOURCE_MINOR, code in prop::sample::select(vec!["USD", "JPY", "KWD"])) {
            let amount = Money::from_minor(minor, currency(code));
            if minor >= amount.currency().least_minor() {
                prop_assert_eq!(Money::parse(&amount.decimal(), currency(code)), Ok(amount));
            }
        }

        #[test]
        fn never_panics(text in ".{0,40}") {
            let _ = Money::parse(&text, currency("USD"));
            let _ = Rate::parse(&text);
        }
    }
}
