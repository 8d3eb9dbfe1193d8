//! What the tests of this folder share: a history with its answers, copies of data, and harm to files.

use serde_json::Value;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use verdict_tests::{Payment, Service, lasting, sqlite, until};

/// Payments of one user after another, one at a time, so that journal order is the order of the list.
pub(crate) struct History {
    pub(crate) payments: Vec<Payment>,
    pub(crate) answers: Vec<Value>,
}

impl History {
    /// Sends so many payments, spread over a few users, each answered before the next is sent.
    pub(crate) fn send(service: &Service, prefix: &str, count: usize) -> Self {
        let client = service.client();
        let payment = |number: usize| {
            Payment::new(&format!("user-{prefix}-{}", number % 7), &format!("{prefix}-{number:04}"), "10.01")
        };
        let payments: Vec<Payment> = (0..count).map(payment).collect();
        let answers = payments.iter().map(|payment| {
            until("a decision", || {
                let answer = client.post("/v1/decide", &payment.text()).unwrap();
                (answer.status == 200).then(|| answer.json())
            })
        });
        let answers = answers.collect();
        Self { payments, answers }
    }

    /// Asks for every payment again, in order. Those that the service knows must be the first ones, with the answers
    /// that were given; the others are new to it. Returns how many it knew.
    pub(crate) fn known_prefix(&self, service: &Service) -> usize {
        let client = service.client();
        let mut known = 0;
        for (index, (payment, first)) in self.payments.iter().zip(&self.answers).enumerate() {
            let answer = until("an answer", || {
                let answer = client.post("/v1/decide", &payment.text()).unwrap();
                (answer.status != 503).then_some(answer)
            });
            assert_eq!(answer.status, 200, "{}", answer.body);
            let answer = answer.json();
            if answer["duplicate"] == true {
                assert_eq!(known, index, "payment {index} is known, and payment {known} before it is not");
                assert_eq!(lasting(answer), lasting(first.clone()));
                known += 1;
            }
        }
        known
    }
}

/// A copy of a service's folder, to be harmed.
pub(crate) fn copy(folder: &Path) -> TempDir {
    let copy = TempDir::new().unwrap();
    copy_into(&folder.join("data"), &copy.path().join("data"));
    copy
}

fn copy_into(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_into(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Removes a database with its log.
pub(crate) fn remove(folder: &Path, name: &str) {
    fs::remove_file(folder.join("data").join(name)).unwrap();
    for log in ["-wal", "-shm"] {
        // There is no log after a clean end.
        let _ = fs::remove_file(folder.join("data").join(format!("{name}{log}")));
    }
}

/// Merges a database's log into the file itself, so that harm to the file is harm to what is read.
pub(crate) fn merge_log(folder: &Path, name: &str) {
    sqlite(&folder.join("data").join(name), "SELECT 1");
}

/// The first file of a folder's journal.
pub(crate) fn segment(folder: &Path) -> PathBuf {
    folder.join("data/journal/00000000000000000001.log")
}

/// Takes a journal away, with all its files.
pub(crate) fn remove_journal(folder: &Path) {
    fs::remove_dir_all(folder.join("data/journal")).unwrap();
}

/// Cuts a journal's only file off behind the last batch that holds these bytes: what was written after it is lost.
#[track_caller]
pub(crate) fn lose_after(folder: &Path, needle: &[u8]) {
    let bytes = fs::read(segment(folder)).unwrap();
    let found = bytes.windows(needle.len()).rposition(|window| window == needle).unwrap();
    let next = bytes[found..].windows(MAGIC.len()).position(|window| window == MAGIC).unwrap();
    fs::write(segment(folder), &bytes[..found + next]).unwrap();
}

/// Where each batch of a journal's only file begins; no payment holds these bytes.
pub(crate) fn batches(folder: &Path) -> Vec<usize> {
    let bytes = fs::read(segment(folder)).unwrap();
    (0..bytes.len()).step_by(8).filter(|place| bytes[*place..].starts_with(MAGIC)).collect()
}

/// What every batch of a journal begins with.
const MAGIC: &[u8] = b"Vbt1";

/// Flips one bit of the byte that follows the last occurrence of these bytes in a file.
#[track_caller]
pub(crate) fn flip_after(file: &Path, needle: &[u8]) {
    let bytes = fs::read(file).unwrap();
    let found = bytes.windows(needle.len()).rposition(|window| window == needle);
    let place = found.unwrap_or_else(|| panic!("{} holds no {needle:?}", file.display())) + needle.len();
    // Only that byte, as a service may be writing elsewhere in the file.
    let file = OpenOptions::new().write(true).open(file).unwrap();
    file.write_all_at(&[bytes[place] ^ 0x10], place as u64).unwrap();
}

/// Waits until `/readyz` says 503 and names something; fails if the service becomes ready.
#[track_caller]
pub(crate) fn not_ready(service: &Service, cause: &str) -> String {
    until(cause, || {
        let answer = service.try_request("GET", "/readyz", &[], "").ok()?;
        assert_eq!(answer.status, 503, "ready in spite of it: {}", answer.body);
        answer.body.contains(cause).then_some(answer.body)
    })
}

/// Everything that is asked of it now is refused with 503, and nothing is decided.
#[track_caller]
pub(crate) fn decides_nothing(service: &Service, payment: &Payment) {
    let answer = service.post("/v1/decide", &payment.text());
    assert_eq!(answer.status, 503, "{}", answer.body);
    let code = answer.json()["code"].clone();
    let codes = ["RECOVERING", "JOURNAL_UNAVAILABLE", "JOURNAL_LATE", "DEADLINE_EXCEEDED"];
    assert!(codes.iter().any(|known| code == *known), "{}", answer.body);
    assert!(!answer.header("retry-after").is_empty());
    let profile = service.get("/v1/users/anybody/profile");
    assert_eq!(profile.status, 503, "{}", profile.body);
    assert_eq!(service.get("/healthz").status, 200);
}
