//! Bodies and bytes that mean harm, sent to the real binary. Each gets its refusal; the service decides as before, and its
//! memory has not grown.

use super::by_rules;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::time::Duration;
use verdict_tests::{Payment, Service, now_ms, rfc3339};

/// Longest wait for an answer: a head or a body that does not come is given 10 s.
const PATIENCE: Duration = Duration::from_secs(25);

/// Sends bytes as they are and reads until the service closes. `None` without a byte of answer.
#[track_caller]
fn exchange(service: &Service, bytes: &[u8]) -> String {
    let mut connection = service.connect();
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    connection.set_write_timeout(Some(PATIENCE)).unwrap();
    // A service that has heard enough may close before everything is sent.
    let _ = connection.write_all(bytes);
    let _ = connection.shutdown(Shutdown::Write);
    let (mut all, mut piece) = (Vec::new(), [0; 16 * 1024]);
    loop {
        match connection.read(&mut piece) {
            Ok(0) => break,
            Ok(length) => all.extend_from_slice(&piece[..length]),
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => break,
            Err(error) => panic!("no end ({error}) after {:?}", String::from_utf8_lossy(bytes)),
        }
    }
    String::from_utf8_lossy(&all).into_owned()
}

/// The statuses of every answer in what came back.
fn statuses(answers: &str) -> Vec<u16> {
    let after = answers.split("HTTP/1.1 ").skip(1);
    after.filter_map(|rest| rest.get(..3)?.parse().ok()).collect()
}

fn resident_kib(service: &Service) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", service.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// The service decides as ever.
#[track_caller]
fn decides(service: &Service, user: &str) {
    let answer = service.post("/v1/decide", &Payment::new(user, "t-sound", "1.00").with("deadline_ms", 10_000).text());
    assert_eq!((answer.status, answer.json()["decision"].as_str()), (200, Some("approve")), "{}", answer.body);
}

/// The right body with the text of one field's value replaced.
fn with(field: &str, value: &str) -> Vec<u8> {
    let payment = Payment::new("u-hostile", "t-hostile", "1.00").body;
    let fields = payment.as_object().unwrap().iter();
    let fields: Vec<String> = fields
        .map(|(key, known)| if key == field { format!("\"{key}\":{value}") } else { format!("\"{key}\":{known}") })
        .collect();
    format!("{{{}}}", fields.join(",")).into_bytes()
}

/// Bodies, and whether they are so wrong that nothing but a refusal will do.
fn bodies() -> Vec<(&'static str, Vec<u8>)> {
    let valid = with("", "");
    let keys = |count: usize, key: &dyn Fn(usize) -> String| {
        let pairs: Vec<String> = (0..count).map(|number| format!("{:?}:0", key(number))).collect();
        format!("{{{}}}", pairs.join(",")).into_bytes()
    };
    let mut bodies: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", Vec::new()),
        ("nul", b"\0".to_vec()),
        ("byte order mark", [b"\xef\xbb\xbf".as_slice(), &valid].concat()),
        ("utf-16", valid.iter().flat_map(|byte| [*byte, 0]).collect()),
        ("invalid utf-8", with("user_id", "\"x\"").iter().map(|b| if *b == b'x' { 0xff } else { *b }).collect()),
        ("overlong utf-8", [b"{\"user_id\":\"".as_slice(), b"\xc0\xaf", b"\"}"].concat()),
        ("surrogate in utf-8", b"{\"user_id\":\"\xed\xa0\x80\"}".to_vec()),
        ("deep arrays", b"[".repeat(60_000)),
        ("deep objects", b"{\"a\":".repeat(12_000)),
        (
            "deep in an unknown field",
            [b"{\"a\":".as_slice(), &b"[".repeat(30_000), &b"]".repeat(30_000), b"}"].concat(),
        ),
        ("two values", [valid.as_slice(), &valid].concat()),
        ("many keys", keys(6_000, &|number| number.to_string())),
        ("many equal keys", keys(6_000, &|_| "user_id".to_owned())),
        ("a gigantic key", keys(1, &|_| "k".repeat(60_000))),
        ("keys equal once escapes are read", b"{\"user_id\":\"a\",\"user\\u005fid\":\"b\"}".to_vec()),
        ("a gigantic text", [b"{\"user_agent\":\"", "x".repeat(65_000).as_bytes(), b"\"}"].concat()),
        ("only quotes", b"\"".repeat(60_000)),
        ("only escapes", [b"{\"a\":\"".as_slice(), &b"\\u0000".repeat(10_000), b"\"}"].concat()),
        ("serde's own names", b"{\"$serde_json::private::RawValue\":\"{}\"}".to_vec()),
    ];
    for field in ["transaction_id", "user_id", "merchant_id", "currency", "timestamp", "amount"] {
        for value in [
            "\"\\ud800\"",
            "\"\\udc00\\ud800\"",
            "\"\\u0000\"",
            "\"a\\u0000b\"",
            "\"\"",
            "null",
            "true",
            "{}",
            "[[]]",
            "-0",
            "-0.0",
            "1e400",
            "-1e400",
            "1e-400",
            "0e99999999",
            "NaN",
            "Infinity",
            "0x10",
            "01",
            "1.",
            ".5",
            "\"\u{2028}\\n\"",
        ] {
            bodies.push(("a value", with(field, value)));
        }
        bodies.push(("an overlong number", with(field, &"9".repeat(60_000))));
        bodies.push(("an overlong fraction", with(field, &format!("0.{}1", "0".repeat(60_000)))));
        bodies.push(("an overlong id", with(field, &format!("\"{}\"", "\u{10ffff}".repeat(10_000)))));
    }
    for value in
        ["9999-99-99T99:99:99Z", "-292277022657-01-27T08:29:52Z", "+010000-01-01T00:00:00Z", "1e5", "2026-11-23"]
    {
        bodies.push(("a time or an amount", with("timestamp", &format!("\"{value}\""))));
        bodies.push(("a time or an amount", with("amount", &format!("\"{value}\""))));
    }
    bodies
}

#[test]
fn bodies_that_mean_harm_are_refused() {
    let service = by_rules();
    decides(&service, "before");
    let client = service.client();
    let send =
        |path: &str, kind: &str, body: &[u8]| client.request("POST", path, &[("content-type", kind)], body).unwrap();
    let all = bodies();
    let mut before = 0;
    for round in 0..4 {
        for (what, body) in &all {
            let shown = String::from_utf8_lossy(&body[..body.len().min(80)]).into_owned();
            for path in ["/v1/decide", "/v1/logins", "/v1/labels"] {
                let answer = send(path, "application/json", body);
                assert!(
                    matches!(answer.status, 400 | 413 | 422),
                    "{path} {what} {shown}: {} {}",
                    answer.status,
                    answer.body
                );
                assert!(!answer.json()["code"].as_str().unwrap().is_empty() && answer.body.len() < 16 * 1024, "{what}");
            }
            let answer = send("/v1/events", "application/x-ndjson", body);
            assert_eq!(answer.status, 200, "{what} {shown}");
            for line in answer.lines() {
                assert!(matches!(line["status"].as_u64(), Some(400 | 413 | 422)), "{what} {shown}: {line}");
            }
        }
        if round == 0 {
            before = resident_kib(&service);
        }
    }
    let grown = resident_kib(&service).saturating_sub(before);
    assert!(grown < 32 * 1024, "{} bodies three times over took {grown} KiB", all.len());
    assert_eq!(service.get("/v1/users/u-hostile/profile").status, 404, "what was refused left nothing");
    decides(&service, "after");
}

#[test]
fn ids_that_look_like_others_are_kept_apart() {
    let service = by_rules();
    // Right to left, zero width, composed and decomposed, upper and lower case: other bytes, other users.
    let users = [
        "u-1",
        "u-\u{202e}1",
        "u-\u{200b}1",
        "\u{feff}u-1",
        "u-1 ",
        "U-1",
        "é",
        "e\u{301}",
        "ｕ-1",
        "../u-1",
        "u%2D1",
        "u;1",
        "u?1#",
    ];
    for (number, user) in users.iter().enumerate() {
        let amount = format!("{}.00", 10 + number);
        let answer = service.post("/v1/decide", &Payment::new(user, "t", &amount).with("deadline_ms", 10_000).text());
        assert_eq!((answer.status, answer.json()["user_id"].as_str()), (200, Some(*user)), "{user:?}: {}", answer.body);
        assert_eq!(answer.json()["duplicate"], false, "{user:?}");
    }
    for (number, user) in users.iter().enumerate() {
        let encoded: String = user.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let profile = service.get(&format!("/v1/users/{encoded}/profile"));
        assert_eq!((profile.status, profile.json()["user_id"].as_str()), (200, Some(*user)), "{}", profile.body);
        assert_eq!(profile.json()["recent"][0]["base_amount"], format!("{}.00", 10 + number), "{user:?}");
    }
}

#[test]
fn paths_that_mean_harm_are_refused() {
    let service = by_rules();
    let profile =
        |id: &str| format!("GET /v1/users/{id}/profile HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    for id in [
        "%00",
        "%",
        "%G1",
        "%2",
        "%FF%FE",
        "%C0%AF",
        "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "..%2f..",
        "a%0d%0aset-cookie:x",
        "%ED%A0%80",
        "%25%32%46",
    ] {
        let answer = exchange(&service, profile(id).as_bytes());
        assert!(matches!(statuses(&answer)[..], [400 | 404]), "{id}: {answer}");
        assert!(!answer.to_ascii_lowercase().contains("\r\nset-cookie"), "{answer}");
    }
    for (target, expected) in [
        ("/../../etc/passwd", &[404][..]),
        ("//v1//decide", &[404]),
        ("/v1/decide/../../healthz", &[404]),
        ("/healthz?\u{0}", &[400]),
        ("http://elsewhere.example/healthz", &[200]),
        ("*", &[400, 404]),
        ("/healthz#part", &[200, 400, 404]),
        ("\\healthz", &[400, 404]),
        ("/v1/alerts?limit=1&limit=2", &[422]),
        ("/v1/alerts?limit=99999999999999999999", &[422]),
        ("/v1/alerts?since=%00", &[422]),
        ("/v1/alerts?user_id=%FF", &[200, 422]),
    ] {
        let answer = exchange(
            &service,
            format!("GET {target} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").as_bytes(),
        );
        let found = statuses(&answer);
        assert!(found.len() == 1 && expected.contains(&found[0]), "{target:?}: {answer}");
    }
    decides(&service, "after");
}

#[test]
fn requests_that_two_servers_could_read_in_two_ways_are_refused() {
    let service = by_rules();
    let smuggled = "GET /v1/users/smuggled/profile HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let post =
        |headers: &str, body: &str| format!("POST /v1/decide HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n{body}");
    let long = smuggled.len();
    let table: [(&str, String); 16] = [
        (
            "both lengths",
            post(&format!("content-length: {long}\r\ntransfer-encoding: chunked\r\n"), &format!("0\r\n\r\n{smuggled}")),
        ),
        (
            "both, the other way",
            post(&format!("transfer-encoding: chunked\r\ncontent-length: {long}\r\n"), &format!("0\r\n\r\n{smuggled}")),
        ),
        ("two lengths", post(&format!("content-length: 0\r\ncontent-length: {long}\r\n"), smuggled)),
        ("a list of lengths", post(&format!("content-length: 0, {long}\r\n"), smuggled)),
        ("a signed length", post(&format!("content-length: +{long}\r\n"), smuggled)),
        ("a negative length", post("content-length: -1\r\n", smuggled)),
        ("a length beyond numbers", post("content-length: 99999999999999999999999\r\n", smuggled)),
        ("an unknown coding", post("transfer-encoding: xchunked\r\n", smuggled)),
        (
            "a coding twice",
            post("transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n", &format!("0\r\n\r\n{smuggled}")),
        ),
        ("a bad chunk size", post("transfer-encoding: chunked\r\n", &format!("zz\r\n{smuggled}"))),
        (
            "a chunk size beyond numbers",
            post("transfer-encoding: chunked\r\n", &format!("ffffffffffffffffff\r\n{smuggled}")),
        ),
        ("a chunk without its end", post("transfer-encoding: chunked\r\n", &format!("1\r\nxyz\r\n{smuggled}"))),
        ("space before the colon", post(&format!("content-length : {long}\r\n"), smuggled)),
        ("a folded header", post(&format!("x: y\r\n content-length: {long}\r\n"), smuggled)),
        ("a bare line feed in a value", "GET /healthz HTTP/1.1\r\nhost: localhost\r\nx: a\rb\r\n\r\n".to_owned()),
        ("an unknown version", "GET /healthz HTTP/9.9\r\nhost: localhost\r\n\r\n".to_owned()),
    ];
    for (what, bytes) in table {
        let answer = exchange(&service, bytes.as_bytes());
        let found = statuses(&answer);
        assert!(matches!(found[..], [first, ..] if (400..500).contains(&first)), "{what}: {answer}");
        assert!(found.iter().all(|status| (400..500).contains(status)), "{what}: {answer}");
        // What follows a request that was not understood is not read as another.
        assert!(!answer.contains("/v1/users/smuggled"), "{what}: {answer}");
    }
    decides(&service, "after");
}

#[test]
fn heads_and_bytes_that_mean_harm_are_answered() {
    let service = by_rules();
    decides(&service, "before");
    let flood = |count: usize, length: usize| {
        let lines: String = (0..count).map(|number| format!("x-{number}: {}\r\n", "y".repeat(length))).collect();
        format!("GET /v1/alerts HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{lines}\r\n").into_bytes()
    };
    for (what, bytes, expected) in [
        ("many headers", flood(90, 10), 200),
        ("more headers than are read", flood(200, 10), 431),
        ("large headers", flood(40, 1_000), 431),
        ("headers without end", flood(80, 10_000), 431),
        ("one long line", b"GET /".iter().copied().chain(std::iter::repeat_n(b'a', 300_000)).collect(), 431),
        (
            "a long path",
            format!("GET /{} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n", "a".repeat(20_000))
                .into_bytes(),
            414,
        ),
        ("tls", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".repeat(20), 400),
        ("http/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), 400),
        ("nul", b"\0".repeat(1_000), 400),
        ("a method that is none", b"G\x01T / HTTP/1.1\r\nhost: localhost\r\n\r\n".to_vec(), 400),
        (
            "a long method",
            [b"A".repeat(10_000).as_slice(), b" / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"].concat(),
            404,
        ),
    ] {
        let answer = exchange(&service, &bytes);
        assert_eq!(statuses(&answer), [expected], "{what}: {answer}");
    }
    // Chunks of one byte each, extensions and trailers are legal; the body is read as it is meant.
    let body =
        Payment::new("chunked", "t", "1.00").with("timestamp", rfc3339(now_ms())).with("deadline_ms", 10_000).text();
    let chunks: String = body.chars().map(|letter| format!("1;x=y\r\n{letter}\r\n")).collect();
    let request = format!(
        "POST /v1/decide HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n{chunks}0\r\n\r\n"
    );
    let answer = exchange(&service, request.as_bytes());
    assert!(matches!(statuses(&answer)[..], [200 | 400]), "{answer}");
    // Random bytes, cut-off requests and connections that say nothing.
    let mut dice = fastrand::Rng::with_seed(4);
    let whole = format!(
        "POST /v1/decide HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes();
    for number in 0..300 {
        let mut bytes = whole.clone();
        match number % 3 {
            0 => bytes = (0..dice.usize(1..400)).map(|_| dice.u8(..)).collect(),
            1 => bytes.truncate(dice.usize(..bytes.len())),
            _ => (0..3).for_each(|_| bytes[dice.usize(..whole.len())] = dice.u8(..)),
        }
        let answer = exchange(&service, &bytes);
        assert!(
            statuses(&answer).iter().all(|status| *status < 500),
            "{:?}: {answer}",
            String::from_utf8_lossy(&bytes)
        );
    }
    decides(&service, "after");
    assert!(!service.stderr().contains("panicked"), "{}", service.stderr());
}
