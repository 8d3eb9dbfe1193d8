//! Ways to damage what is right: bytes changed, cut out, doubled, moved, and replaced by what parsers trip over.

use proptest::prelude::*;
use proptest::sample::Index;

/// What parsers trip over.
const TRAPS: [&[u8]; 48] = [
    b"\"",
    b"'",
    b"\\",
    b"\\u0000",
    b"\\ud800",
    b"\0",
    b"\xff",
    b"\xef\xbb\xbf",
    b"\xc0\xaf",
    b"\xed\xa0\x80",
    b"{",
    b"}",
    b"[",
    b"]",
    b"[[[[[[[[[[[[[[[[",
    b"{\"a\":",
    b",",
    b",,",
    b":",
    b": ",
    b"- ",
    b"&a ",
    b"*a",
    b"!!str ",
    b"|\n",
    b">\n",
    b"---\n",
    b"...\n",
    b"%YAML 9.9\n",
    b"#",
    b"\n",
    b"\r\n",
    b"\t",
    b"1e400",
    b"-0",
    b"0x",
    b"9999999999999999999999999",
    b"0.00000000000000000000000001",
    b"NaN",
    b"null",
    b"true",
    b"((((((((",
    b"!!!!!!!!",
    b"--------",
    b"&&",
    b"? :",
    b"\xe2\x80\xae",
    b"\xe2\x80\x8b",
];

#[derive(Clone, Debug)]
enum Damage {
    Flip(Index, u8),
    Cut(Index, Index),
    Double(Index, Index),
    Trap(Index, Index),
    Replace(Index, Index, Index),
    End(Index),
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<Index>;
    prop_oneof![
        3 => (at(), 1_u8..).prop_map(|(place, flip)| Damage::Flip(place, flip)),
        2 => (at(), at()).prop_map(|(from, to)| Damage::Cut(from, to)),
        2 => (at(), at()).prop_map(|(from, to)| Damage::Double(from, to)),
        4 => (at(), at()).prop_map(|(place, trap)| Damage::Trap(place, trap)),
        4 => (at(), at(), at()).prop_map(|(place, length, trap)| Damage::Replace(place, length, trap)),
        1 => at().prop_map(Damage::End),
    ]
}

/// One of the seeds with a little damage, or random bytes.
pub(crate) fn damaged(seeds: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let hurt = (prop::sample::select(seeds), prop::collection::vec(damage(), 1..5)).prop_map(|(mut bytes, damages)| {
        for damage in damages {
            apply(&mut bytes, &damage);
        }
        bytes
    });
    prop_oneof![9 => hurt, 1 => prop::collection::vec(any::<u8>(), 0..300)]
}

/// The same as text: what is no UTF-8 is replaced, as these parsers are only given text.
pub(crate) fn damaged_text(seeds: Vec<String>) -> impl Strategy<Value = String> {
    damaged(seeds.into_iter().map(String::into_bytes).collect())
        .prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

fn apply(bytes: &mut Vec<u8>, damage: &Damage) {
    let place = |at: &Index, bytes: &[u8]| at.index(bytes.len() + 1);
    let span = |from: &Index, to: &Index, bytes: &[u8]| {
        let (from, to) = (place(from, bytes), place(to, bytes));
        // Short spans damage more interestingly than half of a file does.
        let (low, high) = (from.min(to), from.max(to));
        low..high.min(low + 64)
    };
    match damage {
        Damage::Flip(at, flip) => {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] ^= flip;
            }
        }
        Damage::Cut(from, to) => drop(bytes.drain(span(from, to, bytes))),
        Damage::Double(from, to) => {
            let span = span(from, to, bytes);
            let (end, part) = (span.end, bytes[span].to_vec());
            bytes.splice(end..end, part);
        }
        Damage::Trap(at, trap) => {
            let at = place(at, bytes);
            bytes.splice(at..at, TRAPS[trap.index(TRAPS.len())].iter().copied());
        }
        Damage::Replace(at, length, trap) => {
            let at = place(at, bytes);
            let end = (at + length.index(12)).min(bytes.len());
            bytes.splice(at..end, TRAPS[trap.index(TRAPS.len())].iter().copied());
        }
        Damage::End(at) => bytes.truncate(place(at, bytes)),
    }
}
