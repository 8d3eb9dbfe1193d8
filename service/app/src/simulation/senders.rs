//! Sends what the dice draw, in the ways that events come in: as requests to the gateway, over HTTP, and as lines of a file.

use super::clients::Clients;
use super::events::Event;
use super::sent::{Now, Outcome};
use super::service::Service;
use super::story::Story;
use super::web::code_of;
use crate::actors::messages::{Accepted, ListChanged, Refusal, Settled};
use crate::telemetry::clock::virtual_now;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

/// Deadline of a login or a label over HTTP.
const INGEST_DEADLINE: Duration = Duration::from_secs(5);

/// Draws an event and sends it.
pub(super) fn send(story: &mut Story<'_>, service: &Service) {
    let now = service.now();
    let place = story.clients.borrow_mut().pool.draw(&mut story.dice, &story.plan, now);
    let as_line = story.dice.chance(story.plan.lines);
    let deadline_ms = match story.dice.below(10) {
        0 => story.dice.count(1, 5),
        1..4 => story.dice.count(10, 100),
        4..8 => 200,
        _ => story.dice.count(1_000, 30_000),
    };
    send_one(story, service, place, Duration::from_millis(deadline_ms.into()), as_line);
}

/// Sends an event of the pool and returns; the answer comes to the clients.
pub(super) fn send_one(story: &mut Story<'_>, service: &Service, place: usize, deadline: Duration, as_line: bool) {
    let event = story.clients.borrow().pool.events[place].clone();
    let deadline = match (&event, service.has_web()) {
        (_, false) | (Event::Pay(_), true) => deadline,
        (Event::LogIn(_) | Event::Tell(_) | Event::List(_), true) => INGEST_DEADLINE,
    };
    // No file changes a list.
    let as_line = as_line && !matches!(event, Event::List(_));
    story.line += u64::from(as_line);
    let line = as_line.then_some(story.line);
    let id = story.note_sent(service, place, (!as_line).then_some(deadline), line, None);
    let answer = Reply::to(story, service);
    let base = story.rules.set(0).rates().base();
    actix::spawn(async move {
        let service = answer.service.clone();
        let outcome = if let Some(line) = line {
            by_line(&service, event, line).await
        } else if service.has_web() {
            over_http(service.send(&event, base, deadline).await, &event)
        } else {
            by_request(&service, event, deadline).await
        };
        answer.give(id, outcome);
    });
}

/// The way back to the clients.
pub(super) struct Reply {
    pub(super) clients: Rc<RefCell<Clients>>,
    pub(super) service: Service,
    limit: usize,
}

impl Reply {
    pub(super) fn to(story: &Story<'_>, service: &Service) -> Self {
        Self { clients: Rc::clone(&story.clients), service: service.clone(), limit: story.plan.limit }
    }

    pub(super) fn give(&self, id: usize, outcome: Outcome) {
        let gateway = &self.service.gateway;
        let now = Now {
            instant: virtual_now(),
            wall: self.service.now(),
            in_flight: gateway.in_flight(),
            limit: self.limit,
            stopping: self.service.is_stopping(),
        };
        self.clients.borrow_mut().answered(id, outcome, &now);
    }
}

fn refused(refusal: &Refusal) -> Outcome {
    Outcome::Refused(refusal.code().to_owned(), None)
}

fn accepted(answer: Result<Accepted, Refusal>) -> Outcome {
    answer.map_or_else(|refusal| refused(&refusal), |accepted| Outcome::Accepted(accepted.duplicate))
}

async fn by_request(service: &Service, event: Event, deadline: Duration) -> Outcome {
    let gateway = &service.gateway;
    let deadline = Some(deadline);
    match event {
        Event::Pay(event) => {
            let answer = gateway.decide(service.submission(event, deadline)).await;
            answer.map_or_else(|refusal| refused(&refusal), Outcome::Decision)
        }
        Event::LogIn(event) => accepted(gateway.login(service.submission(event, deadline)).await),
        Event::Tell(event) => accepted(gateway.label(service.submission(event, deadline)).await),
        Event::List(event) => match gateway.change_list(service.submission(event, deadline)).await {
            Ok(ListChanged::Created) => Outcome::Listed(&[ListChanged::Created]),
            Ok(ListChanged::Replaced) => Outcome::Listed(&[ListChanged::Replaced]),
            Ok(ListChanged::Unchanged) => Outcome::Listed(&[ListChanged::Unchanged]),
            Ok(ListChanged::Deleted) => Outcome::Listed(&[ListChanged::Deleted]),
            Err(refusal) => refused(&refusal),
        },
    }
}

/// As the file ingress does: it waits for its turn and has no deadline.
async fn by_line(service: &Service, event: Event, line: u64) -> Outcome {
    let gateway = &service.gateway;
    let permit = match gateway.turn().await {
        Ok(permit) => permit,
        Err(refusal) => return refused(&refusal),
    };
    let original = format!("line {line}").into_bytes();
    match event {
        Event::Pay(event) => match gateway.send_transaction(service.line(event, line, original), permit).await {
            Ok(Ok(Settled::Answer(answer))) => Outcome::Decision(answer),
            Ok(Ok(Settled::SeenBefore)) => Outcome::SeenBefore,
            Ok(Err(refusal)) => refused(&refusal),
            Err(_) => refused(&Refusal::Recovering),
        },
        Event::LogIn(event) => {
            let answer = gateway.send_login(service.line(event, line, original), permit).await;
            accepted(answer.unwrap_or(Err(Refusal::Recovering)))
        }
        Event::Tell(event) => {
            let answer = gateway.send_label(service.line(event, line, original), permit).await;
            accepted(answer.unwrap_or(Err(Refusal::Recovering)))
        }
        Event::List(_) => Outcome::Refused("no file changes a list".to_owned(), None),
    }
}

fn over_http((status, body): (u16, Vec<u8>), event: &Event) -> Outcome {
    let json = || serde_json::from_slice::<serde_json::Value>(&body).unwrap_or_default();
    match (status, event) {
        (201, Event::List(_)) => Outcome::Listed(&[ListChanged::Created]),
        (200, Event::List(_)) => Outcome::Listed(&[ListChanged::Replaced, ListChanged::Unchanged]),
        (204, Event::List(_)) => Outcome::Listed(&[ListChanged::Deleted]),
        (200..=202, Event::Pay(_)) => Outcome::Printed(body),
        (200..=202, _) => Outcome::Accepted(json()["duplicate"] == true),
        _ => Outcome::Refused(code_of(&body), Some(status)),
    }
}
