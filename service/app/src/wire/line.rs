//! One line of NDJSON, whose fields tell what it is.

use super::fault::ParseError;
use super::field::Field;
use super::object;
use super::reader::Values;
use super::transaction::ParsedTransaction;
use super::{ParseContext, label, login, transaction};
use crate::actors::messages::Event;
use verdict_core::event::Login;

/// Parses a line of a history file: with `login_id` a login, with `is_fraud` and no `amount` a label, any other a
/// transaction. A field that is null counts as absent.
///
/// # Errors
/// [`ParseError`] with every fault of the line.
pub fn parse(bytes: &[u8], context: &ParseContext<'_>) -> Result<Event, ParseError> {
    let fields = object::read(bytes)?;
    if fields.has(Field::LoginId) {
        login::from_fields(&fields, context).map(Event::Login)
    } else if fields.has(Field::IsFraud) && !fields.has(Field::Amount) {
        label::from_fields(&fields, context).map(Event::Label)
    } else {
        transaction::from_fields(&fields, context).map(|parsed| Event::Transaction(parsed.transaction))
    }
}

/// A line of `POST /v1/events`.
#[derive(Clone, Debug, PartialEq)]
pub enum RequestLine {
    /// To be decided.
    Transaction(ParsedTransaction),
    /// To be remembered.
    Login(Login),
}

/// Parses a line of `POST /v1/events`: with `login_id` a login, any other a transaction.
///
/// # Errors
/// [`ParseError`] with every fault of the line.
pub fn parse_request(bytes: &[u8], context: &ParseContext<'_>) -> Result<RequestLine, ParseError> {
    let fields = object::read(bytes)?;
    if fields.has(Field::LoginId) {
        login::from_fields(&fields, context).map(RequestLine::Login)
    } else {
        transaction::from_fields(&fields, context).map(RequestLine::Transaction)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{context, rates, summary};
    use super::*;

    #[test]
    fn fields_tell_the_kind() {
        let rates = rates();
        let check = |line: &str, history: &str, request: &str| {
            let found = match parse(line.as_bytes(), &context(&rates)) {
                Ok(Event::Transaction(_)) => "transaction".to_owned(),
                Ok(Event::Login(_)) => "login".to_owned(),
                Ok(Event::Label(_)) => "label".to_owned(),
                Err(error) => summary(&error).join(", "),
            };
            assert_eq!(found, history, "{line}");
            let found = match parse_request(line.as_bytes(), &context(&rates)) {
                Ok(RequestLine::Transaction(_)) => "transaction".to_owned(),
                Ok(RequestLine::Login(_)) => "login".to_owned(),
                Err(error) => summary(&error).join(", "),
            };
            assert_eq!(found, request, "{line}");
        };
        let time = "2026-11-23T12:00:00Z";
        let transaction = format!(
            r#"{{"transaction_id":"t","user_id":"u","amount":1,"currency":"USD","merchant_id":"m","timestamp":"{time}"}}"#
        );
        check(&transaction, "transaction", "transaction");
        let labelled = transaction.replace("{\"", "{\"is_fraud\":true,\"");
        check(&labelled, "transaction", "transaction");
        let login = format!(r#"{{"login_id":"l","user_id":"u","timestamp":"{time}"}}"#);
        check(&login, "login", "login");
        let label = format!(
            r#"{{"transaction_id":"t","user_id":"u","is_fraud":false,"source":"analyst","timestamp":"{time}"}}"#
        );
        check(&label, "label", "/amount MISSING_FIELD, /currency MISSING_FIELD, /merchant_id MISSING_FIELD");
        check("nonsense", "NOT_JSON", "NOT_JSON");
    }
}
