//! How far every source partition was consumed, by journal partition: what its records in the journal say (I6).

use crate::journal::Partition;
use crate::journal::checkpoint::SourceOffset;
use std::collections::HashMap;
use verdict_core::event::Source;

/// The first offset of each source partition that has left no record yet; sources that never left one are not in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceOffsets {
    /// Journal partitions.
    partitions: Partition,
    next: HashMap<Box<str>, HashMap<i32, i64>>,
}

impl SourceOffsets {
    /// Of no source yet, beside so many journal partitions.
    #[must_use]
    pub fn new(partitions: Partition) -> Self {
        Self { partitions, next: HashMap::new() }
    }

    /// Takes what a checkpoint knows of the sources of these journal partitions.
    pub fn start_from(&mut self, saved: Vec<SourceOffset>, own: &[Partition]) {
        for SourceOffset { topic, partition, next_offset } in saved {
            if partition_of_source(partition, self.partitions).is_some_and(|of| own.contains(&of)) {
                self.next.entry(topic).or_default().insert(partition, next_offset);
            }
        }
    }

    /// A record of this source is in the journal.
    pub fn pass(&mut self, source: &Source) {
        let Source::Topic { topic, partition, offset } = source else { return };
        if !self.next.contains_key(topic) {
            self.next.insert(topic.clone(), HashMap::new());
        }
        if let Some(partitions) = self.next.get_mut(topic) {
            partitions.insert(*partition, offset + 1);
        }
    }

    /// All of them, for a checkpoint.
    #[must_use]
    pub fn all(&self) -> Vec<SourceOffset> {
        self.list(|_| true)
    }

    /// Those whose records go to this journal partition.
    #[must_use]
    pub fn of(&self, own: Partition) -> Vec<SourceOffset> {
        self.list(|partition| partition_of_source(partition, self.partitions) == Some(own))
    }

    fn list(&self, wanted: impl Fn(i32) -> bool) -> Vec<SourceOffset> {
        let mut listed = Vec::new();
        for (topic, partitions) in &self.next {
            let offsets = partitions.iter().filter(|(partition, _)| wanted(**partition));
            listed.extend(offsets.map(|(&partition, &next_offset)| SourceOffset {
                topic: topic.clone(),
                partition,
                next_offset,
            }));
        }
        listed
    }
}

/// The journal partition that the records of a topic's partition go to (PROTOCOL, Sources); `None` for no partition.
#[must_use]
pub fn partition_of_source(partition: i32, journal_partitions: Partition) -> Option<Partition> {
    Partition::try_from(u32::try_from(partition).ok()? % u32::from(journal_partitions)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offset(topic: &str, partition: i32, next_offset: i64) -> SourceOffset {
        SourceOffset { topic: topic.into(), partition, next_offset }
    }

    #[test]
    fn the_last_record_says_where_to_go_on() {
        let mut offsets = SourceOffsets::new(4);
        offsets.start_from(vec![offset("t", 1, 10), offset("t", 5, 20), offset("t", 2, 30)], &[1, 3]);
        offsets.pass(&Source::Http);
        offsets.pass(&Source::Topic { topic: "t".into(), partition: 1, offset: 17 });
        offsets.pass(&Source::Topic { topic: "l".into(), partition: 3, offset: 0 });
        let sorted = |mut offsets: Vec<SourceOffset>| {
            offsets.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
            offsets
        };
        assert_eq!(sorted(offsets.all()), [offset("l", 3, 1), offset("t", 1, 18), offset("t", 5, 20)]);
        assert_eq!(sorted(offsets.of(1)), [offset("t", 1, 18), offset("t", 5, 20)]);
        assert_eq!(partition_of_source(-1, 4), None);
    }
}
