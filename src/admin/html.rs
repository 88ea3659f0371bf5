//! A page as HTML. Every text goes through [`escaped`]; styles and scripts are files of their own, since the policy of the
//! pages allows no others.

use std::fmt::Write;

use super::view::{Block, Cell, Chart, Table, Tone, View};

/// The width and the height of the lines of a chart, in units of its own.
const CHART: (f64, f64) = (300.0, 56.0);

/// What surrounds a page.
pub(super) struct Frame<'a> {
    /// The path of the page.
    pub(super) path: &'a str,
    /// Path and query of the page's events; empty if it does not change.
    pub(super) events: String,
    /// The name of the application; empty if it has none.
    pub(super) application: &'a str,
    /// The pages: path and title.
    pub(super) pages: &'a [(&'static str, &'static str)],
    /// Changes with the style and the script, which browsers keep.
    pub(super) version: &'a str,
}

/// Returns the text as it is in HTML, also inside the quotes of an attribute.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // HTML has no form for it.
            '\0' => out.push('\u{fffd}'),
            letter => out.push(letter),
        }
    }
    out
}

/// Renders a whole document.
pub(super) fn document(view: &View, frame: &Frame<'_>) -> String {
    let Frame { path, events, application, pages, version } = frame;
    let (title, version, events) = (escaped(view.title), escaped(version), escaped(events));
    let name = if application.is_empty() { "coreloop" } else { application };
    let name = escaped(name);
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{title} · {name}</title>\n\
         <link rel=\"icon\" href=\"/assets/icon.svg?{version}\">\n\
         <link rel=\"stylesheet\" href=\"/assets/console.css?{version}\">\n\
         <script defer src=\"/assets/console.js?{version}\"></script>\n</head>\n<body data-events=\"{events}\">\n\
         <a class=\"skip\" href=\"#main\">Skip to the content</a>\n<header class=\"top\">\n\
         <a class=\"brand\" href=\"/\"><svg viewBox=\"0 0 32 32\" aria-hidden=\"true\"><circle cx=\"16\" cy=\"16\" r=\"11\"/>\
         <circle class=\"dot\" cx=\"27\" cy=\"16\" r=\"4\"/></svg>{name}</a>\n<nav aria-label=\"Pages\">"
    );
    for (at, name) in *pages {
        let current = if at == path { " aria-current=\"page\"" } else { "" };
        let _ = write!(out, "<a href=\"{at}\"{current}>{name}</a>");
    }
    out.push_str("</nav>\n<button type=\"button\" id=\"live\" class=\"quiet\" aria-pressed=\"true\" hidden>Live</button>\n</header>\n");
    let _ = write!(
        out,
        "<main id=\"main\" tabindex=\"-1\">\n<div class=\"heading\"><h1>{title}</h1><p class=\"lead\">{}</p></div>\n",
        escaped(&view.lead)
    );
    for block in &view.blocks {
        if let Block::Filter(fields) = block {
            filter(&mut out, path, fields);
        }
    }
    let _ = write!(out, "<div id=\"region\">{}</div>\n</main>\n</body>\n</html>\n", region(view));
    out
}

fn filter(out: &mut String, path: &str, fields: &[super::view::FilterField]) {
    let _ = write!(out, "<form class=\"filter\" method=\"get\" action=\"{path}\">");
    for field in fields {
        let (name, label, value) = (field.name, field.label, escaped(&field.value));
        let _ = write!(out, "<label>{label} ");
        if field.options.is_empty() {
            let _ = write!(
                out,
                "<input name=\"{name}\" value=\"{value}\" autocomplete=\"off\" spellcheck=\"false\">"
            );
        } else {
            let _ = write!(out, "<select name=\"{name}\">");
            for (option, text) in &field.options {
                let selected = if *option == field.value { " selected" } else { "" };
                let _ =
                    write!(out, "<option value=\"{}\"{selected}>{}</option>", escaped(option), escaped(text));
            }
            out.push_str("</select>");
        }
        out.push_str("</label>");
    }
    out.push_str("<button>Show</button></form>\n");
}

/// Renders the part of a page that changes.
pub(super) fn region(view: &View) -> String {
    let mut out = String::new();
    for block in &view.blocks {
        match block {
            Block::Facts(facts) => {
                out.push_str("<dl class=\"facts\">");
                for fact in facts {
                    let (tone, name, value) = (fact.tone.name(), escaped(&fact.name), escaped(&fact.value));
                    let _ = write!(out, "<div class=\"{tone}\"><dt>{name}</dt><dd>{value}</dd></div>");
                }
                out.push_str("</dl>");
            }
            Block::Charts(charts) => {
                out.push_str("<div class=\"charts\">");
                charts.iter().for_each(|one| chart(&mut out, one));
                out.push_str("</div>");
            }
            Block::Table(one) => table(&mut out, one),
            Block::Note(tone, text) => {
                let _ = write!(out, "<p class=\"note {}\">{}</p>", tone.name(), escaped(text));
            }
            Block::Filter(_) => {}
            Block::Widget(name, text) => {
                let _ = write!(
                    out,
                    "<div data-widget=\"{name}\"><pre class=\"fallback\">{}</pre></div>",
                    escaped(text)
                );
            }
        }
    }
    out
}

fn chart(out: &mut String, chart: &Chart) {
    let (name, now, top, span) = (chart.name, escaped(&chart.now), escaped(&chart.top), escaped(&chart.span));
    let largest = chart.lines.iter().flat_map(|line| line.values.iter().copied()).fold(0.0, f64::max);
    let largest = if largest > 0.0 { largest } else { 1.0 };
    let (width, height) = CHART;
    let _ = write!(
        out,
        "<figure class=\"chart\"><figcaption>{name}<strong>{now}</strong></figcaption>\
         <svg role=\"img\" aria-label=\"{name}: {now} now, {top} at most in {span}\" viewBox=\"0 0 {width} {height}\" \
         preserveAspectRatio=\"none\"><path class=\"grid\" d=\"M0 {0}H{width}M0 {height}H{width}\"/>",
        height / 2.0
    );
    for (at, line) in chart.lines.iter().enumerate().rev() {
        // The newest value is at the right edge; a chart that has just begun grows from there.
        let step = width / (line.values.len().max(60) - 1) as f64;
        let first = width - step * line.values.len().saturating_sub(1) as f64;
        let mut path = String::new();
        for (index, value) in line.values.iter().enumerate() {
            let (x, y) = (first + step * index as f64, height - 1.0 - value / largest * (height - 4.0));
            let _ = write!(path, "{}{x:.1} {y:.1}", if index == 0 { 'M' } else { 'L' });
        }
        if path.is_empty() {
            continue;
        }
        if at == 0 {
            let _ = write!(
                out,
                "<path class=\"area {}\" d=\"{path}L{width} {height}L{first:.1} {height}Z\"/>",
                line.tone.name()
            );
        }
        let place = if at == 0 { "front" } else { "back" };
        let _ = write!(out, "<path class=\"line {place} {}\" d=\"{path}\"/>", line.tone.name());
    }
    out.push_str("</svg><p>");
    for (at, line) in chart.lines.iter().enumerate().filter(|_| chart.lines.len() > 1) {
        let place = if at == 0 { "front" } else { "back" };
        let _ = write!(out, "<span class=\"key {place} {}\">{}</span>", line.tone.name(), line.name);
    }
    let _ = write!(out, "<span class=\"top\">max {top}</span><span>{span}</span></p></figure>");
}

fn table(out: &mut String, table: &Table) {
    let title = escaped(&table.title);
    out.push_str("<section class=\"table\">");
    if !title.is_empty() {
        let _ = write!(out, "<h2>{title}</h2>");
    }
    if table.rows.is_empty() {
        let _ = write!(out, "<p class=\"empty\">{}</p>", table.empty);
    } else {
        let label = if title.is_empty() { "Table".to_owned() } else { title };
        let _ = write!(
            out,
            "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{label}\"><table><thead><tr>"
        );
        let class = |column: &super::view::Column| match (column.is_number, column.is_wide) {
            (true, _) => " class=\"number\"",
            (_, true) => " class=\"wide\"",
            _ => "",
        };
        for column in &table.columns {
            match column.name {
                "" => out.push_str("<td></td>"),
                name => drop(write!(out, "<th scope=\"col\"{}>{name}</th>", class(column))),
            }
        }
        out.push_str("</tr></thead><tbody>");
        for row in &table.rows {
            out.push_str("<tr>");
            for (cell, column) in row.iter().zip(&table.columns) {
                let _ = write!(out, "<td{} data-label=\"{}\">", class(column), column.name);
                self::cell(out, cell);
                out.push_str("</td>");
            }
            out.push_str("</tr>");
        }
        out.push_str("</tbody></table></div>");
    }
    if let Some(note) = &table.note {
        let _ = write!(out, "<p class=\"more\">{}</p>", escaped(note));
    }
    out.push_str("</section>");
}

fn cell(out: &mut String, cell: &Cell) {
    let _ = match cell {
        Cell::Text(text) | Cell::Number(text) => write!(out, "{}", escaped(text)),
        Cell::Code(text) => write!(out, "<code>{}</code>", escaped(text)),
        Cell::Tag(tone, text) => write!(out, "<span class=\"tag {}\">{}</span>", tone.name(), escaped(text)),
        Cell::Link { href, text } => {
            write!(out, "<a href=\"{}\"><code>{}</code></a>", escaped(href), escaped(text))
        }
        Cell::Bar(share, tone, text) => {
            bar(out, 0.0, *share, *tone, "bar");
            write!(out, "<span class=\"beside\">{}</span>", escaped(text))
        }
        Cell::Time { begin, length, tone, text } => {
            bar(out, *begin, *length, *tone, "time");
            write!(out, "<span class=\"beside\">{}</span>", escaped(text))
        }
        Cell::Button { path, fields, text, name } => {
            let _ = write!(out, "<form method=\"post\" action=\"{path}\" data-action>");
            for (key, value) in fields {
                let _ = write!(out, "<input type=\"hidden\" name=\"{key}\" value=\"{}\">", escaped(value));
            }
            write!(out, "<button class=\"small\" aria-label=\"{}\">{text}</button></form>", escaped(name))
        }
    };
}

/// A bar from `begin` on, both as shares of 1. Its sizes are attributes, since the policy allows no styles in elements.
fn bar(out: &mut String, begin: f64, length: f64, tone: Tone, class: &str) {
    let (begin, length) = (begin.clamp(0.0, 1.0), length.clamp(0.0, 1.0));
    // A short part is visible; none is not.
    let length = if length > 0.0 { length.max(0.004) } else { 0.0 };
    let begin = begin.min(1.0 - length);
    let _ = write!(
        out,
        "<svg class=\"{class}\" aria-hidden=\"true\"><rect class=\"track\" width=\"100%\" height=\"100%\" rx=\"2\"/>\
         <rect class=\"{}\" x=\"{:.2}%\" width=\"{:.2}%\" height=\"100%\" rx=\"2\"/></svg>",
        tone.name(),
        begin * 100.0,
        length * 100.0
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::view::{Fact, FilterField};

    const ODD: &str = "<img src=x onerror=\"alert('1')\">&\0\n";

    #[test]
    fn no_text_becomes_markup() {
        let mut table = Table::new(ODD, "none").text("a").text("b").text("c").text("d").text("e").text("f");
        table.row(vec![
            Cell::text(ODD),
            Cell::code(ODD),
            Cell::Tag(Tone::Bad, ODD.into()),
            Cell::Link { href: ODD.into(), text: ODD.into() },
            Cell::Time { begin: 0.0, length: 2.0, tone: Tone::Good, text: ODD.into() },
            Cell::Button { path: "/x", fields: vec![("id", ODD.into())], text: "Cancel", name: ODD.into() },
        ]);
        table.note = Some(ODD.into());
        let option = (ODD.to_owned(), ODD.to_owned());
        let filter = FilterField { name: "a", label: "A", value: ODD.into(), options: Vec::new() };
        let choice = FilterField { name: "b", label: "B", value: ODD.into(), options: vec![option] };
        let view = View {
            title: "T",
            lead: ODD.into(),
            blocks: vec![
                Block::Filter(vec![filter, choice]),
                Block::Facts(vec![Fact::new(ODD, ODD)]),
                Block::Note(Tone::Warn, ODD.into()),
                Block::Widget("w", ODD.into()),
                Block::Table(table),
            ],
        };
        let frame = Frame {
            path: "/",
            events: ODD.into(),
            application: ODD,
            pages: &[("/", "Overview")],
            version: "1",
        };
        let text = document(&view, &frame);
        assert!(!text.contains("<img") && !text.contains("alert('") && !text.contains('\0'), "{text}");
        let form = "&lt;img src=x onerror=&quot;alert(&#39;1&#39;)&quot;&gt;&amp;\u{fffd}\n";
        assert_eq!(text.matches(form).count(), 22, "{text}");
    }
}
