-- What people look at, for analysts and their tools. fraud_alerts, decisions and labels are projections of the journal:
-- Verdict writes them, never changes an alert or a decision, and makes them again at any time (verdict rebuild review).
-- alert_reviews is what people wrote. Nothing makes it again: back it up.

CREATE TABLE fraud_alerts (
    alert_id uuid PRIMARY KEY,
    schema_version integer NOT NULL,
    transaction_id text NOT NULL,
    user_id text NOT NULL,
    decision text NOT NULL,
    score real,
    risk_level text NOT NULL,
    reason text,
    reasons jsonb NOT NULL,
    amount numeric NOT NULL,
    currency text NOT NULL,
    merchant_id text NOT NULL,
    "timestamp" timestamptz NOT NULL,
    detected_at timestamptz NOT NULL,
    ruleset_name text NOT NULL,
    ruleset_version text NOT NULL,
    model_name text,
    model_version text,
    model_sha256 text,
    seq bigint GENERATED ALWAYS AS IDENTITY
);

-- Pages go by the time of the decision, of one instant by arrival.
CREATE INDEX fraud_alerts_by_time ON fraud_alerts (detected_at, seq);
CREATE INDEX fraud_alerts_by_user ON fraud_alerts (user_id, detected_at, seq);
CREATE INDEX fraud_alerts_by_decision ON fraud_alerts (decision, detected_at, seq);
CREATE UNIQUE INDEX fraud_alerts_by_arrival ON fraud_alerts (seq);

COMMENT ON TABLE fraud_alerts IS 'One row for every decision that people should hear of. Made from the journal and never updated; what people say about an alert is in alert_reviews, and alert_queue shows both.';
COMMENT ON COLUMN fraud_alerts.alert_id IS 'Derived from the transaction: the same however often the row is made again.';
COMMENT ON COLUMN fraud_alerts.schema_version IS 'Version of the shape of an alert, as on the topic fraud-alerts.';
COMMENT ON COLUMN fraud_alerts.transaction_id IS 'The transaction that was decided; unique for its user.';
COMMENT ON COLUMN fraud_alerts.decision IS 'challenge, review or block; approve where a rule asked to flag an approved payment.';
COMMENT ON COLUMN fraud_alerts.score IS 'The model''s probability of fraud, 0 to 1; null if it did not answer.';
COMMENT ON COLUMN fraud_alerts.risk_level IS 'normal, elevated or highest.';
COMMENT ON COLUMN fraud_alerts.reason IS 'The first reason''s sentence, the most severe one.';
COMMENT ON COLUMN fraud_alerts.reasons IS 'Every reason, the most severe first: [{"code", "message", "rule_id", "rule_version"}].';
COMMENT ON COLUMN fraud_alerts.amount IS 'The amount as the merchant charged it, in its currency.';
COMMENT ON COLUMN fraud_alerts.currency IS 'ISO 4217 code.';
COMMENT ON COLUMN fraud_alerts."timestamp" IS 'When the payment happened (event time).';
COMMENT ON COLUMN fraud_alerts.detected_at IS 'When it was decided.';
COMMENT ON COLUMN fraud_alerts.ruleset_version IS 'Hash of the files of the rule set that decided.';
COMMENT ON COLUMN fraud_alerts.model_name IS 'The model that was configured; null without one.';
COMMENT ON COLUMN fraud_alerts.model_sha256 IS 'Hash of the model''s file.';
COMMENT ON COLUMN fraud_alerts.seq IS 'Order of arrival in this table; with gaps, and another one when rows are made again.';

-- Every decision, for as many days as the service is told to keep ([postgres] decision_days). A partition a day in UTC,
-- decisions_YYYYMMDD, made ahead and dropped by the service.
CREATE TABLE decisions (
    evaluated_at timestamptz NOT NULL,
    decision_id uuid NOT NULL,
    transaction_id text NOT NULL,
    user_id text NOT NULL,
    decision text NOT NULL,
    score real,
    risk_level text NOT NULL,
    mode text NOT NULL,
    degraded jsonb NOT NULL,
    reasons jsonb NOT NULL,
    alert_id uuid,
    amount numeric NOT NULL,
    currency text NOT NULL,
    merchant_id text NOT NULL,
    "timestamp" timestamptz NOT NULL,
    ruleset_name text NOT NULL,
    ruleset_version text NOT NULL,
    model_name text,
    model_version text,
    model_sha256 text,
    feature_schema text NOT NULL,
    latency_us bigint NOT NULL,
    journal_partition integer NOT NULL,
    journal_n bigint NOT NULL,
    PRIMARY KEY (decision_id, evaluated_at)
) PARTITION BY RANGE (evaluated_at);

CREATE INDEX decisions_by_time ON decisions (evaluated_at);
CREATE INDEX decisions_by_user ON decisions (user_id, evaluated_at);

COMMENT ON TABLE decisions IS 'Every decision of the last days, approvals included. Made from the journal and never updated. Ask with a bound on evaluated_at, so that only the partitions of those days are read.';
COMMENT ON COLUMN decisions.evaluated_at IS 'When it was decided; the day of its partition, in UTC.';
COMMENT ON COLUMN decisions.decision_id IS 'As the answer named it.';
COMMENT ON COLUMN decisions.decision IS 'approve, challenge, review or block.';
COMMENT ON COLUMN decisions.mode IS 'normal, or degraded where something was late or failed.';
COMMENT ON COLUMN decisions.degraded IS 'What the decision lacked: ["MODEL_TIMEOUT", ...].';
COMMENT ON COLUMN decisions.alert_id IS 'The alert that it raised, if it raised one.';
COMMENT ON COLUMN decisions."timestamp" IS 'When the payment happened (event time).';
COMMENT ON COLUMN decisions.latency_us IS 'From receipt to decision, in microseconds.';
COMMENT ON COLUMN decisions.journal_partition IS 'Where the record is: the partition of the journal.';
COMMENT ON COLUMN decisions.journal_n IS 'Where the record is: its number in the partition.';

CREATE TABLE labels (
    user_id text NOT NULL,
    transaction_id text NOT NULL,
    source text NOT NULL,
    is_fraud boolean NOT NULL,
    "timestamp" timestamptz NOT NULL,
    amount_lost_minor bigint,
    PRIMARY KEY (user_id, transaction_id, source)
);

COMMENT ON TABLE labels IS 'What was learned about transactions, from every source. Made from the journal; of one user, transaction and source the latest is kept.';
COMMENT ON COLUMN labels.source IS 'chargeback, analyst, customer or issuer.';
COMMENT ON COLUMN labels."timestamp" IS 'When the source said so.';
COMMENT ON COLUMN labels.amount_lost_minor IS 'What was lost, in minor units (such as cents) of the base currency of rules/fx.yaml; null if nobody said.';

CREATE TABLE alert_reviews (
    review_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    alert_id uuid NOT NULL,
    status text NOT NULL CHECK (status IN ('in_review', 'confirmed_fraud', 'false_positive')),
    assignee text,
    note text,
    at timestamptz(3) NOT NULL DEFAULT now(),
    unlabelled boolean NOT NULL DEFAULT true
);

CREATE INDEX alert_reviews_by_alert ON alert_reviews (alert_id, at, review_id);
CREATE INDEX alert_reviews_by_status ON alert_reviews (status);
CREATE INDEX alert_reviews_unlabelled ON alert_reviews (at, review_id) WHERE unlabelled AND status <> 'in_review';

COMMENT ON TABLE alert_reviews IS 'What people say about alerts. Primary data: nothing rebuilds it, and Verdict only clears unlabelled. Add a row to say something: INSERT INTO alert_reviews (alert_id, status, assignee) VALUES (''...'', ''confirmed_fraud'', ''ana''); a later row supersedes an earlier one.';
COMMENT ON COLUMN alert_reviews.status IS 'in_review, confirmed_fraud or false_positive; the last two become a label.';
COMMENT ON COLUMN alert_reviews.at IS 'When it was said; of an alert''s reviews the latest counts.';
COMMENT ON COLUMN alert_reviews.unlabelled IS 'True until the label that follows from the review counts; cleared by Verdict. Nothing follows from in_review.';

CREATE FUNCTION alert_review_in_time() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- A label of the far future could not be superseded for as long; seconds taken for milliseconds lie in 1970.
    IF NEW.at NOT BETWEEN timestamptz '2000-01-01 00:00:00Z' AND clock_timestamp() + interval '1 day' THEN
        RAISE EXCEPTION 'expected at after 1999 and at most a day ahead, found %', NEW.at USING ERRCODE = 'check_violation',
            CONSTRAINT = 'alert_review_in_time';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER alert_review_in_time BEFORE INSERT ON alert_reviews
    FOR EACH ROW EXECUTE FUNCTION alert_review_in_time();

CREATE FUNCTION alert_review_stays() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'a review is not changed: insert a later one, which supersedes it' USING ERRCODE = 'check_violation';
END $$;
CREATE TRIGGER alert_review_stays BEFORE UPDATE OF review_id, alert_id, status, at ON alert_reviews
    FOR EACH ROW EXECUTE FUNCTION alert_review_stays();

CREATE VIEW alert_queue AS
SELECT alert.alert_id, coalesce(latest.status, 'open') AS status, alert.detected_at, alert.decision, alert.reason,
    alert.score, alert.risk_level, alert.amount, alert.currency, alert.user_id, alert.transaction_id, alert.merchant_id,
    alert."timestamp", alert.reasons, latest.assignee, latest.note, latest.at AS reviewed_at,
    alert.ruleset_name, alert.ruleset_version, alert.model_name, alert.model_version
FROM fraud_alerts AS alert
LEFT JOIN LATERAL (
    SELECT review.status, review.assignee, review.note, review.at FROM alert_reviews AS review
    WHERE review.alert_id = alert.alert_id ORDER BY review.at DESC, review.review_id DESC LIMIT 1
) AS latest ON true;

COMMENT ON VIEW alert_queue IS 'Each alert with its latest review; open is an alert that nobody has said anything about. What waits: SELECT * FROM alert_queue WHERE status = ''open'' ORDER BY detected_at.';

CREATE TABLE projection_positions (
    journal text NOT NULL,
    projection text NOT NULL,
    partition integer NOT NULL,
    n bigint NOT NULL,
    PRIMARY KEY (journal, projection, partition)
);

COMMENT ON TABLE projection_positions IS 'How far the tables made from the journal reflect it. Written in one transaction with their rows; a position that is put back is noticed by the running service, which reads again from there.';
COMMENT ON COLUMN projection_positions.journal IS 'Identity of the journal; rows of two journals never share a database.';
COMMENT ON COLUMN projection_positions.n IS 'Number of the first record of the partition that is not reflected.';
