//! A page as text, for terminals: tables have aligned columns, and control characters do not reach the terminal.

use super::view::{Block, View};

/// Renders a page.
pub(super) fn page(view: &View) -> String {
    let mut out = format!("{}\n", view.title);
    for block in &view.blocks {
        match block {
            Block::Facts(facts) => {
                out.push('\n');
                let width = facts.iter().map(|fact| fact.name.chars().count()).max().unwrap_or(0);
                for fact in facts {
                    line(&mut out, &[(clean(&fact.name), width, false), (clean(&fact.value), 0, false)]);
                }
            }
            Block::Charts(charts) => {
                out.push('\n');
                for chart in charts {
                    out.push_str(&format!(
                        "{}: {} now, {} at most in {}\n",
                        chart.name, chart.now, chart.top, chart.span
                    ));
                }
            }
            Block::Table(table) => {
                out.push('\n');
                if !table.title.is_empty() {
                    out.push_str(&format!("{}\n", clean(&table.title)));
                }
                if table.rows.is_empty() {
                    out.push_str(&format!("{}\n", table.empty));
                } else {
                    // A column of buttons is of no use here.
                    let columns: Vec<usize> =
                        (0..table.columns.len()).filter(|at| !table.columns[*at].name.is_empty()).collect();
                    let head: Vec<String> =
                        columns.iter().map(|at| table.columns[*at].name.to_uppercase()).collect();
                    let rows: Vec<Vec<String>> = table
                        .rows
                        .iter()
                        .map(|row| columns.iter().map(|at| clean(row[*at].as_text())).collect())
                        .collect();
                    let width = |at: usize| {
                        let cells = rows.iter().map(|row| row[at].chars().count());
                        cells.chain([head[at].chars().count()]).max().unwrap_or(0)
                    };
                    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
                    for row in [&head].into_iter().chain(&rows) {
                        let cells: Vec<(String, usize, bool)> = row
                            .iter()
                            .enumerate()
                            .map(|(at, cell)| {
                                (cell.clone(), widths[at], table.columns[columns[at]].is_number)
                            })
                            .collect();
                        line(&mut out, &cells);
                    }
                }
                if let Some(note) = &table.note {
                    out.push_str(&format!("{note}\n"));
                }
            }
            Block::Widget(_, text) if text.is_empty() => {}
            Block::Note(_, text) | Block::Widget(_, text) => {
                out.push_str(&format!("\n{}\n", clean_lines(text)))
            }
            Block::Filter(_) => {}
        }
    }
    out
}

/// Appends cells, each as wide as its column.
fn line(out: &mut String, cells: &[(String, usize, bool)]) {
    let mut text = String::new();
    for (cell, width, is_right) in cells {
        if !text.is_empty() {
            text.push_str("  ");
        }
        let fill = " ".repeat(width.saturating_sub(cell.chars().count()));
        match is_right {
            true => text.push_str(&(fill + cell)),
            false => text.push_str(&(cell.clone() + &fill)),
        }
    }
    out.push_str(text.trim_end());
    out.push('\n');
}

/// Returns the text on one line, without control characters.
fn clean(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect()
}

/// Returns the text without control characters except line feeds.
fn clean_lines(text: &str) -> String {
    text.lines().map(clean).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::super::view::{Cell, Fact, Table};
    use super::*;

    #[test]
    fn columns_are_aligned_and_escape_sequences_are_not_passed_on() {
        let mut table = Table::new("Methods", "none").text("name").number("calls").text("");
        table.row(vec![Cell::text("a\x1b[31m\nb"), Cell::number("7"), Cell::text("button")]);
        table.row(vec![Cell::text("é"), Cell::number("1,000"), Cell::text("button")]);
        let facts = Block::Facts(vec![Fact::new("uptime", "3 s"), Fact::new("up", "x")]);
        let view = View { title: "T", lead: String::new(), blocks: vec![facts, Block::Table(table)] };
        let expected = "T\n\nuptime  3 s\nup      x\n\nMethods\nNAME      CALLS\n\
                        a\u{fffd}[31m\u{fffd}b      7\né         1,000\n";
        assert_eq!(page(&view), expected);
    }
}
