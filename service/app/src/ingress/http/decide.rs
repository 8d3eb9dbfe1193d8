//! `POST /v1/decide`: one transaction in, one decision out.

use super::body::{self, Kind};
use super::{HttpState, respond};
use crate::actors::messages::{Answer, Submission};
use crate::config::Scope;
use crate::wire::problem::Problem;
use crate::wire::transaction::{Fallback, ParsedTransaction};
use crate::wire::{decision, transaction};
use actix_web::{HttpRequest, HttpResponse, web};
use std::time::{Duration, Instant};
use verdict_core::event::Source;
use verdict_core::time::Timestamp;

/// Bytes of a usual answer.
const ANSWER_BYTES: usize = 1_024;

pub(super) async fn post(request: HttpRequest, payload: web::Payload, state: web::Data<HttpState>) -> HttpResponse {
    let result = answer(&request, payload, &state).await;
    respond::answer(&request, &state, result)
}

async fn answer(request: &HttpRequest, payload: web::Payload, state: &HttpState) -> Result<Vec<u8>, Problem> {
    respond::admit(request, state, &[Scope::Decide])?;
    let body = body::read(request, payload, state, Kind::Event).await?;
    respond::in_time(request)?;
    let (parsed, received_at) = state.parse(|context| transaction::parse(&body, context));
    let parsed = parsed?;
    let (inside, started) = respond::enter(request, state)?;
    let answer = submit(state, parsed, received_at, started).await?;
    drop(inside);
    let mut json = Vec::with_capacity(ANSWER_BYTES);
    decision::to_json(&answer, &mut json);
    Ok(json)
}

/// Has a transaction decided within its deadline, which counts from `started`.
pub(super) async fn submit(
    state: &HttpState,
    parsed: ParsedTransaction,
    received_at: Timestamp,
    started: Instant,
) -> Result<Answer, Problem> {
    let allowed = parsed.deadline_ms.map_or(state.limits.decide_deadline, Duration::from_millis);
    let submission = Submission {
        event: parsed.transaction,
        source: Source::Http,
        received_at,
        started,
        deadline: Some(started + allowed),
        undurable: parsed.fallback == Fallback::Policy,
        original: None,
    };
    let answer = state.intake.decide(submission).await?;
    match parsed.fallback {
        Fallback::Reject => expect_full(answer),
        Fallback::Policy => Ok(answer),
    }
}

/// The answer, if it is what `fallback: "reject"` asks for.
fn expect_full(answer: Answer) -> Result<Answer, Problem> {
    let problem = |detail: String| Problem::new(503, "NOT_NORMAL", detail);
    let decision = &answer.decided.decision;
    if !decision.is_normal() {
        let lacks: Vec<&str> = decision.degraded.iter().map(|why| why.code()).collect();
        let lacks = lacks.join(", ");
        // A retry finds the same record, so that it says nothing of coming again.
        return Err(problem(format!(
            "expected a normal decision, as fallback \"reject\" asks, found {lacks}; the payment is decided so for good \
             and recorded; act on your own policy"
        )));
    }
    if !answer.durable {
        let detail = "expected a durable decision, as fallback \"reject\" asks, found its record on its way; act on your own policy, or retry";
        return Err(problem(detail.to_owned()).retry_after(1));
    }
    Ok(answer)
}
