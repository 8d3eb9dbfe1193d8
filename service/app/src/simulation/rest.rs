//! Moments of rest, on a disk that works: everything is answered, and what the service holds is what the journal says.

use super::events;
use super::followers::Mode;
use super::senders;
use super::sent::{Outcome, Peek};
use super::service::Service;
use super::story::Story;
use crate::actors::messages::ListQuery;
use crate::telemetry::health::Audience;
use std::collections::BTreeMap;
use std::time::Duration;
use verdict_core::features::compute_idle;
use verdict_core::invariant;
use verdict_core::lists::{List, ListKind};
use verdict_core::profile::Profile;

/// By then, in virtual time, a service on a working disk has recovered and answered everything.
const PATIENCE: Duration = Duration::from_secs(300);

/// How often somebody looks whether that is so.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Lets everything come to rest, then compares.
pub(super) async fn come_to(story: &mut Story<'_>, service: &Service) -> Result<(), String> {
    story.behave(true);
    settle(story, service).await?;
    // One that was under way on the bad disk may still fail.
    let saved = async {
        while !service.gateway.checkpoint().await {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    if tokio::time::timeout(PATIENCE, saved).await.is_err() {
        return Err("a checkpoint cannot be saved on a disk that works".to_owned());
    }
    story.look_around(service)?;
    story.read_journal()?;
    story.audit.check_saved(&story.disk.saved(), &story.ends())?;
    check_lists(story, service)?;
    check_views(story, service).await?;
    check_alerts(story, service).await
}

/// Waits until the service serves, and nothing waits for an answer.
async fn settle(story: &mut Story<'_>, service: &Service) -> Result<(), String> {
    let settled = async {
        while !service.readiness.report(Audience::Operator).ready
            || story.clients.borrow().pending() > 0
            || service.gateway.in_flight() > 0
        {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    let settled = tokio::time::timeout(PATIENCE, settled).await.is_ok();
    story.look_around(service)?;
    if settled {
        return Ok(());
    }
    let (pending, in_flight) = (story.clients.borrow().pending(), service.gateway.in_flight());
    let ready = service.readiness.report(Audience::Operator).waiting_for;
    Err(format!(
        "I7: after {PATIENCE:?} on a working disk {pending} requests wait and {in_flight} permits are taken; {ready}"
    ))
}

/// I4: the alerts are those of the journal, and those who follow have read all of theirs.
async fn check_alerts(story: &mut Story<'_>, service: &Service) -> Result<(), String> {
    if !service.is_stopping() && service.has_web() {
        // No more of them than the service bears.
        let modes =
            (0..story.followers.len()).map(|who| if who < story.plan.streams { Mode::Reads } else { Mode::Away });
        story.followers.iter().zip(modes).for_each(|(follower, mode)| follower.set(mode));
    }
    let caught_up = async {
        while service.lag.records() > 0 || !story.followers.iter().all(|one| one.is_settled(&story.alerts)) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    let caught_up = tokio::time::timeout(PATIENCE, caught_up).await.is_ok();
    story.look_around(service)?;
    story.disk.with_log(|log| story.alerts.check(log))?;
    if caught_up { Ok(()) } else { Err(format!("I4: after {PATIENCE:?} alerts are late: {:?}", story.followers)) }
}

/// I3: the lists show what the journal leaves of them, in pages of any size.
fn check_lists(story: &mut Story<'_>, service: &Service) -> Result<(), String> {
    let now = service.now();
    for (list, _) in List::ALL {
        let mut query = ListQuery { list, kind: None, after: None, limit: story.dice.count(1, 5) as usize };
        let mut found = Vec::new();
        loop {
            let page =
                service.gateway.list_page(&query, now).map_err(|refusal| format!("no lists at rest: {refusal}"))?;
            found.extend(page.entries);
            query.after = page.next;
            if query.after.is_none() {
                break;
            }
        }
        let lists = &story.audit.lists;
        let found: BTreeMap<_, _> =
            found.iter().map(|(key, entry)| (key, entry)).filter(|(_, entry)| !lists.is_swept(entry)).collect();
        let mut expected = lists.kept();
        expected.retain(|key, entry| key.list == list && entry.expires_at.is_none_or(|end| now < end));
        if found != expected {
            return Err(format!("I3: expected the entries {expected:?}, found {found:?}"));
        }
    }
    Ok(())
}

/// I3: every profile shows what the fold of the journal shows.
async fn check_views(story: &Story<'_>, service: &Service) -> Result<(), String> {
    for user in 0..=story.plan.users {
        let user_id = format!("u-{user}");
        let expected = story.audit.users.get(&*user_id);
        let found =
            service.gateway.profile(&user_id).await.map_err(|refusal| format!("no profile at rest: {refusal}"))?;
        let (profile, view) = match (expected, found) {
            (None, None) => continue,
            (Some(profile), Some(view)) => (profile, view),
            (_, found) => return Err(format!("I3: {user_id} is in the journal or in memory only: {found:?}")),
        };
        let now = service.now();
        let hits = profile.list_hits(&user_id, now);
        let features = compute_idle(profile, now, &hits, story.rules.set(0).rates().base()).features;
        let same = invariant::first_difference(&features, &view.features).is_none()
            && view.retained == profile.payments_retained()
            && view.fraud_labels == profile.labels().filter(|label| label.is_fraud).count();
        if !same {
            return Err(format!("I3: {user_id} shows {view:?}, the journal gives {}", shown(profile)));
        }
    }
    Ok(())
}

fn shown(profile: &Profile) -> String {
    format!("{} payments before record {}", profile.payments_retained(), profile.next_n())
}

/// Somebody looks at a profile, whatever state the service is in.
pub(super) fn look(story: &mut Story<'_>, service: &Service) {
    let user_id = format!("u-{}", story.dice.below(story.plan.users + 1));
    let gateway = service.gateway.clone();
    actix::spawn(async move { gateway.profile(&user_id).await.is_ok() });
    for _ in 0..4 {
        let key = events::listed(&mut story.dice, story.plan.users);
        // What a decision makes of its user's entry is known once that decision is.
        let told = key.kind != ListKind::User || key.list == List::Allow;
        let now = service.now();
        if let Ok(found) = service.gateway.list_entry(&key, now)
            && told
        {
            let mut clients = story.clients.borrow_mut();
            let between = (clients.tick(), clients.tick());
            clients.peeks.push(Peek { key, between, now, found });
        }
    }
}

/// I2: every event that was ever sent gets the answer that it had, or has its first one now; nothing counts twice.
pub(super) async fn ask_again(story: &mut Story<'_>, service: &Service) -> Result<(), String> {
    let events = story.clients.borrow().pool.events.len();
    let mut first = story.clients.borrow().sent.len();
    for place in 0..events {
        if service.gateway.in_flight() + story.clients.borrow().pending() >= story.plan.limit.min(8) {
            settle(story, service).await?;
        }
        senders::send_one(story, service, place, Duration::from_secs(30), false);
    }
    settle(story, service).await?;
    let clients = story.clients.borrow();
    while let Some(sent) = clients.sent.get(first) {
        if let Some(Outcome::Refused(code, _)) = &sent.outcome
            && matches!(&**code, "RECOVERING" | "STOPPING" | "JOURNAL_UNAVAILABLE" | "JOURNAL_LATE" | "OVERLOADED")
        {
            return Err(format!("request {first} was refused with {code} on a disk that works"));
        }
        first += 1;
    }
    drop(clients);
    story.read_journal()
}

/// A graceful stop: nothing new is taken, everything taken is answered.
pub(super) async fn stop(story: &mut Story<'_>, service: &Service) -> Result<(), String> {
    service.stop();
    if tokio::time::timeout(PATIENCE, service.gateway.stop()).await.is_err() {
        return Err(format!("I7: not stopped after {PATIENCE:?}"));
    }
    tokio::time::sleep(Duration::from_millis(1)).await;
    story.look_around(service)
}
