//! The rare realities of a stream: lines that come twice, late or broken. It works on lines and never invents an event.

use super::dice::Dice;
use std::collections::VecDeque;
use thiserror::Error;

/// A noise rate out of range.
#[derive(Clone, Debug, PartialEq, Error)]
#[error("--{name}: expected a percentage from 0 to 100, found {found}")]
pub struct NoiseError {
    /// The option.
    pub name: &'static str,
    /// Its value.
    pub found: f64,
}

/// Repeats, delays and breaks a share of the lines.
#[derive(Debug)]
pub struct Noise {
    dice: Dice,
    duplicates: f64,
    late: f64,
    malformed: f64,
    /// Lines on hold, with the number of lines after which they come.
    held: VecDeque<(u64, Vec<u8>)>,
    fed: u64,
}

/// How far a line can slip.
const MOST_LINES_HELD: u32 = 20;

impl Noise {
    /// Shares in percent of the lines.
    ///
    /// # Errors
    /// When a share is no percentage.
    pub fn new(seed: u64, duplicates: f64, late: f64, malformed: f64) -> Result<Self, NoiseError> {
        for (name, found) in [("duplicates", duplicates), ("late", late), ("malformed", malformed)] {
            if !(0.0..=100.0).contains(&found) {
                return Err(NoiseError { name, found });
            }
        }
        Ok(Self {
            dice: Dice::new(seed, super::STREAM_NOISE, 0),
            duplicates: duplicates / 100.0,
            late: late / 100.0,
            malformed: malformed / 100.0,
            held: VecDeque::new(),
            fed: 0,
        })
    }

    /// Passes one line on, with whatever else is due. A broken line is an extra one: no event is lost to it.
    pub fn pass(&mut self, line: &[u8], mut emit: impl FnMut(&[u8])) {
        self.fed += 1;
        if self.late > 0.0 && self.dice.chance(self.late) {
            self.hold(line);
        } else {
            emit(line);
        }
        if self.duplicates > 0.0 && self.dice.chance(self.duplicates) {
            self.hold(line);
        }
        if self.malformed > 0.0 && self.dice.chance(self.malformed) {
            emit(&self.broken(line));
        }
        while self.held.front().is_some_and(|(due, _)| *due <= self.fed) {
            if let Some((_, line)) = self.held.pop_front() {
                emit(&line);
            }
        }
    }

    /// Lets go of what is still on hold: the stream is over.
    pub fn finish(&mut self, mut emit: impl FnMut(&[u8])) {
        for (_, line) in self.held.drain(..) {
            emit(&line);
        }
    }

    fn hold(&mut self, line: &[u8]) {
        let due = self.fed + u64::from(self.dice.count(1, MOST_LINES_HELD));
        let place = self.held.partition_point(|(other, _)| *other <= due);
        self.held.insert(place, (due, line.to_vec()));
    }

    /// The line with a fault that some real sender has: cut off, no JSON, or a required value that is wrong.
    fn broken(&mut self, line: &[u8]) -> Vec<u8> {
        let text = String::from_utf8_lossy(line);
        let broken = match self.dice.below(4) {
            0 => {
                let cut = 1 + self.dice.below(text.len().saturating_sub(3) as u32) as usize;
                text.chars().take(cut).collect::<String>() + "\n"
            }
            1 => "not json\n".to_owned(),
            2 => text.replacen("\"user_id\":\"", "\"user_id\":\"\",\"was\":\"", 1),
            _ => text.replacen("\"timestamp\":\"2", "\"timestamp\":\"yesterday, 2", 1),
        };
        broken.into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(duplicates: f64, late: f64, malformed: f64) -> Vec<String> {
        let mut noise = Noise::new(1, duplicates, late, malformed).expect("percentages");
        let mut out = Vec::new();
        for n in 0..10_000 {
            let line = format!("{{\"n\":{n:05},\"user_id\":\"u\",\"timestamp\":\"2026-01-05T00:00:00Z\"}}\n");
            noise.pass(line.as_bytes(), |line| out.push(String::from_utf8_lossy(line).into_owned()));
        }
        noise.finish(|line| out.push(String::from_utf8_lossy(line).into_owned()));
        out
    }

    fn sorted(mut lines: Vec<String>) -> Vec<String> {
        lines.sort();
        lines
    }

    #[test]
    fn no_noise_changes_nothing() {
        let plain = run(0.0, 0.0, 0.0);
        assert_eq!(plain.len(), 10_000);
        assert!(plain.is_sorted());
    }

    #[test]
    fn each_kind_does_its_share_and_no_more() {
        let duplicated = run(2.0, 0.0, 0.0);
        assert!((10_150..10_250).contains(&duplicated.len()), "{}", duplicated.len());
        let mut once = sorted(duplicated);
        once.dedup();
        assert_eq!(once, run(0.0, 0.0, 0.0));

        let late = run(0.0, 2.0, 0.0);
        assert!(!late.is_sorted());
        assert_eq!(sorted(late), run(0.0, 0.0, 0.0));

        let broken = run(0.0, 0.0, 2.0);
        assert!((10_150..10_250).contains(&broken.len()), "{}", broken.len());
        assert!(broken.iter().all(|line| line.ends_with('\n') && line.matches('\n').count() == 1));
    }

    #[test]
    fn a_share_over_a_hundred_percent_is_refused() {
        assert_eq!(Noise::new(1, 0.0, 101.0, 0.0).map(drop), Err(NoiseError { name: "late", found: 101.0 }));
        assert!(Noise::new(1, f64::NAN, 0.0, 0.0).is_err());
    }
}
