//! Parses stacks as `inferno-collapse-perf --kernel` folds them, and computes the share of time of each kind of work.

use std::collections::BTreeMap;

use serde::Serialize;

/// The suffix of kernel frames.
const KERNEL: &str = "_[k]";

/// How a server's CPU time is divided, as shares of 1.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Shares {
    /// Number of samples.
    pub samples: u64,
    /// In the program and its libraries.
    pub user: f64,
    /// In the kernel: writing to sockets. On loopback this includes receiving at the other end, and waking it.
    pub write: f64,
    /// Reading from sockets.
    pub read: f64,
    /// Waiting for events: the call itself, and sleeping and waking up.
    pub wait: f64,
    /// Waking and waiting for the server's other threads.
    pub threads: f64,
    /// The rest of the kernel: interrupts, memory.
    pub other: f64,
    /// The program's own functions with the most samples, with their shares.
    pub leaves: Vec<(String, f64)>,
}

impl Shares {
    /// Computes the shares from folded stacks: each line has the frames from outermost to innermost, separated by
    /// semicolons, then a space and a count.
    pub fn of(folded: &str) -> Shares {
        let mut shares = Shares::default();
        let mut leaves: BTreeMap<&str, u64> = BTreeMap::new();
        for (stack, count) in folded.lines().filter_map(|line| line.rsplit_once(' ')) {
            let Ok(count) = count.parse::<u64>() else { continue };
            shares.samples += count;
            *shares.place(stack) += count as f64;
            let leaf = stack.rsplit(';').next().unwrap_or(stack);
            if !leaf.ends_with(KERNEL) {
                *leaves.entry(leaf).or_default() += count;
            }
        }
        let all = shares.samples.max(1) as f64;
        for share in [
            &mut shares.user,
            &mut shares.write,
            &mut shares.read,
            &mut shares.wait,
            &mut shares.threads,
            &mut shares.other,
        ] {
            *share /= all;
        }
        let mut leaves: Vec<_> =
            leaves.into_iter().map(|(name, count)| (name.to_owned(), count as f64 / all)).collect();
        leaves.sort_by(|one, other| other.1.total_cmp(&one.1));
        leaves.truncate(12);
        shares.leaves = leaves;
        shares
    }

    fn place(&mut self, stack: &str) -> &mut f64 {
        let mut kernel = stack.split(';').filter_map(|frame| frame.strip_suffix(KERNEL)).peekable();
        if kernel.peek().is_none() {
            return &mut self.user;
        }
        for frame in kernel {
            let Some(call) = ["__x64_sys_", "__arm64_sys_"].iter().find_map(|arch| frame.strip_prefix(arch))
            else {
                continue;
            };
            return match call {
                "sendto" | "sendmsg" | "write" | "writev" => &mut self.write,
                "recvfrom" | "recvmsg" | "read" | "readv" => &mut self.read,
                call if call.starts_with("epoll_") => &mut self.wait,
                "futex" | "sched_yield" => &mut self.threads,
                _ => &mut self.other,
            };
        }
        &mut self.other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_counts_towards_its_system_call() {
        let folded = "\
            reactor;run;decode 30\n\
            reactor;run;write;entry_[k];__x64_sys_sendto_[k];tcp_sendmsg_[k] 40\n\
            reactor;run;read;entry_[k];__x64_sys_recvfrom_[k] 10\n\
            reactor;run;epoll_wait;entry_[k];__x64_sys_epoll_wait_[k];schedule_[k] 12\n\
            worker;park;entry_[k];__x64_sys_futex_[k] 4\n\
            reactor;run;decode;asm_sysvec_apic_timer_interrupt_[k] 3\n\
            reactor;run;memcpy of a b 1\n\
            not a stack\n";
        let shares = Shares::of(folded);
        assert_eq!(shares.samples, 100);
        let parts = [shares.user, shares.write, shares.read, shares.wait, shares.threads, shares.other];
        assert_eq!(parts, [0.31, 0.4, 0.1, 0.12, 0.04, 0.03]);
        assert_eq!(shares.leaves, [("decode".to_owned(), 0.3), ("memcpy of a b".to_owned(), 0.01)]);
        assert_eq!(Shares::of("").samples, 0);
    }
}
