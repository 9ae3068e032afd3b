//! A whole fleet in one process under virtual time, with faults.
