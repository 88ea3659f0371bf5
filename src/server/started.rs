//! The interceptors of a server that is starting or running: each is started once, and finished once.

use std::io;
use std::sync::{Arc, OnceLock};

use crate::service::Method;
use crate::service::interceptor::Interceptor;

/// Interceptors that were started. They are finished when this is dropped, if not before.
#[derive(Default)]
pub(super) struct StartedInterceptors {
    started: Vec<Arc<dyn Interceptor>>,
    finished: OnceLock<()>,
}

impl StartedInterceptors {
    /// Starts the interceptors; if one of them cannot start, those before it are finished.
    pub(super) fn start(
        interceptors: Vec<Arc<dyn Interceptor>>,
        methods: &[Method],
    ) -> io::Result<StartedInterceptors> {
        let mut all = StartedInterceptors::default();
        for interceptor in interceptors {
            interceptor.start(methods)?;
            all.started.push(interceptor);
        }
        Ok(all)
    }

    pub(super) fn finish(&self) {
        self.finished.get_or_init(|| self.started.iter().for_each(|interceptor| interceptor.finish()));
    }
}

impl Drop for StartedInterceptors {
    fn drop(&mut self) {
        self.finish();
    }
}
