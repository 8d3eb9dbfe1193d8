//! What was decided about a transaction, and why.

use crate::lists::{ListEntry, ListHit};

/// What happens to the payment, from the mildest to the most severe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// It goes through.
    Approve,
    /// The customer proves who they are first.
    Challenge,
    /// It goes through or waits, and a person looks at it.
    Review,
    /// It does not go through.
    Block,
}

impl Outcome {
    /// Every outcome, with its name on the wire.
    pub const ALL: [(Self, &'static str); 4] =
        [(Self::Approve, "approve"), (Self::Challenge, "challenge"), (Self::Review, "review"), (Self::Block, "block")];

    /// The name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Approve => "approve",
            Self::Challenge => "challenge",
            Self::Review => "review",
            Self::Block => "block",
        }
    }
}

/// How risky the payment looked, for people and for routing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RiskLevel {
    /// Nothing stands out.
    Normal,
    /// Something does: a challenge or a review.
    Elevated,
    /// Blocked.
    Highest,
}

impl RiskLevel {
    /// The name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Elevated => "elevated",
            Self::Highest => "highest",
        }
    }
}

impl From<Outcome> for RiskLevel {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Approve => Self::Normal,
            Outcome::Challenge | Outcome::Review => Self::Elevated,
            Outcome::Block => Self::Highest,
        }
    }
}

/// How complete a decision is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecisionMode {
    /// Rules and model, as configured.
    Normal,
    /// Something was late or failed.
    Degraded,
    /// The declared policy alone.
    Fallback,
}

impl DecisionMode {
    /// Every mode, with its name on the wire.
    pub const ALL: [(Self, &'static str); 3] =
        [(Self::Normal, "normal"), (Self::Degraded, "degraded"), (Self::Fallback, "fallback")];

    /// The name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Degraded => "degraded",
            Self::Fallback => "fallback",
        }
    }
}

/// Why an answer is less than complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Degradation {
    /// Too little time was left to ask the model.
    ModelTimeout,
    /// The model failed.
    ModelError,
    /// The user has more events than windows keep exactly; hourly buckets stood in for the oldest.
    WindowApproximate,
    /// The user's profile was being recovered; lists and the fallback policy decided.
    Recovering,
}

impl Degradation {
    /// The code on the wire.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::ModelTimeout => "MODEL_TIMEOUT",
            Self::ModelError => "MODEL_ERROR",
            Self::WindowApproximate => "WINDOW_APPROXIMATE",
            Self::Recovering => "RECOVERING",
        }
    }

    /// Whether something failed. Windows beyond the bound are approximate by design, and would be so again.
    #[must_use]
    pub const fn is_fault(self) -> bool {
        match self {
            Self::ModelTimeout | Self::ModelError | Self::Recovering => true,
            Self::WindowApproximate => false,
        }
    }
}

/// What the model said, or why it said nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ModelVerdict {
    /// The probability of fraud, 0 to 1.
    Score(f32),
    /// No model is configured.
    Absent,
    /// The model was late or failed.
    Missing(Degradation),
}

/// One reason of a decision, ready to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// Machine-readable reason code, such as `DAILY_SPEND`.
    pub code: Box<str>,
    /// The sentence for people, with figures filled in.
    pub message: Box<str>,
    /// The rule that gave it; `None` for a model band.
    pub rule: Option<RuleRef>,
}

/// A rule as answers and records name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleRef {
    /// The rule's id in its set.
    pub id: Box<str>,
    /// The rule's own version.
    pub version: u32,
}

/// A rule that fired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleHit {
    /// Index of the rule in its set.
    pub rule: u16,
    /// A shadow rule is recorded and changes nothing.
    pub shadow: bool,
}

/// The whole outcome of a decision, with its effects as data.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// What happens to the payment.
    pub outcome: Outcome,
    /// The model's probability of fraud, if it was asked and answered.
    pub score: Option<f32>,
    /// How risky the payment looked.
    pub risk_level: RiskLevel,
    /// Why; empty for a plain approval. The most severe first, then in rule order.
    pub reasons: Vec<Reason>,
    /// What the answer lacks.
    pub degraded: Vec<Degradation>,
    /// Every rule that fired, shadow rules included, in rule order.
    pub rule_hits: Vec<RuleHit>,
    /// Every list entry that was met.
    pub list_hits: Vec<ListHit>,
    /// Whether people should hear of it: every outcome but approve, and an approve that a live rule flagged.
    pub alert: bool,
    /// The entry that this decision puts on the user's own block list.
    pub block_entry: Option<ListEntry>,
}

impl Decision {
    /// How complete it is.
    #[must_use]
    pub fn mode(&self) -> DecisionMode {
        if self.degraded.contains(&Degradation::Recovering) {
            DecisionMode::Fallback
        } else if self.degraded.iter().any(|why| why.is_fault()) {
            DecisionMode::Degraded
        } else {
            DecisionMode::Normal
        }
    }

    /// Whether everything that could be asked was asked and answered.
    #[must_use]
    pub fn is_normal(&self) -> bool {
        self.mode() == DecisionMode::Normal
    }
}
