//! The server: workers, connections and their bounds, around the routes. Knows no route.

use super::connection::{Connection, Gate};
use super::turnstile::Turnstile;
use super::{HttpState, configure};
use actix_http::body::{BodySize, MessageBody};
use actix_http::{HttpService, KeepAlive, Request};
use actix_service::{ServiceFactoryExt, apply_fn_factory, fn_service, map_config};
use actix_web::dev::{AppConfig, Server, Service};
use actix_web::rt::net::TcpStream;
use actix_web::{App, web};
use std::future::ready;
use std::io;
use std::net::TcpListener;
use std::time::Duration;

/// How long a connection may take to close.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long open requests may take to end once the server stops.
const SHUTDOWN_SECS: u64 = 30;

/// Serves on a bound listener until the returned server's handle stops it; signals are the caller's. Every worker calls
/// `on_worker` once, on its own thread, before its first request. The workers share the connections evenly; at least one
/// is each worker's, and what comes beyond waits in the listener's queue.
///
/// # Errors
/// When the listener cannot be used.
pub fn serve(
    listener: TcpListener,
    workers: usize,
    max_connections: usize,
    state: web::Data<HttpState>,
    on_worker: impl Fn() + Clone + Send + 'static,
) -> io::Result<Server> {
    let server = Server::build();
    let stopping = server.graceful_shutdown_signal();
    let server = server
        .workers(workers)
        .max_concurrent_connections((max_connections / workers).max(1))
        .shutdown_timeout(SHUTDOWN_SECS)
        .disable_signals()
        .listen("http", listener, move || {
            on_worker();
            let turnstile = Turnstile::new(&state.limits, state.clock.clone());
            let (state, stopping) = (state.clone(), stopping.clone());
            let app = App::new().configure(move |config| configure(config, state));
            let app = map_config(app, |()| AppConfig::default());
            // Tells the connection when a request starts and when it is answered.
            let app = apply_fn_factory(app, |request: Request, app: &_| {
                let gate = request.conn_data::<Gate>().cloned();
                if let Some(gate) = &gate {
                    gate.start();
                }
                let answering = Service::<Request>::call(app, request);
                async move {
                    let answer = answering.await;
                    if let Some(gate) = gate {
                        let size = answer.as_ref().map(|answer| answer.response().body().size());
                        gate.finish(matches!(size, Ok(BodySize::Stream)));
                    }
                    answer
                }
            });
            let http = HttpService::build()
                .graceful_shutdown_signal(move || {
                    let stopping = stopping.clone();
                    async move { stopping.notified().await }
                })
                // The connection itself counts its silence, with no timer that each answer sets and each request stops.
                .keep_alive(KeepAlive::Os)
                // It times heads as well, without the time that they wait before the turnstile.
                .client_request_timeout(Duration::ZERO)
                .client_disconnect_timeout(DISCONNECT_TIMEOUT)
                .on_connect_ext(|connection: &Connection, data| {
                    data.insert(connection.gate());
                })
                .h1(app.map_err(|error: actix_web::Error| error.error_response()));
            fn_service(move |io: TcpStream| {
                let peer = io.peer_addr().ok();
                // Only a delay is lost without it.
                let _ = io.set_nodelay(true);
                ready(Ok((Connection::new(io, turnstile.clone()), peer)))
            })
            .and_then(http)
        })?;
    Ok(server.run())
}
