//! The Lua scripts of sessions and the functions of `model::record`, on the same bytes: the same result, and the same bytes
//! afterwards.
//!
//! The scripts run on a real Redis with their own text. Only the clock is that of the test, so that every limit is met to the
//! millisecond. `sessions` compares the stores through their interface, by the clock of the server.

mod admission;
mod damaged;
mod ending;
mod packing;
mod rotation;
mod runner;
mod samples;
