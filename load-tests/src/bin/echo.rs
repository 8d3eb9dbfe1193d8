//! The baseline: an actix-web server that parses a decide request and answers JSON, and does nothing else.
//!
//! It has two shapes. `request` sends the parsed request back; `decision` answers with what a decision looks like. Both
//! are the least that any actix-web service must do, so they bound what `/v1/decide` can reach on the same cores.

use actix_web::{App, HttpServer, web};
use clap::{Parser, ValueEnum};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// Echoes decide requests.
#[derive(Debug, Parser)]
#[command(after_help = "Example: echo --workers 1 --answer request")]
struct Args {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Worker threads.
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// What to answer.
    #[arg(long, value_enum, default_value_t = Shape::Request)]
    answer: Shape,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Shape {
    /// The request, parsed and printed again.
    Request,
    /// A plain approval with the request's ids.
    Decision,
}

#[derive(Debug, Deserialize, Serialize)]
struct Request {
    transaction_id: String,
    user_id: String,
    amount: String,
    currency: String,
    merchant_id: String,
    timestamp: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip_address: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    merchant_category: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    latitude: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    longitude: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deadline_ms: Option<u32>,
}

#[derive(Debug, Serialize)]
struct Decision {
    decision_id: &'static str,
    transaction_id: String,
    user_id: String,
    decision: &'static str,
    score: f32,
    risk_level: &'static str,
    reasons: [&'static str; 0],
    ruleset: Named,
    model: Model,
    feature_schema: &'static str,
    mode: &'static str,
    degraded: [&'static str; 0],
    durable: bool,
    duplicate: bool,
    evaluated_at: String,
    latency_us: u32,
}

#[derive(Debug, Serialize)]
struct Named {
    name: &'static str,
    version: &'static str,
}

#[derive(Debug, Serialize)]
struct Model {
    name: &'static str,
    version: &'static str,
    sha256: &'static str,
}

/// As long as a SHA-256 in hexadecimal digits.
const HASH: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

async fn echo_request(body: web::Json<Request>) -> web::Json<Request> {
    body
}

async fn echo_decision(body: web::Json<Request>) -> web::Json<Decision> {
    let request = body.into_inner();
    web::Json(Decision {
        decision_id: "1f3ad1f8-7f0e-5c1e-9d5e-0f6b6c1d2e3f",
        transaction_id: request.transaction_id,
        user_id: request.user_id,
        decision: "approve",
        score: 0.031_25,
        risk_level: "normal",
        reasons: [],
        ruleset: Named { name: "default", version: HASH },
        model: Model { name: "default", version: "1.0.0", sha256: HASH },
        feature_schema: HASH,
        mode: "normal",
        degraded: [],
        durable: true,
        duplicate: false,
        evaluated_at: request.timestamp,
        latency_us: 840,
    })
}

#[expect(clippy::print_stdout, reason = "whoever started it needs the address")]
fn main() -> std::io::Result<()> {
    let args = Args::parse();
    actix_web::rt::System::new().block_on(async move {
        let server = HttpServer::new(move || {
            let decide = web::resource(["/v1/decide", "/decide"]);
            App::new().service(match args.answer {
                Shape::Request => decide.route(web::post().to(echo_request)),
                Shape::Decision => decide.route(web::post().to(echo_decision)),
            })
        })
        .workers(args.workers)
        .shutdown_timeout(1)
        .bind(args.listen)?;
        for address in server.addrs() {
            println!("listening on {address}");
        }
        server.run().await
    })
}
