//! The topics, and what their settings must be for the protocol to hold.

use super::{MAX_MESSAGE_BYTES, TopicFacts};

/// Every topic that Verdict reads or writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// Payments, keyed by user.
    Transactions,
    /// Logins, keyed by user.
    Logins,
    /// Labels, keyed by user.
    Labels,
    /// One alert a decision that raises one, keyed by user.
    Alerts,
    /// What was refused, once a source record.
    DeadLetters,
    /// The truth.
    Journal,
    /// Checkpoints and positions, compacted.
    Profiles,
    /// List entries, compacted.
    Lists,
    /// Who owns which partition, compacted.
    Members,
    /// Rule sets and models by hash, compacted.
    Archive,
}

impl Topic {
    /// Every topic.
    pub const ALL: [Self; 10] = [
        Self::Transactions,
        Self::Logins,
        Self::Labels,
        Self::Alerts,
        Self::DeadLetters,
        Self::Journal,
        Self::Profiles,
        Self::Lists,
        Self::Members,
        Self::Archive,
    ];

    /// The name, without the prefix.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Transactions => "transactions",
            Self::Logins => "logins",
            Self::Labels => "fraud-labels",
            Self::Alerts => "fraud-alerts",
            Self::DeadLetters => "dead-letters",
            Self::Journal => "verdict.journal",
            Self::Profiles => "verdict.profiles",
            Self::Lists => "verdict.lists",
            Self::Members => "verdict.members",
            Self::Archive => "verdict.archive",
        }
    }

    /// Whether records of the largest size are written to it (PROTOCOL, Sizes).
    const fn takes_the_largest(self) -> bool {
        matches!(self, Self::Journal | Self::Profiles | Self::DeadLetters | Self::Archive)
    }

    /// Whether only the newest record of a key is of use.
    const fn is_compacted(self) -> bool {
        matches!(self, Self::Profiles | Self::Lists | Self::Members | Self::Archive)
    }

    /// Whether losing a record of it loses what was answered as durable.
    const fn is_truth(self) -> bool {
        matches!(self, Self::Journal | Self::Archive)
    }
}

/// What is wrong with a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicFindings {
    /// With these the protocol does not hold: a start must fail.
    pub faults: Vec<String>,
    /// With these it holds as long as no broker or disk is lost.
    pub warnings: Vec<String>,
}

/// Holds a topic against the protocol. A setting that the broker did not tell is not judged.
#[must_use]
pub fn judge(topic: Topic, facts: &TopicFacts) -> TopicFindings {
    let (mut found, name) = (TopicFindings::default(), &facts.name);
    let setting = |key: &str| facts.config.get(key).map(AsRef::as_ref);
    let number = |key: &str| setting(key).and_then(|text: &str| text.parse::<i64>().ok());
    if topic.takes_the_largest()
        && let Some(bytes) = number("max.message.bytes").filter(|bytes| *bytes < i64::from(MAX_MESSAGE_BYTES))
    {
        found.faults.push(format!("{name}: expected max.message.bytes of at least {MAX_MESSAGE_BYTES}, found {bytes}"));
    }
    if topic == Topic::Journal
        && let Some(ms) = number("retention.ms").filter(|ms| *ms >= 0)
    {
        found
            .faults
            .push(format!("{name}: expected retention.ms=-1, found {ms}: only the service may trim the journal"));
    }
    if topic == Topic::Journal
        && let Some(bytes) = number("retention.bytes").filter(|bytes| *bytes >= 0)
    {
        let why = "only the service may trim the journal";
        found.faults.push(format!("{name}: expected retention.bytes=-1, found {bytes}: {why}"));
    }
    if let Some(policy) = setting("cleanup.policy") {
        let compacts = policy.split(',').any(|policy| policy.trim() == "compact");
        if topic.is_compacted() && policy.trim() != "compact" {
            found.faults.push(format!("{name}: expected cleanup.policy=compact, found {policy}"));
        } else if !topic.is_compacted() && compacts {
            found.faults.push(format!("{name}: expected cleanup.policy=delete, found {policy}: no record may vanish"));
        }
    }
    if topic.is_truth() {
        if facts.replication < 3 {
            let found_ = facts.replication;
            found
                .warnings
                .push(format!("{name}: expected 3 replicas, found {found_}: what is durable goes with a broker"));
        }
        if let Some(least) = number("min.insync.replicas").filter(|least| *least < 2) {
            let why = "what is durable may be in one broker's memory only";
            found.warnings.push(format!("{name}: expected min.insync.replicas of at least 2, found {least}: {why}"));
        }
        if setting("unclean.leader.election.enable") == Some("true") {
            let why = "an election may drop what is durable";
            found.warnings.push(format!("{name}: expected unclean.leader.election.enable=false, found true: {why}"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(replication: u32, config: &[(&str, &str)]) -> TopicFacts {
        let config = config.iter().map(|(key, value)| (Box::from(*key), Box::from(*value))).collect();
        TopicFacts { name: "t".into(), partitions: 12, replication, config }
    }

    #[track_caller]
    fn check(topic: Topic, facts: &TopicFacts, faults: &[&str], warnings: &[&str]) {
        let found = judge(topic, facts);
        assert_eq!(
            (found.faults, found.warnings),
            (faults.iter().map(ToString::to_string).collect(), warnings.iter().map(ToString::to_string).collect(),)
        );
    }

    #[test]
    fn a_production_journal_is_sound() {
        let config = [
            ("max.message.bytes", "16777216"),
            ("retention.ms", "-1"),
            ("retention.bytes", "-1"),
            ("cleanup.policy", "delete"),
            ("min.insync.replicas", "2"),
            ("unclean.leader.election.enable", "false"),
        ];
        check(Topic::Journal, &facts(3, &config), &[], &[]);
        check(Topic::Transactions, &facts(1, &config[..0]), &[], &[]);
    }

    #[test]
    fn what_breaks_the_protocol_is_a_fault_and_what_risks_it_a_warning() {
        let config = [
            ("max.message.bytes", "1048588"),
            ("retention.ms", "604800000"),
            ("retention.bytes", "5"),
            ("cleanup.policy", "compact,delete"),
            ("min.insync.replicas", "1"),
            ("unclean.leader.election.enable", "true"),
        ];
        check(
            Topic::Journal,
            &facts(1, &config),
            &[
                "t: expected max.message.bytes of at least 16777216, found 1048588",
                "t: expected retention.ms=-1, found 604800000: only the service may trim the journal",
                "t: expected retention.bytes=-1, found 5: only the service may trim the journal",
                "t: expected cleanup.policy=delete, found compact,delete: no record may vanish",
            ],
            &[
                "t: expected 3 replicas, found 1: what is durable goes with a broker",
                "t: expected min.insync.replicas of at least 2, found 1: what is durable may be in one broker's memory only",
                "t: expected unclean.leader.election.enable=false, found true: an election may drop what is durable",
            ],
        );
        check(
            Topic::Profiles,
            &facts(1, &config[3..4]),
            &["t: expected cleanup.policy=compact, found compact,delete"],
            &[],
        );
    }

    #[test]
    fn names_are_told_apart() {
        let names: std::collections::BTreeSet<&str> = Topic::ALL.iter().map(|topic| topic.name()).collect();
        assert_eq!(names.len(), Topic::ALL.len());
    }
}
