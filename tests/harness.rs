//! The harness against programs that behave badly, so that a failing service is reported and never left behind.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use tempfile::TempDir;
use verdict_tests::{Service, verdict};

/// A service of a few lines of Python: answers `/readyz` with 200 and everything else with what it was sent.
const ECHO: &str = r#"#!/usr/bin/env python3
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0)) or self.path.encode()
        self.send_response(200 if self.path == "/readyz" else 418)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_POST = do_PUT = do_GET
host, port = sys.argv[sys.argv.index("--listen") + 1].split(":")
print("arguments:", sys.argv[5:], file=sys.stderr, flush=True)
http.server.HTTPServer((host, int(port)), Handler).serve_forever()
"#;

fn program(text: &str) -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("program");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    (folder, path)
}

fn runs(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok()
}

#[test]
fn a_service_is_asked_stopped_and_started_again_on_its_folder() {
    let (_keep, echo) = program(ECHO);
    let service = Service::builder().binary(&echo).arg("--rules").arg("r").start();
    let answer = service.post("/v1/decide", "{\"a\": 1}");
    assert_eq!((answer.status, answer.json()["a"].as_i64()), (418, Some(1)));
    assert_eq!(service.get("/x?y=z").body, "/x?y=z");
    assert_eq!(service.request("PUT", "/", &[("x-a", "b")], "put").header("content-length"), "3");
    assert!(service.stderr().contains("'--rules', 'r'"), "{}", service.stderr());
    fs::write(service.folder().join("mark"), "").unwrap();
    let stopped = service.terminate();
    assert!(!stopped.status.success());
    let again = Service::builder().binary(&echo).folder(stopped.folder).start();
    assert!(again.folder().join("mark").exists());
}

#[test]
fn nothing_is_left_behind() {
    let (_keep, echo) = program(ECHO);
    let service = Service::builder().binary(&echo).start();
    let (pid, folder) = (service.pid(), service.folder().to_owned());
    assert!(runs(pid) && folder.exists());
    drop(service);
    assert!(!runs(pid) && !folder.exists());
}

#[test]
fn a_program_that_ends_is_reported_with_its_words() {
    let (_keep, broken) = program("#!/bin/sh\necho 'no rules here' >&2\nexit 3\n");
    let stopped = Service::builder().binary(broken).try_start().unwrap_err();
    assert_eq!(stopped.status.code(), Some(3));
    assert_eq!(stopped.stderr, "no rules here\n");
}

#[test]
fn a_wrong_configuration_stops_the_binary_with_every_error() {
    let stopped = Service::builder()
        .binary(verdict())
        .env("VERDICT__HTTP__WORKERS", "none")
        .env("VERDICT__DATA__PARTITION", "3")
        .try_start()
        .unwrap_err();
    assert_eq!(stopped.status.code(), Some(2));
    assert!(stopped.stderr.contains("2 errors"), "{}", stopped.stderr);
    assert!(stopped.stderr.contains("VERDICT__HTTP__WORKERS: http.workers: expected an integer"), "{}", stopped.stderr);
    assert!(stopped.stderr.contains("did you mean `VERDICT__DATA__PARTITIONS`?"), "{}", stopped.stderr);
}
