//! From a byte of a YAML text back to its place in the file, through quotes, escapes, folding and indentation.
//!
//! Whatever the style, reading changes only white space, escapes and doubled quotes. So the characters of the text other
//! than white space stand in the source in the same order, and counting them finds the place.

use super::diagnostic::Place;

/// Where byte `offset` of `text` stands, when `source` is what the file has for it and begins at `start`.
pub(super) fn find(text: &str, source: &str, start: Place, double_quoted: bool, offset: usize) -> Place {
    let single_quoted = !double_quoted && source.starts_with('\'');
    let mut cursor = Cursor { rest: source, place: start };
    if double_quoted || single_quoted {
        cursor.step();
    }
    let before = text.char_indices().take_while(|(at, _)| *at < offset);
    let visible = before.filter(|(_, c)| !c.is_whitespace()).count();
    for _ in 0..visible {
        cursor.skip_blank(double_quoted);
        cursor.step_visible(double_quoted, single_quoted);
    }
    // White space and the end stand right after what precedes them.
    if text.get(offset..).and_then(|rest| rest.chars().next()).is_some_and(|c| !c.is_whitespace()) {
        cursor.skip_blank(double_quoted);
    }
    cursor.place
}

struct Cursor<'s> {
    rest: &'s str,
    place: Place,
}

impl Cursor<'_> {
    fn step(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let c = chars.next()?;
        self.rest = chars.as_str();
        if c == '\n' {
            self.place = Place { line: self.place.line + 1, column: 1 };
        } else {
            self.place.column += 1;
        }
        Some(c)
    }

    /// Skips white space and, in double quotes, escapes that stand for it.
    fn skip_blank(&mut self, double_quoted: bool) {
        loop {
            let mut chars = self.rest.chars();
            match (chars.next(), chars.next()) {
                (Some(c), _) if c.is_whitespace() => {
                    self.step();
                }
                (Some('\\'), Some('n' | 't' | 'r' | ' ' | '\n' | '\r' | '\t' | 'v' | 'f' | 'N' | '_' | 'L' | 'P'))
                    if double_quoted =>
                {
                    self.step();
                    self.step();
                }
                _ => return,
            }
        }
    }

    /// Passes one character that can be seen, however it is written.
    fn step_visible(&mut self, double_quoted: bool, single_quoted: bool) {
        match self.step() {
            Some('\\') if double_quoted => {
                let digits = match self.step() {
                    Some('x') => 2,
                    Some('u') => 4,
                    Some('U') => 8,
                    _ => 0,
                };
                for _ in 0..digits {
                    self.step();
                }
            }
            Some('\'') if single_quoted => {
                self.step();
            }
            _ => {}
        }
    }
}
