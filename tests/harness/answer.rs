//! The HTTP client: blocking, one request at a time, straight to the service and through no proxy.

use std::net::SocketAddr;
use std::time::Duration;
use ureq::Agent;
use ureq::http::{HeaderMap, Request};

/// Longest wait for an answer; a service that hangs fails the test instead of stopping it.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longest answer that is read: a page of alerts or a batch may be larger than what `ureq` reads by default.
const MAX_BYTES: u64 = 256 << 20;

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status code, 4xx and 5xx included.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: String,
}

impl Answer {
    /// The body as JSON.
    #[must_use]
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("not JSON ({error}): {}", self.body))
    }

    /// The body's lines as JSON.
    #[must_use]
    #[track_caller]
    pub fn lines(&self) -> Vec<serde_json::Value> {
        let line = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("not JSON ({error}): {line}"));
        self.body.lines().map(line).collect()
    }

    /// A header's value, empty when it is absent.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// A client that keeps its connection, for many requests to a service that may vanish.
#[derive(Clone, Debug)]
pub struct Client {
    agent: Agent,
    addr: SocketAddr,
}

impl Client {
    /// A client of the service at this address.
    #[must_use]
    pub fn new(addr: SocketAddr) -> Self {
        Self { agent: agent(), addr }
    }

    /// `POST` of a JSON body.
    ///
    /// # Errors
    /// There is no whole answer.
    pub fn post(&self, path: &str, body: &str) -> Result<Answer, Box<ureq::Error>> {
        self.request("POST", path, &[("content-type", "application/json")], body.as_bytes())
    }

    /// `GET`.
    ///
    /// # Errors
    /// There is no whole answer.
    pub fn get(&self, path: &str) -> Result<Answer, Box<ureq::Error>> {
        self.request("GET", path, &[], b"")
    }

    /// Any request.
    ///
    /// # Errors
    /// There is no whole answer.
    ///
    /// # Panics
    /// The method, the path or a header is not HTTP.
    pub fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Answer, Box<ureq::Error>> {
        let mut request = Request::builder().method(method).uri(format!("http://{}{path}", self.addr));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        send(&self.agent, request.body(body.to_vec()).expect("method, path and headers are HTTP")).map_err(Box::new)
    }
}

fn agent() -> Agent {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .proxy(None)
        .max_redirects(0)
        .allow_non_standard_methods(true)
        .timeout_global(Some(PATIENCE))
        .build();
    Agent::new_with_config(config)
}

fn send(agent: &Agent, request: Request<Vec<u8>>) -> Result<Answer, ureq::Error> {
    let mut response = agent.run(request)?;
    Ok(Answer {
        status: response.status().as_u16(),
        headers: response.headers().clone(),
        body: response.body_mut().with_config().limit(MAX_BYTES).read_to_string()?,
    })
}
