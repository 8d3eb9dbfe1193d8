//! A bounded number of connections to one database, each given up when the server does not answer in time.
//!
//! The pool of the library is not used: it takes a connection back only after a round trip that nothing bounds, so that a
//! server that hangs holds its places. Here a connection is kept only if its last use went well, and is closed on the spot
//! otherwise, whatever it was doing.

use super::Fault;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection};
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

/// How long a server may take to take a connection, encryption and password included.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);
/// How long a connection that was idle may take to show that it is alive.
const PING_WITHIN: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug)]
pub(super) struct Connections {
    options: PgConnectOptions,
    places: Semaphore,
    idle: Mutex<Vec<PgConnection>>,
    /// How long one use may take, and how long it may wait for a place before that.
    patience: Duration,
}

impl Connections {
    /// At most so many connections to the database that `options` name; none is made yet.
    pub(super) fn new(options: &PgConnectOptions, most: usize, patience: Duration) -> Self {
        let millis = patience.as_millis().to_string();
        // The server gives up by itself too: what it still does for a caller who has gone would hold rows locked.
        let bounds = [
            ("statement_timeout", millis.as_str()),
            ("lock_timeout", millis.as_str()),
            ("idle_in_transaction_session_timeout", millis.as_str()),
        ];
        let options = options.clone().application_name("verdict").options(bounds).disable_statement_logging();
        Self { options, places: Semaphore::new(most), idle: Mutex::default(), patience }
    }

    /// A connection that has just answered.
    pub(super) async fn lease(&self) -> Result<Lease<'_>, sqlx::Error> {
        let place = timeout(self.patience, self.places.acquire()).await;
        // invariant: the semaphore is never closed
        let place = place.map_err(|_| sqlx::Error::PoolTimedOut)?.map_err(|_| sqlx::Error::PoolClosed)?;
        if let Some(mut connection) = self.take_idle() {
            if let Ok(Ok(())) = timeout(PING_WITHIN, connection.ping()).await {
                return Ok(Lease { home: self, connection, _place: place });
            }
            // The others are of the same server: to ask each would only take the longer.
            self.idle().clear();
        }
        let connection =
            timeout(CONNECT_WITHIN, self.options.connect()).await.map_err(|_| late("connect", CONNECT_WITHIN))??;
        Ok(Lease { home: self, connection, _place: place })
    }

    fn take_idle(&self) -> Option<PgConnection> {
        self.idle().pop()
    }

    fn idle(&self) -> MutexGuard<'_, Vec<PgConnection>> {
        // Nothing under this lock can leave the list half changed.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection in use; closed when it is dropped without [`Lease::keep`].
#[derive(Debug)]
pub(super) struct Lease<'a> {
    home: &'a Connections,
    connection: PgConnection,
    _place: SemaphorePermit<'a>,
}

impl Lease<'_> {
    /// Puts the connection back: nothing is under way on it.
    pub(super) fn keep(self) {
        self.home.idle().push(self.connection);
    }
}

impl Deref for Lease<'_> {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.connection
    }
}

impl DerefMut for Lease<'_> {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.connection
    }
}

/// Does something over a connection, within the time that it may take; keeps the connection if that went well.
pub(super) async fn using<T>(
    connections: &Connections,
    work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, Fault>,
) -> Result<T, Fault> {
    let mut lease = connections.lease().await?;
    let done = within(connections.patience, work(&mut lease)).await?;
    lease.keep();
    Ok(done)
}

/// Gives something up when it takes longer.
pub(super) async fn within<T>(patience: Duration, work: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    timeout(patience, work).await.unwrap_or_else(|_| Err(late("answer", patience).into()))
}

fn late(what: &str, patience: Duration) -> sqlx::Error {
    let message = format!("expected the server to {what} within {} s, given up", patience.as_secs());
    sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, message))
}
