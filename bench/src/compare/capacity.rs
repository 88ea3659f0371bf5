//! Closed loops: CPU time per call of the server, and calls per second.

use std::rc::Rc;

use super::ground::Ground;
use super::peer::Kind;
use super::record::{Cell, Run, Setting};
use super::run::{Comparison, START_S, Stopped};
use super::subject::Subject;
use crate::versus::Load;

const fn load(connections: u32, depth: u32) -> Load {
    Load { connections, depth }
}

/// A call, its load and its core setting.
pub struct Shape {
    setting: Setting,
    kind: Kind,
    load: Load,
}

/// The larger calls, each under one load.
const LARGER: [(Kind, Load); 3] =
    [(Kind::Echo1k, load(64, 1)), (Kind::Users100, load(16, 1)), (Kind::Echo256k, load(4, 1))];

impl Shape {
    fn is_for(&self, subject: &Subject) -> bool {
        subject.answers(self.kind) && (self.load.depth == 1 || subject.pipelines)
    }

    fn what(&self) -> String {
        let setting = if self.setting == Setting::Shared { ", shared cores" } else { "" };
        format!("capacity {} {}{setting}", self.kind, self.load)
    }
}

impl Comparison<'_> {
    fn shapes(&self) -> Vec<Shape> {
        let mut settings = vec![Setting::Apart];
        if self.options.shared {
            settings.push(Setting::Shared);
        }
        let mut shapes = Vec::new();
        for setting in settings {
            for load in self.options.loads() {
                shapes.push(Shape { setting, kind: Kind::Add, load });
            }
            if !self.options.quick {
                shapes.extend(LARGER.map(|(kind, load)| Shape { setting, kind, load }));
            }
        }
        shapes
    }

    fn run_s(&self) -> f64 {
        self.ground.seconds + self.ground.warmup_s + START_S
    }

    pub fn capacity_s(&self) -> f64 {
        let cells = |shape: &Shape| self.subjects.iter().filter(|subject| shape.is_for(subject)).count();
        let cells: usize = self.shapes().iter().map(cells).sum();
        cells as f64 * self.run_s() * f64::from(self.options.rounds())
    }

    pub fn capacity(&mut self) -> Result<(), Stopped> {
        for shape in self.shapes() {
            let cell = |subject: &Rc<Subject>| Cell {
                peer: subject.name.clone(),
                setting: shape.setting,
                call: shape.kind.name().into(),
                connections: shape.load.connections,
                depth: shape.load.depth,
                client_threads: 1,
                runs: Vec::new(),
            };
            let first = self.record.capacity.len();
            let cells = self.subjects.iter().filter(|subject| shape.is_for(subject)).map(cell);
            self.record.capacity.extend(cells.collect::<Vec<_>>());
            for round in 1..=self.options.rounds() {
                for subject in self.in_turn(round) {
                    if !shape.is_for(&subject) {
                        continue;
                    }
                    let what = shape.what();
                    let run = self.attempt(&subject, &what, self.run_s(), |ground| {
                        measure(ground, &subject, &shape, round)
                    });
                    let Some(run) = run? else { continue };
                    self.ground.screen.say(&line(&what, &subject, &run));
                    let cells = &mut self.record.capacity[first..];
                    if let Some(cell) = cells.iter_mut().find(|cell| cell.peer == subject.name) {
                        cell.runs.push(run);
                    }
                }
            }
        }
        Ok(())
    }
}

fn measure(
    ground: &Ground,
    subject: &Subject,
    shape: &Shape,
    round: u32,
) -> Result<Run, super::ground::Failure> {
    let mut server = ground.start(subject, shape.setting)?;
    let order = ground.order(shape.kind, shape.load, shape.setting, round);
    let measured = ground.make(subject, &mut server, &order)?;
    server.stop();
    Ok(measured.run)
}

/// Formats one line for a run that just ended.
pub fn line(what: &str, subject: &Subject, run: &Run) -> String {
    let cost = run.server_us_per_call.map_or("      ?".into(), |us| format!("{us:>7.3}"));
    let mut line = format!(
        "{what:<28}  round {}  {:<22}  {cost} µs CPU/call  {:>9.0} calls/s  p50 {:>8.1}  p99 {:>8.1} µs",
        run.round,
        subject.name,
        run.calls_per_s,
        run.p50_us.unwrap_or(0.0),
        run.p99_us.unwrap_or(0.0),
    );
    if run.errors > 0 {
        line += &format!("  {} ERRORS: {}", run.errors, run.first_error.as_deref().unwrap_or("?"));
    }
    if !run.against.is_empty() {
        line += &format!("  ({})", run.against.join(", "));
    }
    line
}
