//! Problem objects of RFC 9457: what every refused request is answered with, alone or as a line of a batch.

use super::fault::{Fault, ParseError};
use serde::Serialize;

/// The media type of a problem.
pub const MEDIA_TYPE: &str = "application/problem+json";

/// Why a request was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// HTTP status code.
    pub status: u16,
    /// The machine's reason; also the last part of the problem's type.
    pub code: &'static str,
    /// What was expected and what was found, this time.
    pub detail: String,
    /// Every fault of a body or a query.
    pub faults: Vec<Fault>,
    /// When to come again, in seconds; printed as a header.
    pub retry_after_secs: Option<u32>,
}

#[derive(Serialize)]
struct ProblemJson<'a> {
    r#type: TypeUri,
    title: &'a str,
    status: u16,
    detail: &'a str,
    instance: &'a str,
    code: &'a str,
    errors: Vec<FaultJson<'a>>,
}

#[derive(Serialize)]
struct FaultJson<'a> {
    pointer: &'a str,
    code: &'a str,
    message: &'a str,
}

struct TypeUri(&'static str);

impl Serialize for TypeUri {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // A name, not an address: nothing has to be fetched to understand a problem.
        serializer.collect_str(&format_args!("urn:verdict:problem:{}", self.0))
    }
}

impl Problem {
    /// A problem without faults.
    #[must_use]
    pub fn new(status: u16, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), faults: Vec::new(), retry_after_secs: None }
    }

    /// The same, to be tried again after so many seconds.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_secs = Some(seconds);
        self
    }

    /// Appends the problem as JSON. `instance` names the request, and the line of a batch.
    pub fn to_json(&self, instance: &str, out: &mut Vec<u8>) {
        let errors = self.faults.iter().map(|fault| FaultJson {
            pointer: &fault.pointer,
            code: fault.code.name(),
            message: &fault.message,
        });
        let shape = ProblemJson {
            r#type: TypeUri(self.code),
            title: title(self.status),
            status: self.status,
            detail: &self.detail,
            instance,
            code: self.code,
            errors: errors.collect(),
        };
        super::append(&shape, out);
    }
}

impl From<ParseError> for Problem {
    /// 400 for what is no JSON, 422 for JSON that is no event; a single code for the whole is the first fault's.
    fn from(error: ParseError) -> Self {
        let code = error.reason();
        match error {
            ParseError::NotJson { .. } => Self::new(400, code, error.to_string()),
            ParseError::Invalid { faults } => {
                let count = faults.len();
                let first = faults.first().map(|fault| format!("{}: {}", place(&fault.pointer), fault.message));
                let more = if count > 1 { format!(" (and {} more in errors)", count - 1) } else { String::new() };
                Self { faults, ..Self::new(422, code, first.unwrap_or_default() + &more) }
            }
        }
    }
}

fn place(pointer: &str) -> &str {
    if pointer.is_empty() { "body" } else { pointer.trim_start_matches('/') }
}

/// The name of a status: constant, as RFC 9457 asks of a title.
const fn title(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        422 => "Unprocessable Content",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        _ => "Internal Server Error",
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{context, rates};
    use super::*;

    #[test]
    fn shape() {
        let rates = rates();
        let body = br#"{"transaction_id":"t","user_id":"u","amount":"1.234","currency":"USD","merchant_id":"m"}"#;
        let error = super::super::transaction::parse(body, &context(&rates)).expect_err("faults");
        let mut out = Vec::new();
        Problem::from(error).to_json("/v1/decide", &mut out);
        assert_eq!(
            String::from_utf8(out).expect("UTF-8"),
            concat!(
                r#"{"type":"urn:verdict:problem:AMOUNT_TOO_PRECISE","title":"Unprocessable Content","status":422,"#,
                r#""detail":"amount: expected at most 2 decimals for USD, found 3 (and 1 more in errors)","#,
                r#""instance":"/v1/decide","code":"AMOUNT_TOO_PRECISE","errors":["#,
                r#"{"pointer":"/amount","code":"AMOUNT_TOO_PRECISE","message":"expected at most 2 decimals for USD, found 3"},"#,
                r#"{"pointer":"/timestamp","code":"MISSING_FIELD","message":"expected a value, found none"}]}"#
            )
        );
    }

    #[test]
    fn not_json() {
        let rates = rates();
        let error = super::super::transaction::parse(b"{\"user_id\":}", &context(&rates)).expect_err("no JSON");
        let problem = Problem::from(error);
        assert_eq!((problem.status, problem.code), (400, "NOT_JSON"));
        assert_eq!(problem.detail, "expected one JSON object: expected value at line 1 column 12");
    }
}
