//! Profiles of the process, from the admin listener.

use std::thread;

use crate::rig::{Answer, request, rig};

#[test]
fn a_profile_is_bounded_and_there_is_one_at_a_time() {
    let rig = rig(|builder| builder);
    let address = rig.admin();
    let get = |path: &str| request(&address, "GET", path, &[], "");
    let hour = get("/debug/pprof/profile?seconds=3600");
    assert!(hour.status == 400 && hour.body.contains("at most 60s"), "{}", hour.body);
    let odd = get("/debug/pprof/profile?seconds=-1");
    assert!(odd.status == 400 && odd.body.contains("expected a whole number"), "{}", odd.body);
    let heap = get("/debug/pprof/heap");
    assert!(heap.body.contains("SampledAllocator"), "{}", heap.body);
    let answers: Vec<Answer> = thread::scope(|scope| {
        let both = [(); 2].map(|()| scope.spawn(|| get("/debug/pprof/profile?seconds=2&format=tree")));
        both.into_iter().map(|answer| answer.join().unwrap()).collect()
    });
    let mut statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 429]);
    let tree = answers.iter().find(|answer| answer.status == 200).unwrap().json();
    assert!(tree["children"].is_array() && tree["value"].is_u64(), "{tree}");
}

#[test]
fn threads_are_listed_by_name() {
    let rig = rig(|builder| builder);
    // Another test's profile may be running.
    let list = loop {
        let list = rig.get("/debug/pprof/threads?debug=1", &[]);
        if list.status != 429 {
            break list;
        }
    };
    assert!(list.status == 200 && list.body.contains("coreloop-reacto"), "{}", list.body);
}
