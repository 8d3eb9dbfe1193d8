//! `POST /v1/events`: a batch of NDJSON in, one line of NDJSON out for each line, in order.
//!
//! The whole batch is read before the first line is answered: its size and pace then have their status codes, and a
//! client that sends everything before it reads anything cannot block itself. The answers are streamed. A client that
//! does not read them holds its batch for a bounded time only; then the answer breaks off, which chunked encoding shows.
//! A line beyond the caller's rate is refused, not waited with: batches that wait would take the place of others'.

use super::access::Caller;
use super::body::{self, Kind};
use super::{HttpState, MAX_BATCHES, decide, ingest, respond};
use crate::config::Scope;
use crate::wire::line::{self, RequestLine};
use crate::wire::problem::Problem;
use crate::wire::{decision, login};
use actix_web::web::{self, Bytes};
use actix_web::{HttpRequest, HttpResponse};
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::{self, FuturesOrdered, Stream, StreamExt};
use thiserror::Error;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::{self, error::SendTimeoutError};

/// Bytes of answers that go out together, where so many are there.
const PIECE_BYTES: usize = 16 * 1024;

/// Pieces that wait for the client, beyond what the connection has taken.
const PIECES_WAITING: usize = 4;

/// Breaks an answer off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the client left its answers unread, or the batch took too long")]
struct GivenUp;

pub(super) async fn post(request: HttpRequest, payload: web::Payload, state: web::Data<HttpState>) -> HttpResponse {
    match open(&request, payload, &state).await {
        Ok(batch) => HttpResponse::Ok().content_type("application/x-ndjson").streaming(batch.start()),
        Err(problem) => respond::refuse(&request, &state, &problem),
    }
}

async fn open(request: &HttpRequest, payload: web::Payload, state: &web::Data<HttpState>) -> Result<Batch, Problem> {
    let caller = respond::admit(request, state, &[Scope::Ingest])?;
    respond::in_time(request)?;
    let permit = state.batches.clone().try_acquire_owned().map_err(|_| {
        let detail = format!("expected at most {MAX_BATCHES} batches at a time, found as many; retry later");
        Problem::new(429, "OVERLOADED", detail).retry_after(1)
    })?;
    let body = body::read(request, payload, state, Kind::Batch).await?;
    Ok(Batch {
        state: state.clone(),
        caller,
        body,
        line: 0,
        paid: true,
        window: FuturesOrdered::new(),
        _permit: permit,
    })
}

/// A batch on its way: what is left of the body, and the lines in flight.
struct Batch {
    state: web::Data<HttpState>,
    caller: Caller,
    body: Bytes,
    /// Number of the last line taken, counted from 1.
    line: u64,
    /// Whether the next line is paid for, as the first is with the request.
    paid: bool,
    /// Answers in the order of their lines. New futures are first polled in the order in which they were pushed, which
    /// is what keeps a user's events in order.
    window: FuturesOrdered<LocalBoxFuture<'static, Vec<u8>>>,
    _permit: OwnedSemaphorePermit,
}

impl Batch {
    /// Starts on the lines and gives their answers. The work is a task of its own: nobody polls the stream of a client
    /// that has stopped reading, so that nothing inside it could ever give the batch up.
    fn start(self) -> impl Stream<Item = Result<Bytes, GivenUp>> {
        let (pieces, waiting) = mpsc::channel(PIECES_WAITING);
        let work = actix_web::rt::spawn(self.run(pieces));
        stream::unfold(Some((waiting, work)), |state| async move {
            let (mut waiting, work) = state?;
            if let Some(piece) = waiting.recv().await {
                return Some((Ok(piece), Some((waiting, work))));
            }
            match work.await {
                Ok(Ok(())) => None,
                _ => Some((Err(GivenUp), None)),
            }
        })
    }

    /// Works through the batch and hands the answers over; the batch is gone from memory when this ends.
    async fn run(mut self, pieces: mpsc::Sender<Bytes>) -> Result<(), GivenUp> {
        let state = self.state.clone();
        let answers = async {
            while let Some(piece) = self.piece().await {
                match pieces.send_timeout(piece, state.limits.batch_stall).await {
                    Ok(()) => {}
                    // The client has gone away, and with it whoever the rest is for.
                    Err(SendTimeoutError::Closed(_)) => return Ok(()),
                    Err(SendTimeoutError::Timeout(_)) => return Err(GivenUp),
                }
            }
            Ok(())
        };
        let done = tokio::time::timeout(state.limits.batch_timeout, answers).await.unwrap_or(Err(GivenUp));
        if done.is_err() {
            (state.on_rejected)("BATCH_GIVEN_UP");
        }
        done
    }

    /// The next piece of the answer, `None` at its end.
    async fn piece(&mut self) -> Option<Bytes> {
        self.fill();
        let mut out = self.window.next().await?;
        while out.len() < PIECE_BYTES {
            self.fill();
            match self.window.next().now_or_never() {
                Some(Some(answer)) => out.extend_from_slice(&answer),
                Some(None) | None => break,
            }
        }
        Some(Bytes::from(out))
    }

    /// Takes lines until the window is full.
    fn fill(&mut self) {
        while self.window.len() < self.state.limits.batch_window {
            let Some(bytes) = self.next_line() else { return };
            let (state, number) = (self.state.clone(), self.line);
            let charged = if self.paid { Ok(()) } else { state.keys.charge(self.caller, || state.clock.instant()) };
            self.paid = false;
            self.window.push_back(Box::pin(answer(state, bytes, number, charged)));
        }
    }

    /// The next line that is not blank, without its end.
    fn next_line(&mut self) -> Option<Bytes> {
        while !self.body.is_empty() {
            let end = self.body.iter().position(|byte| *byte == b'\n').map_or(self.body.len(), |newline| newline + 1);
            let line = self.body.split_to(end);
            self.line += 1;
            if !line.trim_ascii().is_empty() {
                return Some(line);
            }
        }
        None
    }
}

/// The answer to one line, with its end.
async fn answer(state: web::Data<HttpState>, bytes: Bytes, number: u64, charged: Result<(), Problem>) -> Vec<u8> {
    let mut out = Vec::with_capacity(1_024);
    let taken = match charged {
        Ok(()) => take(&state, &bytes, &mut out).await,
        Err(problem) => Err(problem),
    };
    if let Err(problem) = taken {
        (state.on_rejected)(problem.code);
        problem.to_json(&format!("/v1/events#line-{number}"), &mut out);
    }
    out.push(b'\n');
    out
}

async fn take(state: &HttpState, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Problem> {
    let bytes = bytes.trim_ascii_end();
    if bytes.len() > state.limits.event_bytes {
        return Err(body::too_large("a line", state.limits.event_bytes));
    }
    let (parsed, received_at) = state.parse(|context| line::parse_request(bytes, context));
    match parsed? {
        RequestLine::Transaction(parsed) => {
            let started = state.clock.instant();
            decision::to_json(&decide::submit(state, parsed, received_at, started).await?, out);
        }
        RequestLine::Login(login) => {
            let login_id = login.login_id.clone();
            let accepted = ingest::submit_login(state, login, received_at).await?;
            login::accepted_to_json(&login_id, accepted.duplicate, out);
        }
    }
    Ok(())
}
