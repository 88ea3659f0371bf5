//! Profiles of this process, read by `go tool pprof`.

use std::fs;
use std::hint::black_box;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use coreloop_profile::{
    CPU_PROFILE_MAX, CpuProfile, HeapProfile, ProfileError, SampledAllocator, ThreadsProfile,
};

#[global_allocator]
static ALLOCATOR: SampledAllocator = SampledAllocator::system();

/// Profiles of one process are taken one at a time; the tests share it.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Set when the tests are compiled with `-C force-frame-pointers=yes`: stacks are whole then.
const HAS_FRAME_POINTERS: bool = option_env!("PROFILE_FRAME_POINTERS").is_some();

/// Uses CPU time, without calling anything: also without optimization it is the innermost function.
#[inline(never)]
fn spin_in_the_test(seed: u64) -> u64 {
    let (mut sum, mut at) = (seed, 0_u64);
    while at < 1_000_000 {
        sum = sum << 1 ^ sum >> 3 ^ at;
        at += 1;
    }
    sum
}

#[inline(never)]
fn caller_of_the_spin(until: &AtomicBool) -> u64 {
    let mut sum = 1;
    while !until.load(Ordering::Relaxed) {
        sum = black_box(spin_in_the_test(black_box(sum)));
    }
    sum
}

/// Runs a function while a thread spins.
fn with_a_busy_thread<R>(run: impl FnOnce() -> R) -> R {
    let (until, begun) = (AtomicBool::new(false), AtomicBool::new(false));
    thread::scope(|scope| {
        let spinning = thread::Builder::new().name("spinner".into());
        let spin = || {
            begun.store(true, Ordering::Release);
            black_box(caller_of_the_spin(&until))
        };
        spinning.spawn_scoped(scope, spin).unwrap();
        while !begun.load(Ordering::Acquire) {
            thread::yield_now();
        }
        let result = run();
        until.store(true, Ordering::Relaxed);
        result
    })
}

/// Returns what `go tool pprof` prints about a profile; `None` without Go, which CI has.
fn go_tool_pprof(profile: &[u8], name: &str, options: &[&str]) -> Option<String> {
    let file = std::env::temp_dir().join(format!("coreloop-{name}-{}.pb.gz", std::process::id()));
    fs::write(&file, profile).unwrap();
    let output = match Command::new("go").args(["tool", "pprof"]).args(options).arg(&file).output() {
        Ok(output) => output,
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "CI needs Go: {error}");
            eprintln!("skipped: no Go: {error}");
            return None;
        }
    };
    fs::remove_file(&file).unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    Some(text)
}

#[test]
fn go_finds_the_busy_function_of_a_cpu_profile() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let profile = with_a_busy_thread(|| {
        let mut profile = CpuProfile::record(Duration::from_millis(500), 500, || false).unwrap();
        // On a busy machine the thread gets little time.
        while profile.samples() < 20 {
            profile = CpuProfile::record(Duration::from_secs(1), 500, || false).unwrap();
        }
        profile
    });
    let tree = profile.tree();
    let spinner = tree.children.iter().find(|thread| thread.name == "spinner").expect("the thread is in it");
    assert!(spinner.total > 0, "{tree:?}");
    let Some(top) = go_tool_pprof(&profile.to_pprof(), "cpu", &["-top"]) else { return };
    let first = top.lines().skip_while(|line| !line.contains("flat%")).nth(1).unwrap_or_default();
    assert!(first.contains("spin_in_the_test"), "{top}");
    assert!(top.contains("Type: cpu"), "{top}");
    let traces = go_tool_pprof(&profile.to_pprof(), "traces", &["-traces"]).unwrap();
    let label = |line: &str| line.trim().strip_prefix("thread:").map(|name| name.trim() == "spinner");
    assert!(traces.lines().any(|line| label(line) == Some(true)), "{traces}");
    if HAS_FRAME_POINTERS {
        assert!(traces.contains("caller_of_the_spin"), "{traces}");
    }
}

#[test]
fn there_is_one_profile_at_a_time_and_it_is_bounded() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let hour = CpuProfile::record(Duration::from_secs(3600), 99, || false).unwrap_err();
    let text = "expected a profile of more than 0 s and at most 60s; found 3600s";
    assert_eq!(hour.to_string(), text);
    assert!(matches!(hour, ProfileError::TooLong { .. }));
    let often = CpuProfile::record(CPU_PROFILE_MAX, 1001, || false).unwrap_err();
    assert!(matches!(often, ProfileError::TooOften { asked: 1001 }));
    let (begun, is_over) = (AtomicBool::new(false), AtomicBool::new(false));
    thread::scope(|scope| {
        let first = scope.spawn(|| {
            CpuProfile::record(CPU_PROFILE_MAX, 99, || {
                begun.store(true, Ordering::Release);
                is_over.load(Ordering::Acquire)
            })
        });
        while !begun.load(Ordering::Acquire) {
            thread::yield_now();
        }
        let second = CpuProfile::record(Duration::from_secs(1), 99, || false);
        assert!(matches!(second, Err(ProfileError::Busy)), "{second:?}");
        assert!(matches!(ThreadsProfile::take(), Err(ProfileError::Busy)));
        is_over.store(true, Ordering::Release);
        first.join().unwrap().unwrap();
    });
    CpuProfile::record(Duration::from_millis(1), 99, || false).unwrap();
}

#[test]
fn threads_are_listed_with_names_and_stacks() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let (begin, begun) = std::sync::mpsc::channel();
    let wait = move || {
        begin.send(()).unwrap();
        ended.recv()
    };
    let waiting = thread::Builder::new().name("waiter".into()).spawn(wait).unwrap();
    begun.recv().unwrap();
    let profile = with_a_busy_thread(|| ThreadsProfile::take().unwrap());
    drop(end);
    assert!(waiting.join().unwrap().is_err());
    let named = |name: &str| profile.threads().iter().find(|thread| thread.name == name).unwrap();
    assert!(!named("waiter").functions.is_empty(), "{profile}");
    let stack = &named("spinner").functions;
    assert!(!stack.is_empty(), "{profile}");
    if HAS_FRAME_POINTERS {
        assert!(stack.iter().any(|function| function.contains("caller_of_the_spin")), "{profile}");
    }
    assert!(profile.to_string().contains("waiter"));
    let Some(top) = go_tool_pprof(&profile.to_pprof(), "threads", &["-top", "-sample_index=threads"]) else {
        return;
    };
    assert!(top.contains("Type: threads"), "{top}");
}

#[inline(never)]
fn allocates_in_the_test() -> Vec<Vec<u8>> {
    (0..64).map(|_| black_box(vec![1_u8; 1 << 20])).collect()
}

#[test]
fn go_finds_the_function_that_has_allocated() {
    let before = HeapProfile::take().map_or(0, |profile| profile.bytes_in_use());
    let kept = allocates_in_the_test();
    let profile = HeapProfile::take().unwrap();
    let in_use = profile.bytes_in_use() - before;
    let all = 64_u64 << 20;
    assert!((all / 2..all * 2).contains(&in_use), "{in_use} of {all}");
    drop(kept);
    let freed = HeapProfile::take().unwrap().bytes_in_use() - before;
    assert!(freed < all / 4, "{freed} bytes are in use");
    if let Some(top) = go_tool_pprof(&profile.to_pprof(), "heap", &["-top"]) {
        assert!(top.contains("allocates_in_the_test"), "{top}");
        assert!(top.contains("Type: inuse_space"), "{top}");
    }
}
