//! The gateway on real sockets, in front of a simulated Foundry.

mod access;
mod adopt;
mod bench;
mod chat;
mod connections;
mod estimates;
mod hostile;
mod raw;
mod rows;
mod settlement;
mod surface;
mod truth;
mod wire;
