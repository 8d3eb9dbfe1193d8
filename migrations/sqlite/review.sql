-- What people look at, as of format 1; review-2.sql goes on from here, in new files too. `alerts` is a projection of the
-- journal: made again from it at any time.
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

-- The columns of the table fraud_alerts in PostgreSQL; seq is the order of arrival here.
-- Times are milliseconds since the Unix epoch; hashes are hexadecimal; reasons is a JSON array.
CREATE TABLE alerts (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    alert_id TEXT NOT NULL UNIQUE,
    schema_version INTEGER NOT NULL,
    transaction_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    decision TEXT NOT NULL,
    score REAL,
    risk_level TEXT NOT NULL,
    reason TEXT,
    reasons TEXT NOT NULL,
    amount TEXT NOT NULL,
    currency TEXT NOT NULL,
    merchant_id TEXT NOT NULL,
    timestamp_ms INTEGER NOT NULL,
    detected_at_ms INTEGER NOT NULL,
    ruleset_name TEXT NOT NULL,
    ruleset_version TEXT NOT NULL,
    model_name TEXT,
    model_version TEXT,
    model_sha256 TEXT
);

CREATE INDEX alerts_by_user ON alerts (user_id, seq);

-- The first record of each partition that is not reflected; written in one transaction with the rows.
CREATE TABLE positions (partition INTEGER PRIMARY KEY, next_n INTEGER NOT NULL);
