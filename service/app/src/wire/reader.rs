//! Reads the fields of an event off any source of values and collects every fault on the way.

use super::fault::{Fault, FaultCode, Rejection};
use super::field::Field;
use super::{ParseContext, scalar, time};
use std::borrow::Cow;
use verdict_core::geo::Coordinates;
use verdict_core::money::{BaseMinor, ConversionError, Currency, Money};
use verdict_core::time::Timestamp;

/// A source of values: a JSON object or a CSV row. `Ok(None)` is a field that is absent.
pub(super) trait Values<'a> {
    /// Whether the field is there.
    fn has(&self, field: Field) -> bool;
    /// A text.
    fn text(&self, field: Field) -> Result<Option<Cow<'a, str>>, Rejection>;
    /// A decimal number as its exact text, quoted or not.
    fn decimal(&self, field: Field) -> Result<Option<Cow<'a, str>>, Rejection>;
    /// A number as its exact text.
    fn number(&self, field: Field) -> Result<Option<&'a str>, Rejection>;
    /// True or false.
    fn flag(&self, field: Field) -> Result<Option<bool>, Rejection>;
}

/// Reads fields; what a method cannot give is `None`, and where that is a fault it is remembered.
pub(super) struct Reader<'s, 'c, V> {
    values: &'s V,
    context: &'s ParseContext<'c>,
    faults: Vec<Fault>,
}

impl<'s, 'c, 'a, V: Values<'a>> Reader<'s, 'c, V> {
    pub(super) fn new(values: &'s V, context: &'s ParseContext<'c>) -> Self {
        Self { values, context, faults: Vec::new() }
    }

    /// What was read, unless there were faults; a value is missing only where there is a fault.
    pub(super) fn finish<T>(self, value: Option<T>) -> Result<T, Vec<Fault>> {
        value.filter(|_| self.faults.is_empty()).ok_or(self.faults)
    }

    pub(super) fn refuse(&mut self, field: Field, code: FaultCode, message: impl Into<String>) {
        self.faults.push(Rejection::new(code, message).at(field));
    }

    /// Remembers a rejection.
    fn keep<T>(&mut self, field: Field, result: Result<T, Rejection>) -> Option<T> {
        result.map_err(|rejection| self.faults.push(rejection.at(field))).ok()
    }

    fn optional<T>(&mut self, field: Field, parse: impl FnOnce(&str) -> Result<T, Rejection>) -> Option<T> {
        let result = self.values.text(field).and_then(|text| text.map(|text| parse(&text)).transpose());
        self.keep(field, result).flatten()
    }

    fn required<T>(&mut self, field: Field, parse: impl FnOnce(&str) -> Result<T, Rejection>) -> Option<T> {
        self.present(field).then(|| self.optional(field, parse)).flatten()
    }

    /// Whether a required field is there.
    fn present(&mut self, field: Field) -> bool {
        let present = self.values.has(field);
        if !present {
            self.refuse(field, FaultCode::MissingField, "expected a value, found none");
        }
        present
    }

    pub(super) fn id(&mut self, field: Field) -> Option<Box<str>> {
        self.required(field, scalar::id)
    }

    pub(super) fn optional_id(&mut self, field: Field) -> Option<Box<str>> {
        self.optional(field, scalar::id)
    }

    pub(super) fn optional_text(&mut self, field: Field, max: usize) -> Option<Box<str>> {
        self.optional(field, |text| scalar::bounded(text, max))
    }

    pub(super) fn optional_prose(&mut self, field: Field, max: usize) -> Option<Box<str>> {
        self.optional(field, |text| scalar::prose(text, max))
    }

    /// A text of at least one character and at most `max` bytes.
    pub(super) fn text(&mut self, field: Field, max: usize) -> Option<Box<str>> {
        self.required(field, |text| match text.trim().is_empty() {
            true => Err(Rejection::new(FaultCode::MissingField, "expected some text, found none")),
            false => scalar::bounded(text, max),
        })
    }

    /// A time after now, if the field is there.
    pub(super) fn optional_later(&mut self, field: Field) -> Option<Timestamp> {
        let now = self.context.now;
        self.optional(field, |text| {
            let at = time::timestamp(text)?;
            if at > now {
                return Ok(at);
            }
            let message = format!("expected a time after {}, found {}", time::to_text(now), time::to_text(at));
            Err(Rejection::new(FaultCode::TimestampInvalid, message))
        })
    }

    pub(super) fn optional_ip(&mut self, field: Field) -> Option<Box<str>> {
        self.optional(field, scalar::ip)
    }

    /// One of the names of a table, required.
    pub(super) fn one_of<T: Copy>(&mut self, field: Field, names: &[(T, &'static str)]) -> Option<T> {
        self.required(field, |text| chosen(text, names))
    }

    /// One of the names of a table, if the field is there.
    pub(super) fn optional_one_of<T: Copy>(&mut self, field: Field, names: &[(T, &'static str)]) -> Option<T> {
        self.optional(field, |text| chosen(text, names))
    }

    pub(super) fn flag(&mut self, field: Field) -> Option<bool> {
        self.present(field).then(|| self.optional_flag(field)).flatten()
    }

    pub(super) fn optional_flag(&mut self, field: Field) -> Option<bool> {
        let result = self.values.flag(field);
        self.keep(field, result).flatten()
    }

    /// The event's time, within the age bounds.
    pub(super) fn at(&mut self, oldest: Option<i64>) -> Option<Timestamp> {
        let context = self.context;
        self.required(Field::Timestamp, |text| {
            let at = time::timestamp(text)?;
            check_age(at, context, oldest)?;
            Ok(at)
        })
    }

    /// Both coordinates or neither.
    pub(super) fn location(&mut self) -> Option<Coordinates> {
        let latitude = self.degrees(Field::Latitude);
        let longitude = self.degrees(Field::Longitude);
        let both = (self.values.has(Field::Latitude), self.values.has(Field::Longitude));
        if both.0 != both.1 {
            let absent = if both.0 { Field::Longitude } else { Field::Latitude };
            self.refuse(absent, FaultCode::Coordinates, "expected both latitude and longitude or neither");
            return None;
        }
        let (latitude, longitude) = (latitude?, longitude?);
        let field = if (-90.0..=90.0).contains(&latitude) { Field::Longitude } else { Field::Latitude };
        self.keep(field, scalar::place(latitude, longitude))
    }

    fn degrees(&mut self, field: Field) -> Option<f64> {
        let result = self.values.number(field).and_then(|text| text.map(scalar::degrees).transpose());
        self.keep(field, result).flatten()
    }

    /// The amount, and the same in the base currency; `default` stands in where the currency may be absent.
    pub(super) fn money(&mut self, default: Option<Currency>) -> Option<(Money, BaseMinor)> {
        let rates = self.context.rates;
        let amount_there = self.present(Field::Amount);
        let currency = match default {
            Some(currency) if !self.values.has(Field::Currency) => Some(currency),
            _ => self.required(Field::Currency, |text| scalar::currency(text, rates)),
        };
        if !amount_there {
            return None;
        }
        let text = self.values.decimal(Field::Amount);
        let text = self.keep(Field::Amount, text).flatten()?;
        let Some(currency) = currency else {
            self.keep(Field::Amount, scalar::amount_without_currency(&text, rates));
            return None;
        };
        let amount = self.keep(Field::Amount, scalar::amount(&text, currency))?;
        match rates.to_base(amount) {
            Ok(base) => Some((amount, base)),
            Err(error @ ConversionError::NoRate(_)) => {
                self.refuse(Field::Currency, FaultCode::UnknownCurrency, error.to_string());
                None
            }
            Err(error @ ConversionError::TooLarge(_)) => {
                self.refuse(Field::Amount, FaultCode::AmountTooLarge, error.to_string());
                None
            }
        }
    }

    /// An amount of the base currency that may be zero, if the field is there.
    pub(super) fn optional_base(&mut self, field: Field) -> Option<BaseMinor> {
        let rates = self.context.rates;
        let base = rates.base();
        let result = self.values.decimal(field).and_then(|text| {
            let Some(text) = text else { return Ok(None) };
            match Money::parse(&text, base) {
                Err(verdict_core::money::AmountError::TooSmall { found, .. }) if found.minor() == 0 => {
                    Ok(Some(BaseMinor(0)))
                }
                _ => {
                    let amount = scalar::amount(&text, base)?;
                    let too_large =
                        |error: ConversionError| Rejection::new(FaultCode::AmountTooLarge, error.to_string());
                    rates.to_base(amount).map(Some).map_err(too_large)
                }
            }
        });
        self.keep(field, result).flatten()
    }

    /// The caller's deadline in milliseconds, a whole number of a range, if it is there.
    pub(super) fn deadline_ms(&mut self, range: std::ops::RangeInclusive<u64>) -> Option<u64> {
        let field = Field::DeadlineMs;
        let result = self.values.number(field).and_then(|text| {
            let Some(text) = text else { return Ok(None) };
            // The number form of JSON has no leading plus; digits only leaves fractions and exponents out.
            let number = text.parse().ok().filter(|number| range.contains(number));
            number.map(Some).ok_or_else(|| {
                let message = format!(
                    "expected a whole number from {} to {}, found {}",
                    range.start(),
                    range.end(),
                    super::fault::shown(text)
                );
                Rejection::new(FaultCode::DeadlineInvalid, message)
            })
        });
        self.keep(field, result).flatten()
    }
}

fn chosen<T: Copy>(text: &str, names: &[(T, &'static str)]) -> Result<T, Rejection> {
    names.iter().find(|(_, name)| *name == text).map(|(value, _)| *value).ok_or_else(|| {
        let known: Vec<&str> = names.iter().map(|(_, name)| *name).collect();
        let message = format!("expected one of {}, found {}", known.join(", "), super::fault::shown(text));
        Rejection::new(FaultCode::UnknownValue, message)
    })
}

fn check_age(at: Timestamp, context: &ParseContext<'_>, oldest: Option<i64>) -> Result<(), Rejection> {
    if let Some(max_age_ms) = oldest
        && context.now - at > max_age_ms
    {
        let message = format!(
            "expected a time at or after {}, found {}",
            time::to_text(context.now - max_age_ms),
            time::to_text(at)
        );
        return Err(Rejection::new(FaultCode::TooOld, message));
    }
    if let Some(max_ahead_ms) = context.bounds.max_ahead_ms
        && at - context.now > max_ahead_ms
    {
        let message = format!(
            "expected a time at or before {}, found {}",
            time::to_text(context.now + max_ahead_ms),
            time::to_text(at)
        );
        return Err(Rejection::new(FaultCode::TooEarly, message));
    }
    Ok(())
}
