//! A connection that a client cannot abuse: what the HTTP library leaves open, bounded at the socket.
//!
//! The library parses everything that it has read, up to 128 KiB of pipelined requests at about 200 times their size, and
//! would time only the first head of a connection. So: nothing is read ahead while a request is worked on, unless it is that
//! request's body; nothing is read from a client that does not read its answers; a head on its way, answers that are not
//! read, and silence each have their time, after which the connection ends. What begins a request waits its turn before
//! the worker's [`Turnstile`]. Understands no HTTP but its first letter.

use super::line::Turn;
use super::turnstile::{Inside, Place, Turnstile};
use actix_web::rt::net::TcpStream;
use actix_web::rt::time::{Sleep, sleep};
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that are read at once: room for a usual request, and for no more than some hundred pipelined ones.
const READ_BYTES: usize = 4 * 1024;
/// How often a connection is looked at. Times below are counted in it, so that no request needs a timer of its own.
const TICK: Duration = Duration::from_secs(2);
/// Ticks that a head may take, the first of a connection from its start: 10 s.
const HEAD_TICKS: u32 = 5;
/// Ticks that a head may take that was sent while an answer was still streamed: as long as the longest batch.
const HEAD_BEHIND_STREAM_TICKS: u32 = 300;
/// Ticks that a client may leave an answer unread without taking a byte of it: 30 s.
const UNREAD_TICKS: u32 = 15;
/// Ticks without a byte in either direction while nothing is worked on, the next one ends it: 78 to 80 s, longer than the 60 s
/// that load balancers commonly keep their connections.
const SILENT_TICKS: u32 = 38;
/// The first letter of POST, PUT and PATCH. What only reads is let through at any load: an orchestrator that hears nothing
/// from `/healthz` would stop the service just when it is needed.
const BRINGS_SOMETHING: u8 = b'P';

/// What a client is told whose head does not come.
const HEAD_TIMEOUT: &[u8] = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// What a connection and the request on it know of each other; both live on one thread.
#[derive(Clone, Debug)]
pub(super) struct Gate(Rc<State>);

#[derive(Debug)]
struct State {
    turnstile: Turnstile,
    /// How long what was handed over last waited before the turnstile.
    waited: Cell<Duration>,
    /// It waited too long.
    too_late: Cell<bool>,
    /// A request is worked on.
    running: Cell<bool>,
    /// It reads its body.
    reading_body: Cell<bool>,
    /// The last answer is streamed, and may still be.
    streaming: Cell<bool>,
    /// Bytes have come since the last request started.
    begun: Cell<bool>,
    /// Something has happened since the last tick.
    active: Cell<bool>,
    /// Who wants to read once that is allowed.
    waiting: RefCell<Option<Waker>>,
}

impl Gate {
    fn new(turnstile: Turnstile) -> Self {
        Self(Rc::new(State {
            turnstile,
            waited: Cell::default(),
            too_late: Cell::default(),
            running: Cell::default(),
            reading_body: Cell::default(),
            streaming: Cell::default(),
            begun: Cell::default(),
            active: Cell::default(),
            waiting: RefCell::default(),
        }))
    }

    /// Whether the request waited so long that it is not to be begun.
    pub(super) fn too_late(&self) -> bool {
        self.0.too_late.get()
    }

    /// How long the request waited before it was parsed.
    pub(super) fn waited(&self) -> Duration {
        self.0.waited.get()
    }

    /// Takes the request's event in, unless there is no room by far.
    pub(super) fn enter(&self, now: Instant) -> Option<Inside> {
        self.0.turnstile.enter(now)
    }

    /// Whether what comes begins a request. Behind an answer that is streamed nothing waits: a client that does not read
    /// it could be called, and never come.
    fn between_requests(&self) -> bool {
        let state = &self.0;
        ![&state.running, &state.reading_body, &state.begun, &state.streaming].into_iter().any(Cell::get)
    }

    fn note(&self, turn: Turn) {
        let waited = if let Turn::Enter(waited) = turn { waited } else { Duration::ZERO };
        self.0.waited.set(waited);
        self.0.too_late.set(turn == Turn::TooLate);
    }

    /// A request starts.
    pub(super) fn start(&self) {
        self.0.running.set(true);
        self.0.begun.set(false);
        self.0.streaming.set(false);
        self.0.active.set(true);
    }

    /// Its answer is there, as a whole or as a stream that begins.
    pub(super) fn finish(&self, streaming: bool) {
        self.0.running.set(false);
        self.0.streaming.set(streaming);
        self.0.active.set(true);
        self.wake();
    }

    /// The request reads its body until the guard is dropped.
    pub(super) fn read_body(&self) -> ReadingBody {
        self.0.reading_body.set(true);
        self.wake();
        ReadingBody(self.clone())
    }

    fn open(&self) -> bool {
        !self.0.running.get() || self.0.reading_body.get()
    }

    fn wake(&self) {
        if let Some(waker) = self.0.waiting.borrow_mut().take() {
            waker.wake();
        }
    }
}

/// Lets a body through while it lives.
pub(super) struct ReadingBody(Gate);

impl Drop for ReadingBody {
    fn drop(&mut self) {
        self.0.0.reading_body.set(false);
    }
}

/// A socket with its bounds.
pub(super) struct Connection {
    io: TcpStream,
    gate: Gate,
    /// Where a request that has come waits.
    place: Option<Place>,
    /// Where bytes are read to, as the library's buffer has room for more than is to be read at once.
    piece: Box<[u8; READ_BYTES]>,
    /// What is in it for the library.
    unread: Range<usize>,
    /// Nothing was read yet.
    fresh: bool,
    /// The last read filled the piece: others come first before the next.
    paused: bool,
    /// The client does not take what it is sent.
    blocked: bool,
    tick: Pin<Box<Sleep>>,
    /// The tick has been polled since it was set, and will wake the connection.
    armed: bool,
    head_ticks: u32,
    unread_ticks: u32,
    silent_ticks: u32,
}

impl Connection {
    pub(super) fn new(io: TcpStream, turnstile: Turnstile) -> Self {
        Self {
            io,
            gate: Gate::new(turnstile),
            place: None,
            piece: Box::new([0; READ_BYTES]),
            unread: 0..0,
            fresh: true,
            paused: false,
            blocked: false,
            tick: Box::pin(sleep(TICK)),
            armed: false,
            head_ticks: 0,
            unread_ticks: 0,
            silent_ticks: 0,
        }
    }

    pub(super) fn gate(&self) -> Gate {
        self.gate.clone()
    }

    /// Counts the ticks, and ends the connection when one of its times is over.
    fn look(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.armed && !self.tick.is_elapsed() {
            return Ok(());
        }
        while self.tick.as_mut().poll(cx).is_ready() {
            self.tick.set(sleep(TICK));
            self.count()?;
        }
        self.armed = true;
        Ok(())
    }

    fn count(&mut self) -> io::Result<()> {
        let state = &self.gate.0;
        let active = state.active.replace(false);
        let more = |ticks: u32, holds: bool| if holds { ticks + 1 } else { 0 };
        self.unread_ticks = more(self.unread_ticks, self.blocked && !active);
        let idle = !self.blocked && !state.running.get();
        // A head that waits before the turnstile is there.
        let head_due = (state.begun.get() || self.fresh) && self.place.is_none();
        self.head_ticks = more(self.head_ticks, idle && head_due);
        self.silent_ticks = more(self.silent_ticks, idle && !active);
        let head_may_take = if state.streaming.get() { HEAD_BEHIND_STREAM_TICKS } else { HEAD_TICKS };
        if self.head_ticks > head_may_take {
            // Nothing is being answered, so this is no part of another answer. If it cannot be sent, nobody listens.
            if !state.streaming.get() {
                let _ = self.io.try_write(HEAD_TIMEOUT);
            }
            return Err(ended("the head of a request did not come"));
        }
        if self.unread_ticks > UNREAD_TICKS {
            return Err(ended("the client does not read its answers"));
        }
        if self.silent_ticks > SILENT_TICKS {
            return Err(ended("nothing came for long"));
        }
        Ok(())
    }

    /// Waits until a request that has come may be begun. Its first bytes are read before: to look at one and leave it would
    /// take another call to the system.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let turn = match (&self.place, self.gate.0.turnstile.straight_in()) {
            (Some(place), _) => ready!(place.poll(cx.waker())),
            (None, Some(turn)) => turn,
            (None, None) => {
                ready!(self.poll_fill(cx))?;
                if self.piece[self.unread.clone()].first() == Some(&BRINGS_SOMETHING) {
                    self.place = Some(self.gate.0.turnstile.wait(cx.waker()));
                    return Poll::Pending;
                }
                Turn::Enter(Duration::ZERO)
            }
        };
        self.place = None;
        self.gate.note(turn);
        Poll::Ready(Ok(()))
    }

    /// Waits for bytes for the library; gives none at the end.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.unread.is_empty() {
            let mut piece = ReadBuf::new(&mut self.piece[..]);
            ready!(Pin::new(&mut self.io).poll_read(cx, &mut piece))?;
            self.unread = 0..piece.filled().len();
            self.gate.0.active.set(true);
        }
        Poll::Ready(Ok(()))
    }

    fn note_written(&mut self, written: &Poll<io::Result<usize>>) {
        self.blocked = written.is_pending();
        if !self.blocked {
            self.gate.0.active.set(true);
        }
    }
}

fn ended(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, why)
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.look(cx)?;
        if this.blocked {
            // The socket wakes the connection when it takes more.
            return Poll::Pending;
        }
        if !this.gate.open() {
            // What has come waits. Where nothing has, the socket wakes; else the end of the request does.
            if this.unread.is_empty() {
                ready!(this.io.poll_read_ready(cx))?;
            }
            *this.gate.0.waiting.borrow_mut() = Some(cx.waker().clone());
            return Poll::Pending;
        }
        if std::mem::take(&mut this.paused) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if this.gate.between_requests() {
            ready!(this.poll_turn(cx))?;
        }
        ready!(this.poll_fill(cx))?;
        let fits = this.unread.len().min(buffer.remaining());
        let (handed, rest) = this.piece[this.unread.clone()].split_at(fits);
        if !handed.is_empty() {
            buffer.put_slice(handed);
            this.fresh = false;
            this.paused = this.unread.end == READ_BYTES && rest.is_empty();
            this.unread = this.unread.end - rest.len()..this.unread.end;
            this.gate.0.begun.set(!this.gate.0.running.get());
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write(cx, bytes);
        this.note_written(&written);
        if this.blocked {
            this.look(cx)?;
        }
        written
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Limits;
    use super::*;
    use crate::telemetry::clock::Clock;
    use std::future::poll_fn;
    use std::pin::pin;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// A client, and its connection to us.
    async fn pair() -> (TcpStream, Connection) {
        pair_at(Turnstile::new(&Limits::default(), Clock::System)).await
    }

    async fn pair_at(turnstile: Turnstile) -> (TcpStream, Connection) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let client = TcpStream::connect(listener.local_addr().expect("an address")).await.expect("a connection");
        let (io, _) = listener.accept().await.expect("accepted");
        (client, Connection::new(io, turnstile))
    }

    /// A turnstile without room, as long as its one event is inside.
    fn full() -> (Turnstile, Inside) {
        let turnstile = Turnstile::new(&Limits { max_in_flight: 1, ..Limits::default() }, Clock::System);
        let inside = turnstile.enter(Clock::System.instant()).expect("room for one");
        (turnstile, inside)
    }

    /// How long it is until a connection ends, in seconds, and why.
    async fn end_of(connection: &mut Connection) -> (u64, String) {
        // A tick after now, then as after its end.
        let began = connection.tick.deadline();
        let ended = connection.read(&mut [0; 16]).await.expect_err("nothing is sent");
        assert_eq!(ended.kind(), io::ErrorKind::TimedOut);
        ((connection.tick.deadline() - began).as_secs(), ended.to_string())
    }

    #[test]
    fn a_client_that_says_nothing_is_let_go() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        runtime.expect("a runtime").block_on(async {
            let (_client, mut fresh) = pair().await;
            assert_eq!(end_of(&mut fresh).await, (12, "the head of a request did not come".to_owned()));

            let (mut client, mut kept) = pair().await;
            client.write_all(b"GET").await.expect("sent");
            assert_eq!(kept.read(&mut [0; 16]).await.expect("read"), 3);
            kept.gate().start();
            kept.gate().finish(false);
            // Longer than load balancers keep theirs, so that it is never us who close under a request.
            let (seconds, why) = end_of(&mut kept).await;
            assert!((78..=80).contains(&seconds) && why == "nothing came for long", "{why} after {seconds} s");
        });
    }

    #[actix_web::test]
    async fn what_was_read_before_its_turn_is_handed_over_whole() {
        let (turnstile, inside) = full();
        let (mut client, mut connection) = pair_at(turnstile).await;
        let request: Vec<u8> = b"POST ".iter().copied().chain((0..3 * READ_BYTES).map(|at| at as u8)).collect();
        client.write_all(&request).await.expect("sent");
        let mut read = vec![0; 1_000];
        let waits = poll_fn(|cx| Poll::Ready(pin!(connection.read(&mut read)).poll(cx).is_pending()));
        assert!(waits.await && connection.place.is_some(), "there is no room");
        assert_eq!(connection.unread, 0..READ_BYTES);
        drop(inside);
        let first = connection.read(&mut read).await.expect("called");
        connection.gate().start();
        assert_eq!(read[..first], request[..first]);
        let reading = connection.gate().read_body();
        let mut rest = vec![0; request.len() - first];
        connection.read_exact(&mut rest).await.expect("the rest");
        assert_eq!(rest, request[first..]);
        drop((reading, client));
        connection.gate().finish(false);
        assert_eq!(connection.read(&mut read).await.expect("the end"), 0);
    }

    #[actix_web::test]
    async fn what_only_reads_does_not_wait() {
        let (turnstile, _inside) = full();
        let (mut client, mut connection) = pair_at(turnstile).await;
        client.write_all(b"GET /healthz").await.expect("sent");
        let mut read = [0; 64];
        let length = connection.read(&mut read).await.expect("read");
        assert_eq!(&read[..length], b"GET /healthz");
    }

    #[actix_web::test]
    async fn what_did_not_fit_waits_for_the_end_of_the_request() {
        let (mut client, mut connection) = pair().await;
        client.write_all(b"GET /a GET /b").await.expect("sent");
        let mut read = [0; 7];
        connection.read_exact(&mut read).await.expect("read");
        let gate = connection.gate();
        gate.start();
        let mut next = [0; 6];
        let waits = poll_fn(|cx| Poll::Ready(pin!(connection.read(&mut next)).poll(cx).is_pending()));
        assert!(waits.await, "a request is worked on");
        let (read, ()) = tokio::join!(connection.read_exact(&mut next), async { gate.finish(false) });
        assert_eq!((read.expect("read"), &next), (6, b"GET /b"));
    }
}
