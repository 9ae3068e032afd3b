//! The agent's decisions: what a device does with what it hears, and how it keeps what it must not
//! lose. No clock, no socket, no task: those are the shell's.
#![no_std]

extern crate alloc;
