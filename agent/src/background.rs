//! Work that is done beside the answers, and yields the processor to them.
//!
//! Loading a model, checking its bytes and comparing it in the shadow take from milliseconds to
//! seconds. On a device with few cores they share one with the threads that answer.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use tokio::sync::oneshot;

/// How nice: such a thread gets a fiftieth of a core on which others are always busy, and all of
/// one on which nobody is.
const NICE: i32 = 15;

/// Nanoseconds that such a thread would keep the processor if nobody wanted it: the longest that the
/// kernel takes. Since Linux 6.12 a thread with a shorter slice, as all others have, need not wait
/// for the end of this one when it wakes up; before, that cost an answer up to three milliseconds.
const SLICE_NS: u64 = 100_000_000;

/// The work ended without a result.
#[derive(Debug, thiserror::Error)]
#[error("the work broke off: {why}")]
pub struct BrokeOff {
    why: String,
}

/// Does blocking `work` on a low-priority thread of its own.
///
/// # Errors
/// [`BrokeOff`] if it panics, or the system gives no thread.
pub async fn run<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, BrokeOff> {
    let (done, result) = oneshot::channel();
    // Never one of the runtime's threads: those come back to answer, and a thread may not raise its
    // priority again.
    let thread = thread::Builder::new().name(name.to_string()).spawn(move || {
        yield_to_answers();
        // Who asked may have gone.
        let _ = done.send(catch_unwind(AssertUnwindSafe(work)));
    });
    if let Err(error) = thread {
        return Err(BrokeOff { why: format!("the system gives no thread: {error}") });
    }
    match result.await {
        Ok(Ok(result)) => Ok(result),
        Ok(Err(panic)) => Err(BrokeOff { why: words(&*panic).to_string() }),
        Err(_) => Err(BrokeOff { why: "its thread ended".to_string() }),
    }
}

/// Makes the calling thread yield to threads that answer, for as long as it lives.
pub(crate) fn yield_to_answers() {
    // On Linux niceness is of the calling thread, whatever POSIX says of processes.
    if !has_long_slices()
        && let Err(error) = rustix::process::nice(NICE)
    {
        tracing::debug!(%error, "a background thread keeps its priority");
    }
}

/// Niceness and slice at once; false where the kernel knows nothing of slices.
///
/// # Source
/// sched_setattr(2).
#[allow(unsafe_code)] // Neither the C library nor a crate wraps this call.
fn has_long_slices() -> bool {
    #[repr(C)]
    struct Attributes {
        size: u32,
        policy: u32,
        flags: u64,
        nice: i32,
        priority: u32,
        slice_ns: u64,
        deadline_ns: u64,
        period_ns: u64,
    }
    let wanted = Attributes {
        size: size_of::<Attributes>() as u32,
        policy: 0,
        flags: 0,
        nice: NICE,
        priority: 0,
        slice_ns: SLICE_NS,
        deadline_ns: 0,
        period_ns: 0,
    };
    // SAFETY: thread 0 is the calling one; the kernel reads `size` bytes of a structure that lives
    // here and has the layout of its first version, and writes nothing but that size.
    let failed =
        unsafe { libc::syscall(libc::SYS_sched_setattr, 0, std::ptr::from_ref(&wanted), 0_u32) };
    failed == 0
}

fn words(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn niceness() -> i32 {
        rustix::process::nice(0).unwrap()
    }

    #[tokio::test]
    async fn the_work_yields_and_its_caller_does_not() {
        let own = niceness();
        let at_work = run("test", niceness).await.unwrap();
        assert!(at_work == NICE || at_work == (own + NICE).min(19), "{at_work}");
        assert_eq!(niceness(), own);
    }

    #[tokio::test]
    async fn a_panic_is_told_with_its_words() {
        let error = run("test", || panic!("no {}", "such operator")).await.unwrap_err();
        assert_eq!(error.to_string(), "the work broke off: no such operator");
    }
}
