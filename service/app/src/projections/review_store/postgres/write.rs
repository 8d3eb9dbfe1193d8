//! What the projection writes: rows as arrays, a statement a table, in one transaction with the position.

use super::super::{DecidedAt, Move, PlaceRow, Reached, ReviewError, Stretch, place_of};
use super::{Fault, Settings};
use crate::journal::Partition;
use crate::wire::alert::Alert;
use crate::wire::decision::ReasonJson;
use crate::wire::hex;
use serde::Serialize;
use sqlx::postgres::PgConnection;
use sqlx::{Connection, Row};
use std::collections::BTreeMap;
use std::sync::Arc;
use uuid::Uuid;
use verdict_core::event::{Label, LabelSource};

/// The positions of this journal, all of its partitions. The first to come to an empty database claims it.
pub(super) async fn positions(connection: &mut PgConnection, settings: &Settings) -> Result<Vec<Reached>, Fault> {
    let found = read(connection, &settings.journal).await?;
    if found.len() == usize::from(settings.partitions) {
        return Ok(found);
    }
    let mut transaction = connection.begin().await?;
    // Two services that come at the same time see one another.
    sqlx::query("LOCK TABLE projection_positions IN SHARE ROW EXCLUSIVE MODE").execute(&mut *transaction).await?;
    read(&mut transaction, &settings.journal).await?;
    sqlx::query(
        "INSERT INTO projection_positions (journal, projection, partition, n) \
         SELECT $1, 'review', partition, 0 FROM generate_series(0, $2 - 1) AS partition ON CONFLICT DO NOTHING",
    )
    .bind(&*settings.journal)
    .bind(i32::from(settings.partitions))
    .execute(&mut *transaction)
    .await?;
    let found = read(&mut transaction, &settings.journal).await?;
    transaction.commit().await?;
    Ok(found)
}

async fn read(connection: &mut PgConnection, journal: &Arc<str>) -> Result<Vec<Reached>, Fault> {
    let rows = sqlx::query(
        "SELECT journal, partition, n, kafka_offset, kafka_epoch, kafka_n FROM projection_positions \
         WHERE projection = 'review' ORDER BY partition",
    )
    .fetch_all(connection)
    .await?;
    let mut positions = Vec::with_capacity(rows.len());
    for row in rows {
        let found: &str = row.try_get(0)?;
        if found != &**journal {
            return Err(ReviewError::OtherJournal { expected: Arc::clone(journal), found: found.into() }.into());
        }
        let place: PlaceRow = (row.try_get(3)?, row.try_get(4)?, row.try_get(5)?);
        if let Ok(partition) = Partition::try_from(row.try_get::<i32, _>(1)?) {
            let n = row.try_get::<i64, _>(2)?.cast_unsigned();
            positions.push(Reached { partition, n, place: place_of(place) });
        }
    }
    Ok(positions)
}

/// Puts every position of the journal back to its start.
pub(super) async fn reset(connection: &mut PgConnection, journal: &str) -> Result<(), sqlx::Error> {
    let back = "UPDATE projection_positions SET n = 0, kafka_offset = NULL, kafka_epoch = NULL, kafka_n = NULL \
                WHERE journal = $1 AND projection = 'review'";
    sqlx::query(back).bind(journal).execute(connection).await.map(drop)
}

/// Writes a stretch, `decided` of which is kept; gives the place of the newest alert.
pub(super) async fn apply(
    connection: &mut PgConnection,
    journal: &str,
    stretch: &Stretch,
    decided: &[&DecidedAt],
) -> Result<i64, Fault> {
    let mut transaction = connection.begin().await?;
    // First of all, so that whoever else writes for these partitions waits before it writes anything: places are then
    // given in the order in which they become visible.
    move_positions(&mut transaction, journal, &stretch.moves).await?;
    alerts(&mut transaction, &stretch.alerts).await?;
    decisions(&mut transaction, decided).await?;
    labels(&mut transaction, &stretch.labels).await?;
    let head = super::rows::newest(&mut transaction).await?;
    transaction.commit().await?;
    Ok(head)
}

async fn move_positions(connection: &mut PgConnection, journal: &str, moves: &[Move]) -> Result<(), Fault> {
    let partitions: Vec<i32> = moves.iter().map(|moved| moved.partition.into()).collect();
    let found: Vec<(i32, i64)> = sqlx::query_as(
        "SELECT partition, n FROM projection_positions \
         WHERE journal = $1 AND projection = 'review' AND partition = ANY($2) ORDER BY partition FOR UPDATE",
    )
    .bind(journal)
    .bind(&partitions)
    .fetch_all(&mut *connection)
    .await?;
    let found: BTreeMap<i32, i64> = found.into_iter().collect();
    for moved in moves {
        // One that is gone stands before everything, and is made again by the next look at the positions.
        match found.get(&moved.partition.into()).map(|n| n.cast_unsigned()) {
            Some(n) if n == moved.from => {}
            other => return Err(moved.refused(other.unwrap_or(0)).into()),
        }
    }
    sqlx::query(
        "UPDATE projection_positions AS position SET n = moved.n, kafka_offset = moved.kafka_offset, \
         kafka_epoch = moved.kafka_epoch, kafka_n = moved.kafka_n \
         FROM unnest($2::int[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[]) \
         AS moved(partition, n, kafka_offset, kafka_epoch, kafka_n) \
         WHERE journal = $1 AND projection = 'review' AND position.partition = moved.partition",
    )
    .bind(journal)
    .bind(&partitions)
    .bind(column(moves, |moved| moved.to.cast_signed()))
    .bind(column(moves, |moved| moved.place_row().0))
    .bind(column(moves, |moved| moved.place_row().1))
    .bind(column(moves, |moved| moved.place_row().2))
    .execute(connection)
    .await?;
    Ok(())
}

/// One column of rows.
fn column<R, T>(rows: &[R], value: impl Fn(&R) -> T) -> Vec<T> {
    rows.iter().map(value).collect()
}

/// As a column of jsonb takes it, which knows no NUL: nothing from outside has one, but a rule's author may write one.
fn json(value: &impl Serialize) -> Result<String, sqlx::Error> {
    let text = serde_json::to_string(value).map_err(|error| sqlx::Error::Encode(error.into()))?;
    Ok(if text.contains("\\u0000") { text.replace("\\u0000", "\\ufffd") } else { text })
}

fn jsons<R, T: Serialize>(rows: &[R], value: impl Fn(&R) -> T) -> Result<Vec<String>, sqlx::Error> {
    rows.iter().map(|row| json(&value(row))).collect()
}

fn id(text: &str) -> Result<Uuid, sqlx::Error> {
    Uuid::try_parse(text).map_err(|error| sqlx::Error::Encode(error.into()))
}

async fn alerts(connection: &mut PgConnection, alerts: &[Alert]) -> Result<(), sqlx::Error> {
    if alerts.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = alerts.iter().map(|alert| id(&alert.alert_id)).collect::<Result<_, _>>()?;
    let model = |alert: &Alert| alert.model.clone();
    sqlx::query(
        "INSERT INTO fraud_alerts (alert_id, schema_version, transaction_id, user_id, decision, score, risk_level, reason, \
             reasons, amount, currency, merchant_id, \"timestamp\", detected_at, ruleset_name, ruleset_version, model_name, \
             model_version, model_sha256) \
         SELECT a1, a2, a3, a4, a5, a6, a7, a8, a9::jsonb, a10::numeric, a11, a12, \
             timestamptz 'epoch' + interval '1 millisecond' * a13, timestamptz 'epoch' + interval '1 millisecond' * a14, \
             a15, a16, a17, a18, a19 \
         FROM unnest($1::uuid[], $2::int[], $3::text[], $4::text[], $5::text[], $6::real[], $7::text[], $8::text[], \
             $9::text[], $10::text[], $11::text[], $12::text[], $13::bigint[], $14::bigint[], $15::text[], $16::text[], \
             $17::text[], $18::text[], $19::text[]) \
             AS a(a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15, a16, a17, a18, a19) \
         ON CONFLICT (alert_id) DO NOTHING",
    )
    .bind(ids)
    .bind(column(alerts, |alert| alert.schema_version.cast_signed()))
    .bind(column(alerts, |alert| alert.transaction_id.clone()))
    .bind(column(alerts, |alert| alert.user_id.clone()))
    .bind(column(alerts, |alert| alert.decision.clone()))
    .bind(column(alerts, |alert| alert.score))
    .bind(column(alerts, |alert| alert.risk_level.clone()))
    .bind(column(alerts, |alert| alert.reasons.first().map(|reason| reason.message.replace('\0', "\u{fffd}"))))
    .bind(jsons(alerts, |alert| alert.reasons.clone())?)
    .bind(column(alerts, |alert| alert.amount.clone()))
    .bind(column(alerts, |alert| alert.currency.clone()))
    .bind(column(alerts, |alert| alert.merchant_id.clone()))
    .bind(column(alerts, |alert| alert.timestamp.as_millis()))
    .bind(column(alerts, |alert| alert.detected_at.as_millis()))
    .bind(column(alerts, |alert| alert.ruleset.name.clone()))
    .bind(column(alerts, |alert| alert.ruleset.version.clone()))
    .bind(column(alerts, |alert| model(alert).map(|model| model.name)))
    .bind(column(alerts, |alert| model(alert).map(|model| model.version)))
    .bind(column(alerts, |alert| model(alert).map(|model| model.sha256)))
    .execute(connection)
    .await
    .map(drop)
}

async fn decisions(connection: &mut PgConnection, rows: &[&DecidedAt]) -> Result<(), sqlx::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    let degraded = jsons(rows, |at| at.decided.decision.degraded.iter().map(|why| why.code()).collect::<Vec<_>>())?;
    let reasons = jsons(rows, |at| at.decided.decision.reasons.iter().map(ReasonJson::of).collect::<Vec<_>>())?;
    let alert_id =
        |at: &&DecidedAt| at.decided.decision.alert.then(|| verdict_core::alert::alert_id(&at.decided.transaction));
    let mode = |at: &&DecidedAt| at.decided.decision.mode().name();
    let model = |at: &&DecidedAt| at.decided.generation.model.clone();
    sqlx::query(
        "INSERT INTO decisions (evaluated_at, decision_id, transaction_id, user_id, decision, score, risk_level, mode, \
             degraded, reasons, alert_id, amount, currency, merchant_id, \"timestamp\", ruleset_name, ruleset_version, \
             model_name, model_version, model_sha256, feature_schema, latency_us, journal_partition, journal_n) \
         SELECT timestamptz 'epoch' + interval '1 millisecond' * d1, d2, d3, d4, d5, d6, d7, d8, d9::jsonb, d10::jsonb, d11, \
             d12::numeric, d13, d14, timestamptz 'epoch' + interval '1 millisecond' * d15, d16, d17, d18, d19, d20, d21, \
             d22, d23, d24 \
         FROM unnest($1::bigint[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::real[], $7::text[], $8::text[], \
             $9::text[], $10::text[], $11::uuid[], $12::text[], $13::text[], $14::text[], $15::bigint[], $16::text[], \
             $17::text[], $18::text[], $19::text[], $20::text[], $21::text[], $22::bigint[], $23::int[], $24::bigint[]) \
             AS d(d1, d2, d3, d4, d5, d6, d7, d8, d9, d10, d11, d12, d13, d14, d15, d16, d17, d18, d19, d20, d21, d22, d23, \
                 d24) \
         ON CONFLICT (decision_id, evaluated_at) DO NOTHING",
    )
    .bind(column(rows, |at| at.decided.evaluated_at.as_millis()))
    .bind(column(rows, |at| at.decided.transaction.decision_id()))
    .bind(column(rows, |at| at.decided.transaction.transaction_id.to_string()))
    .bind(column(rows, |at| at.decided.transaction.user_id.to_string()))
    .bind(column(rows, |at| at.decided.decision.outcome.name()))
    .bind(column(rows, |at| at.decided.decision.score))
    .bind(column(rows, |at| at.decided.decision.risk_level.name()))
    .bind(column(rows, mode))
    .bind(degraded)
    .bind(reasons)
    .bind(column(rows, alert_id))
    .bind(column(rows, |at| at.decided.transaction.amount.decimal()))
    .bind(column(rows, |at| at.decided.transaction.amount.currency().code().to_owned()))
    .bind(column(rows, |at| at.decided.transaction.merchant_id.to_string()))
    .bind(column(rows, |at| at.decided.transaction.at.as_millis()))
    .bind(column(rows, |at| at.decided.generation.ruleset_name.to_string()))
    .bind(column(rows, |at| hex(&at.decided.generation.ruleset_hash)))
    .bind(column(rows, |at| model(at).map(|model| model.name.into_string())))
    .bind(column(rows, |at| model(at).map(|model| model.version.into_string())))
    .bind(column(rows, |at| model(at).map(|model| hex(&model.sha256))))
    .bind(column(rows, |at| hex(&at.decided.generation.feature_schema)))
    .bind(column(rows, |at| i64::from(at.decided.latency_us)))
    .bind(column(rows, |at| i32::from(at.partition)))
    .bind(column(rows, |at| at.n.cast_signed()))
    .execute(connection)
    .await
    .map(drop)
}

/// Of one user, transaction and source the latest is kept, of two at one instant the later arrival, as in a profile.
async fn labels(connection: &mut PgConnection, labels: &[Label]) -> Result<(), sqlx::Error> {
    let mut latest: BTreeMap<(&str, &str, LabelSource), &Label> = BTreeMap::new();
    for label in labels {
        let known = latest.entry((&label.user_id, &label.transaction_id, label.source)).or_insert(label);
        if known.at <= label.at {
            *known = label;
        }
    }
    if latest.is_empty() {
        return Ok(());
    }
    let rows: Vec<&Label> = latest.into_values().collect();
    sqlx::query(
        "INSERT INTO labels AS known (user_id, transaction_id, source, is_fraud, \"timestamp\", amount_lost_minor) \
         SELECT l1, l2, l3, l4, timestamptz 'epoch' + interval '1 millisecond' * l5, l6 \
         FROM unnest($1::text[], $2::text[], $3::text[], $4::boolean[], $5::bigint[], $6::bigint[]) \
             AS l(l1, l2, l3, l4, l5, l6) \
         ON CONFLICT (user_id, transaction_id, source) DO UPDATE SET is_fraud = excluded.is_fraud, \
             \"timestamp\" = excluded.\"timestamp\", amount_lost_minor = excluded.amount_lost_minor \
         WHERE known.\"timestamp\" <= excluded.\"timestamp\"",
    )
    .bind(column(&rows, |label| label.user_id.to_string()))
    .bind(column(&rows, |label| label.transaction_id.to_string()))
    .bind(column(&rows, |label| label.source.name()))
    .bind(column(&rows, |label| label.is_fraud))
    .bind(column(&rows, |label| label.at.as_millis()))
    .bind(column(&rows, |label| label.amount_lost.map(|lost| lost.0)))
    .execute(connection)
    .await
    .map(drop)
}
