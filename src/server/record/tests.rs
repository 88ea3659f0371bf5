use std::fs;

use serde_json::Value;
use tempfile::TempDir;

use super::*;
use crate::codec::{Bytes, Codec, Plain};
use crate::config::Limits;
use crate::context::{Outcome, Peer};
use crate::message::Metadata;
use crate::server::observer::{CallObserver, ObservedRequest};
use crate::service::Method;

fn registry() -> Arc<Registry> {
    let method = |name: &str| {
        Method::new::<Plain<Bytes>, Plain<i64>>(name, Box::new(|_, _, _, _| Outcome::Deferred)).unwrap()
    };
    let methods = vec![method("Math.Double"), method("Math.Halve")];
    Arc::new(Registry::new(methods, &Limits::default()).unwrap())
}

fn recording(folder: &TempDir) -> Recording {
    Recording { sample: 1, ..Recording::to(folder.path().join("record")) }
}

fn see(tap: &mut RequestSampler, connection: u64, body: &[u8]) {
    tap.on_request(&ObservedRequest {
        at: Instant::now(),
        connection,
        peer: Peer::Unix,
        protocol: Some(ProtocolId::Http),
        id: 1,
        method: 1,
        codec: Codec::Json.number(),
        compressed: false,
        one_way: false,
        argument_follows: false,
        time_left_us: 5_000,
        metadata: Metadata::default(),
        body,
    });
}

fn lines(recording: &Recording) -> Vec<Value> {
    let text = fs::read_to_string(&recording.file).unwrap();
    assert!(text.ends_with('\n'));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn the_file_has_header_request_lines_and_end() {
    let folder = tempfile::tempdir().unwrap();
    let recording = Recording { blank: vec!["password".into()], ..recording(&folder) };
    let recorder = Recorder::start(recording.clone(), registry()).unwrap();
    let (mut first, mut second) = (recorder.tap(0), recorder.tap(1));
    see(&mut first, 900, b"\"aGk=\"");
    see(&mut second, 900, b"no json");
    see(&mut first, 900, b"");
    recorder.finish();
    let counts = recorder.snapshot();
    assert_eq!((counts.recorded, counts.left_out, counts.dropped, counts.beyond), (3, 1, 0, 0));
    assert_eq!(counts.bytes, fs::metadata(&recording.file).unwrap().len());
    let lines = lines(&recording);
    assert_eq!(
        (lines.len(), &lines[0]["coreloop_record"], &lines[0]["blank"][0]),
        (5, &1.into(), &"password".into())
    );
    for line in &lines[1..4] {
        assert_eq!((&line["method"], &line["protocol"]), (&"Math.Halve".into(), &"http".into()));
        assert_eq!((&line["codec"], &line["time_left_us"]), (&"json".into(), &5000.into()));
        assert!(line["at_us"].is_u64());
    }
    // The same key on another reactor is another connection.
    let connections: Vec<_> = lines[1..4].iter().map(|line| line["connection"].as_u64().unwrap()).collect();
    assert!(connections[0] != connections[1] && connections[0] == connections[2], "{connections:?}");
    assert_eq!((&lines[1]["body"], &lines[3]["body"]), (&"ImFHaz0i".into(), &"".into()));
    assert_eq!((&lines[2]["left_out"], lines[2].get("body")), (&"undecodable".into(), None));
    assert_eq!((&lines[4]["end"]["recorded"], &lines[4]["end"]["left_out"]), (&3.into(), &1.into()));
}

#[cfg(unix)]
#[test]
fn the_file_is_new_and_private_to_its_owner() {
    use std::os::unix::fs::PermissionsExt;

    let folder = tempfile::tempdir().unwrap();
    let recording = recording(&folder);
    drop(Recorder::start(recording.clone(), registry()).unwrap());
    assert_eq!(fs::metadata(&recording.file).unwrap().permissions().mode() & 0o777, 0o600);
    let before = fs::read(&recording.file).unwrap();
    let Err(error) = Recorder::start(recording.clone(), registry()) else { panic!("it was there") };
    assert!(error.to_string().contains("the file exists"), "{error}");
    assert_eq!(fs::read(&recording.file).unwrap(), before);
    let nowhere = Recording::to(folder.path().join("no such folder/record"));
    assert!(Recorder::start(nowhere, registry()).is_err());
}

#[test]
fn the_file_stops_at_its_bound_and_counts_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let recording = Recording { bytes_max: 1000, ..recording(&folder) };
    let recorder = Recorder::start(recording.clone(), registry()).unwrap();
    let mut tap = recorder.tap(0);
    for _ in 0..100 {
        see(&mut tap, 1, b"\"\"");
    }
    recorder.finish();
    let counts = recorder.snapshot();
    assert!(counts.recorded > 0 && counts.beyond > 0, "{counts:?}");
    assert_eq!(counts.recorded + counts.beyond, 100);
    let lines = lines(&recording);
    assert_eq!(lines.len() as u64, counts.recorded + 2);
    let end_len = lines[lines.len() - 1].to_string().len() as u64 + 1;
    assert!(counts.bytes - end_len <= 1000, "{counts:?}");
}

#[test]
fn a_full_queue_drops_requests_without_waiting() {
    // A queue that is never read, as with a stalled disk.
    let folder = tempfile::tempdir().unwrap();
    let recorder = Recorder::start(recording(&folder), registry()).unwrap();
    let (queue, queued) = bounded(QUEUED_MAX);
    let mut tap = RequestSampler::new(recorder.shared.clone(), queue, 0);
    for _ in 0..QUEUED_MAX + 5 {
        see(&mut tap, 1, b"\"\"");
    }
    assert_eq!((recorder.snapshot().dropped, queued.len()), (5, QUEUED_MAX));
    let (queue, queued) = bounded(QUEUED_MAX);
    recorder.shared.queued_bytes.store(0, Ordering::Relaxed);
    let mut tap = RequestSampler::new(recorder.shared.clone(), queue, 0);
    let large = vec![b'1'; QUEUED_BYTES_MAX / 3];
    for _ in 0..5 {
        see(&mut tap, 1, &large);
    }
    assert_eq!((recorder.snapshot().dropped, queued.len()), (5 + 2, 3));
    assert_eq!(recorder.shared.queued_bytes.load(Ordering::Relaxed), 3 * large.len());
}

#[test]
fn the_sample_has_the_configured_mean_without_a_pattern() {
    let folder = tempfile::tempdir().unwrap();
    let recording = Recording { sample: 100, ..recording(&folder) };
    let recorder = Recorder::start(recording, registry()).unwrap();
    let mut tap = recorder.tap(0);
    let drawn: Vec<usize> = (0..1_000_000).filter(|_| tap.wants()).collect();
    // The seed is fixed; the mean of 10 000 gaps has a deviation of 0.6 %.
    assert!((9_700..10_300).contains(&drawn.len()), "{}", drawn.len());
    let in_step = drawn.iter().filter(|at| *at % 100 == 0).count();
    assert!(in_step < 200, "{in_step} of {}", drawn.len());
}
