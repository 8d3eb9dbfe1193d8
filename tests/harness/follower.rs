//! A client that follows alerts: reads a stream of server-sent events piece by piece, or leaves it unread.

use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Longest wait for the next piece; a heartbeat comes sooner.
const PATIENCE: Duration = Duration::from_secs(60);

/// An open stream.
#[derive(Debug)]
pub struct Follower {
    connection: BufReader<TcpStream>,
    /// What was read and is no whole event yet.
    text: String,
}

/// An event, or a comment.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    /// An alert, under the id of its event.
    Alert(String, Value),
    /// A comment, as it stands.
    Comment(String),
}

impl Follower {
    /// Opens a stream, from after this alert on if one is given.
    ///
    /// # Panics
    /// The service does not answer with a stream.
    #[must_use]
    #[track_caller]
    pub fn open(addr: SocketAddr, path: &str, last_event_id: Option<&str>) -> Self {
        let mut connection = TcpStream::connect(addr).expect("the service accepts");
        connection.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let last = last_event_id.map_or(String::new(), |id| format!("Last-Event-ID: {id}\r\n"));
        let request = format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\nAccept: text/event-stream\r\n{last}\r\n");
        connection.write_all(request.as_bytes()).expect("the request leaves");
        let mut connection = BufReader::new(connection);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(connection.read_line(&mut head).expect("a head") > 0, "the service closed: {head}");
        }
        let head = head.to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 200 ") && head.contains("content-type: text/event-stream\r\n"), "{head}");
        assert!(head.contains("transfer-encoding: chunked\r\n"), "{head}");
        Self { connection, text: String::new() }
    }

    /// What comes next, `None` at the end, clean or not.
    ///
    /// # Panics
    /// Nothing comes for a minute, or something that is neither event nor comment.
    #[track_caller]
    pub fn told(&mut self) -> Option<Told> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let told = parse(event);
                self.text = rest.to_owned();
                return Some(told);
            }
            self.chunk()?;
        }
    }

    /// The next alert; comments are passed over.
    ///
    /// # Panics
    /// The stream ends first.
    #[track_caller]
    pub fn alert(&mut self) -> (String, Value) {
        loop {
            match self.told() {
                Some(Told::Alert(id, alert)) => return (id, alert),
                Some(Told::Comment(_)) => {}
                None => panic!("expected an alert, found the end of the stream"),
            }
        }
    }

    /// Reads one chunk; `None` if there is none.
    fn chunk(&mut self) -> Option<()> {
        let mut size = String::new();
        match self.connection.read_line(&mut size) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("nothing came for {PATIENCE:?}"),
            Err(_) => return None,
        }
        let size = usize::from_str_radix(size.trim_end(), 16).ok().filter(|size| *size > 0)?;
        let mut bytes = vec![0; size + 2];
        self.connection.read_exact(&mut bytes).ok()?;
        self.text.push_str(std::str::from_utf8(&bytes[..size]).expect("an event is UTF-8"));
        Some(())
    }
}

#[track_caller]
fn parse(event: &str) -> Told {
    let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    match (field("event"), field("id"), field("data")) {
        (Some("alert"), Some(id), Some(data)) => {
            let data: Value = serde_json::from_str(data).expect("data is JSON");
            assert_eq!(data["alert_id"], id);
            Told::Alert(id.to_owned(), data)
        }
        (None, None, None) => Told::Comment(event.to_owned()),
        _ => panic!("expected an alert or a comment, found {event}"),
    }
}
