-- Format 2: what people say about alerts, where each alert's review stands, and an index for every filter.

-- The status of the latest review, `open` without one. The one column that is no copy of the journal: the triggers below
-- keep it, whoever writes a review and whichever comes first, the review or the alert (made again).
ALTER TABLE alerts ADD COLUMN status TEXT NOT NULL DEFAULT 'open';

-- Pages go by the time of the decision; of one millisecond, by arrival (seq, which ends every index).
DROP INDEX alerts_by_user;
CREATE INDEX alerts_by_time ON alerts (detected_at_ms);
CREATE INDEX alerts_by_user ON alerts (user_id, detected_at_ms);
CREATE INDEX alerts_by_status ON alerts (status, detected_at_ms);
CREATE INDEX alerts_by_decision ON alerts (decision, detected_at_ms);

-- Reviews are primary data: nothing here can be made again, and nothing rebuilds over it. Rows are added, by
-- POST /v1/alerts/{id}/reviews or by hand:
--     INSERT INTO alert_reviews (alert_id, status, assignee) VALUES ('...', 'confirmed_fraud', 'ana');
-- at_ms: milliseconds since the Unix epoch; of an alert's reviews the latest counts.
-- unlabelled: 1 until the label that follows from the review counts; nothing follows from `in_review`.
CREATE TABLE alert_reviews (
    review_id INTEGER PRIMARY KEY AUTOINCREMENT,
    alert_id TEXT NOT NULL CHECK (length(alert_id) = 36 AND alert_id = lower(alert_id)),
    status TEXT NOT NULL CHECK (status IN ('in_review', 'confirmed_fraud', 'false_positive')),
    assignee TEXT,
    note TEXT,
    at_ms INTEGER NOT NULL DEFAULT (CAST(round((julianday('now') - 2440587.5) * 86400000) AS INTEGER)),
    unlabelled INTEGER NOT NULL DEFAULT 1 CHECK (unlabelled IN (0, 1))
) STRICT;

CREATE INDEX reviews_by_alert ON alert_reviews (alert_id, at_ms);
CREATE INDEX reviews_unlabelled ON alert_reviews (at_ms) WHERE unlabelled = 1 AND status <> 'in_review';

-- A label of the far future could not be superseded for as long; seconds taken for milliseconds lie in 1970.
CREATE TRIGGER review_in_time BEFORE INSERT ON alert_reviews
WHEN NEW.at_ms NOT BETWEEN 946684800000 AND (julianday('now') - 2440586.5) * 86400000
BEGIN
    SELECT RAISE(ABORT, 'expected at_ms in milliseconds since 1970, after 1999 and at most a day ahead');
END;

CREATE TRIGGER review_stays BEFORE UPDATE OF review_id, alert_id, status, at_ms ON alert_reviews
BEGIN
    SELECT RAISE(ABORT, 'a review is not changed: insert a later one, which supersedes it');
END;

CREATE TRIGGER review_written AFTER INSERT ON alert_reviews
BEGIN
    UPDATE alerts SET status = (
        SELECT status FROM alert_reviews WHERE alert_id = NEW.alert_id ORDER BY at_ms DESC, review_id DESC LIMIT 1
    ) WHERE alert_id = NEW.alert_id;
END;

CREATE TRIGGER review_deleted AFTER DELETE ON alert_reviews
BEGIN
    UPDATE alerts SET status = coalesce((
        SELECT status FROM alert_reviews WHERE alert_id = OLD.alert_id ORDER BY at_ms DESC, review_id DESC LIMIT 1
    ), 'open') WHERE alert_id = OLD.alert_id;
END;

CREATE TRIGGER alert_made_again AFTER INSERT ON alerts
WHEN EXISTS (SELECT 1 FROM alert_reviews WHERE alert_id = NEW.alert_id)
BEGIN
    UPDATE alerts SET status = (
        SELECT status FROM alert_reviews WHERE alert_id = NEW.alert_id ORDER BY at_ms DESC, review_id DESC LIMIT 1
    ) WHERE seq = NEW.seq;
END;

-- For people at a prompt: each alert with its latest review.
CREATE VIEW alert_queue AS
SELECT alerts.*, latest.assignee, latest.note, latest.at_ms AS reviewed_at_ms
FROM alerts LEFT JOIN alert_reviews AS latest ON latest.review_id = (
    SELECT review_id FROM alert_reviews WHERE alert_id = alerts.alert_id ORDER BY at_ms DESC, review_id DESC LIMIT 1
);
