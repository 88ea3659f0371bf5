//! Measures how calls affect each other: fast calls mixed with slow ones, small calls beside large ones.

use std::rc::Rc;
use std::thread;

use super::capacity::line;
use super::ground::{Failure, Ground};
use super::load::{At, Order};
use super::peer::Kind;
use super::record::{Pair, Run, Setting};
use super::run::{Comparison, START_S, Stopped};
use super::subject::{Client, Subject};
use crate::process;
use crate::versus::Load;

const CONNECTIONS: u32 = 64;
/// The maximum load as a share of the server's capacity, so that the effect of the other calls is measured and not
/// overload.
const SHARE_MAX: f64 = 0.3;
/// The large calls: one at a time.
const BIG: Load = Load { connections: 1, depth: 1 };

/// The calls that run beside the measured ones.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Company {
    Slow,
    Big,
}

impl Company {
    fn kind(self) -> Kind {
        match self {
            Company::Slow => Kind::Sleep,
            Company::Big => Kind::Echo256k,
        }
    }

    fn words(self) -> &'static str {
        match self {
            Company::Slow => "1 % Echo.Sleep of 20 ms",
            Company::Big => "echo-256k, one at a time",
        }
    }

    fn is_for(self, subject: &Subject) -> bool {
        let is_usual = !subject.is_coreloop
            || matches!(&*subject.name, "coreloop-inline" | "coreloop-pooled" | "coreloop-http");
        is_usual && subject.has_rate() && subject.calls.contains(&self.kind())
    }
}

impl Comparison<'_> {
    fn pair_s(&self) -> f64 {
        2.0 * (self.ground.seconds + self.ground.warmup_s + START_S)
    }

    pub fn mix_s(&self) -> f64 {
        let pairs = [Company::Slow, Company::Big].into_iter();
        let pairs: usize =
            pairs.map(|company| self.subjects.iter().filter(|subject| company.is_for(subject)).count()).sum();
        pairs as f64 * self.pair_s() * f64::from(self.options.rounds())
    }

    pub fn mix(&mut self) -> Result<(), Stopped> {
        for company in [Company::Slow, Company::Big] {
            let mut pairs = Vec::new();
            for subject in self.subjects.clone() {
                if !company.is_for(&subject) {
                    continue;
                }
                let Some(capacity) = self.capacity_of(&subject)? else { continue };
                pairs.push(Pair {
                    peer: subject.name.clone(),
                    rate: (capacity * SHARE_MAX).min(self.options.mix_rate),
                    company: company.words().into(),
                    alone: Vec::new(),
                    together: Vec::new(),
                });
            }
            let ended = self.pairs(company, &mut pairs);
            match company {
                Company::Slow => self.record.slow_mix = pairs,
                Company::Big => self.record.beside_big = pairs,
            }
            ended?;
        }
        Ok(())
    }

    fn pairs(&mut self, company: Company, pairs: &mut [Pair]) -> Result<(), Stopped> {
        for round in 1..=self.options.rounds() {
            for subject in self.in_turn(round) {
                let Some(pair) = pairs.iter_mut().find(|pair| pair.peer == subject.name) else { continue };
                let rate = pair.rate;
                let measured = self.attempt(&subject, company.words(), self.pair_s(), |ground| {
                    let alone = measure(ground, &subject, None, rate, round)?;
                    let together = measure(ground, &subject, Some(company), rate, round)?;
                    Ok((alone, together))
                })?;
                let Some((alone, together)) = measured else { continue };
                self.ground.screen.say(&line("alone", &subject, &alone));
                self.ground.screen.say(&line(company.words(), &subject, &together));
                pair.alone.push(alone);
                pair.together.push(together);
            }
        }
        Ok(())
    }
}

fn measure(
    ground: &Ground,
    subject: &Rc<Subject>,
    company: Option<Company>,
    rate: f64,
    round: u32,
) -> Result<Run, Failure> {
    let mut server = ground.start(subject, Setting::Apart)?;
    let load = Load { connections: CONNECTIONS, depth: subject.depth_max() };
    let usual = Order { rate: Some(rate), ..ground.order(Kind::Add, load, Setting::Apart, round) };
    let is_mixed = company == Some(Company::Slow) && matches!(subject.client, Client::Loadgen(_));
    let company = match company {
        None => None,
        // One generator makes both kinds of calls, on the same connections.
        Some(Company::Slow) if is_mixed => None,
        Some(Company::Slow) => Some(Order { kind: Kind::Sleep, rate: Some(rate / 99.0), ..usual.clone() }),
        Some(Company::Big) => Some(Order { kind: Kind::Echo256k, load: BIG, rate: None, ..usual.clone() }),
    };
    let order = Order { slow_among: is_mixed, ..usual };
    let run = match company {
        None => ground.make(subject, &mut server, &order)?.run,
        Some(company) => together(ground, subject, &mut server, &order, &company)?,
    };
    server.stop();
    Ok(run)
}

/// Runs two clients at once. Returns the run of the first, or an error if either fails.
fn together(
    ground: &Ground,
    subject: &Subject,
    server: &mut crate::process::Server,
    order: &Order,
    company: &Order,
) -> Result<Run, Failure> {
    let at = At::of(server);
    let (run, other) = thread::scope(|scope| {
        let other = scope.spawn(|| {
            // Both clients share one core. At equal priority the scheduler makes them wait milliseconds for each
            // other, which would hide the server's part.
            process::stand_back().map_err(|error| format!("nice: {error}"))?;
            ground.call(subject, at, company)
        });
        let run = ground.make(subject, server, order);
        (run, other.join())
    });
    let run = run?.run;
    match other {
        Ok(Ok(_)) => Ok(run),
        Ok(Err(why)) => Err(why),
        Err(_) => Err(Failure::Broken("the other client's thread failed".into())),
    }
}
