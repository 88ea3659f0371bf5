//! Reports the runs: the medians of each variant, and a table for each set.

use serde::Serialize;

use super::sets::{Group, Set, Variant};
use super::{Counted, Run};
use crate::table::Spread;

/// The medians over the rounds of one variant.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub set: &'static str,
    pub group: &'static str,
    pub variant: &'static str,
    pub cpu_us_per_call: Spread,
    /// Ratio to the first variant of the group, within each round.
    pub cpu_ratio: Spread,
    pub calls_per_s: Spread,
    pub p50_us: Spread,
    pub client_us_per_call: Spread,
    pub cores_used: Spread,
    pub counted: Counted,
}

impl Row {
    /// Computes the row of one variant from the set's runs; `None` if it has no runs.
    pub fn of(set: &Set, group: &Group, variant: &Variant, runs: &[Run], counted: Counted) -> Option<Row> {
        let of = |name| runs.iter().filter(move |run| run.group == group.name && run.variant == name);
        let spread = |value: fn(&Run) -> f64| Spread::of(of(variant.name).map(value));
        let ratios = of(variant.name).filter_map(|run| {
            let whole = of(group.variants[0].name).find(|whole| whole.round == run.round)?;
            Some(run.cpu_us_per_call / whole.cpu_us_per_call)
        });
        Some(Row {
            set: set.name,
            group: group.name,
            variant: variant.name,
            cpu_us_per_call: spread(|run| run.cpu_us_per_call)?,
            cpu_ratio: Spread::of(ratios)?,
            calls_per_s: spread(|run| run.calls_per_s)?,
            p50_us: spread(|run| run.p50_us)?,
            client_us_per_call: spread(|run| run.client_us_per_call)?,
            cores_used: spread(|run| run.cores_used)?,
            counted,
        })
    }
}

/// Renders the table of a set as Markdown.
pub fn markdown(set: &Set, rows: &[Row]) -> String {
    let mut text = format!(
        "### `{}`\n\n| load | | server CPU, µs a call | × the first | calls/s | system calls a call | \
         allocations a call | allocations/s |\n|---|---|---|---|---|---|---|---|\n",
        set.name
    );
    for row in rows {
        let counted = &row.counted;
        text += &format!(
            "| {} | {} | {} | {} | {:.0} | {} | {} | {} |\n",
            row.group,
            row.variant,
            row.cpu_us_per_call.text(2),
            row.cpu_ratio.text(2),
            row.calls_per_s.median,
            counted.syscalls_per_call.map_or("–".into(), |count| format!("{count:.2}")),
            few(counted.allocations_per_call),
            thousands(counted.allocations_per_s),
        );
    }
    text
}

/// Formats a count and rounds small fractions away: what a server does once a second is not part of a call.
fn few(count: f64) -> String {
    if count < 0.001 { "0".into() } else { format!("{count:.3}") }
}

fn thousands(per_s: f64) -> String {
    match per_s {
        per_s if per_s >= 9_999.5 => format!("{:.0} k", per_s / 1e3),
        per_s => format!("{per_s:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::picture;
    use super::super::sets::SETS;
    use super::*;

    fn run(set: &Set, group: &Group, variant: &Variant, round: u32, cpu_us_per_call: f64) -> Run {
        Run {
            set: set.name,
            group: group.name,
            variant: variant.name,
            round,
            calls_per_s: 1e6 / cpu_us_per_call,
            p50_us: 400.0,
            cpu_us_per_call,
            client_us_per_call: 0.5,
            cores_used: 1.0,
            remarks: Vec::new(),
        }
    }

    fn rows(set: &Set) -> Vec<Row> {
        let mut runs = Vec::new();
        for round in 1..=3 {
            for group in set.groups {
                for (at, variant) in group.variants.iter().enumerate() {
                    runs.push(run(set, group, variant, round, (at + 1) as f64 * f64::from(round)));
                }
            }
        }
        let counted = Counted { allocations_per_call: 0.25, allocations_per_s: 1e5, syscalls_per_call: None };
        let all =
            set.groups.iter().flat_map(|group| group.variants.iter().map(move |variant| (group, variant)));
        all.filter_map(|(group, variant)| Row::of(set, group, variant, &runs, counted)).collect()
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        let set = &SETS[0];
        let rows = rows(set);
        assert_eq!(rows.len(), set.groups.iter().map(|group| group.variants.len()).sum::<usize>());
        // In the last round the machine was three times slower, for all variants alike.
        assert_eq!((rows[1].cpu_us_per_call.min, rows[1].cpu_us_per_call.max), (2.0, 6.0));
        assert_eq!(rows[1].cpu_ratio, Spread { median: 2.0, min: 2.0, max: 2.0 });
        let text = markdown(set, &rows[1..2]);
        let name = set.groups[0].variants[1].name;
        let want = format!(
            "| {} | {name} | 4.00 [2.00–6.00] | 2.00 [2.00–2.00] | 250000 | – | 0.250 | 100 k |",
            set.groups[0].name
        );
        assert!(text.contains(&want), "{text}");
    }

    #[test]
    fn the_picture_of_every_set_is_complete() {
        for set in &SETS {
            let svg = picture::draw(set, &rows(set)).expect("it draws");
            assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
            for group in set.groups {
                assert!(svg.contains(group.name), "{}", group.name);
                for variant in group.variants {
                    assert!(svg.contains(variant.name), "{}", variant.name);
                }
            }
            assert!(!svg.contains("href") && !svg.contains("NaN"), "{}", set.name);
        }
    }
}
