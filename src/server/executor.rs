//! Async methods of a server: the executor that runs them, and the limits on calls in progress, which differ between calls
//! that workers run and futures.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Error, ServerBuilder};
use crate::codec::Plain;
use crate::config::{ConfigError, Origin, ValidConfig, split_method_limit};
use crate::context::OwnedContext;
use crate::policy::run_queue::RunQueueConfig;
use crate::service::futures::{AsyncCalls, AsyncLimits};
use crate::service::{CallFuture, Kind, Method, Registry};
use crate::status::Status;

impl ServerBuilder {
    /// Sets what runs the futures of async methods: a function that passes each future to an executor, such as
    /// `move |future| drop(handle.spawn(future))` with a handle of tokio, or `|future| smol::spawn(future).detach()`.
    ///
    /// The function is called on the threads of the reactors, for each call. It must return at once, must not run the
    /// future itself, and must not wait for a lock that is held for long. A server with async methods does not start
    /// without an executor.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use coreloop::client::Direct;
    /// use coreloop::{OwnedContext, Server};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let runtime = tokio::runtime::Runtime::new()?;
    /// let handle = runtime.handle().clone();
    /// let server = Server::builder()
    ///     .executor(move |future| drop(handle.spawn(future)))
    ///     .async_method("Clock.Wait", |_cx: OwnedContext, millis: u64| async move {
    ///         tokio::time::sleep(Duration::from_millis(millis)).await;
    ///         Ok(millis)
    ///     })
    ///     .listen("127.0.0.1:0")
    ///     .start()?;
    /// # drop(Direct::connect(&server.addresses()[0].to_string())?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn executor(mut self, spawn: impl Fn(CallFuture) + Send + Sync + 'static) -> ServerBuilder {
        self.executor = Some(Arc::new(spawn));
        self
    }

    /// Adds an async method without a service: its name ([`MethodName`](crate::MethodName)), and a function of the
    /// context and the argument that returns a future. The server needs an executor ([`ServerBuilder::executor`]).
    pub fn async_method<T, R, F>(
        mut self,
        name: &str,
        function: impl Fn(OwnedContext, T) -> F + Send + Sync + 'static,
    ) -> ServerBuilder
    where
        T: DeserializeOwned + 'static,
        R: Serialize + DeserializeOwned + 'static,
        F: Future<Output = Result<R, Status>> + Send + 'static,
    {
        match Method::async_unary::<Plain<T>, Plain<R>, T, F>(name, function) {
            Ok(method) => self.method_of(method),
            Err(error) => {
                self.error.get_or_insert(error.into());
                self
            }
        }
    }
}

/// Refuses async methods, for a server without an executor.
///
/// # Errors
///
/// [`Error::NoExecutor`], with the first async method.
pub(super) fn refuse_async(registry: &Registry) -> Result<(), Error> {
    match registry.methods().iter().find(|method| method.runs() == Kind::Async) {
        Some(method) => Err(Error::NoExecutor { method: method.name().to_owned() }),
        None => Ok(()),
    }
}

/// Returns the settings of the run queue of a reactor, and the limits of its async methods.
pub(super) fn work_limits(
    config: &ValidConfig,
    registry: &Registry,
    async_calls: &Arc<AsyncCalls>,
) -> Result<(RunQueueConfig, Arc<AsyncLimits>), ConfigError> {
    let limits = &config.limits;
    let methods = registry.methods().len();
    let (of_futures, method_limits): (Vec<_>, Vec<_>) = method_limits(config, registry)?
        .into_iter()
        .partition(|(index, _)| registry.method(*index).runs() == Kind::Async);
    let run_queue = RunQueueConfig {
        methods,
        workers: [config.workers as u32, config.blocking_threads as u32],
        look_ahead_ns: u32::try_from(limits.look_ahead_us * 1000).unwrap_or(u32::MAX),
        queue_max: limits.run_queue_max,
        queue_target: (limits.queue_target_ms > 0).then(|| Duration::from_millis(limits.queue_target_ms)),
        is_adaptive: limits.adaptive_concurrency,
        method_limits,
    };
    Ok((run_queue, AsyncLimits::new(async_calls.clone(), methods, &of_futures)))
}

/// Returns the most calls in progress of single methods, by index.
fn method_limits(config: &ValidConfig, registry: &Registry) -> Result<Vec<(u32, u32)>, ConfigError> {
    let mut method_limits = Vec::new();
    for text in &config.method_limits {
        let Some((name, most)) = split_method_limit(text) else { continue };
        let refused = |expected: &str| ConfigError::Invalid {
            key: "method_limits".to_owned(),
            expected: expected.to_owned(),
            came: format!("\"{name}\""),
            origin: Origin::Program,
        };
        let index = registry.methods().iter().position(|method| method.name() == name);
        let index = index.ok_or_else(|| refused("names of methods that the server has"))?;
        if registry.method(index as u32).runs() == Kind::Inline {
            return Err(refused("methods that do not run inline"));
        }
        method_limits.push((index as u32, most));
    }
    Ok(method_limits)
}
