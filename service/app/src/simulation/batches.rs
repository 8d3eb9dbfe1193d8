//! Batches of events over `POST /v1/events`: a payment or a login a line, answered line by line in the same order.

use super::clients::Clients;
use super::events::Event;
use super::senders::Reply;
use super::sent::Outcome;
use super::service::Service;
use super::story::Story;
use super::web::{MAX_BATCHES, line_of};
use actix_web::test::TestRequest;
use std::time::Duration;

/// A line: its number, the request that it stands for, and the id by which its answer is known.
struct Line {
    number: usize,
    id: usize,
    name: String,
}

/// Sends a batch of so many events and returns; the answers come to the clients.
pub(super) fn send(story: &mut Story<'_>, service: &Service, count: u32) {
    let now = service.now();
    let (mut body, mut lines, mut number) = (Vec::new(), Vec::new(), 0);
    let batch = story.clients.borrow_mut().open_batch();
    for _ in 0..count {
        let place = story.clients.borrow_mut().pool.draw(&mut story.dice, &story.plan, now);
        let event = story.clients.borrow().pool.events[place].clone();
        let name = match &event {
            Event::Pay(payment) => payment.transaction_id.to_string(),
            Event::LogIn(login) => login.login_id.to_string(),
            // They have routes of their own.
            Event::Tell(_) | Event::List(_) => continue,
        };
        if story.dice.chance(0.1) {
            body.push(b'\n');
            number += 1;
        }
        let deadline = Duration::from_millis(if story.dice.chance(0.2) { 20 } else { 5_000 });
        line_of(&event, deadline, &mut body);
        body.push(b'\n');
        number += 1;
        let id = story.note_sent(service, place, Some(deadline), None, Some(batch));
        lines.push(Line { number, id, name });
    }
    let reply = Reply::to(story, service);
    actix::spawn(async move {
        let request = TestRequest::post().uri("/v1/events").set_payload(body);
        let page = reply.service.ask(request).await;
        let status = page.status;
        let answers = page.whole().await;
        let mut clients = reply.clients.borrow_mut();
        let outcomes = if status == 200 { read(&lines, &answers) } else { refused(&mut clients, &lines, &answers) };
        let outcomes = outcomes.unwrap_or_else(|what| {
            clients
                .broken
                .push(format!("batch {batch}: {what}; answered {status} {:?}", String::from_utf8_lossy(&answers)));
            Vec::new()
        });
        clients.close_batch(batch);
        drop(clients);
        for (line, outcome) in lines.iter().zip(outcomes) {
            reply.give(line.id, outcome);
        }
    });
}

/// The answers to the lines, in their order: one each, and about the same event.
fn read(lines: &[Line], answers: &[u8]) -> Result<Vec<Outcome>, String> {
    let found: Vec<&[u8]> = answers.split_inclusive(|byte| *byte == b'\n').collect();
    if found.len() != lines.len() {
        return Err(format!("I6: {} answers to {} lines", found.len(), lines.len()));
    }
    let outcome = |(line, answer): (&Line, &&[u8])| {
        let answer = answer.strip_suffix(b"\n").ok_or("an answer without an end")?;
        let json: serde_json::Value = serde_json::from_slice(answer).map_err(|error| error.to_string())?;
        let is_about = |field: &str| json[field].as_str() == Some(&line.name);
        if let Some(code) = json["code"].as_str() {
            let instance = format!("/v1/events#line-{}", line.number);
            let status = json["status"].as_u64().and_then(|status| u16::try_from(status).ok());
            if json["instance"].as_str() != Some(&instance) {
                return Err(format!("I6: the answer to {instance} is {json}"));
            }
            Ok(Outcome::Refused(code.to_owned(), status))
        } else if is_about("transaction_id") {
            Ok(Outcome::Printed(answer.to_vec()))
        } else if is_about("login_id") && json["accepted"] == true {
            Ok(Outcome::Accepted(json["duplicate"] == true))
        } else {
            Err(format!("I6: the answer to line {} about {} is {json}", line.number, line.name))
        }
    };
    lines.iter().zip(&found).map(outcome).collect()
}

/// A batch that was not taken at all has a reason, and counts as one refusal.
fn refused(clients: &mut Clients, lines: &[Line], answer: &[u8]) -> Result<Vec<Outcome>, String> {
    let code = super::web::code_of(answer);
    if code != "OVERLOADED" || clients.most_batches() <= MAX_BATCHES {
        return Err(format!("I6: not taken with {code}, and at most {} batches at a time", clients.most_batches()));
    }
    *clients.refused.entry(code.clone()).or_default() += 1;
    Ok(lines.iter().map(|_| Outcome::Refused(code.clone(), None)).collect())
}
