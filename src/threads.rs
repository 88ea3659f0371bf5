//! Detached threads: how they are started, and nothing of what runs on them. To learn that one has ended, give it a
//! value to hold, and observe that value's drop.

use std::convert::Infallible;
use std::io;

/// Starts a thread of that name, and lets go of it.
///
/// It begins only once it is detached. glibc's `pthread_detach` looks at a thread once more after it has detached it;
/// a thread that ends in that moment has taken its memory with it, and the process dies
/// ([glibc bug 19951](https://sourceware.org/bugzilla/show_bug.cgi?id=19951)). Dropping the handle of a thread that
/// may be short, as one that dials is, is a call of that function.
///
/// # Errors
///
/// The system gives no thread.
pub(crate) fn detached(name: impl Into<String>, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let (held, released) = crossbeam_channel::bounded::<Infallible>(0);
    let thread = std::thread::Builder::new().name(name.into()).spawn(move || {
        // Nothing is sent; the channel closes when the starting thread drops its end.
        let _ = released.recv();
        body();
    })?;
    drop(thread);
    drop(held);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_short_threads_come_and_go() {
        let (done, all) = crossbeam_channel::unbounded();
        for _ in 0..500 {
            let done = done.clone();
            detached("short", move || done.send(std::thread::current().name().map(str::to_owned)).unwrap())
                .unwrap();
        }
        drop(done);
        let names: Vec<_> = all.iter().collect();
        assert!(names.len() == 500 && names.iter().all(|name| name.as_deref() == Some("short")));
    }
}
