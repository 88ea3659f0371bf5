//! The common parts of result pages: one HTML file with light and dark styles, tables, and embedded plots; no
//! scripts.
//!
//! The colours of plots are placeholders that the style sheet replaces, so that one picture serves light and dark.

use std::fmt::Write as _;

use plotters::style::RGBColor;

/// The colour of text and axes in plots.
pub const INK: RGBColor = RGBColor(1, 2, 3);
/// The colour of grids in plots.
pub const GRID: RGBColor = RGBColor(4, 5, 6);
/// The colours of lines and bars in plots, in drawing order.
pub const LINES: [RGBColor; 8] = [
    RGBColor(11, 0, 1),
    RGBColor(12, 0, 2),
    RGBColor(13, 0, 3),
    RGBColor(14, 0, 4),
    RGBColor(15, 0, 5),
    RGBColor(16, 0, 6),
    RGBColor(17, 0, 7),
    RGBColor(18, 0, 8),
];

/// The colours of text and axes, grid and lines in light themes, in place of the placeholders.
const LIGHT_INK: &str = "#1c2430";
const LIGHT_GRID: &str = "#dfe4ea";
const LIGHT_LINES: [&str; 8] =
    ["#1f6feb", "#c2570c", "#8250df", "#cf222e", "#1a7f37", "#0e7c86", "#a3307e", "#6b5b00"];
/// Height of the legend above a plot in a file of its own, and the width of a character of its names.
const LEGEND_PX: u32 = 30;
const LEGEND_NAME_PX: usize = 8;

/// The end of a page.
pub const FOOT: &str = "</main>\n</body>\n</html>\n";

/// Returns a page of that width up to its first heading.
pub fn head(title: &str, width_px: u32) -> String {
    let mut page = String::from("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n");
    page += "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n<title>";
    page += &escaped(title);
    let _ = write!(page, "</title>\n<style>{}</style>\n</head>\n<body>\n<main>\n", style(width_px));
    page
}

/// Escapes text for HTML, attributes included.
pub fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe += "&amp;",
            '<' => safe += "&lt;",
            '>' => safe += "&gt;",
            '"' => safe += "&quot;",
            '\'' => safe += "&#39;",
            c if c.is_control() => safe.push(' '),
            c => safe.push(c),
        }
    }
    safe
}

/// Appends a table under a heading; all of its text is escaped.
pub fn table(page: &mut String, title: &str, headings: &[String], rows: &[Vec<String>]) {
    let _ = writeln!(page, "<h2>{}</h2>", escaped(title));
    grid(page, "", headings, rows);
}

/// Appends a table without a heading, with a CSS class; all of its text is escaped.
pub fn grid(page: &mut String, class: &str, headings: &[String], rows: &[Vec<String>]) {
    let _ = write!(page, "<div class=\"wide {class}\"><table>\n<tr>");
    for heading in headings {
        let _ = write!(page, "<th>{}</th>", escaped(heading));
    }
    *page += "</tr>\n";
    for row in rows {
        *page += "<tr>";
        for cell in row {
            let _ = write!(page, "<td>{}</td>", escaped(cell.trim()));
        }
        *page += "</tr>\n";
    }
    *page += "</table></div>\n";
}

/// Appends a picture under a heading, which is HTML.
pub fn plot(page: &mut String, title: &str, svg: &str) {
    let _ = writeln!(page, "<h2>{title}</h2>");
    picture(page, svg);
}

/// Appends a picture.
pub fn picture(page: &mut String, svg: &str) {
    // HTML does not require the namespace. Without it the page contains no URL, which simplifies checking that.
    let svg = svg.replace(" xmlns=\"http://www.w3.org/2000/svg\"", "");
    let _ = writeln!(page, "<div class=\"wide plot\">{}</div>", svg.trim());
}

/// Returns a plot of that size as a file of its own, for documents: on white, with its legend above.
pub fn alone(svg: &str, (width, height): (u32, u32), keys: &[(&str, RGBColor)]) -> String {
    let mut legend = format!(
        "<rect y=\"-{LEGEND_PX}\" width=\"{width}\" height=\"{}\" fill=\"#fff\"/>\n",
        height + LEGEND_PX
    );
    let mut x = 60;
    for (name, color) in keys {
        let line = hex(*color);
        let _ = writeln!(
            legend,
            "<line x1=\"{x}\" y1=\"-12\" x2=\"{}\" y2=\"-12\" stroke=\"{line}\" stroke-width=\"3\"/><text x=\"{}\" y=\"-7\" \
             font-family=\"sans-serif\" font-size=\"14\" fill=\"{}\">{}</text>",
            x + 20,
            x + 26,
            hex(INK),
            escaped(name)
        );
        x += 50 + name.chars().count() * LEGEND_NAME_PX;
    }
    let root = format!("height=\"{height}\" viewBox=\"0 0 {width} {height}\"");
    let taller = height + LEGEND_PX;
    let new_root = format!("height=\"{taller}\" viewBox=\"0 -{LEGEND_PX} {width} {taller}\"");
    let mut svg = svg.replacen(&root, &new_root, 1);
    if let Some(at) = svg.find(">\n") {
        svg.insert_str(at + 2, &legend);
    }
    let colors = [(INK, LIGHT_INK), (GRID, LIGHT_GRID)].into_iter().chain(LINES.into_iter().zip(LIGHT_LINES));
    colors.fold(svg, |svg, (placeholder, color)| svg.replace(&hex(placeholder), color))
}

fn hex(color: RGBColor) -> String {
    format!("#{:02X}{:02X}{:02X}", color.0, color.1, color.2)
}

/// Appends a legend: each name after its colour. It is placed beside a plot, so that it covers no data.
pub fn keys<'a>(page: &mut String, keys: impl IntoIterator<Item = (&'a str, RGBColor)>) {
    *page += "<ul class=\"keys\">\n";
    for (name, color) in keys {
        let hex = hex(color);
        let _ = writeln!(
            page,
            "<li><svg width=\"20\" height=\"8\"><line x1=\"0\" y1=\"4\" x2=\"20\" y2=\"4\" stroke=\"{hex}\" \
             stroke-width=\"3\"/></svg>{}</li>",
            escaped(name)
        );
    }
    *page += "</ul>\n";
}

fn style(width_px: u32) -> String {
    let mut style = format!(
        ":root{{color-scheme:light dark;--paper:#fff;--ink:{LIGHT_INK};--soft:#5b6675;--grid:{LIGHT_GRID};--warn:#fff4d6"
    );
    for (at, color) in LIGHT_LINES.iter().enumerate() {
        let _ = write!(style, ";--l{at}:{color}");
    }
    style += "}\n\
         @media(prefers-color-scheme:dark){:root{--paper:#12161c;--ink:#e3e8ef;--soft:#9aa5b3;--grid:#2d3540;\
         --warn:#3b2f0b;--l0:#6ea8ff;--l1:#ffa657;--l2:#c297ff;--l3:#ff7b72;--l4:#6fdd8b;--l5:#5fd3dc;\
         --l6:#ff9bdd;--l7:#d9c867}}\n\
         body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.45 system-ui,sans-serif}\n\
         h1{font-size:1.25rem;overflow-wrap:anywhere}h2{font-size:1rem;margin:28px 0 6px}\n\
         .figures{display:flex;flex-wrap:wrap;gap:8px 28px;margin:12px 0}.figures dt{color:var(--soft)}\n\
         .figures dd{margin:0;font-size:1.5rem;font-variant-numeric:tabular-nums}\n\
         .remarks{background:var(--warn);border-radius:6px;padding:10px 10px 10px 28px}\n\
         .wide{overflow-x:auto}table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums}\n\
         p,.remarks{max-width:66rem}th,td{padding:3px 8px;text-align:right;border-bottom:1px solid var(--grid);white-space:nowrap}\n\
         th{color:var(--soft);font-weight:normal}th:first-child,td:first-child{text-align:left;padding-left:0}\n\
         td:last-child:nth-child(-n+3){white-space:normal;overflow-wrap:anywhere;text-align:left}\n\
         .said td:first-child,.named td:first-child{white-space:normal;min-width:12rem}\n\
         .named td:last-child{white-space:normal}\n\
         .said th:last-child{text-align:left}\n\
         .said td:last-child{white-space:normal;text-align:left;min-width:18rem;color:var(--soft)}\n\
         .lead{font-size:1.05rem}.soft{color:var(--soft)}summary{cursor:pointer;margin:14px 0 6px}\n\
         .keys{display:flex;flex-wrap:wrap;gap:4px 18px;list-style:none;padding:0;margin:4px 0}\n\
         .keys svg{vertical-align:middle;margin-right:6px}h3{font-size:.95rem;margin:18px 0 4px}\n\
         .worded th:last-child,.worded td:last-child{text-align:left;white-space:normal}\n\
         .contents{columns:14rem 3;padding-left:18px;margin:12px 0}.contents a{color:var(--l0)}\n\
         .plot svg{display:block;width:100%;min-width:560px;height:auto}\n\
         @media(max-width:600px){th,td{padding:3px 6px}td:first-child{white-space:normal}.contents{columns:1}}\n";
    let _ = writeln!(style, "main{{max-width:{width_px}px;margin:0 auto;padding:16px}}");
    let mut replaced = |color: &plotters::style::RGBColor, name: &str| {
        let hex = hex(*color);
        let _ =
            writeln!(style, "[fill=\"{hex}\"]{{fill:var({name})}}[stroke=\"{hex}\"]{{stroke:var({name})}}");
    };
    replaced(&INK, "--ink");
    replaced(&GRID, "--grid");
    for (at, color) in LINES.iter().enumerate() {
        replaced(color, &format!("--l{at}"));
    }
    style
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plot_alone_has_its_own_colors_and_a_legend() {
        let plot = format!(
            "<svg width=\"86\" height=\"32\" viewBox=\"0 0 86 32\">\n<path stroke=\"{}\"/></svg>\n",
            hex(LINES[1])
        );
        let alone = alone(&plot, (86, 32), &[("a < b", LINES[1])]);
        assert!(
            alone.starts_with("<svg width=\"86\" height=\"62\" viewBox=\"0 -30 86 62\">\n<rect y=\"-30\""),
            "{alone}"
        );
        assert!(alone.contains("a &lt; b") && alone.contains(LIGHT_LINES[1]), "{alone}");
        assert!(!alone.contains(&hex(LINES[1])) && !alone.contains(&hex(INK)), "{alone}");
    }

    #[test]
    fn text_is_escaped() {
        assert_eq!(escaped("<a href=\"x\">&'\u{1b}"), "&lt;a href=&quot;x&quot;&gt;&amp;&#39; ");
    }

    #[test]
    fn every_colour_of_the_plots_has_a_rule() {
        let style = style(900);
        for color in [INK, GRID].iter().chain(&LINES) {
            assert!(style.contains(&format!("#{:02X}{:02X}{:02X}", color.0, color.1, color.2)));
        }
    }
}
