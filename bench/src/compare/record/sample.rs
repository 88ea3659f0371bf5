//! A record for the tests of code that reads records.

use super::*;

/// Returns a small record with an entry in every section.
pub fn sample() -> Record {
    let peer = |name: &str, is_coreloop| Peer {
        name: name.into(),
        title: format!("{name} <1.0>"),
        language: "Rust".into(),
        differs: "No deadlines.".into(),
        protocol: "native".into(),
        client: "loadgen".into(),
        version: "1.0".into(),
        is_coreloop,
        is_reference: false,
    };
    let runs = |server_us: f64| {
        let run = |round| Run {
            round,
            calls_per_s: 1e6 / server_us,
            server_us_per_call: Some(server_us * f64::from(round)),
            client_share: Some(0.5),
            server_share: Some(0.97),
            p50_us: Some(50.0),
            p99_us: Some(99.0),
            p999_us: Some(999.0),
            ..Run::default()
        };
        vec![run(1), run(2), run(3)]
    };
    let cell = |peer: &str, server_us| Cell {
        peer: peer.into(),
        setting: Setting::Apart,
        call: "add".into(),
        connections: 64,
        depth: 1,
        client_threads: 1,
        runs: runs(server_us),
    };
    let pair = Pair {
        peer: "coreloop-inline".into(),
        rate: 1000.0,
        company: "1 % slow".into(),
        alone: runs(1.0),
        together: runs(2.0),
    };
    Record {
        format: FORMAT,
        command: vec!["loadgen".into(), "compare".into()],
        began: "2026-11-25 00:08:49".into(),
        took_s: 12.5,
        state: State::Complete,
        machine: Machine::here(),
        coreloop: "coreloop 0.1.0".into(),
        settings: Settings {
            rounds: 3,
            seconds: 1.0,
            warmup_s: 0.5,
            server_cores: vec![0],
            client_cores: vec![1],
            shared_cores: vec![0, 1],
            quick: false,
            sections: vec!["capacity".into()],
        },
        peers: vec![peer("coreloop-inline", true), peer("other", false)],
        left_out: vec![LeftOut {
            peer: "nginx".into(),
            what: "all".into(),
            why: "no program nginx".into(),
            install: Some("apt-get install nginx".into()),
        }],
        notes: vec!["A note.".into()],
        capacity: vec![cell("coreloop-inline", 2.0), cell("other", 10.0)],
        tails: vec![Tail {
            peer: "coreloop-inline".into(),
            connections: 64,
            depth_max: 16,
            capacity: 1e5,
            points: vec![Point { share: 0.5, rate: 5e4, runs: runs(2.0) }],
        }],
        memory: vec![Memory {
            peer: "coreloop-inline".into(),
            start_kib: Some(3000),
            idle_connections: 5000,
            idle_kib: Some(4000),
            peak_kib: Some(5000),
        }],
        syscalls: vec![Syscalls {
            peer: "coreloop-inline".into(),
            connections: 64,
            depth: 1,
            per_call: vec![("read".into(), 1.0), ("write".into(), 1.0)],
        }],
        wrk: vec![cell("other", 10.0)],
        article: vec![ArticleRow {
            name: "Gin".into(),
            by: "the article".into(),
            runs: vec![Run { calls_per_s: 55_700.0, mean_us: Some(7_200.0), ..Run::default() }],
        }],
        slow_mix: vec![pair.clone()],
        beside_big: vec![pair],
        overload: vec![OverloadRow {
            peer: "coreloop-inline".into(),
            protocol: "native".into(),
            capacity: vec![20_000.0, 21_000.0],
            points: vec![OverloadPoint {
                factor: 2.0,
                states_deadline: true,
                runs: [(1, 0.82), (2, 0.86)]
                    .map(|(round, goodput)| OverloadRun {
                        round,
                        goodput,
                        ceiling: Some(0.9),
                        p99_us: Some(48_000.0),
                        doubts: Vec::new(),
                    })
                    .into(),
            }],
        }],
    }
}
