//! Shows where a server spends CPU time: runs perf on it under a few loads, draws the samples as flame graphs, and
//! prints a table that separates kernel time from user time.
//!
//! Requires the programs perf (with permission to use it), inferno-collapse-perf and inferno-flamegraph (`cargo
//! install inferno`). `folded` reads their output.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use super::Bench;
use super::folded::Shares;
use super::sets::{Group, Variant};
use crate::loadgen::Outcome;
use crate::loadgen::speech::AddressProtocol;
use crate::output::OutputFile;
use crate::process;

/// Samples per second. An odd number, so that sampling does not run in step with periodic work.
const SAMPLES_PER_S: u32 = 1999;
/// Bytes of stack kept with each sample for later unwinding.
const STACK_BYTES: u32 = 8192;

/// Which server to profile, and how.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Write the flame graphs into this folder.
    #[arg(long, value_name = "FOLDER", default_value = "docs/img")]
    images: PathBuf,
    /// Sampling time for each load, in seconds.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Folder for perf's own files; they are several MB each and are not removed.
    #[arg(long, value_name = "FOLDER", default_value = "target/flames")]
    scratch: PathBuf,
    /// Frames narrower than this percentage of the picture are left out.
    #[arg(long, default_value_t = 0.2)]
    width_min: f64,
    /// Show no progress.
    #[arg(long)]
    quiet: bool,
}

struct Scene {
    /// The picture's name, for loads that have one.
    picture: Option<&'static str>,
    name: &'static str,
    method: &'static str,
    connections: u32,
    depth: u32,
    speaks: AddressProtocol,
    codec: Option<&'static str>,
}

const LONE: Scene = Scene {
    picture: None,
    name: "inline, 1x1",
    method: "Arith.AddFixed",
    connections: 1,
    depth: 1,
    speaks: AddressProtocol::Native,
    codec: Some("fixed"),
};

const SCENES: [Scene; 8] = [
    LONE,
    Scene { name: "inline, 64x1", connections: 64, ..LONE },
    Scene { picture: Some("inline-64x16"), name: "inline, 64x16", connections: 64, depth: 16, ..LONE },
    Scene { name: "pooled, 64x1", method: "Arith.Multiply", connections: 64, codec: Some("compact"), ..LONE },
    Scene {
        picture: Some("pooled-64x16"),
        name: "pooled, 64x16",
        method: "Arith.Multiply",
        connections: 64,
        depth: 16,
        codec: Some("compact"),
        ..LONE
    },
    Scene {
        picture: Some("http-64x1"),
        name: "HTTP + JSON, inline, 64x1",
        connections: 64,
        speaks: AddressProtocol::Http,
        codec: None,
        ..LONE
    },
    Scene {
        name: "HTTP + JSON, inline, 64x16",
        connections: 64,
        depth: 16,
        speaks: AddressProtocol::Http,
        codec: None,
        ..LONE
    },
    Scene {
        picture: Some("gob-64x16"),
        name: "Go net/rpc (gob), inline, 64x16",
        connections: 64,
        depth: 16,
        speaks: AddressProtocol::Gob,
        codec: None,
        ..LONE
    },
];

/// Samples, draws the flame graphs, and prints the table.
pub fn run(options: &Options) -> Result<(), String> {
    let bench = Bench::new(options.quiet)?;
    fs::create_dir_all(&options.scratch)
        .map_err(|error| format!("{}: {error}", options.scratch.display()))?;
    let mut table =
        "| load | server CPU, µs a call | our code | write | read | wait | threads | other | samples |\n\
                     |---|---|---|---|---|---|---|---|---|\n"
            .to_owned();
    let mut most = String::new();
    let open_picture = |scene: &Scene| -> Result<Option<OutputFile>, String> {
        let name = scene.picture.map(|picture| format!("flame-{picture}.svg"));
        name.map(|name| OutputFile::open_in(&options.images, &name)).transpose()
    };
    let pictures = SCENES.iter().map(open_picture).collect::<Result<Vec<_>, _>>()?;
    for (at, (scene, picture_file)) in SCENES.iter().zip(pictures).enumerate() {
        let samples = options.scratch.join(format!("{at}.perf"));
        let outcome = scene.record(&bench, options.seconds, &samples)?;
        let folded = fold(&samples)?;
        let shares = Shares::of(&folded);
        let cost_us = outcome.server.as_ref().map_or(0.0, |server| server.cpu_ns_per_call / 1e3);
        let percent = |share: f64| format!("{:.0} %", share * 100.0);
        let parts = [shares.user, shares.write, shares.read, shares.wait, shares.threads, shares.other];
        table += &format!(
            "| {} | {cost_us:.2} | {} | {} |\n",
            scene.name,
            parts.map(percent).join(" | "),
            shares.samples
        );
        most += &format!("\n{}:\n", scene.name);
        for (name, share) in &shares.leaves {
            most += &format!("  {:>5.1} %  {name}\n", share * 100.0);
        }
        if let Some(file) = picture_file {
            file.write(&draw(&folded, scene.name, options.width_min)?)?;
        }
        if !options.quiet {
            eprintln!("{}/{}  {}  {} samples", at + 1, SCENES.len(), scene.name, shares.samples);
        }
    }
    println!("{table}\nThe functions of our own that most time was spent in:\n{most}");
    Ok(())
}

impl Scene {
    /// Runs the load on a fresh server with perf attached to it.
    fn record(&self, bench: &Bench, seconds: f64, into: &Path) -> Result<Outcome, String> {
        let variant = Variant { name: "", speaks: self.speaks, codec: self.codec, settings: &[] };
        let group = Group {
            name: self.name,
            method: self.method,
            connections: self.connections,
            depth: self.depth,
            variants: &[],
        };
        let server = bench.start(&[], false)?;
        let mut perf = Command::new("perf");
        perf.args(["record", "--quiet", "-e", "cpu-clock", "-F", &SAMPLES_PER_S.to_string()]);
        perf.args(["--call-graph", &format!("dwarf,{STACK_BYTES}"), "-p", &server.pid().to_string()]);
        perf.arg("-o").arg(into).args(["--", "sleep", &seconds.to_string()]);
        process::confine(&mut perf, &[bench.client_core]);
        let (loaded, recorded) = thread::scope(|scope| {
            // The load runs from before the first sample until after the last.
            let load = scope.spawn(|| bench.load(&group, &variant, &server, 0.3, seconds + 1.0));
            thread::sleep(Duration::from_millis(500));
            let recorded = run_tool(&mut perf);
            (load.join(), recorded)
        });
        recorded?;
        loaded.map_err(|_| "the load generator panicked".to_owned())?
    }
}

/// Folds samples into stacks. Inlined functions count towards the function that contains them, because resolving them
/// takes minutes.
fn fold(samples: &Path) -> Result<String, String> {
    let script = samples.with_extension("script");
    let into = |path: &Path| File::create(path).map_err(|error| format!("{}: {error}", path.display()));
    let mut perf = Command::new("perf");
    perf.args(["script", "--no-inline", "-F", "comm,pid,tid,time,event,ip,sym,dso", "-i"]).arg(samples);
    run_tool(perf.stdout(into(&script)?))?;
    let mut collapse = Command::new("inferno-collapse-perf");
    let output = collapse.arg("--kernel").arg(&script).stderr(Stdio::null()).output();
    checked_stdout("inferno-collapse-perf", output)
}

fn draw(folded: &str, title: &str, width_min: f64) -> Result<String, String> {
    let mut command = Command::new("inferno-flamegraph");
    command.args(["--title", title, "--hash", "--minwidth", &width_min.to_string()]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| missing("inferno-flamegraph", &error))?;
    let mut stdin = child.stdin.take().expect("asked for a pipe above");
    let text = folded.to_owned();
    // Writes on a separate thread, so that neither side blocks on a full pipe.
    let feeder = thread::spawn(move || std::io::Write::write_all(&mut stdin, text.as_bytes()));
    let output = child.wait_with_output();
    // A program that does not read all input reports the reason itself.
    let _ = feeder.join();
    checked_stdout("inferno-flamegraph", output)
}

fn run_tool(command: &mut Command) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn();
    checked_stdout(&name, child.map_err(|error| missing(&name, &error))?.wait_with_output()).map(|_| ())
}

fn missing(name: &str, error: &std::io::Error) -> String {
    format!("cannot start {name} ({error}): docs/performance.md says what is needed")
}

/// Returns the standard output of a program that succeeded.
fn checked_stdout(name: &str, output: std::io::Result<std::process::Output>) -> Result<String, String> {
    let output = output.map_err(|error| missing(name, &error))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{name}: {}", stderr.lines().last().unwrap_or("it failed")));
    }
    String::from_utf8(output.stdout).map_err(|_| format!("{name} printed something else than text"))
}
