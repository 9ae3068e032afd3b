//! The controller's decisions: what was decided, what devices reported, and what follows from both.
//! No clock, no socket, no task: those are the shell's.
#![no_std]

extern crate alloc;
