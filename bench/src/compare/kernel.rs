//! System calls of the server per call, counted by strace in separate short runs.

use super::load::Order;
use super::peer::Kind;
use super::record::{Setting, Syscalls};
use super::run::{Comparison, START_S, Stopped};
use super::subject::Subject;
use crate::syscalls::Counting;
use crate::versus::Load;

const LOADS: [Load; 2] = [Load { connections: 64, depth: 1 }, Load { connections: 64, depth: 16 }];
const SECONDS: f64 = 1.0;
/// Time that strace takes to attach and detach, in seconds.
const STRACE_S: f64 = 0.5;

impl Comparison<'_> {
    fn counted(subject: &Subject, load: Load) -> bool {
        subject.has_rate() && (load.depth == 1 || subject.pipelines)
    }

    pub fn syscalls_s(&self) -> f64 {
        let runs = LOADS.iter().flat_map(|load| self.subjects.iter().map(move |subject| (subject, *load)));
        let runs = runs.filter(|(subject, load)| Self::counted(subject, *load)).count();
        runs as f64 * (SECONDS + START_S + STRACE_S)
    }

    pub fn syscalls(&mut self) -> Result<(), Stopped> {
        if !self.has("strace", "syscalls", "apt-get install strace") {
            return Ok(());
        }
        for subject in self.subjects.clone() {
            for load in LOADS.into_iter().filter(|load| Self::counted(&subject, *load)) {
                let what = format!("system calls {load}");
                let planned_s = SECONDS + START_S + STRACE_S;
                let per_call = self.attempt(&subject, &what, planned_s, |ground| {
                    let mut server = ground.start(&subject, Setting::Apart)?;
                    let counting = Counting::start(server.pid())?;
                    // The count starts before the first connection, so strace's own start is not included.
                    let usual = ground.order(Kind::Add, load, Setting::Apart, 1);
                    let order = Order { seconds: SECONDS, warmup_s: 0.0, ..usual };
                    let measured = ground.make(&subject, &mut server, &order);
                    let counts = counting.stop()?;
                    let calls = measured?.calls_in_all.max(1) as f64;
                    server.stop();
                    let mut per_call: Vec<(String, f64)> =
                        counts.into_iter().map(|(name, count)| (name, count as f64 / calls)).collect();
                    per_call.sort_by(|a, b| b.1.total_cmp(&a.1));
                    Ok(per_call)
                })?;
                let Some(per_call) = per_call else { continue };
                let counted = Syscalls {
                    peer: subject.name.clone(),
                    connections: load.connections,
                    depth: load.depth,
                    per_call,
                };
                self.ground.screen.say(&format!(
                    "{what}  {:<22}  {:.3} per call",
                    subject.name,
                    counted.total()
                ));
                self.record.syscalls.push(counted);
            }
        }
        Ok(())
    }
}
