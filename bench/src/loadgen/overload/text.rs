//! The result as text for a terminal.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::Overload;
use super::figures::{Capacity, Costs, Doubt, LAG_SHARE, Step, Times, Work};
use crate::loadgen::units::{count, latency, percent, time};
use crate::table::Table;

/// Renders the capacity, before the steps.
pub fn capacity(capacity: &Capacity, method: &str) -> String {
    format!("capacity of {method}: {}\n", capacity_words(capacity))
}

/// Describes the capacity and how it was found.
pub fn capacity_words(capacity: &Capacity) -> String {
    let rate = format!("{} calls/s", count(capacity.calls_per_s.round()));
    let windows: Vec<String> = capacity.windows.iter().map(|rate| count(rate.round())).collect();
    let (cpu_ns, ok) = capacity
        .server
        .iter()
        .fold((0, 0), |(cpu_ns, ok), Work { cpu_ns: more, ok: calls, .. }| (cpu_ns + more, ok + calls));
    let cost = if ok > 0 {
        format!(", {} of the server's CPU per call", time(cpu_ns as f64 / ok as f64))
    } else {
        String::new()
    };
    match windows.as_slice() {
        [] => format!("{rate} (given)"),
        windows => format!("{rate} (median of {}){cost}", windows.join(", ")),
    }
}

/// Names a step: `1.3× with the deadline stated`.
pub fn step_name(step: &Step) -> String {
    format!("{}× {}", step.factor, pass_name(step.states_deadline))
}

fn pass_name(states_deadline: bool) -> &'static str {
    if states_deadline { "with the deadline stated" } else { "without a stated deadline" }
}

/// Renders a step as one line, when it has ended.
pub fn step_line(step: &Step) -> String {
    let counts = &step.counts;
    let share = |calls: u64| percent(calls as f64 / counts.offered.max(1) as f64);
    format!(
        "{:>31}  {:>9} calls/s  in time {:>9}/s, {:>7} of capacity  late {:>7}  refused {:>7}  p99 {}\n",
        step_name(step),
        count(step.rate.round()),
        count(step.goodput_per_s.round()),
        percent(step.goodput),
        share(counts.late),
        share(counts.refused),
        step.ok_latency.map_or("–".into(), |times| latency(times.p99_ns as f64)),
    )
}

/// Renders the whole result.
pub fn render(overload: &Overload) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "\n{}", headline(overload));
    for (title, steps) in passes(overload) {
        let _ = writeln!(text, "\n{title}\n");
        for (headings, rows) in [counts(&steps), figures(&steps)] {
            let mut table = Table::new(&headings);
            rows.into_iter().for_each(|row| table.row(row));
            text += &table.render();
            text.push('\n');
        }
    }
    for line in costs(overload) {
        let _ = writeln!(text, "{line}");
    }
    for remark in &overload.remarks {
        let _ = writeln!(text, "! {remark}");
    }
    text
}

/// Returns the settings in one line.
pub fn headline(overload: &Overload) -> String {
    let settings = &overload.settings;
    format!(
        "{} ({}) at {}{}:{}: deadline {}, {} connections, {:.1} s a step after {:.1} s of warm-up",
        settings.method,
        settings.codec,
        settings.protocol,
        if settings.tls { "+tls" } else { "" },
        settings.target,
        time(settings.deadline_ns as f64),
        settings.connections,
        settings.duration_s,
        settings.warmup_s
    )
}

/// Returns the steps with the deadline stated and those without, each with a title, as far as there are any.
pub fn passes(overload: &Overload) -> Vec<(String, Vec<&Step>)> {
    let pass = |states_deadline: bool| {
        let steps: Vec<&Step> =
            overload.steps.iter().filter(|step| step.states_deadline == states_deadline).collect();
        (!steps.is_empty()).then(|| {
            let name = pass_name(states_deadline);
            (format!("{}{}", name[..1].to_uppercase(), &name[1..]), steps)
        })
    };
    [pass(true), pass(false)].into_iter().flatten().collect()
}

/// Returns headings and rows of what became of the calls.
pub fn counts(steps: &[&Step]) -> (Vec<&'static str>, Vec<Vec<String>>) {
    let headings = vec![
        "load",
        "offered",
        "sent",
        "in time",
        "late",
        "refused",
        "deadline exceeded",
        "other errors",
        "unanswered",
        "not sent",
    ];
    let row = |step: &&Step| {
        let counts = &step.counts;
        let calls = [
            counts.offered,
            counts.sent,
            counts.in_time,
            counts.late,
            counts.refused,
            counts.deadline_exceeded,
            counts.other_errors,
            counts.unanswered,
            counts.never_sent,
        ];
        let load = [format!("{}×", step.factor)];
        load.into_iter().chain(calls.map(|calls| count(calls as f64))).collect()
    };
    (headings, steps.iter().map(row).collect())
}

/// Returns headings and rows of goodput, latencies and CPU.
pub fn figures(steps: &[&Step]) -> (Vec<&'static str>, Vec<Vec<String>>) {
    let headings = vec![
        "load",
        "goodput/s",
        "of capacity",
        "ceiling",
        "ok p50",
        "ok p99",
        "refusal p50",
        "refusal p99",
        "server CPU",
        "generator CPU",
        "generator late (p99)",
        "doubts",
    ];
    let none = || "–".to_owned();
    let p50 = |times: Option<Times>| times.map_or_else(none, |times| latency(times.p50_ns as f64));
    let p99 = |times: Option<Times>| times.map_or_else(none, |times| latency(times.p99_ns as f64));
    let row = |step: &&Step| {
        vec![
            format!("{}×", step.factor),
            count(step.goodput_per_s.round()),
            percent(step.goodput),
            step.ceiling.map_or_else(none, percent),
            p50(step.ok_latency),
            p99(step.ok_latency),
            p50(step.refusal_latency),
            p99(step.refusal_latency),
            step.server_share().map_or_else(none, percent),
            percent(step.generator_share),
            p99(step.lag),
            step.doubts.iter().map(|doubt| doubt_name(*doubt)).collect::<Vec<_>>().join(", "),
        ]
    };
    (headings, steps.iter().map(row).collect())
}

fn doubt_name(doubt: Doubt) -> &'static str {
    match doubt {
        Doubt::Late => "late",
        Doubt::Saturated => "saturated",
        Doubt::Disturbed => "disturbed",
        Doubt::Stolen => "stolen",
    }
}

/// Returns a sentence for each kind of doubt, and one for errors other than refusals.
pub fn doubts(steps: &[Step]) -> Vec<String> {
    let mut lines = Vec::new();
    for doubt in Doubt::ALL {
        let doubted = steps.iter().filter(|step| step.doubts.contains(&doubt)).count();
        if doubted == 0 {
            continue;
        }
        let why = match doubt {
            Doubt::Late => format!(
                "the generator sent 1 call of 100 later than {} of the deadline after it was due; the server's \
                 goodput may be higher",
                percent(LAG_SHARE)
            ),
            Doubt::Saturated => {
                "a thread of the generator used 90 % of its core or more; the server's goodput may be higher"
                    .into()
            }
            Doubt::Disturbed => "the generator waited for its core, because something else ran there".into(),
            Doubt::Stolen => "the hypervisor withheld cores that had work (steal)".into(),
        };
        lines.push(format!("{}: in {doubted} of {} steps {why}.", doubt_name(doubt), steps.len()));
    }
    let mut other = BTreeMap::new();
    for (status, calls) in steps.iter().flat_map(|step| &step.other_errors_by_status) {
        *other.entry(*status).or_insert(0) += calls;
    }
    if !other.is_empty() {
        let named: Vec<String> =
            other.iter().map(|(status, calls)| format!("{} {status}", count(*calls as f64))).collect();
        lines.push(format!("Other errors: {}.", named.join(", ")));
    }
    lines
}

/// Returns the capacity and the costs, as `name: value`.
pub fn costs(overload: &Overload) -> Vec<String> {
    let mut lines = vec![format!("capacity: {}", capacity_words(&overload.capacity))];
    lines.push(match (&overload.costs, &overload.no_ceiling) {
        (Some(Costs { handle_ns, refuse_ns, ratio }), _) => format!(
            "ceiling:  1 − (k − 1) · r/h at k times the capacity: handling h {}, refusing r {}, r/h {ratio:.4}",
            time(*handle_ns),
            time(*refuse_ns)
        ),
        (None, why) => format!("ceiling:  unknown: {}", why.as_deref().unwrap_or("no reason known")),
    });
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capacity_is_shown_with_its_windows_and_its_cost() {
        let mut shown = Capacity::given(1234.0);
        assert_eq!(capacity_words(&shown), "1 234 calls/s (given)");
        shown.windows = vec![1200.0, 1234.0, 1300.0];
        assert_eq!(capacity_words(&shown), "1 234 calls/s (median of 1 200, 1 234, 1 300)");
        shown.server = vec![Work { cpu_ns: 3_000_000, ok: 30, failed: 0 }];
        assert!(capacity_words(&shown).ends_with(", 100 µs of the server's CPU per call"));
    }
}
