//! The gateway on real sockets, in front of a simulated Foundry.

mod access;
mod bench;
mod chat;
mod estimates;
mod rows;
mod settlement;
mod wire;
