//! `GET /v1/alerts/stream`: alerts as server-sent events, from where the reader stopped.
//!
//! A stream first reads what its client missed from the store, then takes arrivals from a channel that all share. It
//! holds a few events for its client and no more. A client that leaves them unread, or falls behind what the channel
//! keeps, is cut off and counted; it comes again with `Last-Event-ID` and reads the rest from the store. Nothing here
//! touches what decides (I4), and a stop ends every stream at once.

use super::alerts::{AlertError, parse_stream};
use super::{HttpState, respond};
use crate::config::Scope;
use crate::wire::alert::Arrival;
use crate::wire::alert_query::AlertFilter;
use crate::wire::fault::shown;
use crate::wire::problem::Problem;
use actix_web::http::{Method, header};
use actix_web::web::{self, Bytes};
use actix_web::{HttpRequest, HttpResponse};
use futures_util::stream::{self, Stream};
use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc::error::SendTimeoutError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast, mpsc, watch};
use uuid::Uuid;

/// Streams at a time: far more than a team of analysts opens, and at most a few megabytes (I7).
pub const MAX_STREAMS: usize = 128;
/// Events that wait for a client, beyond what its connection has taken.
const EVENTS_WAITING: usize = 16;
/// Alerts in one read of what a client missed.
const PAGE: u32 = 256;
/// First words of a stream: they bring the headers out at once, and ask for a second's pause before a reconnect.
const HELLO: &[u8] = b"retry: 1000\n: alerts follow\n\n";
const HEARTBEAT: &[u8] = b": still here\n\n";

/// The streams of a service. Cheap to clone.
#[derive(Clone)]
pub struct Streams {
    permits: Arc<Semaphore>,
    stopping: Arc<watch::Sender<bool>>,
    /// Counts connections that carry a stream: each holds a receiver until its last byte was taken or it broke.
    connections: Arc<watch::Sender<()>>,
    on_cut_off: Arc<dyn Fn() + Send + Sync>,
}

impl fmt::Debug for Streams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streams").field("open", &self.open()).finish_non_exhaustive()
    }
}

impl Streams {
    /// At most so many streams; `on_cut_off` is called for each client that is.
    #[must_use]
    pub fn new(most: usize, on_cut_off: impl Fn() + Send + Sync + 'static) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(most)),
            stopping: Arc::new(watch::Sender::new(false)),
            connections: Arc::new(watch::Sender::new(())),
            on_cut_off: Arc::new(on_cut_off),
        }
    }

    /// Connections that carry a stream, those included that were cut off and have not noticed.
    #[must_use]
    pub fn open(&self) -> usize {
        self.connections.receiver_count()
    }

    /// Ends every stream and takes no more.
    pub fn stop(&self) {
        self.stopping.send_replace(true);
    }

    fn permit(&self) -> Result<OwnedSemaphorePermit, Problem> {
        if *self.stopping.borrow() {
            let detail = "the service stops; connect again with Last-Event-ID when it is back";
            return Err(Problem::new(503, "STOPPING", detail).retry_after(5));
        }
        self.permits.clone().try_acquire_owned().map_err(|_| {
            let detail = "expected fewer streams at a time, found as many as the service bears; retry later";
            Problem::new(429, "OVERLOADED", detail).retry_after(5)
        })
    }
}

pub(super) async fn get(request: HttpRequest, state: web::Data<HttpState>) -> HttpResponse {
    let pump = match open(&request, &state).await {
        Ok(pump) => pump,
        Err(problem) => return respond::refuse(&request, &state, &problem),
    };
    let mut response = HttpResponse::Ok();
    response
        .content_type("text/event-stream")
        .insert_header((header::CACHE_CONTROL, "no-store"))
        // For nginx, which would otherwise collect events before it passes them on.
        .insert_header(("x-accel-buffering", "no"))
        // A stream ends with its connection, so that none is left to wait for at a stop.
        .force_close();
    if request.method() == Method::HEAD { response.finish() } else { response.streaming(pump.start()) }
}

async fn open(request: &HttpRequest, state: &web::Data<HttpState>) -> Result<Pump, Problem> {
    respond::admit(request, state, &[Scope::Review])?;
    let filter = parse_stream(request.query_string())?;
    let last = last_event_id(request)?;
    let permit = state.streams.permit()?;
    // Before the place is read, so that nothing falls between the two.
    let live = state.alerts.live();
    let place = respond::within(state.limits.read_deadline, state.alerts.place(last)).await?;
    let place = place.map_err(|error| match error {
        AlertError::NotFound => {
            let detail = "expected in Last-Event-ID the id of an alert that is here, found another; connect without it, \
                          and find what was missed with GET /v1/alerts";
            Problem::new(404, "ALERT_NOT_FOUND", detail)
        }
        AlertError::Unavailable | AlertError::ReviewAhead => error.into(),
    })?;
    Ok(Pump { state: state.clone(), filter, live, place, missed: last.is_some(), _permit: permit })
}

/// The alert that the client saw last; an empty id is none, as the standard has it.
fn last_event_id(request: &HttpRequest) -> Result<Option<Uuid>, Problem> {
    let Some(value) = request.headers().get("last-event-id") else { return Ok(None) };
    let text = String::from_utf8_lossy(value.as_bytes());
    match text.trim() {
        "" => Ok(None),
        id => Uuid::try_parse(id).map(Some).map_err(|_| {
            let detail = format!("expected in Last-Event-ID the id of an alert, found {}", shown(id));
            Problem::new(422, "INVALID_HEADER", detail)
        }),
    }
}

/// Why a stream ends before its client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The client is gone.
    Left,
    /// The client did not keep up.
    CutOff,
    /// The store cannot be read.
    Unavailable,
    /// The service stops.
    Stopping,
}

impl End {
    /// A comment for whoever looks at the stream.
    const fn words(self) -> &'static [u8] {
        match self {
            Self::Left => b"",
            Self::CutOff => b": cut off, too far behind; connect again with Last-Event-ID\n\n",
            Self::Unavailable => b": alerts cannot be read now; connect again with Last-Event-ID\n\n",
            Self::Stopping => b": the service stops; connect again with Last-Event-ID\n\n",
        }
    }
}

/// A stream on its way to one client.
struct Pump {
    state: web::Data<HttpState>,
    filter: AlertFilter,
    live: broadcast::Receiver<Arc<Arrival>>,
    /// Everything up to here was sent, or did not pass the filter.
    place: i64,
    /// Whether the store has alerts after `place` that were never live for this stream.
    missed: bool,
    _permit: OwnedSemaphorePermit,
}

impl Pump {
    /// Starts, and gives what it sends. The work is a task of its own: nobody polls the stream of a client that has
    /// stopped reading, so that nothing inside it could ever cut that client off.
    fn start(self) -> impl Stream<Item = Result<Bytes, Infallible>> {
        let (events, waiting) = mpsc::channel(EVENTS_WAITING);
        let connection = self.state.streams.connections.subscribe();
        let work = actix_web::rt::spawn(self.run(events));
        stream::unfold((waiting, Some(work), connection), |(mut waiting, mut work, connection)| async move {
            let event = match waiting.recv().await {
                Some(event) => event,
                // The last words once, then the end.
                None => Bytes::from_static(work.take()?.await.ok()?.words()),
            };
            Some((Ok(event), (waiting, work, connection)))
        })
    }

    async fn run(mut self, events: mpsc::Sender<Bytes>) -> End {
        let mut stopping = self.state.streams.stopping.subscribe();
        let end = tokio::select! {
            _ = stopping.wait_for(|stopping| *stopping) => End::Stopping,
            () = events.closed() => End::Left,
            end = self.pump(&events) => end,
        };
        if end == End::CutOff {
            (self.state.streams.on_cut_off)();
        }
        end
    }

    async fn pump(&mut self, events: &mpsc::Sender<Bytes>) -> End {
        let end = async {
            self.send(events, HELLO).await?;
            if self.missed {
                self.catch_up(events).await?;
            }
            self.follow(events).await
        };
        match end.await {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }

    /// Sends what the client missed, however much it is, at the client's pace.
    async fn catch_up(&mut self, events: &mpsc::Sender<Bytes>) -> Result<(), End> {
        loop {
            // Arrivals from here on are live, and those before are in the read that follows.
            self.live = self.live.resubscribe();
            let reading = self.state.alerts.arrived(self.place, PAGE);
            let arrivals = tokio::time::timeout(self.state.limits.read_deadline, reading).await;
            let arrivals = arrivals.unwrap_or(Err(AlertError::Unavailable)).map_err(|_| End::Unavailable)?;
            for arrival in &arrivals {
                self.pass_on(events, arrival).await?;
            }
            if arrivals.len() < PAGE as usize {
                return Ok(());
            }
        }
    }

    /// Sends what arrives.
    async fn follow(&mut self, events: &mpsc::Sender<Bytes>) -> Result<Infallible, End> {
        let mut silence = tokio::time::interval(self.state.limits.stream_heartbeat);
        silence.reset();
        loop {
            let arrival = tokio::select! {
                arrival = self.live.recv() => arrival,
                _ = silence.tick() => {
                    self.send(events, HEARTBEAT).await?;
                    continue;
                }
            };
            match arrival {
                Ok(arrival) => {
                    if self.pass_on(events, &arrival).await? {
                        silence.reset();
                    }
                }
                Err(RecvError::Lagged(_)) => return Err(End::CutOff),
                Err(RecvError::Closed) => return Err(End::Unavailable),
            }
        }
    }

    /// Sends an arrival if the client asked for it and has not had it; says whether it did.
    async fn pass_on(&mut self, events: &mpsc::Sender<Bytes>, arrival: &Arrival) -> Result<bool, End> {
        if arrival.seq <= self.place {
            return Ok(false);
        }
        let (filter, alert) = (&self.filter, &arrival.alert);
        let passes = filter.user_id.as_ref().is_none_or(|user_id| *user_id == alert.user_id)
            && filter.decision.is_none_or(|decision| decision.name() == alert.decision);
        if passes {
            self.send(events, &arrival.event).await?;
        }
        self.place = arrival.seq;
        Ok(passes)
    }

    async fn send(&self, events: &mpsc::Sender<Bytes>, event: &[u8]) -> Result<(), End> {
        let stall: Duration = self.state.limits.stream_stall;
        match events.send_timeout(Bytes::copy_from_slice(event), stall).await {
            Ok(()) => Ok(()),
            Err(SendTimeoutError::Closed(_)) => Err(End::Left),
            Err(SendTimeoutError::Timeout(_)) => Err(End::CutOff),
        }
    }
}
