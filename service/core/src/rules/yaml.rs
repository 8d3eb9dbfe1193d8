//! YAML with places: a tree of mappings, lists and texts in which every node knows its line and column.
//!
//! Scalars stay texts, for `1.10` must not become 1.1. Refused: more than one document, anchors, aliases and tags (none
//! is needed, and aliases make bombs), files that are too large, too deep or have too many nodes.

use super::diagnostic::{Faults, Place};
use super::place_in_scalar;
use saphyr_parser::{Event, Marker, Parser, ScalarStyle};

/// Largest file in bytes.
pub const MAX_FILE_BYTES: usize = 1 << 20;
/// Deepest nesting; a rule file needs four levels.
const MAX_DEPTH: usize = 16;
/// Most nodes of a file.
const MAX_NODES: usize = 100_000;
/// Most keys of a mapping, which are searched one by one for duplicates.
const MAX_KEYS: usize = 1_000;

/// One node.
#[derive(Clone, Debug)]
pub struct Node<'s> {
    /// Where it begins.
    pub place: Place,
    /// What it is.
    pub value: Value<'s>,
}

/// What a node is.
#[derive(Clone, Debug)]
pub enum Value<'s> {
    /// A text, a number, a flag: anything without structure.
    Scalar(Scalar<'s>),
    /// A list.
    List(Vec<Node<'s>>),
    /// A mapping, in the order of the file; keys are unique.
    Map(Vec<Entry<'s>>),
}

/// One entry of a mapping.
#[derive(Clone, Debug)]
pub struct Entry<'s> {
    /// The key.
    pub key: String,
    /// Where the key begins.
    pub key_place: Place,
    /// The value.
    pub value: Node<'s>,
}

/// A text with the source that it was written as.
#[derive(Clone, Debug)]
pub struct Scalar<'s> {
    /// The text, unescaped and unfolded.
    pub text: String,
    /// Whether it was written without quotes and not as a block.
    pub plain: bool,
    /// Whether it was written in double quotes, where `\` escapes.
    double_quoted: bool,
    /// Where it begins; of a block, the first line after the indicator.
    place: Place,
    /// The source from there to its end.
    source: &'s str,
}

impl Scalar<'_> {
    /// Where a byte of the text stands in the file.
    #[must_use]
    pub fn place_of(&self, offset: usize) -> Place {
        place_in_scalar::find(&self.text, self.source, self.place, self.double_quoted, offset)
    }

    /// Whether the file gives no value here: nothing at all, `~` or `null`.
    #[must_use]
    pub fn is_null(&self) -> bool {
        self.plain && matches!(self.text.as_str(), "" | "~" | "null" | "Null" | "NULL")
    }
}

impl Node<'_> {
    /// What it is, for messages.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match &self.value {
            Value::Scalar(scalar) if scalar.is_null() => "nothing",
            Value::Scalar(_) => "a text",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }
}

/// Parses a file; `None` after an error that leaves no tree, or for an empty file. Duplicate keys are noted and the
/// first one kept.
pub fn parse<'s>(text: &'s str, faults: &mut Faults<'_>) -> Option<Node<'s>> {
    if text.len() > MAX_FILE_BYTES {
        let message = format!("expected a file of at most {MAX_FILE_BYTES} bytes, found {}", text.len());
        faults.add(Place::START, message);
        return None;
    }
    let mut builder = Builder { source: text, byte: 0, index: 0, open: Vec::new(), root: None, nodes: 0, faults };
    for event in Parser::new_from_str(text) {
        let step = match event {
            Ok((event, span)) => builder.take(event, span.start, span.end),
            Err(error) => {
                builder.faults.add(place(*error.marker()), format!("not YAML: {}", error.info()));
                Err(Stop)
            }
        };
        if step.is_err() {
            return None;
        }
    }
    builder.root
}

fn place(marker: Marker) -> Place {
    Place { line: marker.line(), column: marker.col() + 1 }
}

/// Reading on makes no sense; the fault has been noted.
struct Stop;

/// A collection whose end has not come yet.
enum Open<'s> {
    List(Place, Vec<Node<'s>>),
    /// With the key that waits for its value.
    Map(Place, Vec<Entry<'s>>, Option<(String, Place)>),
}

struct Builder<'s, 'f, 'p> {
    source: &'s str,
    /// A place in the source as byte and as character, so that the next is found from there.
    byte: usize,
    index: usize,
    open: Vec<Open<'s>>,
    root: Option<Node<'s>>,
    nodes: usize,
    faults: &'f mut Faults<'p>,
}

impl<'s> Builder<'s, '_, '_> {
    fn take(&mut self, event: Event<'s>, start: Marker, end: Marker) -> Result<(), Stop> {
        self.nodes += 1;
        let at = place(start);
        if self.nodes > MAX_NODES {
            return self.refuse(at, format!("expected at most {MAX_NODES} values in a file"));
        }
        match event {
            Event::DocumentStart(_) if self.root.is_some() => {
                self.refuse(at, "expected one document, found another after it")
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) | Event::DocumentEnd => {
                Ok(())
            }
            Event::Alias(_) => self.refuse(at, "expected a value, found an alias; write the value out"),
            Event::Scalar(_, _, anchor, ref tag)
            | Event::SequenceStart(anchor, ref tag)
            | Event::MappingStart(anchor, ref tag)
                if anchor != 0 || tag.is_some() =>
            {
                self.refuse(at, "expected a plain value, found an anchor or a tag; leave it out")
            }
            Event::Scalar(text, style, ..) => {
                let scalar = self.scalar(text.into_owned(), style, start, end);
                self.place_node(Node { place: at, value: Value::Scalar(scalar) })
            }
            Event::SequenceStart(..) => self.open(at, Open::List(at, Vec::new())),
            Event::MappingStart(..) => self.open(at, Open::Map(at, Vec::new(), None)),
            Event::SequenceEnd | Event::MappingEnd => {
                let node = match self.open.pop() {
                    Some(Open::List(place, nodes)) => Node { place, value: Value::List(nodes) },
                    Some(Open::Map(place, entries, _)) => Node { place, value: Value::Map(entries) },
                    None => return self.refuse(at, "not YAML: a collection ends that never began"),
                };
                self.place_node(node)
            }
        }
    }

    fn refuse(&mut self, at: Place, message: impl Into<String>) -> Result<(), Stop> {
        self.faults.add(at, message);
        Err(Stop)
    }

    fn open(&mut self, at: Place, collection: Open<'s>) -> Result<(), Stop> {
        if self.open.len() == MAX_DEPTH {
            return self.refuse(at, format!("expected at most {MAX_DEPTH} levels of nesting"));
        }
        if let Some(Open::Map(_, _, None)) = self.open.last() {
            return self.refuse(at, "expected a text as key, found a collection");
        }
        self.open.push(collection);
        Ok(())
    }

    /// Puts a finished node where it belongs.
    fn place_node(&mut self, node: Node<'s>) -> Result<(), Stop> {
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open::List(_, nodes)) => nodes.push(node),
            Some(Open::Map(_, entries, key)) => match (key.take(), node.value) {
                (Some((_, key_place)), _) if entries.len() == MAX_KEYS => {
                    return self.refuse(key_place, format!("expected at most {MAX_KEYS} keys in a mapping"));
                }
                (Some((key, key_place)), value) => {
                    let value = Node { place: node.place, value };
                    match entries.iter().find(|entry| entry.key == key) {
                        None => entries.push(Entry { key, key_place, value }),
                        Some(first) => {
                            let line = first.key_place.line;
                            self.faults.add(key_place, format!("expected each key once, {key:?} is on line {line}"));
                        }
                    }
                }
                (None, Value::Scalar(scalar)) => *key = Some((scalar.text, node.place)),
                // `open` refuses collections as keys.
                (None, _) => return Err(Stop),
            },
        }
        Ok(())
    }

    fn scalar(&mut self, text: String, style: ScalarStyle, start: Marker, end: Marker) -> Scalar<'s> {
        let from = self.byte_at(start.index());
        let to = self.byte_at(end.index());
        Scalar {
            text,
            plain: style == ScalarStyle::Plain,
            double_quoted: style == ScalarStyle::DoubleQuoted,
            place: place(start),
            source: self.source.get(from..to).unwrap_or_default(),
        }
    }

    /// The byte where a character stands. Scalars come in order, so this walks each character of a file once.
    fn byte_at(&mut self, index: usize) -> usize {
        if index < self.index {
            (self.byte, self.index) = (0, 0);
        }
        let rest = &self.source[self.byte..];
        let step = rest.char_indices().nth(index - self.index).map_or(rest.len(), |(step, _)| step);
        (self.byte, self.index) = (self.byte + step, index);
        self.byte
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn faults_of(text: &str) -> Vec<String> {
        let mut faults = Faults::of("f");
        parse(text, &mut faults);
        faults.into_sorted().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn refusals() {
        let check = |text: &str, expected: &str| {
            let found = faults_of(text);
            assert!(found.iter().any(|fault| fault.starts_with(expected)), "{text:?} gave {found:?}");
        };
        check("a: &x 1\nb: *x\n", "f:1:4: expected a plain value, found an anchor");
        check("a: !!int 5\n", "f:1:4: expected a plain value, found an anchor or a tag");
        check("a: 1\n---\nb: 2\n", "f:2:1: expected one document");
        check("a: 1\nb: 2\na: 3\n", "f:3:1: expected each key once, \"a\" is on line 1");
        check("? [x]\n: 1\n", "f:1:3: expected a text as key");
        check("a: [1, 2\nb: 3\n", "f:2:");
        check(&"- ".repeat(50_000), "f:1:33: expected at most 16 levels");
        check(&"[".repeat(200), "f:1:17: expected at most 16 levels");
        check(&"- a\n".repeat(100_001), "f:");
        check(&(0..2_000).map(|n| format!("k{n}: 1\n")).collect::<String>(), "f:1001:1: expected at most 1000 keys");
        check(&"#".repeat(MAX_FILE_BYTES + 1), "f:1:1: expected a file of at most");
        assert!(faults_of("").is_empty());
    }

    #[test]
    fn places_in_scalars() {
        // In every writing, the place of each marked letter.
        let check = |text: &str, letter: char, expected: (usize, usize)| {
            let mut faults = Faults::of("f");
            let root = parse(text, &mut faults).expect("a tree");
            let Value::Map(entries) = root.value else { panic!("a mapping") };
            let Value::Scalar(scalar) = &entries[0].value.value else { panic!("a scalar") };
            let offset = scalar.text.find(letter).unwrap_or(scalar.text.len());
            let place = scalar.place_of(offset);
            assert_eq!((place.line, place.column), expected, "{letter} in {text:?}, read as {:?}", scalar.text);
        };
        check("w: aé X b\n", 'X', (1, 7));
        check("w: a\n   b X\n", 'X', (2, 6));
        check("w: 'it''s X'\n", 'X', (1, 11));
        check("w: \"a \\\"b\\\" X\"\n", 'X', (1, 13));
        check("w: \"a\\n\\u0041 X\"\n", 'X', (1, 15));
        check("w: \"a \\\n   X\"\n", 'X', (2, 4));
        check("w: |\n  a\n    X\n", 'X', (3, 5));
        check("w: >-  # comment\n  a\n\n  X b\n", 'X', (4, 3));
        // The end of the text.
        check("w: a >\n", '?', (1, 7));
        check("w: |\n  a >\n", '?', (2, 6));
        check("w: 'a >'\n", '?', (1, 8));
    }

    proptest! {
        #[test]
        fn never_panics(text in "[-a: \\[\\]{}'\"\n|>#&*!?,\\\\é]{0,60}") {
            let mut faults = Faults::of("f");
            if let Some(Node { value: Value::Map(entries), .. }) = parse(&text, &mut faults) {
                for entry in entries {
                    if let Value::Scalar(scalar) = entry.value.value {
                        for offset in 0..=scalar.text.len() + 1 {
                            let _ = scalar.place_of(offset);
                        }
                    }
                }
            }
        }
    }
}
