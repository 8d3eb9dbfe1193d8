//! Limits, from outside: a key's rate, connections, heads and bodies that come too slowly, pipelines that are too long.

use super::by_rules;
use std::fmt::Write as _;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;
use tempfile::TempDir;
use verdict_tests::{Payment, Service, Stopwatch, until, within};

/// Longest wait for what must come or end.
const PATIENCE: Duration = Duration::from_secs(30);

/// Decides so many payments one after the other, on a connection of its own.
#[track_caller]
fn decides(service: &Service, user: &str, count: usize) {
    let client = service.client();
    for number in 0..count {
        let payment = Payment::new(user, &format!("t-{number}"), "1.00").with("deadline_ms", 10_000);
        let answer = client.post("/v1/decide", &payment.text()).expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
}

/// Reads until the service closes; an end by reset counts as one.
#[track_caller]
fn rest(mut connection: &TcpStream) -> String {
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    let (mut all, mut piece) = (Vec::new(), [0; 16 * 1024]);
    loop {
        match connection.read(&mut piece) {
            Ok(0) => break,
            Ok(length) => all.extend_from_slice(&piece[..length]),
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => break,
            Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&all)),
        }
    }
    String::from_utf8_lossy(&all).into_owned()
}

#[test]
fn a_key_beyond_its_rate_is_turned_away_and_no_other() {
    let keep = TempDir::new().unwrap();
    let path = keep.path().join("verdict.toml");
    let key = |name: &str, hash: &str, rate: &str| {
        format!(
            "[[http.api_keys]]\nname = \"{name}\"\nsha256 = \"{hash}\"\nscopes = [\"decide\", \"ingest\"]\n{rate}\n"
        )
    };
    let alpha = "8ed3f6ad685b959ead7022518e1af76cd816f8e8ec7ccdda1ed4018e8f2223f8";
    let beta = "f44e64e75f3948e9f73f8dfa94721c4ce8cbb4f265c4790c702b2d41cfbf2753";
    let text = key("slow", alpha, "rate_per_sec = 1\nburst = 3") + &key("free", beta, "");
    fs::write(&path, text).unwrap();
    let service = Service::builder().arg("--model").arg("").arg("--config").arg(path).start();
    let ask = |key: &str, number: usize| {
        let authorization = format!("Bearer {key}");
        let headers = [("content-type", "application/json"), ("authorization", authorization.as_str())];
        let id = format!("t-{number}");
        service.request(
            "POST",
            "/v1/decide",
            &headers,
            &Payment::new(key, &id, "1.00").with("deadline_ms", 10_000).text(),
        )
    };
    let watch = Stopwatch::start();
    let statuses: Vec<u16> = (0..40).map(|number| ask("alpha", number).status).collect();
    let passed = statuses.iter().filter(|status| **status == 200).count();
    assert!(statuses.iter().all(|status| [200, 429].contains(status)), "{statuses:?}");
    assert!((3..=4 + watch.seconds() as usize).contains(&passed), "a burst of 3 and 1 a second: {statuses:?}");
    let refused = (100..200).map(|number| ask("alpha", number)).find(|answer| answer.status == 429).unwrap();
    assert_eq!((refused.header("retry-after"), refused.json()["code"].as_str()), ("1", Some("RATE_LIMITED")));
    for number in 0..100 {
        assert_eq!(ask("beta", number).status, 200);
    }
    // A batch counts a line at a time; what is over is refused line by line.
    let lines: Vec<String> =
        (0..50).map(|number| Payment::new("batch", &format!("b-{number}"), "1.00").text()).collect();
    let batch = |key: &str| {
        let authorization = format!("Bearer {key}");
        let headers = [("content-type", "application/x-ndjson"), ("authorization", authorization.as_str())];
        service.request("POST", "/v1/events", &headers, &lines.join("\n"))
    };
    let taken = until("a token for a batch", || Some(batch("alpha")).filter(|answer| answer.status == 200));
    let limited = taken.lines().iter().filter(|line| line["code"] == "RATE_LIMITED").count();
    assert!(taken.lines().len() == 50 && limited >= 40, "{limited} of 50");
    assert!(batch("beta").lines().iter().all(|line| line["code"].is_null()));
    assert!(service.get("/metrics").body.contains("verdict_rejected_total{reason=\"RATE_LIMITED\"}"));
}

#[test]
fn two_hundred_slow_clients_hold_up_nobody() {
    let service = by_rules();
    let body = Payment::new("slow", "t", "1.00").text();
    let head = format!("POST /v1/decide HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n", body.len());
    let slow: Vec<TcpStream> = (0..200)
        .map(|number| {
            let mut connection = service.connect();
            // By turns: nothing at all, half a head, a head without its end, half a body.
            let part = match number % 4 {
                0 => String::new(),
                1 => head[..14].to_owned(),
                2 => head.clone(),
                _ => format!("{head}\r\n{}", &body[..10]),
            };
            connection.write_all(part.as_bytes()).unwrap();
            connection
        })
        .collect();
    let watch = Stopwatch::start();
    decides(&service, "u", 200);
    // A byte more does not buy time.
    for (number, mut connection) in slow.iter().enumerate().filter(|(number, _)| number % 4 != 0) {
        let more: &[u8] = match number % 4 {
            1 => b"e",
            2 => b"x-slow: 1\r\n",
            _ => b"x",
        };
        let _ = connection.write_all(more);
    }
    decides(&service, "v", 200);
    for (number, connection) in slow.iter().enumerate() {
        let answer = rest(connection);
        let expected = number % 4 == 0 && answer.is_empty() || answer.starts_with("HTTP/1.1 408");
        assert!(expected, "{number}: {answer}");
    }
    assert!(watch.seconds() < 25.0, "10 s for a head or a body, found all gone after {}", watch.seconds());
    decides(&service, "w", 50);
}

#[test]
fn a_slow_head_is_cut_off_on_a_connection_that_was_used_before() {
    let service = by_rules();
    let mut connection = service.connect();
    connection.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    let mut answer = [0; 4_096];
    let length = connection.read(&mut answer).unwrap();
    assert!(answer[..length].starts_with(b"HTTP/1.1 200"));
    let watch = Stopwatch::start();
    // A byte a while, for as long as the service takes it.
    let head = b"GET /healthz HTTP/1.1\r\nx-slow: ".iter().chain(std::iter::repeat(&b'x'));
    connection.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    for byte in head {
        if connection.write_all(&[*byte]).is_err() {
            break;
        }
        match connection.read(&mut answer) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Ok(length) => {
                let answer = String::from_utf8_lossy(&answer[..length]);
                assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
                break;
            }
            Err(_) => break,
        }
        assert!(watch.seconds() < 25.0, "the head was waited for");
    }
}

#[test]
fn connections_are_bounded_and_the_next_is_served_when_one_ends() {
    let service = Service::builder().arg("--model").arg("").env("VERDICT__HTTP__MAX_CONNECTIONS", "8").start();
    let request = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let answers = |connection: &mut TcpStream| {
        connection.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let mut answer = [0; 1_024];
        connection.read(&mut answer).is_ok_and(|length| answer[..length].starts_with(b"HTTP/1.1 200"))
    };
    // Connections of readiness probes may still be closing.
    let mut open: Vec<TcpStream> = Vec::new();
    let mut waiting = within(PATIENCE, || {
        let mut connection = service.connect();
        connection.write_all(request).unwrap();
        if answers(&mut connection) {
            open.push(connection);
            return None;
        }
        Some(connection)
    })
    .expect("a connection that has to wait");
    assert!((1..=9).contains(&open.len()), "{} connections were served at once, expected about 8", open.len());
    drop(open);
    assert!(within(PATIENCE, || answers(&mut waiting).then_some(())).is_some(), "the one that waited is served");
    decides(&service, "u", 20);
}

#[test]
fn a_long_pipeline_is_answered_in_order() {
    let service = by_rules();
    let mut connection = service.connect();
    let mut requests = String::new();
    for number in 0..2_000 {
        let close = if number == 1_999 { "connection: close\r\n" } else { "" };
        write!(requests, "GET /v1/users/p-{number}/profile HTTP/1.1\r\nhost: localhost\r\n{close}\r\n").unwrap();
    }
    let mut sender = connection.try_clone().unwrap();
    let sending = std::thread::spawn(move || sender.write_all(requests.as_bytes()));
    decides(&service, "u", 100);
    let answers = rest(&connection);
    sending.join().unwrap().unwrap();
    let order: Vec<&str> =
        answers.split("\"instance\":\"/v1/users/p-").skip(1).map(|rest| rest.split('/').next().unwrap()).collect();
    let expected: Vec<String> = (0..2_000).map(|number| number.to_string()).collect();
    assert_eq!(order, expected);
    connection.flush().unwrap();
}

#[test]
fn one_who_pipelines_and_never_reads_holds_up_nobody() {
    let service = by_rules();
    let request = b"GET /openapi.json HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let resident = || {
        let status = fs::read_to_string(format!("/proc/{}/status", service.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    decides(&service, "u", 50);
    let before = resident();
    let greedy: Vec<TcpStream> = (0..20)
        .map(|_| {
            let mut connection = service.connect();
            connection.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
            // Half a megabyte of requests asks for 700 megabytes of answers.
            for _ in 0..16_000 {
                if connection.write_all(request).is_err() {
                    break;
                }
            }
            connection
        })
        .collect();
    decides(&service, "v", 200);
    let grown = resident().saturating_sub(before);
    assert!(grown < 64 * 1024, "20 clients that do not read took {grown} KiB");
    drop(greedy);
    decides(&service, "w", 20);
}
