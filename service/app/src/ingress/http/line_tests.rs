//! One thread that reads, decides and refuses, under more load than it can take; in made-up time.

use super::*;
use crate::ingress::http::turnstile;
use crate::telemetry::clock;
use proptest::prelude::*;
use std::collections::VecDeque;

const DEADLINE: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_micros(200_000 / turnstile::PATIENCE as u64);
const TARGET: Duration = Duration::from_micros(200_000 / turnstile::TARGET as u64);
const TICK: Duration = Duration::from_millis(10);
const MAX_IN_FLIGHT: usize = 4_096;

/// A thread that has done nothing yet.
fn rested() -> Worked {
    Worked { now: clock::instant(), busy: Duration::ZERO }
}

/// What the thread has to do next.
#[derive(Clone, Copy)]
enum Work {
    Decide { sent: Instant, entered: Instant },
    Refuse,
}

/// A machine: what a decision, a refusal and a write to its disk cost, who calls, and what came of it.
struct Machine {
    decision: Duration,
    refusal: Duration,
    /// What is decided meanwhile waits for the next write; without a disk it is answered at once.
    disk: Duration,
    clients: usize,
    /// Time between two requests that are due; zero is a closed loop.
    gap: Duration,
    start: Instant,
    now: Instant,
    due: Instant,
    tick: Instant,
    /// Who sits in the line is named by when it was sent.
    line: Line<Instant>,
    work: VecDeque<Work>,
    /// When the work at hand is done.
    busy_until: Option<Instant>,
    /// How long the thread has worked.
    busy: Duration,
    /// What is decided and not written: when it was sent, and entered.
    decided: Vec<(Instant, Instant)>,
    /// What is being written, and until when.
    writing: Option<(Vec<(Instant, Instant)>, Instant)>,
    outstanding: usize,
    found: Found,
}

#[derive(Clone, Copy, Debug, Default)]
struct Found {
    in_time: u32,
    late: u32,
    refused: u32,
    most_inside: usize,
}

impl Machine {
    /// A machine whose refusals cost 0.4 of its decisions, as they do, and clients who send `load` times what it can decide.
    fn new(decision: Duration, clients: usize, load: f64) -> Self {
        let start = clock::instant();
        let gap = if load.is_infinite() { Duration::ZERO } else { decision.div_f64(load) };
        Self {
            decision,
            refusal: decision.mul_f64(0.4),
            disk: Duration::ZERO,
            clients,
            gap,
            start,
            now: start,
            due: start,
            tick: start,
            line: Line::new(Limit::new(TARGET, MAX_IN_FLIGHT), PATIENCE),
            work: VecDeque::new(),
            busy_until: None,
            busy: Duration::ZERO,
            decided: Vec::new(),
            writing: None,
            outstanding: 0,
            found: Found::default(),
        }
    }

    /// Runs until so long after the start, and gives what happened meanwhile.
    fn run_until(&mut self, end: Duration) -> Found {
        self.found = Found::default();
        let end = self.start + end;
        while self.now < end {
            let due = (self.outstanding < self.clients).then_some(self.due);
            let written = self.writing.as_ref().map(|(_, until)| *until);
            let next = [due, self.busy_until, written, Some(self.tick)].into_iter().flatten().min();
            self.now = self.now.max(next.expect("a tick at least"));
            if let Some((answers, _)) = self.writing.take_if(|(_, until)| *until <= self.now) {
                answers.into_iter().for_each(|(sent, entered)| self.answer(sent, entered));
                self.write();
                self.call();
            } else if self.busy_until.is_some_and(|until| until <= self.now) {
                self.finish();
            } else if due.is_some_and(|due| due <= self.now) {
                self.send();
            } else {
                self.tick = self.now + TICK;
                self.line.tick(Duration::ZERO);
                self.call();
            }
            if self.busy_until.is_none()
                && let Some(work) = self.work.front()
            {
                let cost = if matches!(work, Work::Refuse) { self.refusal } else { self.decision };
                self.busy += cost;
                self.busy_until = Some(self.now + cost);
            }
            self.found.most_inside = self.found.most_inside.max(self.line.inside);
        }
        self.found
    }

    fn send(&mut self) {
        self.due += self.gap;
        self.outstanding += 1;
        if self.line.is_open() {
            self.enter(self.now);
        } else {
            self.line.wait(self.now, self.now);
        }
    }

    fn enter(&mut self, sent: Instant) {
        assert!(self.line.enter());
        self.work.push_back(Work::Decide { sent, entered: self.now });
    }

    fn call(&mut self) {
        while let Some((sent, turn)) = self.line.call(self.now) {
            match turn {
                Turn::Enter(waited) => {
                    assert!(waited <= PATIENCE && self.now - sent == waited);
                    self.line.arrived(turn);
                    self.enter(sent);
                }
                Turn::TooLate => self.work.push_back(Work::Refuse),
            }
        }
    }

    fn finish(&mut self) {
        self.busy_until = None;
        match self.work.pop_front() {
            Some(Work::Decide { sent, entered }) => {
                self.decided.push((sent, entered));
                self.write();
            }
            Some(Work::Refuse) => {
                self.outstanding -= 1;
                self.line.arrived(Turn::TooLate);
                self.found.refused += 1;
            }
            None => {}
        }
        self.call();
    }

    /// Begins a write of what is decided, unless one is under way.
    fn write(&mut self) {
        if self.disk.is_zero() {
            std::mem::take(&mut self.decided).into_iter().for_each(|(sent, entered)| self.answer(sent, entered));
        } else if self.writing.is_none() && !self.decided.is_empty() {
            self.writing = Some((std::mem::take(&mut self.decided), self.now + self.disk));
        }
    }

    fn answer(&mut self, sent: Instant, entered: Instant) {
        self.outstanding -= 1;
        self.line.leave(self.now - entered, Worked { now: self.now, busy: self.busy });
        let in_time = self.now - sent <= DEADLINE;
        self.found.in_time += u32::from(in_time);
        self.found.late += u32::from(!in_time);
    }

    /// Answers in time between two times, as a share of what the machine could decide in them.
    fn goodput(&self, found: Found, span: Duration) -> f64 {
        f64::from(found.in_time) * self.decision.as_secs_f64() / span.as_secs_f64()
    }
}

/// Decisions of a fast machine, of a slow one, and of a very slow one.
const SPEEDS: [Duration; 3] = [Duration::from_micros(27), Duration::from_micros(300), Duration::from_micros(2_500)];

#[test]
fn twice_the_load_leaves_nine_tenths_of_the_answers_in_time_at_any_speed() {
    for decision in SPEEDS {
        for clients in [500, 6_000, 20_000] {
            let mut machine = Machine::new(decision, clients, 2.0);
            machine.run_until(Duration::from_secs(2));
            let found = machine.run_until(Duration::from_secs(4));
            let goodput = machine.goodput(found, Duration::from_secs(2));
            assert!(goodput >= 0.9, "{decision:?}, {clients} clients: {goodput:.2}, {found:?}");
            assert!(found.refused > 0 || clients < 6_000, "{decision:?}, {clients} clients: {found:?}");
            assert!(found.most_inside <= MAX_IN_FLIGHT);
        }
    }
}

#[test]
fn no_more_is_worked_on_than_keeps_the_thread_busy() {
    for decision in SPEEDS {
        let mut machine = Machine::new(decision, 20_000, f64::INFINITY);
        machine.run_until(Duration::from_secs(6));
        assert_eq!(machine.line.limit.get(), 32, "{decision:?}: it never rests, whatever is on its way");
    }
    for disk in [500, 2_000, 5_000].map(Duration::from_micros) {
        let mut machine = Machine { disk, ..Machine::new(SPEEDS[0], 6_000, f64::INFINITY) };
        machine.run_until(Duration::from_secs(4));
        let found = machine.run_until(Duration::from_secs(6));
        let (goodput, limit) = (machine.goodput(found, Duration::from_secs(2)), machine.line.limit.get());
        assert!(goodput >= 0.75, "{disk:?}: {goodput:.2}, {found:?}");
        // What is decided during a write, what is written meanwhile, and half as much again.
        let most = 3.0 * disk.as_secs_f64() / SPEEDS[0].as_secs_f64();
        assert!((limit as f64) < most.max(64.0), "{disk:?}: {limit}");
    }
}

#[test]
fn what_is_worked_on_is_answered_in_its_part_of_the_deadline_on_a_slow_disk_too() {
    // Of 12 ms two writes in a row fit, of 60 ms not one does.
    for (disk, fits) in [(Duration::from_millis(12), true), (Duration::from_millis(60), false)] {
        let mut machine = Machine { disk, ..Machine::new(SPEEDS[0], 20_000, f64::INFINITY) };
        machine.run_until(Duration::from_secs(6));
        let limit = machine.line.limit.get();
        assert_eq!(limit > 256, fits, "{disk:?}: {limit}");
    }
}

#[test]
fn nobody_is_refused_while_everybody_can_be_answered_in_time() {
    // Half the capacity, and closed loops that the line and what is inside hold together.
    let cases = [(SPEEDS[0], 6_000, 0.5), (SPEEDS[0], 64, f64::INFINITY), (SPEEDS[0], 2_200, f64::INFINITY)];
    let slow = [(SPEEDS[1], 6_000, 0.9), (SPEEDS[1], 64, f64::INFINITY), (SPEEDS[2], 20, f64::INFINITY)];
    for (decision, clients, load) in cases.into_iter().chain(slow) {
        let mut machine = Machine::new(decision, clients, load);
        let found = machine.run_until(Duration::from_secs(2));
        assert_eq!((found.refused, found.late), (0, 0), "{decision:?}, {clients} clients at {load}");
    }
}

#[test]
fn a_stall_is_over_when_it_ends() {
    for (decision, load) in [(SPEEDS[0], 0.8), (SPEEDS[0], 2.0), (SPEEDS[1], 0.8), (SPEEDS[1], 2.0)] {
        let mut machine = Machine::new(decision, 6_000, load);
        machine.run_until(Duration::from_secs(2));
        // A write that hangs for a second: whatever is at hand is not done before.
        machine.busy_until = Some(machine.now + Duration::from_secs(1));
        machine.run_until(Duration::from_millis(4_000));
        let found = machine.run_until(Duration::from_secs(6));
        let goodput = machine.goodput(found, Duration::from_secs(2));
        assert!(goodput >= 0.9 * load.min(1.0), "{decision:?} at {load}: {goodput:.2}, {found:?}");
    }
}

#[test]
fn the_first_is_called_first_until_some_are_too_late() {
    let start = clock::instant();
    let at = |ms: u64| start + Duration::from_millis(ms);
    let mut line = Line::new(Limit::new(TARGET, 2), PATIENCE);
    assert!(line.enter() && line.enter() && !line.is_open());
    for (ms, who) in [(0, 'a'), (10, 'b'), (20, 'c'), (71, 'd'), (72, 'e')] {
        assert_eq!(line.wait(at(ms), who), u64::from(who) - u64::from('a'));
    }
    assert_eq!(line.call(at(65)), None);
    line.leave(Duration::from_millis(1), rested());
    let first = Turn::Enter(Duration::from_millis(65));
    assert_eq!(line.call(at(65)), Some(('a', first)));
    assert_eq!(line.call(at(65)), None, "one place, one call");
    line.arrived(first);
    assert!(line.enter());
    // Too late are b and c by now, of whom b gave up; the others are called from the end.
    line.abandon(1);
    line.leave(Duration::from_millis(1), rested());
    let last = Turn::Enter(Duration::from_millis(15));
    assert_eq!(line.call(at(87)), Some(('e', last)));
    line.arrived(last);
    assert!(line.enter());
    assert_eq!(line.call(at(87)), None, "refusals have their price");
    for _ in 0..2 {
        line.leave(Duration::from_millis(1), rested());
    }
    assert_eq!(line.call(at(87)), Some(('d', Turn::Enter(Duration::from_millis(16)))));
    assert_eq!(line.call(at(87)), Some(('c', Turn::TooLate)));
    assert!(line.call(at(87)).is_none() && line.is_empty());
}

#[test]
fn those_who_are_late_are_told_so_where_nothing_is_answered() {
    let start = clock::instant();
    let mut line = Line::new(Limit::new(TARGET, 1), PATIENCE);
    assert!(line.enter());
    (0..200).for_each(|who| _ = line.wait(start, who));
    let told = |line: &mut Line<u32>| {
        line.tick(Duration::ZERO);
        std::iter::from_fn(|| line.call(start + 2 * PATIENCE))
            .inspect(|(_, turn)| assert_eq!(*turn, Turn::TooLate))
            .count()
    };
    for expected in [0, 1, 2, 4, 8, 16, 32, 64, 64, 9, 0] {
        assert_eq!(told(&mut line), expected);
        assert!(expected == 0 || told(&mut line) == 0, "the last ones are still on their way");
        (0..expected).for_each(|_| line.arrived(Turn::TooLate));
    }
}

#[test]
fn what_the_thread_is_behind_counts_as_time_that_was_waited() {
    let start = clock::instant() + PATIENCE;
    let mut line = Line::new(Limit::new(TARGET, 64), PATIENCE);
    let answer = |line: &mut Line<()>, lag: Duration| {
        line.tick(lag);
        for _ in 0..64 {
            while line.enter() {}
            line.leave(Duration::from_millis(1), rested());
        }
        line.limit.get()
    };
    assert_eq!(answer(&mut line, TARGET / 2), 64);
    assert_eq!(answer(&mut line, TARGET * 2), 32, "the queue is in the thread, not in what is inside");
    line.wait(start, ());
    while line.inside > 0 {
        line.leave(Duration::ZERO, rested());
    }
    assert_eq!(line.call(start), Some(((), Turn::Enter(TARGET * 2))));
}

proptest! {
    #[test]
    fn the_limit_stays_within_its_bounds(
        ceiling in 1_usize..10_000,
        answers in prop::collection::vec((0_u64..200, any::<bool>(), 0_u64..2_000), 1..2_000),
    ) {
        let mut limit = Limit::new(TARGET, ceiling);
        let mut worked = rested();
        for (took, full, busy_us) in answers {
            worked.now += Duration::from_millis(1);
            worked.busy += Duration::from_micros(busy_us);
            limit.answered(Duration::from_millis(took), full, worked);
            prop_assert!((ceiling.min(32)..=ceiling).contains(&limit.get()));
        }
    }
}
