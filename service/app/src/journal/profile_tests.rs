//! Profiles as they are stored: the same again after a round trip, whatever the history; sizes; golden files.

use super::profile::{ProfileError, decode, encode, next_n};
use super::record::{Body, Decided, Record};
use super::{profile_v1, samples};
use proptest::collection::vec;
use proptest::prelude::*;
use std::path::Path;
use std::sync::Arc;
use verdict_core::event::{Login, Transaction};
use verdict_core::geo::Coordinates;
use verdict_core::money::BaseMinor;
use verdict_core::profile::{Change, Profile, Retention};
use verdict_core::time::{DAY_MS, HOUR_MS, Timestamp};

/// 2026-11-23T12:00:00Z.
const NOON: Timestamp = Timestamp::from_millis(1_795_435_200_000);

/// So little that a short history reaches every age: dropped ids, older transactions, hourly totals, forgotten logins.
const LITTLE: Retention =
    Retention { dedupe_ms: 8 * DAY_MS, max_payments: 12, max_logins: 4, max_labels: 4, index_from: 8 };

fn fold(records: &[Record], retention: &Retention) -> Profile {
    let mut profile = Profile::default();
    for (n, record) in records.iter().enumerate() {
        if let Some((_, change)) = record.body.change() {
            profile.apply(change, n as u64 * 70_000, retention);
        }
    }
    profile
}

/// The same record at an instant of the 60 days before noon.
fn lately(mut record: Record) -> Record {
    let lately = |at: Timestamp| NOON - at.as_millis().rem_euclid(60 * DAY_MS);
    match &mut record.body {
        Body::Decision(decided) => {
            let at = lately(decided.transaction.at);
            let transaction = Transaction { at, ..decided.transaction.clone() };
            *decided = Arc::new(Decided { transaction, ..Decided::clone(decided) });
        }
        Body::Login(login) => login.at = lately(login.at),
        Body::Label(label) => label.at = lately(label.at),
        Body::List(_) | Body::Answered(_) | Body::Duplicate { .. } | Body::DeadLetter { .. } | Body::Skipped { .. } => {
        }
    }
    record
}

proptest! {
    #[test]
    fn a_profile_comes_back_whatever_its_history(
        // Instants from one end of time to the other, and such as happen.
        wild in vec(samples::record(), 0..12),
        lately in vec(samples::record().prop_map(lately), 0..60),
        retention in prop::sample::select(vec![LITTLE, Retention::default()]),
    ) {
        for history in [&wild, &lately] {
            let profile = fold(history, &retention);
            let bytes = encode(&profile);
            prop_assert_eq!(next_n(&bytes).expect("a number"), profile.next_n());
            let again = decode(&bytes).expect("decodes");
            prop_assert_eq!(&again, &profile);
            prop_assert_eq!(encode(&again), bytes);
            let before = profile_v1::encode(&profile);
            prop_assert_eq!(next_n(&before).expect("a number"), profile.next_n());
            prop_assert_eq!(decode(&before).expect("decodes"), profile);
        }
    }

    #[test]
    fn foreign_bytes_are_refused(bytes in vec(any::<u8>(), 0..200), cut in any::<prop::sample::Index>()) {
        // Whatever they are: an error or some profile, and never a panic.
        for version in [1, 2] {
            let _ = decode(&[&[version], bytes.as_slice()].concat());
            let _ = next_n(&[&[version], bytes.as_slice()].concat());
        }
        let whole = encode(&rich());
        prop_assert!(decode(&whole[..cut.index(whole.len())]).is_err());
    }
}

#[test]
fn versions_are_told() {
    assert!(matches!(decode(&[]), Err(ProfileError::Empty)));
    assert!(matches!(decode(&[3, 0]), Err(ProfileError::Version(3))));
    assert!(matches!(next_n(&[3, 0]), Err(ProfileError::Version(3))));
}

/// A payment at an instant, of an amount below 10,000.00.
fn payment(number: u64, at: Timestamp) -> Change<'static> {
    let Body::Decision(decided) = samples::decision(0, 1, number).body else { unreachable!("a decision") };
    let base = BaseMinor((number as i64 * 7_919) % 1_000_000);
    let decided: &'static Decided = Box::leak(Box::new(Decided::clone(&decided)));
    let transaction = Transaction { at, base, ..decided.transaction.clone() };
    Change::Decided(Box::leak(Box::new(transaction)), &decided.decision)
}

/// A located login at an instant.
fn login(number: u64, at: Timestamp) -> Change<'static> {
    let Body::Login(login) = samples::login(0, 1, number).body else { unreachable!("a login") };
    Change::LoggedIn(Box::leak(Box::new(Login { at, ..login })))
}

/// The limit: 64 bytes, 40 an event inside the dedupe horizon, 16 an event beyond. What the map and the allocator add is
/// in it, so that 36 bytes of the 64 are theirs (`actors::users`).
fn within_the_limit(what: &str, profile: &Profile) {
    let parts = profile.parts();
    let inside = parts.recent.len() + parts.logins.len() + parts.labels.len();
    let beyond = parts.older.len() + usize::from(parts.last_login.is_some());
    let (bytes, limit) = (encode(profile).len(), 64 - 36 + 40 * inside + 16 * beyond);
    assert!(bytes <= limit, "{what}: {bytes} bytes, {inside} events inside and {beyond} beyond the horizon");
}

#[test]
fn sizes_are_bounded() {
    // Records of others come in between: 70,000 a payment, as among a million users in 12 partitions.
    let between = 70_000;
    for events in [0, 1, 2, 5, 20, 100, 1_000] {
        for gap in [1_000, HOUR_MS, 9 * HOUR_MS, 2 * DAY_MS] {
            let mut profile = Profile::default();
            for number in 0..events {
                let at = NOON - gap * (events - number) as i64 - (number as i64 * 37_813) % gap;
                let n = 20_000_000 + number * between;
                profile.apply(payment(number, at), n, &Retention::default());
            }
            within_the_limit(&format!("{events} payments {gap} ms apart"), &profile);
            for number in 0..events.div_ceil(4) {
                let at = NOON - gap * (events - 4 * number) as i64;
                profile.apply(login(number, at), 20_000_000 + (events + number) * between, &Retention::default());
            }
            within_the_limit(&format!("{events} payments {gap} ms apart, and logins"), &profile);
        }
    }
}

#[test]
fn a_payment_takes_some_34_bytes() {
    let size = |events: u64| {
        let mut profile = Profile::default();
        for number in 0..events {
            let at = NOON - 9 * HOUR_MS * (events - number) as i64 - (number as i64 * 37_813) % HOUR_MS;
            profile.apply(payment(number, at), 20_000_000 + number * 70_000, &Retention::default());
        }
        encode(&profile).len()
    };
    // Version 1 took 14, 64, 728 and 35.
    assert_eq!((size(0), size(1), size(20), (size(20) - size(10)) / 10), (8, 45, 694, 34));
}

/// Something of everything that a profile can hold.
fn rich() -> Profile {
    let mut profile = Profile::default();
    let mut n = 100;
    let mut apply = |profile: &mut Profile, change: Change<'_>| {
        n += 3;
        profile.apply(change, n, &LITTLE);
    };
    for number in 0..30 {
        apply(&mut profile, payment(number, NOON - 45 * DAY_MS + number as i64 * (36 * HOUR_MS + 1_234)));
    }
    for number in 0..4 {
        apply(&mut profile, login(number, NOON - 12 * DAY_MS + number as i64 * (70 * HOUR_MS + 567)));
    }
    let unlocated = Login {
        location: None,
        ..match samples::login(0, 1, 9).body {
            Body::Login(login) => login,
            other => unreachable!("{other:?}"),
        }
    };
    apply(
        &mut profile,
        Change::LoggedIn(&Login { at: NOON - 204 * HOUR_MS, login_id: "l-10".into(), ..unlocated.clone() }),
    );
    apply(&mut profile, Change::LoggedIn(&Login { at: NOON, success: false, ..unlocated }));
    for record in samples::one_of_each() {
        if let Some((_, change)) = record.body.change() {
            apply(&mut profile, change);
        }
    }
    profile
}

/// Every version stays readable for ever. If this fails after a change of a stored shape, the change needs a new version;
/// if only the text differs because the core's types gained a field, write the text again with
/// `VERDICT_WRITE_GOLDEN=text cargo test -p verdict golden`. `VERDICT_WRITE_GOLDEN=all` was for the first time only.
#[test]
fn golden_versions_1_and_2_are_readable() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let write = std::env::var_os("VERDICT_WRITE_GOLDEN");
    for (name, encode) in [("v1", profile_v1::encode as fn(&Profile) -> Vec<u8>), ("v2", encode)] {
        let (binary, text) = (folder.join(format!("profile-{name}.bin")), folder.join("profile.txt"));
        if write.as_deref() == Some("all".as_ref()) {
            std::fs::write(&binary, encode(&rich())).expect("writes the profile");
        }
        let parts = decode(&std::fs::read(&binary).expect("the golden file")).expect("a profile").parts();
        if write.is_some() {
            std::fs::write(&text, format!("{parts:#?}\n")).expect("writes the text");
        }
        assert_eq!(format!("{parts:#?}\n"), std::fs::read_to_string(&text).expect("the golden text"), "{name}");
        assert!(!parts.recent.is_empty() && !parts.older.is_empty() && !parts.buckets.is_empty());
        assert!(!parts.logins.is_empty() && !parts.labels.is_empty() && !parts.entries.is_empty());
        assert!(parts.dropped.is_some() && parts.dropped_login.is_some() && parts.last_login.is_some());
        assert!(parts.last_located_login.is_some() && parts.last_login != parts.last_located_login);
    }
}

#[test]
fn coordinates_keep_every_bit() {
    let Body::Login(login) = samples::login(0, 1, 1).body else { unreachable!("a login") };
    let place = Coordinates::new(-0.0, 0.1 + 0.2).expect("a point");
    let mut profile = Profile::default();
    profile.apply(Change::LoggedIn(&Login { location: Some(place), ..login }), 0, &Retention::default());
    let again = decode(&encode(&profile)).expect("decodes");
    let found = again.last_login(NOON).expect("a login").location.expect("a place");
    assert_eq!(found.latitude().to_bits(), place.latitude().to_bits());
    assert_eq!(found.longitude().to_bits(), place.longitude().to_bits());
}
