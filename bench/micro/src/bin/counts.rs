//! `counts`: counts the instructions of every case and compares them with the kept record.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::{Mutex, PoisonError};

use coreloop_micro::callgrind;
use coreloop_micro::cases::{self, Case};
use coreloop_micro::record::{Counts, MadeWith, Record};

const USAGE: &str = "\
counts [--check | --write] [PREFIX]: instructions of one operation of each case, under callgrind
  --check   compare with the kept record; fails when one has grown by more than 5 %
  --write   renew the record
  --list    the cases
  --run CASE    what callgrind runs; with it, valgrind --tool=callgrind shows where a case's instructions go
  PREFIX    only the cases whose names begin so";

/// The record's path, beside the bench.
fn record_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../record/instructions.json")
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args[..] {
        ["--run", case] if callgrind::run_case(case) => Ok(()),
        ["--run", case] => Err(format!("there is no case {case}")),
        ["--list"] => {
            cases::all().iter().for_each(|case| println!("{}", case.name));
            Ok(())
        }
        ["--check"] => check(""),
        ["--check", prefix] => check(prefix),
        // A record of some cases would lack the others.
        ["--write"] => write(),
        [] => show(""),
        [prefix] if !prefix.starts_with('-') => show(prefix),
        _ => Err(USAGE.to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn show(prefix: &str) -> Result<(), String> {
    for (name, count) in count_all(prefix)? {
        println!("{name:44} {count:>10}");
    }
    Ok(())
}

fn write() -> Result<(), String> {
    let record = Record { made_with: made_with()?, instructions: count_all("")? };
    let path = record_path();
    std::fs::write(&path, record.text()).map_err(|error| format!("{}: {error}", path.display()))?;
    println!("{} cases are on record", record.instructions.len());
    Ok(())
}

fn check(prefix: &str) -> Result<(), String> {
    let path = record_path();
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let record = Record::parse(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    if record.made_with.arch != std::env::consts::ARCH {
        println!("the record is of {}: there is none of {}", record.made_with.arch, std::env::consts::ARCH);
        return Ok(());
    }
    let made_with = made_with()?;
    if record.made_with != made_with {
        println!("made with {:?},\nwhere the record was made with {:?}:", made_with, record.made_with);
        println!("a wider bound holds; renew the record with --write");
    }
    let verdict = record.compare(&count_all(prefix)?, &made_with, prefix);
    print!("{}", verdict.table);
    if verdict.faults.is_empty() { Ok(()) } else { Err(verdict.faults.join("\n")) }
}

fn count_all(prefix: &str) -> Result<Counts, String> {
    if !callgrind::is_there() {
        return Err("valgrind is not installed".to_owned());
    }
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let cases: VecDeque<Case> =
        cases::all().into_iter().filter(|case| case.name.starts_with(prefix)).collect();
    if cases.is_empty() {
        return Err(format!("no case begins with {prefix}"));
    }
    let (queue, counts) = (Mutex::new(cases), Mutex::new(Counts::new()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let work = || -> Result<(), String> {
        loop {
            let case = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some(case) = case else { return Ok(()) };
            let count = callgrind::count(&program, &case)?;
            counts.lock().unwrap_or_else(PoisonError::into_inner).insert(case.name, count);
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().map_err(|_| "a thread panicked".to_owned())?)
    })?;
    Ok(counts.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Returns the widest vectors that a program detects at run time.
fn vectors() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        return "avx2";
    }
    "others"
}

fn made_with() -> Result<MadeWith, String> {
    let says = |program: &str, arg: &str| {
        let out = Command::new(program).arg(arg).output();
        let out = out.map_err(|error| format!("{program} {arg}: {error}"))?;
        Ok::<_, String>(String::from_utf8_lossy(&out.stdout).trim().to_owned())
    };
    Ok(MadeWith {
        arch: std::env::consts::ARCH.to_owned(),
        vectors: vectors().to_owned(),
        // The name is empty if the C library is not glibc.
        libc: says("getconf", "GNU_LIBC_VERSION")?,
        rustc: env!("RUSTC_VERSION").to_owned(),
        valgrind: says("valgrind", "--version")?,
    })
}
