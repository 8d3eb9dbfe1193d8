//! API keys: who may do what, and what stays open.

use std::fs;
use tempfile::TempDir;
use verdict_tests::{Payment, Service, label, login, now_ms, run};

/// Key, its SHA-256, its one scope.
const KEYS: [(&str, &str, &str); 4] = [
    ("alpha", "8ed3f6ad685b959ead7022518e1af76cd816f8e8ec7ccdda1ed4018e8f2223f8", "decide"),
    ("beta", "f44e64e75f3948e9f73f8dfa94721c4ce8cbb4f265c4790c702b2d41cfbf2753", "ingest"),
    ("gamma", "be9d587defa1f0c09ef49eb17e206983a5f8f8289e4281860bd0ee5a19592c67", "review"),
    ("delta", "4f4a9410ffcdf895c4adb880659e9b5c0dd1f23a30790684340b3eaacb045398", "admin"),
];

fn configuration(keep: &TempDir) -> String {
    let path = keep.path().join("verdict.toml");
    let entry = |(name, hash, scope): (&str, &str, &str)| {
        format!("[[http.api_keys]]\nname = \"{name}\"\nsha256 = \"{hash}\"\nscopes = [\"{scope}\"]\n")
    };
    fs::write(&path, KEYS.map(entry).concat()).unwrap();
    path.display().to_string()
}

#[test]
fn keys_open_what_their_scopes_say() {
    let keep = TempDir::new().unwrap();
    let service = Service::builder().arg("--config").arg(configuration(&keep)).start();
    let at = now_ms();
    let payment = Payment::new("u", "t", "1.00").text();
    let entry = || r#"{"reason": "chargebacks"}"#.to_owned();
    let requests: [(&str, &str, &str, String, &[&str]); 12] = [
        ("POST", "/v1/decide", "application/json", payment.clone(), &["decide"]),
        ("POST", "/decide", "application/json", payment.clone(), &["decide"]),
        ("POST", "/v1/events", "application/x-ndjson", payment, &["ingest"]),
        ("POST", "/v1/logins", "application/json", login("u", "l", at, (1.0, 2.0)).to_string(), &["ingest"]),
        ("POST", "/v1/labels", "application/json", label("u", "t", at, true).to_string(), &["ingest"]),
        ("GET", "/v1/users/u/profile", "application/json", String::new(), &["review", "admin"]),
        ("GET", "/v1/alerts", "application/json", String::new(), &["review"]),
        ("PUT", "/v1/lists/block/merchant/m-9", "application/json", entry(), &["admin"]),
        ("PUT", "/v1/lists/block/merchant/m-9", "application/json", entry(), &["admin"]),
        ("GET", "/v1/lists/block/merchant/m-9", "application/json", String::new(), &["review", "admin"]),
        ("GET", "/v1/lists/block", "application/json", String::new(), &["review", "admin"]),
        ("DELETE", "/v1/lists/block/merchant/m-9", "application/json", String::new(), &["admin"]),
    ];
    for (method, path, kind, body, scopes) in requests {
        let ask = |authorization: Option<&str>| {
            let mut headers = vec![("content-type", kind)];
            headers.extend(authorization.map(|value| ("authorization", value)));
            service.request(method, path, &headers, &body)
        };
        for (key, _, scope) in KEYS {
            let answer = ask(Some(&format!("Bearer {key}")));
            let expected = if scopes.contains(&scope) { 2 } else { 4 };
            assert_eq!(answer.status / 100, expected, "{key} at {path}: {}", answer.body);
            if expected == 4 {
                assert_eq!((answer.status, &answer.json()["code"]), (403, &"FORBIDDEN".into()));
            }
        }
        for authorization in [None, Some("Bearer omega"), Some("Bearer "), Some("Basic alpha"), Some("alpha")] {
            let answer = ask(authorization);
            assert_eq!(answer.status, 401, "{authorization:?} at {path}: {}", answer.body);
            assert!(answer.header("www-authenticate").starts_with("Bearer"), "{:?}", answer.headers);
        }
    }
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(service.get(path).status, 200, "{path} is open");
    }
    let stopped = service.terminate();
    for (key, hash, _) in KEYS {
        assert!(
            !stopped.stderr.contains(hash) && !stopped.stderr.contains(&format!("Bearer {key}")),
            "keys in the log"
        );
    }
}

/// The description, as a page of this server sends its examples; and the same from a page of elsewhere.
#[test]
fn without_keys_pages_of_elsewhere_are_refused() {
    let service = Service::builder().arg("--model").arg("").start();
    let (own, payment) = (service.addr().to_string(), Payment::new("u", "t", "1.00").text());
    let origin = format!("http://{own}");
    let ask = |headers: &[(&str, &str)]| service.request("POST", "/v1/decide", headers, &payment);
    let json = ("content-type", "application/json");
    assert_eq!(ask(&[("origin", "http://evil.example")]).json()["code"], "NOT_LOCAL", "no type, as a form sends none");
    assert_eq!(ask(&[json, ("host", "evil.example")]).json()["code"], "NOT_LOCAL");
    assert_eq!(ask(&[json, ("origin", &origin), ("sec-fetch-site", "cross-site")]).status, 403);
    let answer = ask(&[json, ("origin", &origin), ("sec-fetch-site", "same-origin")]);
    assert_eq!((answer.status, &answer.json()["duplicate"]), (200, &false.into()), "{}", answer.body);
    assert_eq!(ask(&[json]).json()["duplicate"], true);
}

#[test]
fn a_service_with_keys_may_listen_anywhere() {
    let keep = TempDir::new().unwrap();
    let configuration = configuration(&keep);
    let data = keep.path().join("data").display().to_string();
    // An address that this machine does not have: it is refused by the system, and no longer by the service.
    let ended = run(["serve", "--config", &configuration, "--listen", "192.0.2.1:8080", "--data-dir", &data]);
    assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("cannot listen on 192.0.2.1:8080"), "{}", ended.stderr);
}
