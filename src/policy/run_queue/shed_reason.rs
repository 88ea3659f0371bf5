//! The reasons for which calls are refused or dropped so that others end in time: their counters and messages.

/// Why a call was refused or dropped before it ran, in order to answer others in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ShedReason {
    /// The run queue was full (`limits.run_queue_max`).
    QueueFull,
    /// It would have had to wait, and was expected to end after its deadline.
    ExpectedLate,
    /// It had waited, and was expected to end after its deadline if it were started.
    TooLateToStart,
    /// Calls waited longer than the target for too long (`limits.queue_target_ms`).
    QueueDelay,
    /// More calls were in progress than the adaptive limit allows (`limits.adaptive_concurrency`).
    Concurrency,
    /// As many calls of the method were in progress as its limit allows (`method_limits`).
    MethodLimit,
    /// As many calls or answers waited on its connection as may (`limits.in_flight_max`, `limits.in_flight_bytes_max`,
    /// `limits.write_queue_high_bytes`).
    ConnectionLimit,
    /// There were as many futures of async methods as may be (`limits.async_in_flight_max`).
    AsyncLimit,
}

impl ShedReason {
    /// Every reason, in the order of the counters.
    pub const ALL: [ShedReason; 8] = [
        ShedReason::QueueFull,
        ShedReason::ExpectedLate,
        ShedReason::TooLateToStart,
        ShedReason::QueueDelay,
        ShedReason::Concurrency,
        ShedReason::MethodLimit,
        ShedReason::ConnectionLimit,
        ShedReason::AsyncLimit,
    ];

    /// Returns the name of the reason's counter.
    pub fn name(self) -> &'static str {
        match self {
            ShedReason::QueueFull => "queue_full",
            ShedReason::ExpectedLate => "expected_late",
            ShedReason::TooLateToStart => "too_late_to_start",
            ShedReason::QueueDelay => "queue_delay",
            ShedReason::Concurrency => "concurrency",
            ShedReason::MethodLimit => "method_limit",
            ShedReason::ConnectionLimit => "connection_limit",
            ShedReason::AsyncLimit => "async_limit",
        }
    }

    /// Returns the message of the answer.
    pub fn message(self) -> &'static str {
        match self {
            ShedReason::QueueFull => "the run queue is full (run_queue_max)",
            ShedReason::ExpectedLate => "the server is busy: the call would end after its deadline",
            ShedReason::TooLateToStart => "the call waited, and would end after its deadline",
            ShedReason::QueueDelay => "the server is busy: calls wait longer than queue_target_ms",
            ShedReason::Concurrency => "the server is busy: too many calls are in progress",
            ShedReason::MethodLimit => "as many calls of the method are in progress as method_limits allows",
            ShedReason::ConnectionLimit => {
                "too many calls or answers wait on this connection (in_flight_max, in_flight_bytes_max, \
                 write_queue_high_bytes)"
            }
            ShedReason::AsyncLimit => "too many calls of async methods are in flight (async_in_flight_max)",
        }
    }
}
