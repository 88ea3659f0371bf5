//! The list of cases: every component that a call passes through, named after its folder.
//!
//! A case is prepared once and then run any number of times. Its figure must not depend on the clock, on a seed or on
//! another case: it creates what it needs. A new case belongs in one of these files, and the record must be renewed
//! with it.

mod call;
mod client;
mod codec;
mod conn;
mod dispatch;
mod tools;
mod wire;

/// Does a case's work the given number of times.
pub type Run = Box<dyn FnMut(u64)>;

/// A component of the hot path.
pub struct Case {
    /// The name, as `folder/piece/…`.
    pub name: String,
    /// How often it is run when counted: enough that infrequent work contributes its share.
    pub times: u64,
    /// Operations per run; the figure is for one operation.
    pub operations: u64,
    /// Whether the measured work is mixed with work that must not be counted: a wall-clock time would be meaningless.
    pub is_mixed: bool,
    setup: Box<dyn Fn() -> Run + Send>,
}

/// Infrequent work happens every 16th, 32nd or 64th time in places; a multiple of all of these includes a fair share
/// of it.
const TIMES: u64 = 256;

impl Case {
    fn new<F: FnMut() + 'static>(name: impl Into<String>, setup: impl Fn() -> F + Send + 'static) -> Case {
        let setup = Box::new(move || {
            let mut work = setup();
            Box::new(move |times: u64| (0..times).for_each(|_| work())) as Run
        });
        Case { name: name.into(), times: TIMES, operations: 1, is_mixed: false, setup }
    }

    fn times(self, times: u64) -> Case {
        Case { times, ..self }
    }

    fn operations(self, operations: u64) -> Case {
        Case { operations, ..self }
    }

    fn mixed(self) -> Case {
        Case { is_mixed: true, ..self }
    }

    /// Prepares and warms up the case, so that everything that is built once or cached exists.
    pub fn ready(&self) -> Run {
        let mut run = (self.setup)();
        run(self.times.min(2 * 64));
        run
    }
}

/// Returns all cases, ordered by name.
pub fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    codec::add(&mut cases);
    wire::add(&mut cases);
    conn::add(&mut cases);
    dispatch::add(&mut cases);
    tools::add(&mut cases);
    call::add(&mut cases);
    client::add(&mut cases);
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    cases
}

/// Returns the case with that name.
pub fn named(name: &str) -> Option<Case> {
    all().into_iter().find(|case| case.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_has_a_unique_name_and_runs() {
        let cases = all();
        for (case, next) in cases.iter().zip(&cases[1..]) {
            assert_ne!(case.name, next.name);
        }
        for case in &cases {
            let mut run = case.ready();
            run(2);
        }
    }
}
