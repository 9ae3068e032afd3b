//! A heap that remembers its peak, a stack that was painted before the start, and three lines of
//! output without formatting.

use core::alloc::{GlobalAlloc, Layout};
use core::mem::MaybeUninit;
use core::ptr::addr_of_mut;
use core::sync::atomic::{AtomicUsize, Ordering};

use embedded_alloc::LlffHeap;

/// Bytes of heap: more than the measured peak, so that the peak is a measurement.
pub const HEAP: usize = 32 * 1024;

static mut ARENA: [MaybeUninit<u8>; HEAP] = [MaybeUninit::uninit(); HEAP];

struct Counted {
    heap: LlffHeap,
    used: AtomicUsize,
    peak: AtomicUsize,
}

#[global_allocator]
static ALLOCATOR: Counted =
    Counted { heap: LlffHeap::empty(), used: AtomicUsize::new(0), peak: AtomicUsize::new(0) };

// SAFETY: every call goes to the heap inside with the arguments that came.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let used = self.used.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        self.peak.fetch_max(used, Ordering::Relaxed);
        unsafe { self.heap.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        self.used.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { self.heap.dealloc(pointer, layout) }
    }
}

unsafe extern "C" {
    static _stack_start: u32;
    static _stack_end: u32;
}

/// Gives the allocator its memory. Once, before anything is allocated.
pub fn start() {
    // SAFETY: called once from `main`, before anything uses the arena.
    unsafe { ALLOCATOR.heap.init(addr_of_mut!(ARENA) as usize, HEAP) }
}

/// The most bytes that were ever allocated at once.
pub fn heap_peak() -> usize {
    ALLOCATOR.peak.load(Ordering::Relaxed)
}

/// The most bytes of stack that were ever in use: how far down cortex-m-rt's paint is gone.
pub fn stack_peak() -> usize {
    let (top, end) = (&raw const _stack_start as usize, &raw const _stack_end as usize);
    let untouched = (end..top).step_by(4).find(|address| {
        // SAFETY: between the linker's two symbols lies the stack, aligned to words.
        let word = unsafe { (*address as *const u32).read_volatile() };
        word != cortex_m_rt::STACK_PAINT_VALUE
    });
    top - untouched.unwrap_or(top)
}

/// Prints a name and a number over semihosting.
pub fn print(name: &str, mut number: usize) {
    let mut line = [0_u8; 32];
    line[..name.len()].copy_from_slice(name.as_bytes());
    let mut digits = [0; 10];
    let mut count = 0;
    while count == 0 || number > 0 {
        digits[count] = b'0' + (number % 10) as u8;
        number /= 10;
        count += 1;
    }
    for (place, digit) in digits[..count].iter().rev().enumerate() {
        line[name.len() + place] = *digit;
    }
    line[name.len() + count] = b'\n';
    // SAFETY: the line ends with a zero byte, which is what WRITE0 asks for.
    unsafe { cortex_m_semihosting::syscall1!(WRITE0, line.as_ptr()) };
}
