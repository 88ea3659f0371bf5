//! Measures the cases in wall-clock time: `cargo bench -p coreloop-micro [-- FILTER]`.

use coreloop_micro::cases;

fn main() {
    divan::main();
}

fn names() -> Vec<String> {
    let timed = cases::all().into_iter().filter(|case| !case.is_mixed);
    timed.map(|case| case.name).collect()
}

/// Times one run of the case: one operation, or the number in its name (`x16`).
#[divan::bench(args = names())]
fn micro(bencher: divan::Bencher<'_, '_>, name: &str) {
    let case = cases::named(name).expect("a name of the list");
    let mut run = case.ready();
    bencher.counter(divan::counter::ItemsCount::new(case.operations)).bench_local(|| run(1));
}
