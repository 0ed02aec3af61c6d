//! Virtual time.

/// Virtual time, in microseconds since the simulation began.
pub type Micros = u64;
