use std::fs;

use coreloop::codec::{Bytes, Codec, Plain};
use coreloop::service::Outcome;
use serde_json::Value;
use tempfile::TempDir;

use super::*;

fn methods() -> Vec<Method> {
    let method = |name: &str| {
        Method::new::<Plain<Bytes>, Plain<i64>>(name, Box::new(|_, _, _, _| Outcome::Deferred)).unwrap()
    };
    vec![method("Math.Double"), method("Math.Halve")]
}

fn recording(folder: &TempDir) -> Recording {
    Recording {
        file: folder.path().join("record"),
        sample: 1,
        bytes_max: 64 << 20,
        blank: Vec::new(),
        on_failure: |_| (),
    }
}

fn start(recording: &Recording) -> io::Result<Recorder> {
    let recorder = Recorder::new(recording.clone());
    recorder.start(&methods()).map(|()| recorder)
}

fn queue_of(recorder: &Recorder) -> RecordQueue {
    RecordQueue { shared: recorder.shared.clone(), queue: recorder.queue.queue.clone() }
}

fn see(tap: &RecordQueue, reactor: usize, connection: u64, body: &[u8]) {
    if tap.reserve(body.len()) {
        tap.send(SampledRequest {
            at: Instant::now(),
            reactor,
            connection,
            protocol: Some(ProtocolId::Http),
            method: 1,
            codec: Codec::Json.number(),
            compressed: false,
            one_way: false,
            time_left_us: 5_000,
            body: body.to_vec(),
        });
    }
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
    let recorder = start(&recording).unwrap();
    let (first, second) = (queue_of(&recorder), queue_of(&recorder));
    see(&first, 0, 900, b"\"aGk=\"");
    see(&second, 1, 900, b"no json");
    see(&first, 0, 900, b"");
    recorder.finish();
    let counts = recorder.counts();
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
    drop(start(&recording).unwrap());
    assert_eq!(fs::metadata(&recording.file).unwrap().permissions().mode() & 0o777, 0o600);
    let before = fs::read(&recording.file).unwrap();
    let Err(error) = start(&recording) else { panic!("it was there") };
    assert!(error.to_string().contains("the file exists"), "{error}");
    assert_eq!(fs::read(&recording.file).unwrap(), before);
    let nowhere = Recording { file: folder.path().join("no such folder/record"), ..recording };
    assert!(start(&nowhere).is_err());
}

#[test]
fn the_file_stops_at_its_bound_and_counts_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let recording = Recording { bytes_max: 1000, ..recording(&folder) };
    let recorder = start(&recording).unwrap();
    let tap = queue_of(&recorder);
    for _ in 0..100 {
        see(&tap, 0, 1, b"\"\"");
    }
    recorder.finish();
    let counts = recorder.counts();
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
    let recorder = start(&recording(&folder)).unwrap();
    let (queue, queued) = bounded(QUEUED_MAX);
    let tap = RecordQueue { shared: recorder.shared.clone(), queue };
    for _ in 0..QUEUED_MAX + 5 {
        see(&tap, 0, 1, b"\"\"");
    }
    assert_eq!((recorder.counts().dropped, queued.len()), (5, QUEUED_MAX));
    let (queue, queued) = bounded(QUEUED_MAX);
    recorder.shared.queued_bytes.store(0, Ordering::Relaxed);
    let tap = RecordQueue { shared: recorder.shared.clone(), queue };
    let large = vec![b'1'; QUEUED_BYTES_MAX / 3];
    for _ in 0..5 {
        see(&tap, 0, 1, &large);
    }
    assert_eq!((recorder.counts().dropped, queued.len()), (5 + 2, 3));
    assert_eq!(recorder.shared.queued_bytes.load(Ordering::Relaxed), 3 * large.len());
}

#[test]
fn the_sample_has_the_configured_mean_without_a_pattern() {
    let sampler = RequestSampler::new(0, 100);
    let drawn: Vec<usize> = (0..1_000_000).filter(|_| sampler.wants(100)).collect();
    // The seed is fixed; the mean of 10 000 gaps has a deviation of 0.6 %.
    assert!((9_700..10_300).contains(&drawn.len()), "{}", drawn.len());
    let in_step = drawn.iter().filter(|at| *at % 100 == 0).count();
    assert!(in_step < 200, "{in_step} of {}", drawn.len());
}
