//! The page of a comparison: one HTML file, made from the record alone. It requires neither network nor scripts.
//!
//! `figures` has the tables and bars of each section, `curves` latency against rate, `latest` the picture of a
//! README.

mod axis;
mod bars;
mod curves;
mod figures;
mod latest;

use std::fmt::Write as _;

use super::record::{LeftOut, Limit, Record, Setting, State, errors};
use super::text;
use crate::loadgen::plots::time;
use crate::loadgen::units;
use crate::sheet::{self, GRID, INK, escaped};
use bars::Look;

pub use latest::render as latest;

/// The look of the page's bars, and of the figures beside its curves.
const LOOK: Look = Look { ink: INK, grid: GRID, width: 1000, label: time, mark: None };
const WIDTH_PX: u32 = 1360;

/// The kind of coreloop that the headline uses.
const FIRST: &str = "coreloop-inline";

/// Renders the page. All text from outside is escaped here.
pub fn render(record: &Record) -> bars::Result<String> {
    let mut page = sheet::head("coreloop beside its peers", WIDTH_PX);
    page += "<h1>coreloop beside its peers</h1>\n";
    for sentence in headline(record) {
        let _ = writeln!(page, "<p class=\"lead\">{}</p>", escaped(&sentence));
    }
    let remarks = remarks(record);
    if !remarks.is_empty() {
        page += "<ul class=\"remarks\">\n";
        for remark in remarks {
            let _ = writeln!(page, "<li>{}</li>", escaped(&remark));
        }
        page += "</ul>\n";
    }
    let mut sections = String::new();
    figures::overview(&mut sections, record);
    figures::cpu(&mut sections, record)?;
    curves::show(&mut sections, record)?;
    figures::tails(&mut sections, record);
    figures::memory(&mut sections, record)?;
    figures::syscalls(&mut sections, record)?;
    figures::wrk(&mut sections, record)?;
    figures::article(&mut sections, record);
    figures::pairs(&mut sections, record)?;
    figures::overload(&mut sections, record);
    figures::details(&mut sections, record);
    circumstances(&mut sections, record);
    left_out(&mut sections, record);
    contents(&mut page, &sections);
    page += &sections;
    page += sheet::FOOT;
    Ok(page)
}

/// Appends the table of contents: every second-level heading that has an id.
fn contents(page: &mut String, sections: &str) {
    *page += "<nav><ul class=\"contents\">\n";
    for heading in sections.split("<h2 id=\"").skip(1) {
        if let Some((id, rest)) = heading.split_once("\">")
            && let Some((title, _)) = rest.split_once("</h2>")
        {
            let _ = writeln!(page, "<li><a href=\"#{id}\">{title}</a></li>");
        }
    }
    *page += "</ul></nav>\n";
}

/// Returns the results as sentences.
fn headline(record: &Record) -> Vec<String> {
    let loads = [
        ("64x16", "With 64 connections and 16 calls in flight on each"),
        ("64x1", "With 64 connections and one call in flight on each"),
    ];
    let said = loads.into_iter().filter_map(|(load, begin)| {
        let own = record.cell(FIRST, Setting::Apart, "add", load)?;
        let cost = own.server_us_per_call()?;
        let mut text = format!(
            "{begin}, a call that adds two integers costs coreloop's server {} of CPU time",
            units::time(cost.median * 1e3)
        );
        let mut ratios: Vec<(f64, &str, bool)> = record
            .peers
            .iter()
            .filter(|peer| !peer.is_coreloop)
            .filter_map(|peer| {
                let cell = record.cell(&peer.name, Setting::Apart, "add", load)?;
                let ratio = record.cpu_ratio(cell, record.base_of(peer))?;
                Some((ratio.median, peer.title.as_str(), peer.is_reference))
            })
            .collect();
        ratios.sort_by(|one, next| one.0.total_cmp(&next.0));
        let times = |(ratio, title, _): &(f64, &str, bool)| format!("{} × ({title})", figures::digits(*ratio));
        let rivals: Vec<_> = ratios.iter().filter(|(_, _, is_reference)| !is_reference).collect();
        match rivals.as_slice() {
            [] => text += ".",
            [only] => {
                let _ = write!(text, "; the other server takes {} of that.", times(only));
            }
            [least, .., most] => {
                let _ = write!(
                    text,
                    ". The {} other servers take from {} to {} of what coreloop takes when it is called in the same way.",
                    rivals.len(),
                    times(least),
                    times(most)
                );
            }
        }
        let floor = ratios.iter().find(|(.., is_reference)| *is_reference);
        if let Some((ratio, title, _)) = floor {
            let _ = write!(text, " The cheapest reference takes {ratio:.2} × ({title}).");
        }
        Some(text)
    });
    let mut said: Vec<String> = said.collect();
    if said.is_empty() {
        said.push("No closed loop of 64 connections was measured with coreloop in it.".into());
    }
    said
}

/// Returns the caveats that apply to the record as a whole.
fn remarks(record: &Record) -> Vec<String> {
    let mut remarks = Vec::new();
    match record.state {
        State::Complete => {}
        State::Running => remarks.push("Not complete: some sections are not measured yet.".into()),
        State::Cut => {
            remarks.push("The comparison was cut short: this is what had been measured until then.".into())
        }
    }
    if record.settings.quick {
        remarks.push("A smoke run: it shows that the measurement works, not how fast anything is.".into());
    }
    let tails = record.tails.iter().flat_map(|tail| &tail.points).map(|point| &point.runs);
    let pairs =
        record.slow_mix.iter().chain(&record.beside_big).flat_map(|pair| [&pair.alone, &pair.together]);
    let cells = record.capacity.iter().chain(&record.wrk);
    let runs: Vec<_> = cells.clone().map(|cell| &cell.runs).chain(tails).chain(pairs).collect();
    let wrong: u64 = runs.iter().map(|runs| errors(runs)).sum();
    if wrong > 0 {
        remarks.push(format!(
            "{} calls failed or had a wrong answer; the tables show which server's.",
            units::count(wrong as f64)
        ));
    }
    let all = || runs.iter().flat_map(|runs| runs.iter());
    let disturbed = all().filter(|run| run.against.iter().any(|word| word == "disturbed")).count();
    if disturbed > 0 {
        remarks.push(format!(
            "{disturbed} of {} windows were disturbed: something else ran on the client's core. The tables mark them with ².",
            all().count()
        ));
    }
    let by_client = cells.clone().filter(|cell| cell.limit() == Limit::Client).count();
    if by_client > 0 {
        remarks.push(format!(
            "In {by_client} of {} closed loops the client was the bottleneck: the rate is the client's limit; the CPU time per call is \
             the server's.",
            cells.count()
        ));
    }
    remarks
}

fn left_out(page: &mut String, record: &Record) {
    if record.left_out.is_empty() {
        return;
    }
    let row = |left_out: &LeftOut| {
        vec![
            text::title(record, &left_out.peer).to_owned(),
            left_out.what.clone(),
            left_out.install.clone().unwrap_or_default(),
            left_out.why.clone(),
        ]
    };
    let rows: Vec<_> = record.left_out.iter().map(row).collect();
    *page += "<h2 id=\"not-measured\">Not measured</h2>\n";
    sheet::grid(page, "said", &["server", "what", "installed by", "why"].map(String::from), &rows);
}

fn circumstances(page: &mut String, record: &Record) {
    let (machine, settings) = (&record.machine, &record.settings);
    if !record.notes.is_empty() {
        *page += "<h2 id=\"notes\">Notes</h2>\n<ul>\n";
        for note in &record.notes {
            let _ = writeln!(page, "<li>{}</li>", escaped(note));
        }
        *page += "</ul>\n";
    }
    let versions: Vec<_> = record
        .peers
        .iter()
        .map(|peer| {
            [&peer.title, &peer.language, &peer.protocol, &peer.client, &peer.version]
                .map(String::clone)
                .to_vec()
        })
        .collect();
    *page += "<h2 id=\"servers\">Servers</h2>\n";
    let names = ["server", "language", "protocol", "called by", "version"];
    sheet::grid(page, "", &names.map(String::from), &versions);
    let cores = |cores: &[usize]| cores.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
    let rows = [
        ("command", record.command.join(" ")),
        (
            "machine",
            format!(
                "{}, {} cores, {} MiB, Linux {}",
                machine.cpu, machine.cores, machine.memory_mib, machine.kernel
            ),
        ),
        ("began", format!("{} UTC; it took {}", record.began, units::time(record.took_s * 1e9))),
        ("coreloop", record.coreloop.clone()),
        (
            "rounds",
            format!(
                "{} of {} s, each after {} s of run-up; sections {}",
                settings.rounds,
                settings.seconds,
                settings.warmup_s,
                settings.sections.join(", ")
            ),
        ),
        (
            "cores",
            format!(
                "apart: server {}, client {}; shared: {}",
                cores(&settings.server_cores),
                cores(&settings.client_cores),
                cores(&settings.shared_cores)
            ),
        ),
    ];
    let rows = rows.map(|(name, value)| vec![name.to_owned(), value]);
    *page += "<h2 id=\"how\">How it was measured</h2>\n";
    sheet::grid(page, "", &[String::new(), String::new()], &rows);
}

#[cfg(test)]
mod tests {
    use super::super::record::sample::sample;
    use super::*;

    /// Returns the elements that are still open at the end, and checks that each end tag matches.
    fn open_at_end(page: &str) -> Vec<String> {
        let mut open: Vec<String> = Vec::new();
        for tag in page.split('<').skip(1).map(|rest| rest.split_once('>').expect("a tag ends").0) {
            let name: String =
                tag.trim_start_matches('/').chars().take_while(|c| c.is_alphanumeric()).collect();
            match tag {
                tag if tag.starts_with('!') || tag.ends_with('/') => {}
                tag if tag.starts_with('/') => assert_eq!(open.pop().as_ref(), Some(&name), "{tag}"),
                _ => open.push(name),
            }
        }
        open
    }

    #[test]
    fn page_of_a_small_record_has_every_part() {
        let page = render(&sample()).expect("drawn");
        for want in [
            "the other server takes 5.00 × (other &lt;1.0&gt;)",
            "Server CPU time per call",
            "No deadlines.",
            "20.0 (5.00 ×)",
            "Latency against rate",
            "Memory",
            "System calls",
            "wrk -t1 -c64",
            "the article",
            "55 700",
            "1 % slow",
            "apt-get install nginx",
            "A note.",
            "loadgen compare",
            "2026-11-25 00:08:49 UTC",
        ] {
            assert!(page.contains(want), "{want} in {page}");
        }
        assert!(!page.contains("<1.0>"), "titles are escaped");
        // The table of contents lists every heading, and unmeasured parts come last.
        let ids: Vec<&str> =
            page.split("<h2 id=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        assert_eq!(page.matches("<h2").count(), ids.len());
        assert!(ids.iter().all(|id| page.contains(&format!("href=\"#{id}\""))), "{ids:?}");
        assert_eq!(ids.last(), Some(&"not-measured"));
        assert!(!page.contains("log scale"));
        assert!(!page.contains("http://") && !page.contains("https://") && !page.contains("<script"));
        assert_eq!(open_at_end(&page), Vec::<String>::new());
    }

    #[test]
    fn an_empty_record_yields_a_page_with_its_caveats() {
        let mut record = sample();
        (record.capacity, record.tails, record.memory) = Default::default();
        (record.syscalls, record.wrk, record.article) = Default::default();
        (record.slow_mix, record.beside_big) = Default::default();
        (record.left_out, record.notes) = Default::default();
        record.state = State::Cut;
        record.settings.quick = true;
        let page = render(&record).expect("drawn");
        for want in ["No closed loop", "cut short", "smoke run", "Servers"] {
            assert!(page.contains(want), "{want} in {page}");
        }
        for section in ["Memory", "System calls", "The article", "Not measured"] {
            assert!(!page.contains(section), "{section}");
        }
        assert_eq!(open_at_end(&page), Vec::<String>::new());
    }

    #[test]
    fn errors_and_disturbances_are_listed_at_the_top() {
        let mut record = sample();
        record.capacity[1].runs[0].errors = 1234;
        record.tails[0].points[0].runs[1].against = vec!["disturbed".into()];
        let page = render(&record).expect("drawn");
        assert!(page.contains("99.0 ²") && page.contains("² Disturbed"), "{page}");
        let remarks = remarks(&record);
        assert!(remarks.iter().any(|remark| remark.starts_with("1 234 calls failed")), "{remarks:?}");
        assert!(remarks.iter().any(|remark| remark.starts_with("1 of 24 windows")), "{remarks:?}");
    }
}
