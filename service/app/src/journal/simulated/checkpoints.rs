//! The checkpoint store over a simulated disk.

use super::{Disk, Saved, State, pause};
use crate::journal::checkpoint::{Checkpoint, Checkpoints, ListSnapshot, Marker, ProfileSnapshot};
use crate::journal::{JournalError, Partition};
use futures_util::FutureExt;
use futures_util::StreamExt;
use futures_util::future::{BoxFuture, LocalBoxFuture, ready};
use futures_util::stream::{self, BoxStream, LocalBoxStream};

/// See the module.
pub(crate) struct SimCheckpoints(Disk);

impl SimCheckpoints {
    pub(crate) fn open(disk: Disk) -> Self {
        Self(disk)
    }

    /// A part that stands by itself, if they do here.
    fn land(&self, part: &[ProfileSnapshot]) -> Result<(), JournalError> {
        let mut state = self.0.state();
        if !state.in_parts {
            return Ok(());
        }
        if state.off {
            return Err(failed());
        }
        let part = Checkpoint { profiles: part.to_vec(), ..Checkpoint::default() };
        let mut saved = state.saved.last().cloned().unwrap_or_default();
        let found = breaches(&state, &part, &saved);
        state.breaches.extend(found);
        saved.profiles.extend(part.profiles.into_iter().map(|one| ((one.partition, one.user_id.clone()), one)));
        state.saved.push(saved);
        Ok(())
    }
}

fn failed() -> JournalError {
    JournalError::Store("the simulated checkpoint store failed".into())
}

/// A checkpoint holds nothing that is not durable, and never goes back.
fn breaches(state: &State, checkpoint: &Checkpoint, saved: &Saved) -> Vec<String> {
    let end = |partition: Partition| state.ends[usize::from(partition)];
    let ahead = checkpoint.profiles.iter().filter(|profile| profile.n > end(profile.partition));
    let ahead = ahead.map(|profile| {
        let ProfileSnapshot { user_id, partition, n, .. } = profile;
        format!(
            "I2: the saved profile of {user_id} reflects record {n} of {partition}, which ends at {}",
            end(*partition)
        )
    });
    let marks = checkpoint.marker.marks.iter();
    let beyond = marks.clone().filter(|mark| mark.next_n > end(mark.partition));
    let beyond = beyond.map(|mark| format!("I2: {mark:?} lies beyond the journal's end {}", end(mark.partition)));
    let back = marks.filter(|mark| saved.marks.get(&mark.partition).is_some_and(|last| last.next_n > mark.next_n));
    let back = back.map(|mark| format!("I3: a checkpoint goes back to {mark:?}"));
    ahead.chain(beyond).chain(back).collect()
}

impl Checkpoints for SimCheckpoints {
    fn save_parts<'a>(
        &'a self,
        parts: LocalBoxStream<'a, Option<Vec<ProfileSnapshot>>>,
        lists: &'a [ListSnapshot],
        marker: &'a Marker,
    ) -> LocalBoxFuture<'a, Result<bool, JournalError>> {
        async move {
            let (mut parts, mut profiles) = (parts, Vec::new());
            while let Some(part) = parts.next().await {
                let Some(part) = part else { return Ok(false) };
                self.land(&part)?;
                profiles.extend(part);
            }
            let checkpoint = Checkpoint { profiles, lists: lists.to_vec(), marker: marker.clone() };
            let delay = self.0.state().delay();
            pause(delay).await;
            let mut state = self.0.state();
            if state.off {
                return Err(failed());
            }
            let mut saved = state.saved.last().cloned().unwrap_or_default();
            let found = breaches(&state, &checkpoint, &saved);
            state.breaches.extend(found);
            let fails = state.fails(|faults| faults.save_fails);
            if !fails || state.dice.chance(0.5) {
                let profiles = checkpoint.profiles.iter();
                saved.profiles.extend(profiles.map(|one| ((one.partition, one.user_id.clone()), one.clone())));
                saved.lists.extend(checkpoint.lists.iter().map(|listed| (listed.partition, listed.clone())));
                saved.marks.extend(checkpoint.marker.marks.iter().map(|mark| (mark.partition, *mark)));
                state.saved.push(saved);
            }
            if fails { Err(failed()) } else { Ok(true) }
        }
        .boxed_local()
    }

    fn stands_in_parts(&self) -> bool {
        self.0.state().in_parts
    }

    fn marker(&self) -> BoxFuture<'_, Result<Option<Marker>, JournalError>> {
        let mut state = self.0.state();
        if state.fails(|faults| faults.recovery_fails) {
            return ready(Err(failed())).boxed();
        }
        let marks: Vec<_> = state.saved.last().into_iter().flat_map(|saved| saved.marks.values().copied()).collect();
        let marker = (!marks.is_empty()).then_some(Marker { marks, sources: Vec::new() });
        ready(Ok(marker)).boxed()
    }

    fn lists(&self) -> BoxFuture<'_, Result<Vec<ListSnapshot>, JournalError>> {
        let mut state = self.0.state();
        if state.fails(|faults| faults.recovery_fails) {
            return ready(Err(failed())).boxed();
        }
        let lists = state.saved.last().into_iter().flat_map(|saved| saved.lists.values().cloned()).collect();
        ready(Ok(lists)).boxed()
    }

    fn load(&self, partitions: &[Partition]) -> BoxStream<'_, Result<ProfileSnapshot, JournalError>> {
        let mut state = self.0.state();
        let mut found: Vec<_> = state
            .saved
            .last()
            .into_iter()
            .flat_map(|saved| saved.profiles.values())
            .filter(|profile| partitions.contains(&profile.partition))
            .map(|profile| Ok(profile.clone()))
            .collect();
        if state.fails(|faults| faults.recovery_fails) {
            let read = state.dice.below(found.len() as u32 + 1);
            found.truncate(read as usize);
            found.push(Err(failed()));
        }
        let delay = state.delay();
        stream::once(async move {
            pause(delay).await;
            stream::iter(found)
        })
        .flatten()
        .boxed()
    }

    fn damaged(&self, what: String) -> JournalError {
        JournalError::DamagedCheckpoint { file: "the simulated disk".into(), what: what.into() }
    }
}
