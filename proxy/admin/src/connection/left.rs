//! Whether a client is still there, without reading what it has sent.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::net::TcpStream;

/// Whether the other end has closed its connection, or its sending side. It may have sent something before.
#[must_use]
pub fn has_left(stream: &TcpStream) -> bool {
    let mut asked = [PollFd::new(stream, PollFlags::RDHUP)];
    poll(&mut asked, Some(&Timespec::default())).is_ok_and(|left| left > 0)
}
