//! The pools of threads that run methods.

/// The pool in which a method runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WorkPool {
    /// The pool for CPU work.
    Cpu,
    /// The elastic pool for methods that may block.
    Blocking,
}

impl WorkPool {
    /// The pools.
    pub const ALL: [WorkPool; 2] = [WorkPool::Cpu, WorkPool::Blocking];
}
