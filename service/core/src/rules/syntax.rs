//! Parses a condition with the `cel` crate and says in plain words where and why that failed.
//!
//! Refuses text that is too long or nested too deep, so that nothing that walks the tree can run out of stack.

use super::diagnostic::Faults;
use super::yaml::Scalar;
use cel::common::ast::SourceInfo;
use cel::{Env, IdedExpr, ParseError};

/// Longest condition in bytes; it also bounds how deep its tree can get.
const MAX_CONDITION_BYTES: usize = 2_000;
/// Deepest nesting of parentheses, lists and branches.
const MAX_NESTING: u16 = 32;

/// The tree of a condition and where its nodes stand in the text, in bytes. Notes every syntax error.
pub(super) fn parse(scalar: &Scalar<'_>, faults: &mut Faults<'_>) -> Option<(IdedExpr, SourceInfo)> {
    if scalar.text.len() > MAX_CONDITION_BYTES {
        let found = scalar.text.len();
        let message = format!("expected a condition of at most {MAX_CONDITION_BYTES} bytes, found {found}");
        faults.add(scalar.place_of(0), message);
        return None;
    }
    // An environment without macros: `has(x)` and the like stay calls, which the checker refuses.
    let parser = Env::default().parser().max_recursion_depth(MAX_NESTING);
    parser
        .parse_with_source_info(&scalar.text)
        .map_err(|errors| note_syntax_errors(scalar, &errors.errors, faults))
        .ok()
}

fn note_syntax_errors(scalar: &Scalar<'_>, errors: &[ParseError], faults: &mut Faults<'_>) {
    const SYNTAX: &str = "Syntax error: ";
    // What the parser says of trees that its own recovery left incomplete only repeats the syntax errors.
    let first_hand = errors.iter().any(|error| error.msg.starts_with(SYNTAX));
    for error in errors.iter().filter(|error| !first_hand || error.msg.starts_with(SYNTAX)) {
        let (line, column) = error.pos;
        let offset = byte_of(&scalar.text, line.max(1).unsigned_abs(), column.max(1).unsigned_abs());
        let message = error.msg.strip_prefix(SYNTAX).unwrap_or(&error.msg);
        let message = if message.contains("Recursion limit") {
            format!("expected at most {MAX_NESTING} levels of nesting")
        } else {
            plain_words(message)
        };
        faults.add(scalar.place_of(offset), format!("not a condition: {message}"));
    }
}

/// The byte at a line and column, both counted from 1, columns in characters.
fn byte_of(text: &str, line: usize, column: usize) -> usize {
    let start: usize = text.split_inclusive('\n').take(line - 1).map(str::len).sum();
    let rest = &text[start..];
    start + rest.char_indices().nth(column - 1).map_or(rest.len(), |(byte, _)| byte)
}

/// The parser's message without the list of every token that could follow, with a hint where one is known.
fn plain_words(message: &str) -> String {
    let message = message.split(" expecting {").next().unwrap_or(message);
    let message = message.replace("'<EOF>'", "the end of the condition").replace("<EOF>", "its end");
    let hint = [
        ("at: '= '", "write == to compare"),
        ("at: '='", "write == to compare"),
        ("input 'and'", "write && for and"),
        ("input 'or'", "write || for or"),
        ("input 'not'", "write ! for not"),
        ("at: '&", "write && for and"),
        ("at: '|", "write || for or"),
    ];
    match hint.iter().find(|(part, _)| message.contains(part)) {
        Some((_, hint)) => format!("{message}; {hint}"),
        None => message,
    }
}
