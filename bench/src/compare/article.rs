//! Repeats the article's measurement: wrk with 12 threads and 400 connections for half a minute, on a machine that
//! server and client share. The article's own figures are listed for comparison, where they are comparable.

use std::mem;

use super::load::Order;
use super::peer::Kind;
use super::record::{ArticleRow, Run, Setting};
use super::run::{Comparison, START_S, Stopped};
use super::subject::Subject;
use super::wrk::{INSTALL, Wrk};
use crate::versus::Load;

/// Cores of the article's machine.
const CORES: usize = 4;
const CONNECTIONS: u32 = 400;
/// The servers measured; the others are not part of the article.
const HTTP: [&str; 3] = ["coreloop-http", "gin", "go-nethttp"];
const NATIVE: &str = "coreloop-inline";
/// Threads of wrk: the article's number, and one that suits few cores.
const THREADS: [u32; 2] = [12, 1];

const THEIRS: [(&str, f64, f64, f64); 3] =
    [("Gorpc", 128_400.0, 3.1, 18.2), ("Gin", 55_700.0, 7.2, 42.6), ("net/http", 92_100.0, 4.8, 31.3)];

const NOTE: &str = "The article's rows are its own figures, of another machine (4 cores, 8 GB), which was not \
    available: \
                    between its rows and the measured ones nothing can be compared but the ratios of rows of the \
                    same kind. The article lists Gorpc beside HTTP servers under wrk, which speaks nothing but HTTP; \
                    here coreloop has a row under wrk, with HTTP and JSON as the others, and one in native frames \
                    under the load generator. Server and client share the cores, so wrk's own cost lowers every rate.";

impl Comparison<'_> {
    fn article_each_s(&self) -> f64 {
        self.options.article_seconds() as f64 + 1.0 + START_S
    }

    pub fn article_s(&self) -> f64 {
        let under_wrk = self.subjects.iter().filter(|subject| HTTP.contains(&&*subject.name)).count();
        let native = self.subjects.iter().filter(|subject| subject.name == NATIVE).count();
        (under_wrk * THREADS.len() + native) as f64 * self.article_each_s() * f64::from(self.options.rounds())
    }

    pub fn article(&mut self) -> Result<(), Stopped> {
        for (name, calls_per_s, mean_ms, peak_mib) in THEIRS {
            let run = Run {
                round: 1,
                calls_per_s,
                mean_us: Some(mean_ms * 1e3),
                peak_kib: Some((peak_mib * 1024.0_f64).round() as u64),
                ..Run::default()
            };
            self.record.article.push(ArticleRow {
                name: name.into(),
                by: "the article".into(),
                runs: vec![run],
            });
        }
        self.record.notes.push(NOTE.into());
        for name in HTTP.into_iter().chain([NATIVE]) {
            if !self.subjects.iter().any(|subject| subject.name == name) {
                self.record
                    .notes
                    .push(format!("{name} has no row beside the article: it does not take part."));
            }
        }
        // Server and client share as many cores as the article's machine had, if this machine has them.
        let cores = self.ground.cores.all.iter().copied().take(CORES).collect();
        let usual = mem::replace(&mut self.ground.cores.shared, cores);
        let ended = self.article_rows();
        self.ground.cores.shared = usual;
        ended
    }

    fn article_rows(&mut self) -> Result<(), Stopped> {
        let has_wrk = self.has("wrk", "article", INSTALL);
        for round in 1..=self.options.rounds() {
            for subject in self.in_turn(round) {
                if has_wrk && HTTP.contains(&&*subject.name) {
                    for threads in THREADS {
                        self.under_wrk(&subject, threads, round)?;
                    }
                }
                if subject.name == NATIVE {
                    self.under_loadgen(&subject, round)?;
                }
            }
        }
        Ok(())
    }

    fn under_wrk(&mut self, subject: &Subject, threads: u32, round: u32) -> Result<(), Stopped> {
        let seconds = self.options.article_seconds();
        let wrk = Wrk { threads, connections: CONNECTIONS, seconds, setting: Setting::Shared, round };
        let what = format!("wrk -t{threads} -c{CONNECTIONS}");
        let run = self.attempt(subject, &what, self.article_each_s(), |ground| {
            let mut server = ground.start(subject, wrk.setting)?;
            let run = ground.wrk(&mut server, wrk)?;
            server.stop();
            Ok(run)
        })?;
        self.article_row(subject, what, run);
        Ok(())
    }

    fn under_loadgen(&mut self, subject: &Subject, round: u32) -> Result<(), Stopped> {
        let seconds = self.options.article_seconds();
        let what = format!("loadgen, {CONNECTIONS} connections");
        let run = self.attempt(subject, &what, self.article_each_s(), |ground| {
            let mut server = ground.start(subject, Setting::Shared)?;
            let load = Load { connections: CONNECTIONS, depth: 1 };
            let usual = ground.order(Kind::Add, load, Setting::Shared, round);
            let order = Order { seconds: seconds as f64, warmup_s: 1.0, ..usual };
            let run = ground.make(subject, &mut server, &order)?.run;
            server.stop();
            Ok(run)
        })?;
        self.article_row(subject, what, run);
        Ok(())
    }

    fn article_row(&mut self, subject: &Subject, by: String, run: Option<Run>) {
        let Some(run) = run else { return };
        self.ground.screen.say(&super::capacity::line(&by, subject, &run));
        let rows = &mut self.record.article;
        match rows.iter_mut().find(|row| row.name == subject.name && row.by == by) {
            Some(row) => row.runs.push(run),
            None => rows.push(ArticleRow { name: subject.name.clone(), by, runs: vec![run] }),
        }
    }
}
