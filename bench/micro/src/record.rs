//! The kept record, and its comparison with new counts.
//!
//! A count that has grown by more than a twentieth fails, as do a case without a record and a record without a case.
//! If another compiler, C library or valgrind made the counts, the bound is wider: then a small difference may not
//! come from our code, but a doubling still does.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::{Deserialize, Serialize};

/// Allowed growth of a count, in per cent, if the same tools made it.
pub const GROWTH_MAX: u64 = 5;
/// Allowed growth, in per cent, if other tools made it.
pub const GROWTH_MAX_ABROAD: u64 = 25;
/// A count may always grow by this number of instructions, which register allocation can change.
pub const SLACK: u64 = 3;

/// Instructions of one operation, by the case's name.
pub type Counts = BTreeMap<String, u64>;

/// The environment that counts depend on, besides our code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MadeWith {
    /// The processor's architecture; there is one record, for one architecture.
    pub arch: String,
    /// The widest vectors that crates detect at run time; httparse does so.
    pub vectors: String,
    /// The C library: its memcpy and its allocator are counted too.
    pub libc: String,
    /// The compiler.
    pub rustc: String,
    /// The version of valgrind.
    pub valgrind: String,
}

/// The kept record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The environment in which it was made.
    pub made_with: MadeWith,
    /// Instructions of one operation, by case.
    pub instructions: Counts,
}

/// The result of comparing new counts with the record.
#[derive(Debug, PartialEq, Eq)]
pub struct Verdict {
    /// A line for each changed case, with the faults.
    pub table: String,
    /// Why the check fails; empty if it passes.
    pub faults: Vec<String>,
}

impl Record {
    /// Parses the text of a record's file.
    ///
    /// # Errors
    ///
    /// The text is not a valid record.
    pub fn parse(text: &str) -> Result<Record, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// Returns the text of its file: sorted, with one line per case.
    pub fn text(&self) -> String {
        serde_json::to_string_pretty(self).expect("strings and numbers are JSON") + "\n"
    }

    /// Compares new counts with the record. They cover all cases, or those whose names begin with `prefix`.
    pub fn compare(&self, now: &Counts, made_with: &MadeWith, prefix: &str) -> Verdict {
        let growth_max = if self.made_with == *made_with { GROWTH_MAX } else { GROWTH_MAX_ABROAD };
        let mut table = format!("{:44} {:>10} {:>10} {:>9}\n", "case", "kept", "now", "change");
        let mut faults = Vec::new();
        let kept = |name: &str| self.instructions.get(name).copied();
        for (name, now) in now {
            let Some(kept) = kept(name) else {
                faults.push(format!("{name} has no record"));
                let _ = writeln!(table, "{name:44} {:>10} {now:>10}", "-");
                continue;
            };
            let percent = 100.0 * (*now as f64 - kept as f64) / kept as f64;
            let _ = writeln!(table, "{name:44} {kept:>10} {now:>10} {percent:>+8.1}%");
            if has_grown(kept, *now, growth_max) {
                faults.push(format!(
                    "{name} took {kept} instructions and takes {now}: more than {growth_max} % over the record"
                ));
            }
        }
        let gone =
            self.instructions.keys().filter(|name| name.starts_with(prefix) && !now.contains_key(*name));
        faults.extend(gone.map(|name| format!("{name} is in the record, but there is no such case")));
        Verdict { table, faults }
    }
}

/// Returns whether a count exceeds the kept one by too much.
fn has_grown(kept: u64, now: u64, growth_max: u64) -> bool {
    now > kept + SLACK && now * 100 > kept * (100 + growth_max)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn here() -> MadeWith {
        let text = |text: &str| text.to_owned();
        MadeWith {
            arch: text("x86_64"),
            vectors: text("avx2"),
            libc: text("glibc 2.36"),
            rustc: text("1.95"),
            valgrind: text("3.19"),
        }
    }

    fn counts(counts: &[(&str, u64)]) -> Counts {
        counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    }

    fn record(instructions: &[(&str, u64)]) -> Record {
        Record { made_with: here(), instructions: counts(instructions) }
    }

    fn faults(kept: &[(&str, u64)], now: &[(&str, u64)]) -> Vec<String> {
        record(kept).compare(&counts(now), &here(), "").faults
    }

    #[test]
    fn a_count_may_grow_by_a_twentieth_and_no_more() {
        assert!(faults(&[("a", 1000)], &[("a", 1050)]).is_empty());
        let grown = faults(&[("a", 1000)], &[("a", 1051)]);
        assert_eq!(grown, ["a took 1000 instructions and takes 1051: more than 5 % over the record"]);
        // The same counts fail as soon as the record has lower ones.
        assert!(faults(&[("a", 1000), ("b", 400)], &[("a", 1000), ("b", 400)]).is_empty());
        assert_eq!(faults(&[("a", 950), ("b", 400)], &[("a", 1000), ("b", 400)]).len(), 1);
    }

    #[test]
    fn a_count_that_has_fallen_is_shown_and_passes() {
        let verdict = record(&[("a", 1000)]).compare(&counts(&[("a", 500)]), &here(), "");
        assert!(verdict.faults.is_empty());
        assert!(verdict.table.contains("1000") && verdict.table.contains("-50.0%"), "{}", verdict.table);
    }

    #[test]
    fn a_few_instructions_are_tolerated() {
        assert!(faults(&[("a", 14)], &[("a", 17)]).is_empty());
        assert_eq!(faults(&[("a", 14)], &[("a", 18)]).len(), 1);
    }

    #[test]
    fn cases_and_records_come_in_pairs() {
        assert_eq!(faults(&[("a", 10)], &[("a", 10), ("b", 10)]), ["b has no record"]);
        assert_eq!(
            faults(&[("a", 10), ("b", 10)], &[("a", 10)]),
            ["b is in the record, but there is no such case"]
        );
    }

    #[test]
    fn some_cases_are_compared_with_their_records() {
        let record = record(&[("codec/a", 10), ("wire/b", 10)]);
        assert!(record.compare(&counts(&[("wire/b", 10)]), &here(), "wire/").faults.is_empty());
        assert_eq!(record.compare(&counts(&[]), &here(), "wire/").faults.len(), 1);
    }

    #[test]
    fn counts_of_other_tools_have_a_wider_bound() {
        let abroad = MadeWith { rustc: "1.96".to_owned(), ..here() };
        let compare = |now| record(&[("a", 1000)]).compare(&counts(&[("a", now)]), &abroad, "").faults;
        assert!(compare(1250).is_empty());
        assert_eq!(compare(1251).len(), 1);
    }

    #[test]
    fn a_record_is_sorted_with_one_line_per_case() {
        let record = record(&[("b", 2), ("a/x", 1)]);
        let text = record.text();
        assert_eq!(Record::parse(&text).unwrap(), record);
        let at = |line: &str| text.lines().position(|found| found.trim() == line).unwrap();
        assert_eq!(at("\"a/x\": 1,") + 1, at("\"b\": 2"));
        assert!(Record::parse("{}").is_err());
    }
}
