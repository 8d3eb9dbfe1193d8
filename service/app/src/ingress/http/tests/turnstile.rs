//! More load than the actors answer: who is read, who is refused, and who passes.

use super::served::{exchange, request, start};
use super::{Bench, Mood, TRANSACTION};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

/// Actors with room for two events, which they answer as the semaphore lets them.
fn busy() -> (Bench, Arc<Semaphore>) {
    let answers = Arc::new(Semaphore::new(0));
    let mut bench = Bench::new(Mood::Held(Arc::clone(&answers)));
    bench.state.limits.max_in_flight = 2;
    (bench, answers)
}

fn payment() -> Vec<u8> {
    request("POST", "/v1/decide", &format!("Content-Length: {}\r\n", TRANSACTION.len()), TRANSACTION)
}

/// Sends two payments, and waits until the actors have them.
async fn fill(address: SocketAddr, bench: &super::Actors) -> [TcpStream; 2] {
    let mut streams = Vec::new();
    for expected in 1..=2 {
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        stream.write_all(&payment()).await.expect("sent");
        while bench.seen().len() < expected {
            tokio::task::yield_now().await;
        }
        streams.push(stream);
    }
    streams.try_into().expect("two")
}

#[actix_web::test]
async fn who_waits_too_long_is_refused_and_never_begun() {
    let (bench, answers) = busy();
    let (actors, rejected) = (bench.actors.clone(), Arc::clone(&bench.rejected));
    let (address, handle) = start(bench);
    let first = fill(address, &actors).await;
    for uri in ["/v1/decide", "/v1/logins", "/v1/labels"] {
        // Twice on a connection, which is kept. Nothing is parsed for it.
        let closing = request("POST", uri, "Content-Length: 1\r\n", "{");
        let keeping = String::from_utf8_lossy(&closing).replace("Connection: close\r\n", "");
        let reply = exchange(address, &[keeping.as_bytes(), &closing].concat()).await.to_lowercase();
        for part in ["http/1.1 429 ", "\r\nretry-after: 1\r\n", "\"code\":\"overloaded\""] {
            assert_eq!(reply.matches(part).count(), 2, "{uri}: {reply}");
        }
    }
    // A batch is refused without its lines.
    let reply = exchange(address, &request("POST", "/v1/events", "Content-Length: 100\r\n", "")).await;
    assert!(reply.starts_with("HTTP/1.1 429 ") && reply.contains("OVERLOADED"), "{reply}");
    assert_eq!((actors.seen().len(), rejected.lock().expect("no panic").len()), (2, 7));
    answers.add_permits(100);
    for stream in first {
        let reply = super::served::read(stream).await;
        assert!(reply.starts_with("HTTP/1.1 200 "), "{reply}");
    }
    let reply = exchange(address, &payment()).await;
    assert!(reply.starts_with("HTTP/1.1 200 "), "{reply}");
    assert_eq!(actors.seen().len(), 3);
    handle.stop(false).await;
}

#[actix_web::test]
async fn what_only_reads_passes() {
    let (bench, _answers) = busy();
    let actors = bench.actors.clone();
    let (address, handle) = start(bench);
    let _first = fill(address, &actors).await;
    for uri in ["/healthz", "/readyz", "/metrics", "/v1/alerts"] {
        let reply = exchange(address, &request("GET", uri, "", "")).await;
        assert!(reply.starts_with("HTTP/1.1 200 "), "{uri}: {reply}");
    }
    handle.stop(false).await;
}

#[actix_web::test]
async fn requests_behind_another_on_their_connection_are_answered() {
    let (bench, answers) = busy();
    let (actors, rejected) = (bench.actors.clone(), Arc::clone(&bench.rejected));
    let (address, handle) = start(bench);
    // They were read together with the first of their connection, when there was room.
    let keep = String::from_utf8(payment()).expect("UTF-8").replace("Connection: close\r\n", "");
    let both = [keep.as_bytes(), &payment()].concat();
    let mut streams = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        stream.write_all(&both).await.expect("sent");
        streams.push(stream);
    }
    while actors.seen().len() < 2 {
        tokio::task::yield_now().await;
    }
    answers.add_permits(4);
    for stream in streams {
        let reply = super::served::read(stream).await;
        assert_eq!(reply.matches("HTTP/1.1 200 ").count(), 2, "{reply}");
    }
    assert_eq!((actors.seen().len(), rejected.lock().expect("no panic").len()), (4, 0));
    handle.stop(false).await;
}
