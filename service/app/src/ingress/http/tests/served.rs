//! The same over a socket: what only a real connection shows.

use super::{Bench, Mood, TRANSACTION};
use crate::ingress::http::serve;
use actix_web::web::Data;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Starts a server on a free port of the loopback.
pub(super) fn start(bench: Bench) -> (SocketAddr, actix_web::dev::ServerHandle) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    let server = serve(listener, 1, 100, Data::new(bench.state), || {}).expect("a server");
    let handle = server.handle();
    actix_web::rt::spawn(server);
    (address, handle)
}

/// Sends bytes and reads until the server closes.
pub(super) async fn exchange(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    stream.write_all(request).await.expect("sent");
    read(stream).await
}

/// Reads until the server closes.
pub(super) async fn read(mut stream: TcpStream) -> String {
    let mut reply = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut reply)).await;
    read.expect("an answer in time").expect("an answer");
    String::from_utf8(reply).expect("UTF-8")
}

pub(super) fn request(method: &str, uri: &str, headers: &str, body: &str) -> Vec<u8> {
    format!("{method} {uri} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n{body}").into_bytes()
}

#[actix_web::test]
async fn a_decision_over_a_socket() {
    let (address, handle) = start(Bench::new(Mood::Fine));
    let length = format!("Content-Length: {}\r\n", TRANSACTION.len());
    let reply = exchange(address, &request("POST", "/v1/decide", &length, TRANSACTION)).await;
    assert!(reply.starts_with("HTTP/1.1 200 OK\r\n"), "{reply}");
    assert!(reply.contains("\"transaction_id\":\"t-81\""), "{reply}");
    let waiting = format!("{length}Expect: 100-continue\r\n");
    let reply = exchange(address, &request("POST", "/decide", &waiting, TRANSACTION)).await;
    assert!(reply.contains("HTTP/1.1 100 Continue") && reply.contains("HTTP/1.1 200 OK"), "{reply}");
    let reply = exchange(address, &request("HEAD", "/healthz", "", "")).await;
    assert!(reply.starts_with("HTTP/1.1 200 OK") && reply.ends_with("\r\n\r\n"), "{reply}");
    handle.stop(false).await;
}

#[actix_web::test]
async fn a_stream_of_answers() {
    let (address, handle) = start(Bench::new(Mood::Fine));
    let body = [TRANSACTION, "x", TRANSACTION].join("\n");
    let chunked = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    let reply = exchange(address, &request("POST", "/v1/events", "Transfer-Encoding: chunked\r\n", &chunked)).await;
    assert!(reply.starts_with("HTTP/1.1 200 OK\r\n"), "{reply}");
    assert_eq!(reply.matches("\"durable\":true").count(), 2, "{reply}");
    assert_eq!(reply.matches("/v1/events#line-2").count(), 1, "{reply}");
    handle.stop(false).await;
}

#[actix_web::test]
async fn refusals_reach_a_client_that_is_still_sending() {
    let mut bench = Bench::new(Mood::Fine);
    bench.state.limits.body_timeout = Duration::from_millis(30);
    let (address, handle) = start(bench);
    let announced = request("POST", "/v1/decide", "Content-Length: 70000\r\n", "");
    let reply = exchange(address, &announced).await;
    assert!(reply.starts_with("HTTP/1.1 413 ") && reply.contains("TOO_LARGE"), "{reply}");
    let stalled = request("POST", "/v1/decide", "Content-Length: 100\r\n", "{\"user_id\":");
    let reply = exchange(address, &stalled).await;
    assert!(reply.starts_with("HTTP/1.1 408 ") && reply.contains("BODY_TIMEOUT"), "{reply}");
    handle.stop(false).await;
}

#[actix_web::test]
async fn what_is_no_http_gets_a_400() {
    let (address, handle) = start(Bench::new(Mood::Fine));
    for nonsense in [&b"\x16\x03\x01 hello\r\n\r\n"[..], b"GET / HTTP/1.1\r\nbad header\r\n\r\n"] {
        let reply = exchange(address, nonsense).await;
        assert!(reply.starts_with("HTTP/1.1 400 "), "{reply}");
    }
    handle.stop(false).await;
}
