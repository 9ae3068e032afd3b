//! What a microcontroller does before it runs a model: it walks the root chain, takes timestamp and
//! targets on the reduced path, verifies a directive and asks whether its artifact may be
//! installed. Then it says over semihosting how much heap and stack that took.
#![no_std]
#![no_main]

extern crate alloc;

mod memory;

use alloc::vec::Vec;
use core::panic::PanicInfo;

use cortex_m_rt::entry;
use cortex_m_semihosting::debug::{self, EXIT_FAILURE, EXIT_SUCCESS};
use tidegate_trust::{
    AgentVersion, Counter, DeviceFacts, Effect, Event, Limits, Refresh, Role, Trusted,
    verify_directive,
};
use tidegate_wire::{DeviceId, Labels, ModelName};

/// Keeps the vectors out of what counts as the firmware's own size.
macro_rules! vector {
    ($name:ident, $file:literal) => {
        #[unsafe(link_section = ".rodata.vectors")]
        static $name: [u8; include_bytes!(concat!(env!("OUT_DIR"), $file)).len()] =
            *include_bytes!(concat!(env!("OUT_DIR"), $file));
    };
}
vector!(ROOT_1, "/root-1");
vector!(ROOT_2, "/root-2");
vector!(TIMESTAMP, "/timestamp");
vector!(TARGETS, "/targets");
vector!(DIRECTIVE, "/directive");

/// The clock, Unix seconds.
const NOW: u64 = 1_800_000_100;

#[entry]
fn main() -> ! {
    memory::start();
    let verified = verify(&DIRECTIVE).is_some();
    let (heap, stack) = (memory::heap_peak(), memory::stack_peak());
    // It is no verifier if it takes anything.
    let mut forged = DIRECTIVE;
    forged[DIRECTIVE.len() - 1] ^= 1;
    let refused = verify(&forged).is_none();
    memory::print("heap ", heap);
    memory::print("stack ", stack);
    memory::print("vectors ", vectors());
    memory::print("arena ", memory::HEAP);
    debug::exit(if verified && refused { EXIT_SUCCESS } else { EXIT_FAILURE });
    loop {
        cortex_m::asm::wfi();
    }
}

fn vectors() -> usize {
    ROOT_1.len() + ROOT_2.len() + TIMESTAMP.len() + TARGETS.len() + DIRECTIVE.len()
}

/// The length of the manifest that the directive has this device install.
fn verify(directive: &[u8]) -> Option<u64> {
    let trusted = refresh()?;
    trusted.fresh(NOW).ok()?;
    authorised(&trusted, directive)
}

#[inline(never)]
fn authorised(trusted: &Trusted, directive: &[u8]) -> Option<u64> {
    let model: ModelName = "digits".parse().ok()?;
    let device: DeviceId = "mcu-1".parse().ok()?;
    let labels = Labels::new();
    let verified = verify_directive(trusted, directive, &model).ok()?;
    verified.may_install(trusted.now(NOW)).ok()?;
    let rule = verified.directive().rule_for(&device, &labels)?;
    let agent = AgentVersion([0, 1, 0]);
    let facts = DeviceFacts { engines: Vec::new(), agent, memory_mib: 1, labels };
    let entry = trusted.authorise(&model, &rule.artifact, &facts).ok()?;
    Some(entry.length)
}

/// The newest metadata, from the root that the device was made with.
#[inline(never)]
fn refresh() -> Option<Trusted> {
    let trusted: Trusted = Trusted::from_root(ROOT_1.to_vec()).ok()?;
    let trusted = trusted.reduced(Counter::default());
    let (mut refresh, mut effects) = Refresh::start(NOW, trusted, Limits::default());
    loop {
        let mut answer = None;
        for effect in effects {
            match effect {
                Effect::Fetch { role, version, .. } => answer = Some(serve(role, version)),
                // The flash driver and the counter's are the board's.
                Effect::Persist { .. } | Effect::Forget { .. } => {}
                Effect::Done(_) => return Some(refresh.into_trusted()),
                Effect::Failed(_) | Effect::Ignored { .. } => return None,
            }
        }
        effects = refresh.step(answer?);
    }
}

fn serve(role: Role, version: Option<u64>) -> Event {
    let bytes: &[u8] = match (role, version) {
        (Role::Root, Some(2)) => &ROOT_2,
        (Role::Timestamp, _) => &TIMESTAMP,
        (Role::Targets, _) => &TARGETS,
        _ => return Event::NotFound { role },
    };
    Event::Fetched { role, bytes: bytes.to_vec() }
}

#[panic_handler]
fn panicked(_: &PanicInfo) -> ! {
    debug::exit(EXIT_FAILURE);
    loop {
        cortex_m::asm::wfi();
    }
}
