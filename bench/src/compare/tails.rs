//! Open loops: latency at shares of each server's capacity.

use super::capacity::line;
use super::ground::Failure;
use super::load::Order;
use super::peer::Kind;
use super::record::{Point, Run, Setting, Tail};
use super::run::{Comparison, START_S, Stopped};
use super::subject::Client;
use crate::versus::Load;

const CONNECTIONS: u32 = 64;
/// Shares of the capacity.
const SHARES: [f64; 6] = [0.1, 0.3, 0.5, 0.7, 0.8, 0.9];
const NOTE: &str = "In the open loops a client that a peer brings tells how late it handed calls to their connections; how late \
                    it was from there to the socket, by its own work, is in its latencies.";
const SHARES_QUICK: [f64; 1] = [0.5];

impl Comparison<'_> {
    fn shares(&self) -> &'static [f64] {
        if self.options.quick { &SHARES_QUICK } else { &SHARES }
    }

    fn tail_s(&self) -> f64 {
        self.shares().len() as f64 * (self.ground.seconds + self.ground.warmup_s) + START_S
    }

    pub fn tails_s(&self) -> f64 {
        let subjects = self.subjects.iter().filter(|subject| subject.has_rate()).count();
        subjects as f64 * self.tail_s() * f64::from(self.options.rounds())
    }

    pub fn tails(&mut self) -> Result<(), Stopped> {
        for subject in self.subjects.clone() {
            if !subject.has_rate() {
                continue;
            }
            let Some(capacity) = self.capacity_of(&subject)? else { continue };
            let point = |share: &f64| Point { share: *share, rate: capacity * share, runs: Vec::new() };
            self.record.tails.push(Tail {
                peer: subject.name.clone(),
                connections: CONNECTIONS,
                depth_max: subject.depth_max(),
                capacity,
                points: self.shares().iter().map(point).collect(),
            });
        }
        let by_own = |tail: &Tail| {
            let mut subjects = self.subjects.iter();
            subjects.any(|subject| subject.name == tail.peer && matches!(subject.client, Client::Own { .. }))
        };
        if self.record.tails.iter().any(by_own) {
            self.record.notes.push(NOTE.into());
        }
        let (shares, each_s) = (self.shares(), self.tail_s());
        for round in 1..=self.options.rounds() {
            for subject in self.in_turn(round) {
                let tails = &self.record.tails;
                let Some(at) = tails.iter().position(|tail| tail.peer == subject.name) else { continue };
                let rates: Vec<f64> = tails[at].points.iter().map(|point| point.rate).collect();
                let runs = self.attempt(&subject, "tails", each_s, |ground| {
                    let mut server = ground.start(&subject, Setting::Apart)?;
                    let load = Load { connections: CONNECTIONS, depth: subject.depth_max() };
                    let mut runs = Vec::new();
                    for (rate, share) in rates.iter().zip(shares) {
                        ground.screen.begin(format!("{} at {:.0} %", subject.title, share * 100.0));
                        let usual = ground.order(Kind::Add, load, Setting::Apart, round);
                        let order = Order { rate: Some(*rate), ..usual };
                        let run = ground.make(&subject, &mut server, &order)?.run;
                        ground.screen.say(&line(&format!("tails {:.0} %", share * 100.0), &subject, &run));
                        runs.push(run);
                    }
                    server.stop();
                    Ok::<Vec<Run>, Failure>(runs)
                })?;
                for (point, run) in self.record.tails[at].points.iter_mut().zip(runs.into_iter().flatten()) {
                    point.runs.push(run);
                }
            }
        }
        Ok(())
    }
}
