//! The replica against one map that is looked at as a whole, pages while entries change, and readers beside a writer.

use super::{ENTRIES_AT_ONCE, Full, ListReplica};
use crate::actors::messages::ListQuery;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use uuid::Uuid;
use verdict_core::event::Transaction;
use verdict_core::lists::{List, ListEntry, ListHit, ListKey, ListKind};
use verdict_core::money::{BaseMinor, Currency, Money};
use verdict_core::time::Timestamp;

/// 2026-11-23T12:00:00Z.
const NOON: Timestamp = Timestamp::from_millis(1_795_435_200_000);

fn key(list: List, kind: ListKind, value: &str) -> ListKey {
    ListKey { list, kind, value: value.into() }
}

fn entry(list: List, reason: &str, expires_at: Option<Timestamp>) -> ListEntry {
    ListEntry { list, reason: reason.into(), alert_id: None, expires_at }
}

fn payment(merchant: &str, device: Option<&str>, ip: Option<&str>) -> Transaction {
    let usd = Currency::from_code("USD").expect("a currency");
    Transaction {
        transaction_id: "t-1".into(),
        user_id: "u-1".into(),
        amount: Money::from_minor(100, usd),
        base: BaseMinor(100),
        merchant_id: merchant.into(),
        at: NOON,
        ip_address: ip.map(Into::into),
        user_agent: None,
        device_id: device.map(Into::into),
        merchant_category: None,
        location: None,
    }
}

/// What a shard may do to the replica, and the passing of time.
#[derive(Clone, Debug)]
enum Step {
    Put(ListKey, Option<i64>, bool),
    Remove(ListKey),
    Sweep,
    Wait(i64),
    /// A shard comes back with every other entry of its partition, the even ones.
    Load(u16),
}

fn keys() -> impl Strategy<Value = ListKey> {
    let list = prop::sample::select(vec![List::Block, List::Allow]);
    let kind = prop::sample::select(ListKind::ALL.map(|(kind, _)| kind).to_vec());
    (list, kind, 0..6_u8).prop_map(|(list, kind, value)| key(list, kind, &format!("v-{value}")))
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (keys(), prop::option::of(0..50_i64), any::<bool>())
            .prop_map(|(key, length, automatic)| Step::Put(key, length, automatic)),
        3 => keys().prop_map(Step::Remove),
        1 => Just(Step::Sweep),
        2 => (1..30_i64).prop_map(Step::Wait),
        1 => (0..2_u16).prop_map(Step::Load),
    ];
    prop::collection::vec(step, 1..60)
}

/// Entries live in the partition of the length of their kind's name, so that both have some.
fn partition(key: &ListKey) -> u16 {
    (key.kind.name().len() % 2) as u16
}

type Model = BTreeMap<ListKey, ListEntry>;

fn hits_of(model: &Model, transaction: &Transaction, now: Timestamp) -> Vec<ListHit> {
    let mut hits = Vec::new();
    for kind in [ListKind::Merchant, ListKind::Device, ListKind::Ip] {
        for list in [List::Block, List::Allow] {
            let value = match kind {
                ListKind::Merchant => Some(&transaction.merchant_id),
                ListKind::Device => transaction.device_id.as_ref(),
                _ => transaction.ip_address.as_ref(),
            };
            let Some(value) = value else { continue };
            let found = model.get(&key(list, kind, value));
            if let Some(entry) = found.filter(|entry| entry.expires_at.is_none_or(|end| now < end)) {
                hits.push(ListHit { list, kind, value: value.clone(), reason: entry.reason.clone() });
            }
        }
    }
    hits
}

fn pages(
    replica: &ListReplica,
    list: List,
    kind: Option<ListKind>,
    limit: usize,
    now: Timestamp,
) -> Vec<(ListKey, ListEntry)> {
    let mut all = Vec::new();
    let mut after = None;
    loop {
        let page = replica.page(&ListQuery { list, kind, after, limit }, now);
        assert!(page.entries.len() <= limit);
        assert!(page.next.is_none() || page.entries.len() == limit);
        all.extend(page.entries);
        after = page.next;
        if after.is_none() {
            return all;
        }
    }
}

fn told(replica: &ListReplica, model: &mut Model, step: &Step, now: &mut Timestamp) -> Result<(), TestCaseError> {
    match step {
        Step::Put(key, length, automatic) => {
            let expires_at = length.map(|length| *now + length);
            let alert_id = automatic.then(|| Uuid::from_u128(7));
            let entry = ListEntry { alert_id, ..entry(key.list, &format!("until {expires_at:?}"), expires_at) };
            if *automatic {
                replica.put(partition(key), key.clone(), entry.clone());
            } else {
                let asked = model.iter().filter(|(other, entry)| entry.alert_id.is_none() && *other != key).count();
                let put = replica.put_asked(partition(key), key.clone(), entry.clone());
                prop_assert_eq!(put, if asked < 12 { Ok(()) } else { Err(Full { limit: 12 }) });
                if put.is_err() {
                    return Ok(());
                }
            }
            model.insert(key.clone(), entry);
        }
        Step::Remove(key) => {
            replica.remove(key);
            model.remove(key);
        }
        Step::Sweep => {
            model.retain(|_, entry| entry.binds(*now));
            prop_assert_eq!(replica.sweep(*now), model.len());
        }
        Step::Wait(ms) => *now = *now + *ms,
        Step::Load(of) => {
            let mut even = false;
            model.retain(|key, _| {
                even = !even;
                partition(key) != *of || even
            });
            let entries = model.iter().filter(|(key, _)| partition(key) == *of);
            replica.load(&[*of], entries.map(|(key, entry)| (*of, key.clone(), entry.clone())));
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_is_one_map_to_every_reader(steps in steps(), limit in 1..5_usize) {
        let replica = ListReplica::new(2, 12);
        // One looks all the time, one comes late: what a reader remembers changes nothing.
        let (always, late) = (replica.reader(), replica.reader());
        let (mut model, mut now) = (Model::new(), NOON);
        let seen_by = |reader: &super::ListReader, transaction: &Transaction, now| {
            let mut hits = Vec::new();
            reader.hit(transaction, now, &mut hits);
            hits
        };
        let payments: Vec<Transaction> = (0..6)
            .map(|n| (format!("v-{n}"), format!("v-{}", 5 - n)))
            .map(|(one, other)| payment(&one, (one != "v-0").then_some(&*other), (one != "v-1").then_some(&*one)))
            .collect();
        for step in &steps {
            told(&replica, &mut model, step, &mut now)?;
            for payment in &payments {
                prop_assert_eq!(seen_by(&always, payment, now), hits_of(&model, payment, now), "after {:?}", step);
            }
        }
        for payment in &payments {
            prop_assert_eq!(seen_by(&late, payment, now), hits_of(&model, payment, now));
        }
        for (key, entry) in &model {
            prop_assert_eq!(replica.get(key), Some(entry.clone()));
        }
        for list in [List::Block, List::Allow] {
            for kind in [None, Some(ListKind::User), Some(ListKind::Device), Some(ListKind::Ip)] {
                let wanted = model.iter().filter(|(key, entry)| {
                    key.list == list && kind.is_none_or(|kind| key.kind == kind) && entry.binds(now)
                });
                let wanted: Vec<_> = wanted.map(|(key, entry)| (key.clone(), entry.clone())).collect();
                prop_assert_eq!(pages(&replica, list, kind, limit, now), wanted);
            }
        }
        for of in [0, 1] {
            let listed = model.iter().filter(|(key, _)| partition(key) == of);
            let listed: Vec<_> = listed.map(|(key, entry)| (of, key.clone(), entry.clone())).collect();
            prop_assert_eq!(replica.listed_behind(None, &HashSet::from([of])), (listed, None));
        }
    }
}

#[test]
fn many_are_looked_at_and_removed_some_at_a_time() {
    let replica = ListReplica::new(2, 100_000);
    let keys: BTreeSet<ListKey> =
        (0..3 * ENTRIES_AT_ONCE).map(|n| key(List::Block, ListKind::Device, &format!("d-{n}"))).collect();
    for (n, key) in keys.iter().enumerate() {
        replica.put((n % 2) as u16, key.clone(), entry(List::Block, "", Some(NOON + (n % 3) as i64)));
    }
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let (listed, next) = replica.listed_behind(after.as_ref(), &HashSet::from([0, 1]));
        found.extend(listed.into_iter().map(|(_, key, _)| key));
        if next.is_none() {
            break;
        }
        after = next;
    }
    assert!(found.iter().eq(&keys), "all of them, each once");
    assert_eq!([0, 1, 2].map(|ms| replica.sweep(NOON + ms)), [2, 1, 0].map(|left| left * ENTRIES_AT_ONCE));
}

#[test]
fn entries_that_come_and_go_move_no_other_to_another_page() {
    let replica = ListReplica::new(1, 100);
    let value = |n: usize| key(List::Block, ListKind::Merchant, &format!("m-{n:02}"));
    (0..30).step_by(2).for_each(|n| replica.put(0, value(n), entry(List::Block, "old", None)));
    let mut seen = Vec::new();
    let mut after = None;
    for turn in 0.. {
        let query = ListQuery { list: List::Block, kind: None, after, limit: 4 };
        let page = replica.page(&query, NOON);
        seen.extend(page.entries.into_iter().filter(|(_, entry)| &*entry.reason == "old").map(|(key, _)| key));
        after = page.next;
        if after.is_none() {
            break;
        }
        // One that was shown goes, the one that the cursor names included, and others come before and behind it.
        replica.remove(seen.last().expect("a page"));
        replica.put(0, value(1), entry(List::Block, "new", None));
        replica.put(0, value(2 * turn + 21), entry(List::Block, "new", None));
    }
    assert_eq!(seen, (0..30).step_by(2).map(value).collect::<Vec<_>>(), "each once");
}

#[actix::test]
async fn it_is_complete_once_all_partitions_were_loaded() {
    let replica = ListReplica::new(3, 10);
    replica.load(&[0, 2], []);
    assert!(!replica.is_complete());
    let waiting = tokio::spawn({
        let replica = Arc::clone(&replica);
        async move { replica.complete().await }
    });
    replica.load(&[0], []);
    assert!(!replica.is_complete() && !waiting.is_finished());
    replica.load(&[1], [(1, key(List::Block, ListKind::Ip, "::1"), entry(List::Block, "", None))]);
    waiting.await.expect("told");
    assert!(replica.is_complete());
    replica.complete().await;
    // A shard that comes back later replaces its own.
    replica.load(&[1], []);
    assert!(replica.is_complete() && replica.sweep(NOON) == 0);
}

/// While entries of all kinds come, are replaced and go, an entry that stays is always seen, whole, by every reader.
#[test]
fn a_writer_never_hides_what_stays() {
    let replica = ListReplica::new(1, 1_000_000);
    let stays = key(List::Block, ListKind::Merchant, "m-stays");
    replica.put(0, stays.clone(), entry(List::Block, "0", None));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let reader = replica.reader();
                let mut last = 0_u64;
                while !done.load(Ordering::Acquire) {
                    let mut hits = Vec::new();
                    reader.hit(&payment("m-stays", Some("d-1"), None), NOON, &mut hits);
                    let turn = hits.first().expect("it stays").reason.parse().expect("a number");
                    assert!(turn >= last, "what is newer stays newer: {turn} after {last}");
                    last = turn;
                }
            });
        }
        for turn in 1..5_000_u64 {
            replica.put(0, stays.clone(), entry(List::Block, &turn.to_string(), None));
            let passing = key(List::Block, ListKind::Device, &format!("d-{}", turn % 3));
            if turn % 2 == 0 {
                replica.put(0, passing, entry(List::Block, "", None));
            } else {
                replica.remove(&passing);
            }
            if turn % 100 == 0 {
                let loaded = [(0, stays.clone(), entry(List::Block, &turn.to_string(), None))];
                replica.load(&[0], loaded);
            }
        }
        done.store(true, Ordering::Release);
    });
    let mut hits = Vec::new();
    replica.reader().hit(&payment("m-stays", None, None), NOON, &mut hits);
    assert_eq!(hits.first().map(|hit| &*hit.reason), Some("4999"));
}
