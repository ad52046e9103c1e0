//! The gateway on real sockets, in front of a simulated Foundry.

mod access;
mod adopt;
mod bench;
mod callers;
mod chat;
mod connections;
mod connections_lost;
mod end_user;
mod estimates;
mod families;
mod health;
mod hostile;
mod http2;
mod kept;
mod model_gateway;
mod night;
mod raw;
mod reach;
mod refusals;
mod rows;
mod settlement;
mod strangers;
mod surface;
mod tokens;
mod truth;
mod wire;
