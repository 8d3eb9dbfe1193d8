//! A server ends with its test, however that ends.

use super::{assert_gone, processes};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use verdict_tests::{until, workspace};

/// An attendant as the harness starts it, and the folder of its server.
fn attendant(kind: &str) -> (Child, PathBuf) {
    let mut command = Command::new("python3");
    command.arg(workspace().join("tests/scripts/servers.py")).args(["attend", kind, "{}"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut said).unwrap();
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    let folder = PathBuf::from(said["ok"]["folder"].as_str().unwrap_or_else(|| panic!("{said}")));
    assert!(!processes(&folder).is_empty());
    (child, folder)
}

#[test]
fn a_server_goes_when_nobody_holds_its_stdin() {
    for kind in ["redis", "postgres"] {
        let (mut child, folder) = attendant(kind);
        drop(child.stdin.take());
        assert!(child.wait().unwrap().success());
        assert_gone(&folder);
    }
}

#[test]
fn a_server_goes_with_its_attendant() {
    for kind in ["redis", "postgres"] {
        let (mut child, folder) = attendant(kind);
        child.kill().unwrap();
        child.wait().unwrap();
        until("the end of all processes", || processes(&folder).is_empty().then_some(()));
        std::fs::remove_dir_all(folder).unwrap();
    }
}
