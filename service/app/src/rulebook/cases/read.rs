//! Reads `cases.yaml`; notes every fault with its place, like the rule files.

use super::{Case, Expectation, Payment, Step};
use verdict_core::decision::Outcome;
use verdict_core::event::{Login, MAX_ID_BYTES, Transaction};
use verdict_core::geo::Coordinates;
use verdict_core::lists::{List, ListAction, ListChange, ListKey, ListKind, ListSource};
use verdict_core::money::{Currency, Money};
use verdict_core::rules::diagnostic::{Faults, Place};
use verdict_core::rules::fields::{Fields, items, one_of, outcome, parse_duration_ms, parsed, text};
use verdict_core::rules::yaml::{self, Node};
use verdict_core::rules::{Diagnostic, Mode, RuleSet, SourceFile};
use verdict_core::time::Timestamp;

/// The user of every case.
const USER: &str = "u-1";
/// The merchant of a transaction that names none.
const MERCHANT: &str = "m-1";
/// Most copies that `repeat` makes.
const MAX_REPEAT: u32 = 10_000;
/// Where a case starts unless it says: Monday, 2026-11-23T12:00:00Z.
const START: Timestamp = Timestamp::from_millis(1_795_435_200_000);

/// Reads the cases of a rule set, whose rates convert amounts and whose rules expectations may name.
///
/// # Errors
/// Every fault of the file.
pub fn read(file: &SourceFile<'_>, rules: &RuleSet) -> Result<Vec<Case>, Vec<Diagnostic>> {
    let mut faults = Faults::of(file.path);
    let cases = read_all(file.text, rules, &mut faults);
    let faults = faults.into_sorted();
    if faults.is_empty() { Ok(cases) } else { Err(faults) }
}

fn read_all(source: &str, rules: &RuleSet, faults: &mut Faults<'_>) -> Vec<Case> {
    let before = faults.count();
    let root = yaml::parse(source, faults);
    if root.is_none() && faults.count() == before {
        faults.add(Place::START, "expected the key cases, found an empty file");
    }
    let nodes = root.as_ref().and_then(|root| {
        let fields = Fields::of(root, "a file of cases", &["cases"], faults)?;
        items(fields.required("cases", faults)?, "cases", faults)
    });
    let mut reader = Reader { rules, faults, start: START, serial: 0 };
    nodes.unwrap_or_default().iter().filter_map(|node| reader.case(node)).collect()
}

struct Reader<'r, 'f, 'p> {
    rules: &'r RuleSet,
    faults: &'f mut Faults<'p>,
    start: Timestamp,
    /// Makes ids.
    serial: u32,
}

impl Reader<'_, '_, '_> {
    fn case(&mut self, node: &Node<'_>) -> Option<Case> {
        let fields = Fields::of(node, "a case", &["name", "start", "events"], self.faults)?;
        let name = fields.required("name", self.faults).and_then(|node| text(node, "a name", self.faults));
        let name = name.map(|name| name.text.clone());
        self.start = match fields.optional("start") {
            None => START,
            Some(node) => parsed(node, "a time such as 2026-11-23T12:00:00Z", self.faults, instant)?,
        };
        self.serial = 0;
        let nodes = fields.required("events", self.faults)?;
        let mut steps = Vec::new();
        for event in items(nodes, "events", self.faults)? {
            self.event(event, &mut steps);
        }
        let expects = |step: &Step| matches!(step, Step::Transaction(payment) if payment.expected.is_some());
        if !steps.is_empty() && !steps.iter().any(expects) {
            self.faults.add(nodes.place, "expected a transaction with expect, found none: the case would show nothing");
        }
        Some(Case { name: name?, steps })
    }

    fn event(&mut self, node: &Node<'_>, steps: &mut Vec<Step>) -> Option<()> {
        let kinds = ["login", "transaction", "list"];
        let fields = Fields::of(node, "an event", &kinds, self.faults)?;
        match kinds.map(|kind| fields.optional(kind)) {
            [Some(node), None, None] => steps.push(Step::Login(self.login(node)?)),
            [None, Some(node), None] => self.transactions(node, steps)?,
            [None, None, Some(node)] => steps.push(Step::List(self.list(node)?)),
            _ => self.faults.add(node.place, "expected one event, a login, a transaction or a list"),
        }
        Some(())
    }

    fn login(&mut self, node: &Node<'_>) -> Option<Login> {
        let fields = Fields::of(node, "a login", &["at", "place", "success"], self.faults)?;
        let at = self.at(&fields);
        let location = fields.optional("place").map(|node| self.location(node));
        let success = match fields.optional("success") {
            None => Some(true),
            Some(node) => one_of(node, "success", &[(true, "true"), (false, "false")], self.faults),
        };
        self.serial += 1;
        Some(Login {
            login_id: format!("l-{}", self.serial).into(),
            user_id: USER.into(),
            at: at?,
            ip_address: None,
            device_id: None,
            user_agent: None,
            location: flat(location)?,
            success: success?,
        })
    }

    /// A list entry that is put or deleted.
    fn list(&mut self, node: &Node<'_>) -> Option<ListChange> {
        let known = ["put", "delete", "kind", "value", "expires_at"];
        let fields = Fields::of(node, "a list", &known, self.faults)?;
        let kinds = [(ListKind::User, "user"), (ListKind::Merchant, "merchant")];
        let kind = match fields.optional("kind") {
            None => Some(ListKind::User),
            Some(node) => one_of(node, "kind", &kinds, self.faults),
        };
        let value = fields.optional("value").map(|node| self.id(node));
        let expires_at = fields.optional("expires_at").map(|node| self.time(node));
        let (list, action) = match (fields.optional("put"), fields.optional("delete")) {
            (Some(list), None) => {
                (list, ListAction::Put { reason: "as the case says".into(), expires_at: flat(expires_at)? })
            }
            (None, Some(list)) => (list, ListAction::Delete),
            _ => {
                self.faults.add(node.place, "expected one of put and delete");
                return None;
            }
        };
        let list = one_of(list, "a list", &List::ALL, self.faults)?;
        let (kind, value) = (kind?, flat(value)?);
        let value = match (kind, value) {
            (ListKind::User, None) => USER.into(),
            (ListKind::User, Some(_)) => {
                self.faults.add(fields.place, "expected no value for a user: a case has only one");
                return None;
            }
            (_, value) => value.unwrap_or_else(|| MERCHANT.into()),
        };
        Some(ListChange { key: ListKey { list, kind, value }, source: ListSource::Api, action })
    }

    fn id(&mut self, node: &Node<'_>) -> Option<Box<str>> {
        parsed(node, "an id of 1 to 128 bytes", self.faults, |text| {
            (1..=MAX_ID_BYTES).contains(&text.len()).then(|| Box::<str>::from(text))
        })
    }

    /// A transaction, or as many as it repeats; what is expected is expected of the last.
    fn transactions(&mut self, node: &Node<'_>, steps: &mut Vec<Step>) -> Option<()> {
        let known = ["at", "amount", "currency", "merchant_id", "place", "score", "repeat", "every", "expect"];
        let fields = Fields::of(node, "a transaction", &known, self.faults)?;
        let at = self.at(&fields);
        let money = self.money(&fields);
        let merchant_id = match fields.optional("merchant_id") {
            None => Some(MERCHANT.into()),
            Some(node) => self.id(node),
        };
        let location = fields.optional("place").map(|node| self.location(node));
        let score = fields.optional("score").map(|node| {
            parsed(node, "a score of 0 to 1", self.faults, |text| {
                text.parse().ok().filter(|score: &f32| (0.0..=1.0).contains(score))
            })
        });
        let repeat = match fields.optional("repeat") {
            None => Some(1),
            Some(node) => parsed(node, "a number of 1 to 10000", self.faults, |text| {
                text.parse().ok().filter(|repeat| (1..=MAX_REPEAT).contains(repeat))
            }),
        };
        let every_ms = match fields.optional("every") {
            None => Some(0),
            Some(node) => parsed(node, "a duration such as 1m", self.faults, parse_duration_ms),
        };
        let expected = fields.optional("expect").map(|node| self.expectation(node));
        let (amount, base) = money?;
        let (at, location, score, expected) = (at?, flat(location)?, flat(score)?, flat(expected)?);
        let (merchant_id, repeat, every_ms) = (merchant_id?, repeat?, every_ms?);
        for copy in 1..=repeat {
            self.serial += 1;
            let transaction = Transaction {
                transaction_id: format!("t-{}", self.serial).into(),
                user_id: USER.into(),
                amount,
                base,
                merchant_id: merchant_id.clone(),
                at: at + i64::from(copy - 1) * every_ms,
                ip_address: None,
                user_agent: None,
                device_id: None,
                merchant_category: None,
                location,
            };
            let expected = expected.clone().filter(|_| copy == repeat);
            steps.push(Step::Transaction(Box::new(Payment { transaction, score, expected })));
        }
        Some(())
    }

    fn money(&mut self, fields: &Fields<'_, '_>) -> Option<(Money, verdict_core::money::BaseMinor)> {
        let rates = self.rules.rates();
        let currency = match fields.optional("currency") {
            None => rates.base(),
            Some(node) => parsed(node, "an ISO 4217 currency such as USD", self.faults, Currency::from_code)?,
        };
        let (text, place) = match fields.optional("amount") {
            None => ("10", fields.place),
            Some(node) => (text(node, "an amount such as \"10.00\"", self.faults)?.text.as_str(), node.place),
        };
        let amount = Money::parse(text, currency).map_err(|error| self.faults.add(place, error.to_string())).ok()?;
        let base = rates.to_base(amount).map_err(|error| self.faults.add(place, error.to_string())).ok()?;
        Some((amount, base))
    }

    /// When: an instant, or a signed duration from the case's start.
    fn at(&mut self, fields: &Fields<'_, '_>) -> Option<Timestamp> {
        let node = fields.required("at", self.faults)?;
        self.time(node)
    }

    fn time(&mut self, node: &Node<'_>) -> Option<Timestamp> {
        let start = self.start;
        parsed(node, "a time such as 5m, -1h, 0s or 2026-11-23T12:00:00Z", self.faults, |text| {
            if text == "0s" {
                return Some(start);
            }
            let before = text.strip_prefix('-').and_then(parse_duration_ms).map(|ms| start - ms);
            before.or_else(|| parse_duration_ms(text).map(|ms| start + ms)).or_else(|| instant(text))
        })
    }

    fn location(&mut self, node: &Node<'_>) -> Option<Coordinates> {
        let degrees: Vec<f64> = items(node, "place", self.faults)?
            .iter()
            .filter_map(|node| parsed(node, "degrees such as 40.7", self.faults, |text| text.parse().ok()))
            .collect();
        let [latitude, longitude] = degrees[..] else {
            self.faults.add(node.place, "expected a place as [latitude, longitude]");
            return None;
        };
        Coordinates::new(latitude, longitude).map_err(|error| self.faults.add(node.place, error.to_string())).ok()
    }

    fn expectation(&mut self, node: &Node<'_>) -> Option<Expectation> {
        let fields = Fields::of(node, "an expectation", &["decision", "reasons", "shadow"], self.faults)?;
        let expected: Option<Outcome> =
            fields.required("decision", self.faults).and_then(|node| outcome(node, self.faults));
        let rules = self.rules.rules();
        let live = rules.iter().filter(|rule| rule.mode == Mode::Live).map(|rule| &*rule.code);
        let codes: Vec<_> = live.chain(self.rules.policy().model_bands.iter().map(|band| &*band.code)).collect();
        let ids: Vec<_> = rules.iter().filter(|rule| rule.mode == Mode::Shadow).map(|rule| &*rule.id).collect();
        let reasons = self.names(fields.optional("reasons"), "a code of a live rule or a model band", &codes);
        let shadow = self.names(fields.optional("shadow"), "the id of a shadow rule", &ids);
        Some(Expectation { place: node.place, outcome: expected?, reasons: reasons?, shadow: shadow? })
    }

    /// A list of names that the rule set knows.
    fn names(&mut self, node: Option<&Node<'_>>, what: &str, known: &[&str]) -> Option<Vec<String>> {
        let Some(node) = node else { return Some(Vec::new()) };
        let known: Vec<(&str, &str)> = known.iter().map(|name| (*name, *name)).collect();
        let names = items(node, what, self.faults)?.iter().map(|node| one_of(node, what, &known, self.faults));
        let names: Vec<Option<&str>> = names.collect();
        names.into_iter().map(|name| name.map(str::to_owned)).collect()
    }
}

/// A key that may be missing, and may be wrong where it is there.
fn flat<T>(value: Option<Option<T>>) -> Option<Option<T>> {
    match value {
        None => Some(None),
        Some(found) => found.map(Some),
    }
}

fn instant(text: &str) -> Option<Timestamp> {
    let at: jiff::Timestamp = text.parse().ok()?;
    Some(Timestamp::from_millis(at.as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rulebook::Rulebook;
    use std::path::Path;

    fn read_text(text: &str) -> Result<Vec<Case>, Vec<String>> {
        let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../rules");
        let book = Rulebook::load(&rules, "default").unwrap();
        read(&SourceFile { path: "c", text }, book.rules())
            .map_err(|faults| faults.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_history() {
        let cases = read_text(
            "cases:
- name: n
  start: 2026-11-23T00:00:00Z
  events:
  - login: {at: -1h, place: [1.5, -2], success: false}
  - transaction: {at: 1m, amount: 5, currency: EUR, score: 0.25, repeat: 2, every: 1m 30s, expect: {decision: approve}}
",
        )
        .unwrap();
        let [Step::Login(login), Step::Transaction(first), Step::Transaction(second)] = &cases[0].steps[..] else {
            panic!("{cases:?}")
        };
        let start = instant("2026-11-23T00:00:00Z").unwrap();
        assert_eq!(start, START - 12 * 3_600_000);
        assert_eq!((login.at, login.success), (start - 3_600_000, false));
        assert_eq!(login.location.map(|place| (place.latitude(), place.longitude())), Some((1.5, -2.0)));
        assert_eq!((first.transaction.at, second.transaction.at), (start + 60_000, start + 150_000));
        assert_ne!(first.transaction.transaction_id, second.transaction.transaction_id);
        assert_eq!(first.transaction.base.0, 540);
        assert_eq!(first.score, Some(0.25));
        assert!(first.expected.is_none() && second.expected.is_some());
    }

    #[test]
    fn every_fault_at_once() {
        let faults = read_text(
            "cases:
- name: n
  events:
  - login: {at: soon, place: [91, 0], succes: true}
  - transaction: {at: 1m, amount: \"1.234\", score: 2, repeat: 0}
  - transaction: {at: 1m, currency: KRW, expect: {decision: revew, reasons: [DAILY_SPENT], shadow: [daily_spend]}}
  - logout: {}
  - list: {put: grey, kind: card, value: \"\"}
  - list: {put: block, delete: allow}
  - list: {delete: allow, value: u-2}
- name: m
  events: [{transaction: {at: 0s}}]
",
        )
        .unwrap_err();
        let expected = [
            "c:4:17: expected a time such as",
            "c:4:30: expected a latitude",
            "c:4:39: unknown key \"succes\" in a login",
            "c:5:35: expected at most 2 decimals",
            "c:5:51: expected a score of 0 to 1",
            "c:5:62: expected a number of 1 to 10000",
            "c:6:18: expected a currency with a rate",
            "c:6:61: expected outcome to be one of",
            "c:6:78: expected a code of a live rule or a model band to be one of",
            "c:6:101: expected the id of a shadow rule to be one of impossible_travel, velocity",
            "c:7:5: unknown key \"logout\"",
            "c:7:5: expected one event",
            "c:8:17: expected a list to be one of block, allow",
            "c:8:29: expected kind to be one of user, merchant",
            "c:8:42: expected an id of 1 to 128 bytes",
            "c:9:11: expected one of put and delete",
            "c:10:11: expected no value for a user",
            "c:12:11: expected a transaction with expect",
        ];
        for part in expected {
            assert!(faults.iter().any(|fault| fault.starts_with(part)), "{part} not in\n{}", faults.join("\n"));
        }
        assert_eq!(read_text("").unwrap_err(), ["c:1:1: expected the key cases, found an empty file"]);
    }
}
