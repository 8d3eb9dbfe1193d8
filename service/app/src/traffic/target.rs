//! Sends traffic to a running service and hands back its answers. It waits where the service asks for it, and never
//! drops an event: what cannot be delivered ends the run with an error.

use std::time::Duration;
use thiserror::Error;
use ureq::Agent;
use ureq::http::Response;

/// Largest answer to one request that is read: 10 times what 256 decisions take.
const MAX_ANSWER_BYTES: u64 = 16 * 1024 * 1024;
/// Longest wait that is taken from a `Retry-After`.
const MAX_WAIT_SECS: u64 = 10;
/// How often one chunk is offered before the run ends.
const MAX_OFFERS: u32 = 30;

/// Why traffic could not be delivered.
#[derive(Debug, Error)]
pub enum TargetError {
    /// No such target.
    #[error("--target: expected \"-\" or a URL that starts with http://, found {0:?}")]
    Url(String),
    /// The service did not answer.
    #[error("{url} does not answer; start it with `verdict serve`, or check --target")]
    Unreachable {
        /// What was called.
        url: String,
        /// What went wrong.
        source: Box<ureq::Error>,
    },
    /// The service answered with an error that a retry does not cure.
    #[error("{url} answered {status}: {body}")]
    Refused {
        /// What was called.
        url: String,
        /// HTTP status.
        status: u16,
        /// The problem, as it came.
        body: String,
    },
    /// The service kept asking to wait.
    #[error("{url} was still overloaded after {offers} attempts; lower --rate")]
    Overloaded {
        /// What was called.
        url: String,
        /// Attempts made.
        offers: u32,
    },
    /// The answer has another number of lines than the request.
    #[error("expected {expected} answers from {url}, found {found}")]
    Answers {
        /// What was called.
        url: String,
        /// Lines sent.
        expected: usize,
        /// Lines received.
        found: usize,
    },
}

/// A service to send to, over one connection that is kept open.
pub struct Target {
    agent: Agent,
    base: String,
    authorization: Option<String>,
    /// How to wait; a test does not.
    wait: fn(Duration),
}

impl Target {
    /// The service at a URL such as `http://127.0.0.1:8080`.
    ///
    /// # Errors
    /// When it is no such URL.
    pub fn new(url: &str, api_key: Option<&str>, wait: fn(Duration)) -> Result<Self, TargetError> {
        if !url.starts_with("http://") {
            return Err(TargetError::Url(url.to_owned()));
        }
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .timeout_global(Some(Duration::from_secs(60)))
            .build();
        let authorization = api_key.map(|key| format!("Bearer {key}"));
        Ok(Self { agent: config.into(), base: url.trim_end_matches('/').to_owned(), authorization, wait })
    }

    /// Sends transactions and logins in order, and gives each line's answer in the same order.
    ///
    /// A line that the service had no room for is offered again after the others; so is a whole chunk.
    ///
    /// # Errors
    /// When the service is unreachable, refuses the request as a whole, or stays overloaded.
    pub fn send_events(&self, lines: &[Vec<u8>]) -> Result<Vec<String>, TargetError> {
        let mut answers = vec![String::new(); lines.len()];
        let mut open: Vec<usize> = (0..lines.len()).collect();
        for _ in 0..MAX_OFFERS {
            let body: Vec<u8> = open.iter().flat_map(|index| lines[*index].iter().copied()).collect();
            let Some(answer) = self.offer("/v1/events", "application/x-ndjson", &body)? else { continue };
            let found: Vec<&str> = answer.lines().filter(|line| !line.is_empty()).collect();
            if found.len() != open.len() {
                let (expected, found) = (open.len(), found.len());
                return Err(TargetError::Answers { url: self.url("/v1/events"), expected, found });
            }
            for (index, answer) in open.iter().zip(&found) {
                (*answer).clone_into(&mut answers[*index]);
            }
            open.retain(|index| asks_to_retry(&answers[*index]));
            if open.is_empty() {
                return Ok(answers);
            }
            (self.wait)(Duration::from_secs(1));
        }
        Err(TargetError::Overloaded { url: self.url("/v1/events"), offers: MAX_OFFERS })
    }

    /// Sends one label.
    ///
    /// # Errors
    /// As for events.
    pub fn send_label(&self, line: &[u8]) -> Result<(), TargetError> {
        for _ in 0..MAX_OFFERS {
            if self.offer("/v1/labels", "application/json", line)?.is_some() {
                return Ok(());
            }
        }
        Err(TargetError::Overloaded { url: self.url("/v1/labels"), offers: MAX_OFFERS })
    }

    /// One request; `None` after having waited as long as the service asked for.
    fn offer(&self, path: &str, content_type: &str, body: &[u8]) -> Result<Option<String>, TargetError> {
        let url = self.url(path);
        let mut request = self.agent.post(&url).header("Content-Type", content_type);
        if let Some(authorization) = &self.authorization {
            request = request.header("Authorization", authorization);
        }
        let unreachable = |source| TargetError::Unreachable { url: url.clone(), source: Box::new(source) };
        let mut response = request.send(body).map_err(unreachable)?;
        let status = response.status().as_u16();
        let wait_secs = retry_after_secs(&response);
        let reader = response.body_mut().with_config().limit(MAX_ANSWER_BYTES);
        let body = reader.read_to_string().map_err(unreachable)?;
        match status {
            200..=299 => Ok(Some(body)),
            429 | 503 => {
                (self.wait)(Duration::from_secs(wait_secs));
                Ok(None)
            }
            _ => Err(TargetError::Refused { url, status, body }),
        }
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }
}

/// Whether an answer line is a problem that passes: the service was over its bounds or not ready.
fn asks_to_retry(answer: &str) -> bool {
    #[derive(serde::Deserialize)]
    struct Problem {
        status: u16,
    }
    serde_json::from_str::<Problem>(answer).is_ok_and(|problem| matches!(problem.status, 429 | 503))
}

fn retry_after_secs<B>(response: &Response<B>) -> u64 {
    let header = response.headers().get("Retry-After").and_then(|value| value.to_str().ok());
    header.and_then(|text| text.parse::<u64>().ok()).unwrap_or(1).min(MAX_WAIT_SECS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::TcpListener;
    use std::thread::JoinHandle;

    /// Serves one connection with these answers in turn; gives back the requests: path and body.
    fn serve(answers: Vec<(&'static str, &'static str)>) -> (String, JoinHandle<Vec<(String, String)>>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let server = std::thread::spawn(move || {
            let (stream, _) = listener.accept().expect("a connection");
            let mut reader = BufReader::new(stream);
            answers.into_iter().map(|(head, body)| answer_one(&mut reader, head, body)).collect()
        });
        (url, server)
    }

    fn answer_one(reader: &mut BufReader<std::net::TcpStream>, head: &str, body: &str) -> (String, String) {
        let mut first = String::new();
        reader.read_line(&mut first).expect("a request line");
        let mut length = 0;
        loop {
            let mut header = String::new();
            reader.read_line(&mut header).expect("a header");
            if let Some(value) = header.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().expect("a number");
            }
            if header == "\r\n" {
                break;
            }
        }
        let mut sent = vec![0; length];
        reader.read_exact(&mut sent).expect("a body");
        let reply = format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        reader.get_mut().write_all(reply.as_bytes()).expect("an answer");
        let path = first.split(' ').nth(1).expect("a path").to_owned();
        (path, String::from_utf8(sent).expect("UTF-8"))
    }

    fn no_wait(_: Duration) {}

    #[test]
    fn waits_for_an_overloaded_service_and_repeats_only_what_was_refused() {
        let (url, server) = serve(vec![
            ("429 Too Many Requests\r\nRetry-After: 2", "{}"),
            ("200 OK", "{\"decision\":\"approve\"}\n{\"status\":429,\"code\":\"OVERLOADED\"}\n"),
            ("200 OK", "{\"decision\":\"block\"}\n"),
            ("202 Accepted", ""),
        ]);
        let target = Target::new(&url, None, no_wait).expect("a URL");
        let answers = target.send_events(&[b"{\"a\":1}\n".to_vec(), b"{\"a\":2}\n".to_vec()]).expect("delivered");
        assert_eq!(answers, ["{\"decision\":\"approve\"}", "{\"decision\":\"block\"}"]);
        target.send_label(b"{\"is_fraud\":true}\n").expect("delivered");
        let requests = server.join().expect("the server ends");
        let sent: Vec<(&str, &str)> = requests.iter().map(|(path, body)| (path.as_str(), body.as_str())).collect();
        let both = "{\"a\":1}\n{\"a\":2}\n";
        assert_eq!(sent[..2], [("/v1/events", both), ("/v1/events", both)]);
        assert_eq!(sent[2..], [("/v1/events", "{\"a\":2}\n"), ("/v1/labels", "{\"is_fraud\":true}\n")]);
    }

    #[test]
    fn a_refusal_ends_the_run_with_its_reason() {
        let (url, server) = serve(vec![("401 Unauthorized", "{\"code\":\"UNAUTHORIZED\"}")]);
        let target = Target::new(&url, Some("wrong"), no_wait).expect("a URL");
        let error = target.send_events(&[b"{}\n".to_vec()]).expect_err("refused").to_string();
        assert!(error.contains("401") && error.contains("UNAUTHORIZED"), "{error}");
        server.join().expect("the server ends");
    }

    #[test]
    fn nobody_there_and_no_url_are_told_apart() {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("an address");
        let target = Target::new(&format!("http://{free}"), None, no_wait).expect("a URL");
        assert!(matches!(target.send_label(b"{}"), Err(TargetError::Unreachable { .. })));
        for url in ["kafka", "https://example.com", ""] {
            assert!(matches!(Target::new(url, None, no_wait), Err(TargetError::Url(_))), "{url}");
        }
    }
}
