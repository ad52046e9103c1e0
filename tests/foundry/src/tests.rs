//! The simulator over real HTTP on loopback, through the library's own API.

mod access;
mod batches;
mod chat;
mod classes;
mod client;
mod control;
mod entra;
mod faults;
mod filter;
mod forms;
mod limits;
mod media;
mod messages;
mod older;
mod responses;
mod settings;
mod stores;
mod stream;
