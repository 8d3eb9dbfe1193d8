//! The base currency of a data folder, which never changes: every profile holds its sums in it. The journal says which one
//! it is, by the rule sets that decided; nothing else is stored for it.

use super::archive::Archive;
use crate::journal::record::Body;
use crate::journal::{Journal, Partition, Wanted};
use anyhow::{Context as _, bail};
use futures_util::TryStreamExt;
use std::path::Path;
use tracing::warn;
use verdict_core::money::Currency;

/// Refuses a base currency that is not the one of the payments in the journal.
///
/// # Errors
/// It is another, or the journal cannot be read.
pub(super) async fn check(base: Currency, dir: &Path, archive: &Archive, journal: &dyn Journal) -> anyhow::Result<()> {
    let Some(ruleset) = deciding_ruleset(journal).await? else { return Ok(()) };
    let archive = archive.clone();
    let read = tokio::task::spawn_blocking(move || archive.ruleset(&ruleset)).await;
    let recorded = match read.context("reading the archive")? {
        Ok(rulebook) => rulebook.rules().rates().base(),
        Err(why) => {
            warn!(
                why = format!("{why:#}"),
                "cannot tell which base currency the payments in the journal were summed in; trusting fx.yaml"
            );
            return Ok(());
        }
    };
    if recorded != base {
        bail!(
            "fx.yaml: expected the base currency {recorded} of the payments in {}, found {base}: every profile holds its \
             sums in it; put {recorded} back, or start with an empty data folder",
            dir.display()
        );
    }
    Ok(())
}

/// Hash of a rule set that decided something here; `None` if nothing was ever decided. Any will do: no start and no
/// reload lets another base currency in.
async fn deciding_ruleset(journal: &dyn Journal) -> anyhow::Result<Option<[u8; 32]>> {
    let ends: Vec<u64> = journal.durable().borrow().clone();
    let partitions = || (0..journal.partitions()).zip(ends.iter().copied());
    // Nearly always one of the newest records is a decision, and an old segment need not be read.
    for (partition, end) in partitions().filter(|(_, end)| *end > 0) {
        if let Some(record) = journal.read(partition, end - 1).await?
            && let Body::Decision(decided) = record.body
        {
            return Ok(Some(decided.generation.ruleset_hash));
        }
    }
    let everything: Vec<(Partition, u64)> =
        partitions().map(|(partition, _)| (partition, journal.first(partition))).collect();
    let mut records = journal.replay(everything, Wanted::Everything);
    while let Some(record) = records.try_next().await? {
        if let Body::Decision(decided) = record.body {
            return Ok(Some(decided.generation.ruleset_hash));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::journal::MemoryJournal;
    use crate::journal::record::{Generation, Record, samples};
    use crate::rulebook::Rulebook;
    use std::fs;
    use std::sync::Arc;
    use tempfile::TempDir;

    fn currency(code: &str) -> Currency {
        Currency::from_code(code).unwrap()
    }

    /// A rule set with this base currency, archived in the data folder.
    fn archived(data: &TempDir, code: &str) -> [u8; 32] {
        let rules = data.path().join("rules");
        fs::create_dir_all(rules.join("default")).unwrap();
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../rules/default/ruleset.yaml");
        fs::copy(shipped, rules.join("default/ruleset.yaml")).unwrap();
        fs::write(rules.join("fx.yaml"), format!("base: {code}\n")).unwrap();
        let book = Rulebook::load(&rules, "default").unwrap();
        book.archive(data.path()).unwrap();
        book.rules().hash()
    }

    /// The archive of the data folder alone.
    fn archive(data: &TempDir) -> Archive {
        let mut config = Config::default();
        config.data.dir = data.path().into();
        Archive::of(&config)
    }

    fn decision(n: u64, ruleset_hash: [u8; 32]) -> Record {
        let mut record = samples::decision(1, 1, n);
        if let Body::Decision(decided) = &mut record.body {
            let decided = Arc::make_mut(decided);
            decided.generation = Arc::new(Generation { ruleset_hash, ..(*decided.generation).clone() });
        }
        record
    }

    async fn journal(records: Vec<Record>) -> MemoryJournal {
        let journal = MemoryJournal::new(2, true);
        journal.take_over(vec![0, 1]).await.unwrap();
        journal.append(records).await.unwrap();
        journal
    }

    #[actix::test]
    async fn another_base_than_that_of_the_payments_is_refused() {
        let data = tempfile::tempdir().unwrap();
        let usd = archived(&data, "USD");
        // Of a start that decided nothing.
        archived(&data, "EUR");
        let histories = [
            ("the newest record decides", vec![samples::login(1, 1, 0), decision(1, usd)]),
            ("an older one", vec![samples::login(1, 1, 0), decision(1, usd), samples::login(1, 1, 2)]),
        ];
        for (name, records) in histories {
            let journal = journal(records).await;
            check(currency("USD"), data.path(), &archive(&data), &journal).await.unwrap();
            let refused = check(currency("EUR"), data.path(), &archive(&data), &journal).await.unwrap_err().to_string();
            assert!(refused.contains("expected the base currency USD of the payments in "), "{name}: {refused}");
            assert!(refused.contains("found EUR") && refused.contains("put USD back"), "{name}: {refused}");
        }
    }

    #[actix::test]
    async fn without_payments_or_their_rule_set_any_base_will_do() {
        let data = tempfile::tempdir().unwrap();
        archived(&data, "USD");
        for records in [vec![], vec![samples::login(0, 1, 0)], vec![decision(0, [7; 32])]] {
            check(currency("EUR"), data.path(), &archive(&data), &journal(records).await).await.unwrap();
        }
    }
}
