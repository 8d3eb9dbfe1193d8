//! One keep-alive HTTP/1.1 connection: a request is one write, an answer one read where the network allows.
//!
//! It speaks only what the servers measured here speak: answers with a content-length. Anything else is an error.

use std::net::SocketAddr;
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const INBOX_BYTES: usize = 16 * 1024;
const LARGEST_ANSWER_BYTES: usize = 1024 * 1024;
const MOST_HEADERS: usize = 32;

/// What goes wrong on a connection.
#[derive(Debug, Error)]
pub enum ConnectionError {
    /// The network failed.
    #[error("expected an open connection, found {0}")]
    Io(#[from] std::io::Error),
    /// The peer closed in the middle of an answer or before it.
    #[error("expected an answer, found the connection closed after {0} bytes of one")]
    Closed(usize),
    /// The answer is no HTTP/1.1.
    #[error("expected an HTTP/1.1 answer, found {0}")]
    NotHttp(#[from] httparse::Error),
    /// The answer does not say how long it is.
    #[error("expected an answer with a content-length, found none")]
    NoLength,
    /// The answer is longer than anything the service sends.
    #[error("expected an answer of at most {LARGEST_ANSWER_BYTES} bytes, found {0}")]
    TooLong(usize),
}

/// A connection and its receive buffer.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    inbox: Vec<u8>,
}

/// An answer, in the connection's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer<'a> {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: &'a [u8],
    /// The server will close the connection.
    pub closing: bool,
    /// It says when to come again.
    pub retry_after: bool,
}

/// What the head of an answer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    head_bytes: usize,
    body_bytes: usize,
    closing: bool,
    retry_after: bool,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// When the network refuses.
    pub async fn open(target: SocketAddr) -> Result<Self, ConnectionError> {
        let stream = TcpStream::connect(target).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, inbox: vec![0; INBOX_BYTES] })
    }

    /// Sends a request, whole, and waits for its answer.
    ///
    /// # Errors
    /// [`ConnectionError`]; the connection is of no more use then.
    pub async fn exchange(&mut self, request: &[u8]) -> Result<Answer<'_>, ConnectionError> {
        self.stream.write_all(request).await?;
        let mut filled = 0;
        let head = loop {
            filled += self.read(filled).await?;
            if let Some(head) = parse_head(&self.inbox[..filled])? {
                break head;
            }
            if filled == self.inbox.len() {
                return Err(ConnectionError::TooLong(filled));
            }
        };
        let total = head.head_bytes + head.body_bytes;
        if total > self.inbox.len() {
            if total > LARGEST_ANSWER_BYTES {
                return Err(ConnectionError::TooLong(total));
            }
            self.inbox.resize(total, 0);
        }
        while filled < total {
            filled += self.read(filled).await?;
        }
        Ok(Answer {
            status: head.status,
            body: &self.inbox[head.head_bytes..total],
            closing: head.closing,
            retry_after: head.retry_after,
        })
    }

    async fn read(&mut self, filled: usize) -> Result<usize, ConnectionError> {
        match self.stream.read(&mut self.inbox[filled..]).await? {
            0 => Err(ConnectionError::Closed(filled)),
            count => Ok(count),
        }
    }
}

/// The head of an answer, `None` while it is not there in full.
fn parse_head(bytes: &[u8]) -> Result<Option<Head>, ConnectionError> {
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head_bytes) = response.parse(bytes)? else { return Ok(None) };
    let status = response.code.unwrap_or_default();
    let mut body_bytes = None;
    let mut closing = response.version == Some(0);
    for header in response.headers.iter() {
        if header.name.eq_ignore_ascii_case("content-length") {
            body_bytes = std::str::from_utf8(header.value).ok().and_then(|text| text.trim().parse().ok());
        } else if header.name.eq_ignore_ascii_case("connection") {
            closing = header.value.eq_ignore_ascii_case(b"close");
        }
    }
    // 204 and 304 have no body and need not say so (RFC 9110, 8.6).
    let body_bytes = match (body_bytes, status) {
        (_, 204 | 304) => 0,
        (Some(bytes), _) => bytes,
        (None, _) => return Err(ConnectionError::NoLength),
    };
    let retry_after = response.headers.iter().any(|header| header.name.eq_ignore_ascii_case("retry-after"));
    Ok(Some(Head { status, head_bytes, body_bytes, closing, retry_after }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[test]
    fn heads() {
        let check = |text: &str, expected: Option<(u16, usize, bool)>| {
            let found = parse_head(text.as_bytes()).expect("HTTP");
            let found = found.map(|head| (head.status, head.body_bytes, head.closing));
            assert_eq!(found, expected, "{text:?}");
        };
        check("HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nhello", Some((200, 12, false)));
        check("HTTP/1.1 200 OK\r\ncontent-le", None);
        check("HTTP/1.1 204 No Content\r\n\r\n", Some((204, 0, false)));
        check("HTTP/1.1 503 X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n", Some((503, 0, true)));
        assert!(matches!(parse_head(b"HTTP/1.1 200 OK\r\n\r\n"), Err(ConnectionError::NoLength)));
        assert!(matches!(parse_head(b"SSH-2.0-x\r\n\r\n"), Err(ConnectionError::NotHttp(_))));
    }

    #[tokio::test]
    async fn answers_in_pieces_and_a_close() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let server = async {
            let (mut peer, _) = listener.accept().await.expect("a peer");
            let mut request = [0; 4];
            peer.read_exact(&mut request).await.expect("a request");
            let long = "x".repeat(40_000);
            for piece in ["HTTP/1.1 200 OK\r\ncontent-", "length: 40000\r\n\r\n", &long[..1], &long[1..]] {
                peer.write_all(piece.as_bytes()).await.expect("written");
                tokio::task::yield_now().await;
            }
            peer.read_exact(&mut request).await.expect("a request");
            peer.write_all(b"HTTP/1.1 200").await.expect("written");
        };
        let client = async {
            let mut connection = Connection::open(address).await.expect("connected");
            let answer = connection.exchange(b"ping").await.expect("an answer");
            assert_eq!((answer.status, answer.body.len(), answer.closing), (200, 40_000, false));
            assert!(matches!(connection.exchange(b"ping").await, Err(ConnectionError::Closed(12))));
        };
        tokio::join!(server, client);
    }
}
