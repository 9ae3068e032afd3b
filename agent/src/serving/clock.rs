//! What the process uses: processor time of a thread, resident memory.

use rustix::time::{ClockId, clock_gettime};

/// Processor time of the calling thread, nanoseconds.
///
/// Models are compared by it, not by the wall clock: on a busy device the one that happened to be
/// pre-empted for ten milliseconds would look a thousand times slower than the other.
pub fn thread_cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let (seconds, nanos) = (time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs());
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}

/// Unix seconds by the device's clock; 0 before 1970.
pub fn unix_seconds() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// Unix milliseconds by the device's clock; 0 before 1970.
pub fn unix_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Resident memory of this process in bytes; `None` where the system does not say.
pub fn resident_bytes() -> Option<u64> {
    // `status` rather than `statm`: it counts in kibibytes, whatever the page size.
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_uses_time_and_memory() {
        assert!(resident_bytes().unwrap() > 1 << 20);
        let before = thread_cpu_ns();
        assert!((0..100_000_u64).map(std::hint::black_box).sum::<u64>() > 0);
        assert!(thread_cpu_ns() > before);
        assert!(unix_seconds() > 1_700_000_000);
    }
}
