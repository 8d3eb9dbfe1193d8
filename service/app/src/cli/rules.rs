//! `verdict rules`: checks rule sets, and runs the cases beside them.

use crate::rulebook::cases::{self, CASES_FILE, Case};
use crate::rulebook::{RULESET_FILE, Rulebook};
use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use std::io::Write;
use std::path::{Path, PathBuf};
use verdict_core::rules::SourceFile;

/// Check rule sets, or run their cases.
///
/// DIR is the folder of one rule set (with `ruleset.yaml`), or the folder that holds them all (with `fx.yaml`).
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  verdict rules check
  verdict rules test rules/default")]
pub struct RulesArgs {
    /// What to do.
    #[command(subcommand)]
    pub action: RulesAction,
}

/// What to do with rule sets.
#[derive(Clone, Debug, Subcommand)]
pub enum RulesAction {
    /// Compile rule sets; list every error with file, line and column
    Check {
        /// Folder of one rule set or of all
        #[arg(default_value = "rules")]
        dir: PathBuf,
    },
    /// Compile rule sets and run the histories in their cases.yaml
    Test {
        /// Folder of one rule set or of all
        #[arg(default_value = "rules")]
        dir: PathBuf,
    },
}

/// Runs the command. What was found goes to stdout.
///
/// # Errors
/// No rule set is there, one has errors, or a case fails.
pub fn run(args: &RulesArgs) -> anyhow::Result<()> {
    let (dir, test) = match &args.action {
        RulesAction::Check { dir } => (dir, false),
        RulesAction::Test { dir } => (dir, true),
    };
    let mut out = std::io::stdout().lock();
    let sets = sets_in(dir)?;
    let mut failed = 0;
    for (rules_dir, set) in &sets {
        if !judge(rules_dir, set, test, &mut out)? {
            failed += 1;
        }
    }
    if failed > 0 {
        bail!("{failed} of {} rule sets failed", sets.len());
    }
    Ok(())
}

/// The folder of all sets and the name of each set that is meant.
fn sets_in(dir: &Path) -> anyhow::Result<Vec<(PathBuf, String)>> {
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    if dir.join(RULESET_FILE).is_file() {
        let full = dir.canonicalize().with_context(|| format!("{} cannot be read", dir.display()))?;
        let set = name(&full).with_context(|| format!("{} has no name", dir.display()))?;
        // As it was written where that is possible, so that errors show the path that people know.
        let parent = match dir.parent() {
            Some(parent) if name(dir).as_ref() == Some(&set) => parent.to_owned(),
            _ => full.parent().unwrap_or(&full).to_owned(),
        };
        return Ok(vec![(parent, set)]);
    }
    let entries = std::fs::read_dir(dir).with_context(|| format!("{} cannot be read", dir.display()))?;
    let mut sets: Vec<String> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.join(RULESET_FILE).is_file())
        .filter_map(|path| name(&path))
        .collect();
    sets.sort();
    if sets.is_empty() {
        bail!("expected {RULESET_FILE} in {} or in a folder of it, found none", dir.display());
    }
    Ok(sets.into_iter().map(|set| (dir.to_owned(), set)).collect())
}

/// Whether one set is in order; says why not.
fn judge(rules_dir: &Path, set: &str, test: bool, out: &mut impl Write) -> anyhow::Result<bool> {
    let book = match Rulebook::load(rules_dir, set) {
        Ok(book) => book,
        Err(error) => {
            writeln!(out, "{error}")?;
            return Ok(false);
        }
    };
    let rules = book.rules();
    let count = rules.rules().len();
    let path = rules_dir.join(set).join(CASES_FILE);
    // The cases are part of the set: what `check` lets through, `test` can run.
    let Some(cases) = read_cases(&path, &book, out)? else { return Ok(false) };
    if !test {
        writeln!(out, "{set}: {count} rules and {} cases, no errors", cases.len())?;
        return Ok(true);
    }
    if cases.is_empty() {
        writeln!(out, "{}: expected cases to run, found none", path.display())?;
        return Ok(false);
    }
    let outcomes = cases::run(rules, &cases);
    for failure in &outcomes.failures {
        writeln!(out, "{}:{failure}", path.display())?;
    }
    for rule in rules.rules().iter().filter(|rule| !outcomes.fired.contains(&*rule.id)) {
        writeln!(out, "{set}: note: rule {} fires in no case", rule.id)?;
    }
    let failed = outcomes.failures.len();
    let expectations = outcomes.expectations;
    writeln!(out, "{set}: {count} rules, {} cases, {expectations} expectations, {failed} not met", cases.len())?;
    Ok(failed == 0)
}

/// The cases beside a set, none without a file; `None` after errors.
fn read_cases(path: &Path, book: &Rulebook, out: &mut impl Write) -> anyhow::Result<Option<Vec<Case>>> {
    if !path.exists() {
        return Ok(Some(Vec::new()));
    }
    let text = std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
    match cases::read(&SourceFile { path: &path.to_string_lossy(), text: &text }, book.rules()) {
        Ok(cases) => Ok(Some(cases)),
        Err(faults) => {
            for fault in faults {
                writeln!(out, "{fault}")?;
            }
            Ok(None)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(name: &str, ruleset: &str, cases: Option<&str>) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join(name);
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(folder.path().join("fx.yaml"), "base: USD\n").unwrap();
        std::fs::write(dir.join(RULESET_FILE), ruleset).unwrap();
        if let Some(cases) = cases {
            std::fs::write(dir.join(CASES_FILE), cases).unwrap();
        }
        folder
    }

    fn judged(folder: &Path, test: bool) -> (bool, String) {
        let mut out = Vec::new();
        let fine = judge(folder, "s", test, &mut out).unwrap();
        (fine, String::from_utf8(out).unwrap())
    }

    const RULE: &str =
        "rules: [{id: big, version: 1, when: amount > 5.0, outcome: review, reason: {code: BIG, message: m}}]\n";

    #[test]
    fn what_check_and_test_say() {
        let bad = set("s", "rules: [{id: big}]\n", None);
        let (fine, said) = judged(bad.path(), false);
        assert!(!fine && said.contains("ruleset.yaml:1:9: expected a value for \"when\""), "{said}");

        let case = |decision: &str| {
            format!(
                "cases: [{{name: c, events: [{{transaction: {{at: 0s, expect: {{decision: {decision}, reasons: [BIG]}}}}}}]}}]\n"
            )
        };
        let good = set("s", RULE, Some(&case("review")));
        assert_eq!(judged(good.path(), false), (true, "s: 1 rules and 1 cases, no errors\n".to_owned()));
        assert_eq!(judged(good.path(), true), (true, "s: 1 rules, 1 cases, 1 expectations, 0 not met\n".to_owned()));

        let failing = set("s", RULE, Some(&case("approve")));
        let (fine, said) = judged(failing.path(), true);
        assert!(!fine && said.contains("cases.yaml:1:59: c: expected approve [BIG], found review [BIG]"), "{said}");

        let without = set("s", RULE, None);
        assert!(judged(without.path(), false).0);
        assert!(!judged(without.path(), true).0);
        let (fine, said) = judged(set("s", RULE, Some("cases: 5\n")).path(), false);
        assert!(!fine && said.contains("cases.yaml:1:8: expected cases as a list"), "{said}");
    }

    #[test]
    fn which_sets_are_meant() {
        let folder = set("s", RULE, None);
        let found = |dir: &Path| sets_in(dir).map(|sets| sets.into_iter().map(|(_, set)| set).collect::<Vec<_>>());
        assert_eq!(found(folder.path()).unwrap(), ["s"]);
        assert_eq!(found(&folder.path().join("s")).unwrap(), ["s"]);
        assert_eq!(found(&folder.path().join("s/../s/.")).unwrap(), ["s"]);
        assert!(found(&folder.path().join("t")).is_err());
        assert!(found(tempfile::tempdir().unwrap().path()).is_err());
        let args = RulesArgs { action: RulesAction::Check { dir: folder.path().join("s") } };
        assert!(run(&args).is_ok());
    }
}
