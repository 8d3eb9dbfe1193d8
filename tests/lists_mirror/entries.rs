//! Entries that people and decisions make, change and end.

use super::pair::{Pair, mirrored};
use serde_json::json;
use verdict_tests::{now_ms, rfc3339, until};

#[test]
fn other_systems_read_what_the_service_shows() {
    let pair = Pair::start();
    assert_eq!(pair.assert_mirrored().len(), 0);
    pair.change("first");
    pair.change("second");
    assert_eq!(pair.assert_mirrored().len(), 3 * 3 + 1);
    let decision = pair.block("u-spender");
    let entries = pair.assert_mirrored();
    let blocked = &entries["verdict:block:user:u-spender"];
    assert_eq!(blocked["source"], "decision", "{decision} {blocked}");
    assert_eq!(blocked["reason"], "Daily spend threshold exceeded: 5,000.01 USD today");
    assert!(blocked["alert_id"].is_string() && blocked["expires_at"].is_string(), "{blocked}");
    let end = now_ms() + 1_000;
    pair.put("block/device/soon", &json!({"reason": "for a moment", "expires_at": rfc3339(end)}));
    let name = "verdict:block:device:soon";
    if let Some(entry) = until("the entry to be there", || {
        let entry = mirrored(&pair.redis).remove(name);
        (entry.is_some() || now_ms() >= end).then_some(entry)
    }) {
        assert_eq!(entry["expires_at"], rfc3339(end));
    }
    until("the entry to be gone", || (!mirrored(&pair.redis).contains_key(name)).then_some(()));
    assert!(now_ms() >= end, "it was gone before it ended");
    pair.assert_mirrored();
    pair.until_caught_up();
    let metrics = pair.service.get("/metrics").body;
    assert!(metrics.lines().any(|line| line == "verdict_projection_lag_records{projection=\"lists\"} 0"), "{metrics}");
}
