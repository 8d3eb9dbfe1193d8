//! A place that holds one value after another, as whoever looks from outside may find it: each value may have come at any
//! moment between two that are known. Refuses to guess: where several are possible, it gives them all.

/// A number that everything which is sent and answered takes in turn; no two are the same.
pub(super) type Moment = u64;

/// From the moment before which it cannot have happened to the one by which it had.
pub(super) type Between = (Moment, Moment);

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Register<T> {
    first: T,
    written: Vec<(T, Between)>,
    /// What was there for a while and was taken back.
    lost: Vec<(T, Between)>,
}

impl<T> Register<T> {
    pub(super) fn new(first: T) -> Self {
        Self { first, written: Vec::new(), lost: Vec::new() }
    }

    /// The next value.
    pub(super) fn write(&mut self, value: T, between: Between) {
        self.written.push((value, between));
    }

    /// By when the value was there that was written as this one.
    pub(super) fn settle(&mut self, place: usize, by: Moment) {
        if let Some((_, between)) = self.written.get_mut(place) {
            between.1 = by;
        }
    }

    /// How many values were written.
    pub(super) fn len(&self) -> usize {
        self.written.len()
    }

    /// A value that may have been there between these moments, and is there no more.
    pub(super) fn lose(&mut self, value: T, between: Between) {
        self.lost.push((value, between));
    }

    /// What whoever looks between these moments may find.
    pub(super) fn possible(&self, (from, to): Between) -> impl Iterator<Item = &T> {
        let over = self.written.iter().rposition(|(_, (_, by))| *by < from);
        let held = over.map_or(&self.first, |place| &self.written[place].0);
        let since = &self.written[over.map_or(0, |place| place + 1)..];
        let coming = since.iter().filter(move |(_, (after, _))| *after < to);
        let lost = self.lost.iter().filter(move |(_, (after, by))| *after < to && from < *by);
        std::iter::once(held).chain(coming.chain(lost).map(|(value, _)| value))
    }
}

#[test]
fn who_looks_finds_what_may_be_there() {
    let mut register = Register::new('a');
    register.write('b', (10, 20));
    register.write('c', (30, 40));
    register.lose('x', (50, 60));
    let check = |between, expected: &str| {
        let found: String = register.possible(between).collect();
        assert_eq!(found, expected, "{between:?}");
    };
    check((1, 5), "a");
    check((1, 15), "ab");
    check((21, 25), "b");
    check((15, 35), "abc");
    check((41, 45), "c");
    check((41, 55), "cx");
    check((61, 70), "c");
}
