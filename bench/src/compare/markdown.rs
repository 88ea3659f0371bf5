//! The table for a README: server CPU time per call by load, and its ratio to coreloop's.

use std::fmt::Write;

use super::record::{Cell, Limit, Record, Setting};
use super::text::is_disturbed;

/// The loads of the table, with their column titles.
const LOADS: [(&str, &str); 4] =
    [("1x1", "1 × 1"), ("64x1", "64 × 1"), ("64x16", "64 × 16"), ("400x1", "400 × 1")];

/// Renders the table in GitHub's Markdown.
pub fn render(record: &Record) -> String {
    let settings = &record.settings;
    let mut text = format!(
        "Server CPU time per call, in µs, at connections × calls in flight on each; in brackets the ratio to coreloop \
         called in the same way. {}, {} cores, Linux {}; {}; medians of {} rounds of {} s.{}\n\n",
        cell_text(&record.machine.cpu),
        record.machine.cores,
        record.machine.kernel,
        record.began.split(' ').next().unwrap_or_default(),
        settings.rounds,
        settings.seconds,
        if settings.quick {
            " A smoke run: it shows that the measurement works, not how fast anything is."
        } else {
            ""
        },
    );
    let loads: Vec<_> = LOADS.iter().filter(|(load, _)| of(record, load).next().is_some()).collect();
    let _ = write!(text, "| server | called by |");
    loads.iter().for_each(|(_, heading)| {
        let _ = write!(text, " {heading} |");
    });
    text += "\n|---|---|";
    loads.iter().for_each(|_| text += "---:|");
    text.push('\n');
    for peer in &record.peers {
        let base = record.base_of(peer);
        let cells: Vec<Option<&Cell>> =
            loads.iter().map(|(load, _)| of(record, load).find(|cell| cell.peer == peer.name)).collect();
        if cells.iter().all(Option::is_none) {
            continue;
        }
        let _ = write!(text, "| {} | {} |", cell_text(&peer.title), cell_text(&peer.client));
        for cell in cells {
            let cost = cell.and_then(|cell| Some((cell, cell.server_us_per_call()?)));
            let Some((cell, cost)) = cost else {
                text += " |";
                continue;
            };
            let _ = write!(text, " {}", digits(cost.median));
            if peer.name != base
                && let Some(ratio) = record.cpu_ratio(cell, base)
            {
                let _ = write!(text, " ({} ×)", digits(ratio.median));
            }
            if cell.limit() == Limit::Client && cell.depth > 1 {
                text += " ¹";
            }
            if is_disturbed(&cell.runs) {
                text += " ²";
            }
            text += " |";
        }
        text.push('\n');
    }
    if text.contains('¹') {
        text += "\n¹ The client was the bottleneck: the server was not full, and a full one does more for each wake-up.\n";
    }
    if text.contains('²') {
        text += "\n² Disturbed in at least one round: something else ran on the client's core, or the hypervisor took the cores.\n";
    }
    text
}

fn of<'a>(record: &'a Record, load: &'a str) -> impl Iterator<Item = &'a Cell> {
    record.capacity.iter().filter(move |cell| {
        cell.setting == Setting::Apart && cell.call == "add" && cell.load() == load && !cell.runs.is_empty()
    })
}

/// Formats a value with three significant digits.
fn digits(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

/// Escapes a cell's text, so that it neither ends the cell nor contains HTML.
fn cell_text(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;").replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::super::record::sample::sample;
    use super::*;

    #[test]
    fn row_has_the_cost_and_the_ratio_to_coreloop() {
        let mut record = sample();
        record.peers[1].title = "a|b <1.0>".into();
        let text = render(&record);
        assert!(text.contains("| server | called by | 64 × 1 |\n|---|---|---:|\n"), "{text}");
        assert!(text.contains("| a\\|b &lt;1.0> | loadgen | 20.0 (5.00 ×) |"), "{text}");
        assert!(text.contains("| loadgen | 4.00 |"), "{text}");
    }

    #[test]
    fn unmeasured_loads_have_no_column() {
        let mut record = sample();
        record.capacity[1].depth = 16;
        record.capacity[1].runs.iter_mut().for_each(|run| run.server_share = Some(0.5));
        let text = render(&record);
        assert!(text.contains("| 64 × 1 | 64 × 16 |") && !text.contains("400"), "{text}");
        assert!(text.contains("| | 20.0 ¹ |") && text.contains("\n¹ "), "{text}");
        assert!(!text.contains('²'), "{text}");
        record.capacity[1].runs[0].against = vec!["disturbed".into()];
        let text = render(&record);
        assert!(text.contains("| | 20.0 ¹ ² |") && text.contains("\n² Disturbed"), "{text}");
    }
}
