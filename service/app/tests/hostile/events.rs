//! Events: JSON bodies, lines of batches and histories, rows of CSV, and the configuration's TOML.

use crate::damage::{damaged, damaged_text};
use crate::{bounded, shipped, text};
use proptest::prelude::*;
use std::sync::LazyLock;
use verdict::actors::messages::Event;
use verdict::config::Config;
use verdict::wire::csv::CsvHistory;
use verdict::wire::line::{self, RequestLine};
use verdict::wire::{AgeBounds, ParseContext, label, login, transaction};
use verdict_core::money::Rates;
use verdict_core::time::Timestamp;

const NOON: Timestamp = Timestamp::from_millis(1_795_435_200_000);
const TRANSACTION: &str = r#"{"transaction_id":"t-81","user_id":"u-7","amount":"123.45","currency":"USD","merchant_id":"m-3","timestamp":"2026-11-23T12:00:00.000Z","ip_address":"203.0.113.7","user_agent":"Mozilla/5.0","device_id":"d-1","merchant_category":"5411","latitude":40.71,"longitude":-74.0,"deadline_ms":150,"fallback":"reject","more":{"a":[1,2.5e3,null,true]}}"#;
const LOGIN: &str = r#"{"login_id":"l-9","user_id":"u-7","timestamp":"2026-11-23T11:30:00+01:00","ip_address":"2001:db8::7","device_id":"d-1","user_agent":"x","latitude":34.05,"longitude":-118.24,"success":false}"#;
const LABEL: &str = r#"{"transaction_id":"t-81","user_id":"u-7","is_fraud":true,"source":"chargeback","timestamp":"2026-11-23T12:00:00Z","amount_lost":12.5}"#;
const CSV: &str = "transaction_id,timestamp,user_id,merchant_id,amount,currency,is_fraud,latitude,longitude\nt-1,2026-11-23 12:00:00,u-1,m-1,5.00,USD,0,1.5,2.5\nt-2,2026-11-23T12:00:01Z,\"u,2\",\"m\"\"2\",7,JPY,1,,\n";

static RATES: LazyLock<Rates> = LazyLock::new(|| shipped().rates().clone());

fn context() -> ParseContext<'static> {
    ParseContext { rates: &RATES, now: NOON, bounds: AgeBounds::NONE }
}

fn seeds() -> Vec<Vec<u8>> {
    [TRANSACTION, LOGIN, LABEL].map(|seed| seed.as_bytes().to_vec()).into()
}

/// Gives bytes to every parser of one event; whatever one accepts, it accepts again as it is printed.
fn read(bytes: &[u8]) {
    let context = context();
    let mut out = Vec::new();
    if let Ok(parsed) = transaction::parse(bytes, &context) {
        transaction::to_json(&parsed.transaction, &mut out);
        let again = transaction::parse(&out, &context).expect("what is printed parses");
        assert_eq!(again.transaction, parsed.transaction);
    }
    out.clear();
    if let Ok(parsed) = login::parse(bytes, &context) {
        login::to_json(&parsed, &mut out);
        assert_eq!(login::parse(&out, &context).expect("what is printed parses"), parsed);
    }
    out.clear();
    if let Ok(parsed) = label::parse(bytes, &context) {
        label::to_json(&parsed, RATES.base(), &mut out);
        assert_eq!(label::parse(&out, &context).expect("what is printed parses"), parsed);
    }
    let kind = |event: &Event| match event {
        Event::Transaction(_) => 't',
        Event::Login(_) => 'l',
        Event::Label(_) => 'f',
    };
    let history = line::parse(bytes, &context).ok().as_ref().map(kind);
    let request = line::parse_request(bytes, &context).ok().map(|request| match request {
        RequestLine::Transaction(_) => 't',
        RequestLine::Login(_) => 'l',
    });
    assert!(
        history == request || history == Some('f') || request.is_none() || history.is_none(),
        "{history:?} {request:?}"
    );
}

fn read_csv(bytes: &[u8]) {
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(bytes);
    let Ok(header) = reader.byte_headers() else { return };
    let Ok(history) = CsvHistory::new(header, RATES.base()) else { return };
    let mut row = csv::ByteRecord::new();
    while reader.read_byte_record(&mut row).is_ok_and(|more| more) {
        if let Err(faults) = history.row(&row, &context()) {
            assert!(!faults.is_empty() && faults.iter().all(|fault| fault.message.len() < 1_000), "{faults:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn damaged_events_are_refused_or_come_back_the_same(bytes in damaged(seeds())) {
        read(&bytes);
    }

    #[test]
    fn damaged_csv_is_refused_or_read(bytes in damaged(vec![CSV.as_bytes().to_vec()])) {
        read_csv(&bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn damaged_configuration_is_refused_with_a_place(text in damaged_text(vec![text("docs/verdict.example.toml").replace("# ", "")])) {
        let environment = [("VERDICT__HTTP__API_KEYS".to_owned(), text.chars().take(200).collect())];
        for environment in [Vec::new(), environment.to_vec()] {
            if let Err(errors) = Config::from_sources(Some(("verdict.toml", &text)), environment.into_iter()) {
                prop_assert!(!errors.all().is_empty());
            }
        }
    }
}

#[test]
fn the_longest_events_take_no_time() {
    const LIMIT: usize = 64 * 1024;
    let field = |value: &str| TRANSACTION.replace("\"u-7\"", value).replace("\"123.45\"", value);
    let keys =
        |key: &dyn Fn(usize) -> String| (0..5_000).map(|at| format!("{:?}:1", key(at))).collect::<Vec<_>>().join(",");
    let shapes = [
        "[".repeat(LIMIT),
        "{\"a\":".repeat(LIMIT / 5),
        "[{\"a\":".repeat(LIMIT / 6),
        format!("{{\"a\":{}{}}}", "[".repeat(LIMIT / 2 - 8), "]".repeat(LIMIT / 2 - 8)),
        format!("{{{}}}", keys(&|at| at.to_string())),
        format!("{{{}}}", keys(&|_| "user_id".to_owned())),
        format!("{{{}}}", keys(&|at| format!("\\u0061{at}"))),
        format!("{{\"{}\":1}}", "k".repeat(LIMIT - 8)),
        format!("{{\"user_id\":\"{}\"}}", "\\u0000".repeat(LIMIT / 6 - 4)),
        format!("{{\"user_id\":\"{}\"}}", "\\ud83d\\ude00".repeat(LIMIT / 12 - 4)),
        field(&"9".repeat(LIMIT / 3)),
        field(&format!("0.{}", "0".repeat(LIMIT / 3))),
        field(&format!("1e{}", "9".repeat(LIMIT / 3))),
        field(&format!("\"{}\"", "9".repeat(LIMIT / 3))),
        field(&format!("\"{}\"", "\u{10ffff}".repeat(LIMIT / 12))),
        format!("{}{}", " ".repeat(LIMIT - TRANSACTION.len()), TRANSACTION),
        ",".repeat(LIMIT),
        "\"".repeat(LIMIT),
    ];
    for shape in shapes {
        bounded(&shape[..40.min(shape.len())].escape_debug().to_string(), || {
            read(shape.as_bytes());
            read_csv(shape.as_bytes());
        });
    }
    let names = (0..20_000).map(|at| format!("transaction_{at}")).collect::<Vec<_>>().join(",");
    bounded("a header of many names that are nearly right", || read_csv(names.as_bytes()));
    bounded("a header of equal names", || read_csv("amount,".repeat(20_000).as_bytes()));
}

#[test]
fn a_hostile_configuration_takes_no_time() {
    for (what, text) in [
        ("deep arrays", format!("a = {}", "[".repeat(100_000))),
        ("deep tables", format!("a = {}", "{a = ".repeat(50_000))),
        ("a deep key", format!("{}a = 1", "a.".repeat(50_000))),
        ("many sections", (0..12_000).map(|at| format!("[s{at}]\nk = 1\n")).collect()),
        ("many unknown keys", format!("[http]\n{}", (0..20_000).map(|at| format!("k{at} = 1\n")).collect::<String>())),
        ("many API keys", "[[http.api_keys]]\nname = 'a'\n".repeat(5_000)),
        ("a long number", format!("[http]\nworkers = {}", "9".repeat(100_000))),
        ("broken lines", "= \n".repeat(20_000)),
        ("too much", "#\n".repeat(1 << 20)),
    ] {
        let refused =
            bounded(what, || Config::from_sources(Some(("verdict.toml", &text)), std::iter::empty()).is_err());
        assert!(refused, "{what} is no configuration");
    }
}
