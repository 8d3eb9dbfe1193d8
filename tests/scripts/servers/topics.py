"""The topics of Verdict and their settings: what `make up` and the tests have, and an operator has to make."""

# Journal partitions; every topic that follows users has as many.
PARTITIONS = 12
# The largest record: a snapshot of a user, or a dead letter with all that was sent.
LARGEST_BYTES = 16 * 1024 * 1024

FOREVER = {"cleanup.policy": "delete", "retention.ms": -1, "retention.bytes": -1}
COMPACT = {"cleanup.policy": "compact"}
LARGE = {"max.message.bytes": LARGEST_BYTES}

SETTINGS = {
    "transactions": {},
    "logins": {},
    "fraud-labels": {},
    "fraud-alerts": {},
    "dead-letters": LARGE,
    "verdict.journal": FOREVER | LARGE,
    "verdict.profiles": COMPACT | LARGE,
    "verdict.lists": COMPACT,
    "verdict.members": COMPACT,
    "verdict.archive": COMPACT | LARGE,
}


def topics(partitions=PARTITIONS, prefix=""):
    return [(prefix + name, partitions, settings) for name, settings in SETTINGS.items()]
