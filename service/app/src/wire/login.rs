//! A login as JSON: the body of `/v1/logins`, a line of `/v1/events`, the value on topic `logins`.

use super::ParseContext;
use super::fault::ParseError;
use super::field::Field;
use super::object::{self, Fields};
use super::reader::Reader;
use super::scalar::MAX_USER_AGENT_BYTES;
use super::time::Rfc3339;
use serde::Serialize;
use verdict_core::event::Login;

/// Parses one login.
///
/// # Errors
/// [`ParseError`] with every fault of the body.
pub fn parse(bytes: &[u8], context: &ParseContext<'_>) -> Result<Login, ParseError> {
    from_fields(&object::read(bytes)?, context)
}

/// Parses a login whose object was read before.
pub(super) fn from_fields(fields: &Fields<'_>, context: &ParseContext<'_>) -> Result<Login, ParseError> {
    let mut reader = Reader::new(fields, context);
    let login = read_event(&mut reader, context);
    Ok(reader.finish(login)?)
}

/// Reads the event itself; `None` only where the reader remembers a fault.
fn read_event(reader: &mut Reader<'_, '_, Fields<'_>>, context: &ParseContext<'_>) -> Option<Login> {
    let login_id = reader.id(Field::LoginId);
    let user_id = reader.id(Field::UserId);
    let at = reader.at(context.bounds.max_age_ms);
    let ip_address = reader.optional_ip(Field::IpAddress);
    let device_id = reader.optional_id(Field::DeviceId);
    let user_agent = reader.optional_text(Field::UserAgent, MAX_USER_AGENT_BYTES);
    let location = reader.location();
    let success = reader.optional_flag(Field::Success).unwrap_or(true);
    Some(Login {
        login_id: login_id?,
        user_id: user_id?,
        at: at?,
        ip_address,
        device_id,
        user_agent,
        location,
        success,
    })
}

#[derive(Serialize)]
struct LoginJson<'a> {
    login_id: &'a str,
    user_id: &'a str,
    timestamp: Rfc3339,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip_address: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    latitude: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    longitude: Option<f64>,
    success: bool,
}

/// Appends a login as one line of JSON without the newline; parsing it gives the same login.
pub fn to_json(login: &Login, out: &mut Vec<u8>) {
    let shape = LoginJson {
        login_id: &login.login_id,
        user_id: &login.user_id,
        timestamp: Rfc3339(login.at),
        ip_address: login.ip_address.as_deref(),
        device_id: login.device_id.as_deref(),
        user_agent: login.user_agent.as_deref(),
        latitude: login.location.map(verdict_core::geo::Coordinates::latitude),
        longitude: login.location.map(verdict_core::geo::Coordinates::longitude),
        success: login.success,
    };
    super::append(&shape, out);
}

/// The answer to a login that is durable and visible to the next decision.
#[derive(Serialize)]
struct AcceptedLogin<'a> {
    login_id: &'a str,
    accepted: bool,
    duplicate: bool,
}

/// Appends the answer to an accepted login.
pub fn accepted_to_json(login_id: &str, duplicate: bool, out: &mut Vec<u8>) {
    super::append(&AcceptedLogin { login_id, accepted: true, duplicate }, out);
}

#[cfg(test)]
mod tests {
    use super::super::testing::{NOON, context, rates, summary};
    use super::*;

    fn parsed(body: &str) -> Result<Login, Vec<String>> {
        let rates = rates();
        parse(body.as_bytes(), &context(&rates)).map_err(|error| summary(&error))
    }

    #[test]
    fn required_optional_and_default() {
        let least = parsed(r#"{"login_id":"l","user_id":"u","timestamp":"2026-11-23T12:00:00Z"}"#).expect("valid");
        assert_eq!((least.at, least.success, &least.location, &least.ip_address), (NOON, true, &None, &None));
        let full = parsed(
            r#"{"login_id":"l","user_id":"u","timestamp":"2026-11-23T12:00:00Z","ip_address":"::FFFF:1.2.3.4",
                "device_id":"d","user_agent":"a","latitude":1,"longitude":2,"success":false}"#,
        )
        .expect("valid");
        assert_eq!((full.success, full.ip_address.as_deref()), (false, Some("1.2.3.4")));
        let mut printed = Vec::new();
        to_json(&full, &mut printed);
        assert_eq!(parsed(std::str::from_utf8(&printed).expect("UTF-8")), Ok(full));
    }

    #[test]
    fn faults() {
        let check = |body: &str, expected: &[&str]| assert_eq!(parsed(body).expect_err(body), expected, "{body}");
        check("{}", &["/login_id MISSING_FIELD", "/user_id MISSING_FIELD", "/timestamp MISSING_FIELD"]);
        check(
            r#"{"login_id":"","user_id":1,"timestamp":"2026-11-01T12:00:00Z","success":"yes","latitude":1}"#,
            &[
                "/login_id ID_EMPTY",
                "/user_id WRONG_TYPE",
                "/timestamp TOO_OLD",
                "/longitude COORDINATES",
                "/success WRONG_TYPE",
            ],
        );
        check("[]", &[" WRONG_TYPE"]);
        check("{", &["NOT_JSON"]);
    }

    #[test]
    fn accepted() {
        let mut out = Vec::new();
        accepted_to_json("l\"1", false, &mut out);
        assert_eq!(out, br#"{"login_id":"l\"1","accepted":true,"duplicate":false}"#);
    }
}
