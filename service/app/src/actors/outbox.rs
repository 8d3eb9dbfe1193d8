//! What a shard has for the journal and has not handed over yet.

use super::completion::Completion;
use super::context::Wake;
use crate::journal::record::Record;
use verdict_core::event::Source;

/// Records that are appended together, even if nobody waits for an answer.
const ENOUGH: usize = 512;

/// See the module.
#[derive(Default)]
pub(super) struct Outbox {
    /// In journal order.
    pub(super) records: Vec<Record>,
    /// Told when the append is durable.
    pub(super) completions: Vec<Completion>,
    /// What the shard was woken for, if it was.
    woken: Option<Wake>,
}

impl Outbox {
    /// Puts a record in, or what waits for those before it. Gives what the shard is to be woken for, if it was not: records of
    /// topics may wait for more of them, and whatever a caller waits for takes them along.
    pub(super) fn push(&mut self, record: Option<Record>, completion: Completion) -> Option<Wake> {
        let patient = record.as_ref().is_some_and(|record| matches!(record.source, Source::Topic { .. }));
        self.records.extend(record);
        self.completions.push(completion);
        let wake = if patient && self.records.len() < ENOUGH { Wake::AppendSoon } else { Wake::Append };
        if self.woken == Some(Wake::Append) || self.woken == Some(wake) {
            return None;
        }
        self.woken = Some(wake);
        Some(wake)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::record::Body;
    use verdict_core::time::Timestamp;

    fn record(source: Source) -> Record {
        let body = Body::Duplicate { user_id: "u".into(), event_id: "t".into() };
        Record { partition: 0, epoch: 0, n: 0, source, received_at: Timestamp::from_millis(0), body }
    }

    fn topic() -> Option<Record> {
        Some(record(Source::Topic { topic: "transactions".into(), partition: 0, offset: 0 }))
    }

    #[test]
    fn a_topic_waits_for_more_and_a_caller_takes_all_along() {
        let mut outbox = Outbox::default();
        assert_eq!(outbox.push(topic(), Completion::Nobody), Some(Wake::AppendSoon));
        assert_eq!(outbox.push(topic(), Completion::Nobody), None);
        assert_eq!(outbox.push(Some(record(Source::Http)), Completion::Nobody), Some(Wake::Append));
        assert_eq!(outbox.push(topic(), Completion::Nobody), None, "it goes along");
        assert_eq!(outbox.push(Some(record(Source::Http)), Completion::Nobody), None);
    }

    #[test]
    fn whoever_waits_for_what_came_before_does_not_wait_for_more() {
        let mut outbox = Outbox::default();
        assert_eq!(outbox.push(topic(), Completion::Nobody), Some(Wake::AppendSoon));
        assert_eq!(outbox.push(None, Completion::Nobody), Some(Wake::Append));
    }

    #[test]
    fn enough_records_of_topics_wait_no_longer() {
        let mut outbox = Outbox::default();
        let woken: Vec<Wake> = (0..2 * ENOUGH).filter_map(|_| outbox.push(topic(), Completion::Nobody)).collect();
        assert_eq!(woken, [Wake::AppendSoon, Wake::Append]);
        assert_eq!(outbox.records.len(), 2 * ENOUGH, "none is lost");
    }
}
