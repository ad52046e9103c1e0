//! What a connection holds of a budget, and how a new one gets room: others close that do nothing.
//!
//! A request that runs is never cut for a connection. Nor is a connection closed from here: it looks
//! whether it is asked to make room, and its owner closes it.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::queue::{Made, Rank, Seat};
use super::{Budget, CONNECTION, Held, Purpose};

/// What one connection holds of a budget. Given back on drop.
#[derive(Debug)]
pub struct Room {
    held: Held,
    place: Place,
}

/// Where a connection stands among those that make room.
#[derive(Clone, Debug)]
pub struct Place {
    budget: Arc<Budget>,
    seat: Arc<Seat>,
}

// === impl Budget ===

impl Budget {
    /// Connections that are open.
    #[must_use]
    pub fn open(&self) -> usize {
        self.connections.open()
    }

    /// Room for one more connection, which has sent nothing yet.
    #[must_use]
    pub fn room(self: &Arc<Self>) -> Option<Room> {
        if !self.connections.opened() {
            return None;
        }
        let Some(held) = self.hold(Purpose::Connection, CONNECTION) else {
            self.connections.refused();
            return None;
        };
        let place = Place {
            budget: Arc::clone(self),
            seat: Seat::new(),
        };
        place.stand(Rank::Silent);
        Some(Room { held, place })
    }

    /// The same. Without room it asks others to close, and waits for them, for a second at most; `None` at once
    /// if all of them have work.
    pub async fn room_for_newcomer(self: &Arc<Self>) -> Option<Room> {
        match self.room() {
            Some(room) => Some(room),
            None => self.connections.make_room(|| self.room()).await,
        }
    }
}

// === impl Room ===

impl Room {
    /// The budget that it is of.
    #[must_use]
    pub const fn budget(&self) -> &Arc<Budget> {
        self.held.budget()
    }

    /// How much it is.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.held.bytes()
    }

    /// Where the connection stands.
    #[must_use]
    pub const fn place(&self) -> &Place {
        &self.place
    }

    /// Makes it `bytes` in all, if that is less, or if there is room for the rest.
    #[must_use]
    pub fn resize(&mut self, bytes: usize) -> bool {
        self.held.resize(bytes)
    }

    /// The same for a connection that has sent no request: others make room for it, as for a newcomer, unless it
    /// is asked to make room itself.
    pub async fn grow(&mut self, bytes: usize) -> Made {
        let Self { held, place } = self;
        let take = || held.resize(bytes);
        let connections = &place.budget.connections;
        connections.make_more_room(&place.seat, take).await
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        // First: a newcomer finds the memory once the connection is gone.
        let _less = self.held.resize(0);
        self.place.leave();
        self.place.budget.connections.closed();
    }
}

// === impl Place ===

impl Place {
    /// The connection has nothing to do: it may be asked to make room, behind the others of this rank.
    pub fn stand(&self, rank: Rank) {
        self.budget.connections.stand(&self.seat, rank);
    }

    /// The connection has work: it is asked no more.
    pub fn leave(&self) {
        self.budget.connections.leave(&self.seat);
    }

    /// Ready when the connection should make room.
    pub fn poll_asked(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.seat.poll_asked(cx)
    }

    /// Ready when the connection should make room.
    pub async fn asked(&self) {
        poll_fn(|cx| self.poll_asked(cx)).await;
    }

    /// The budget that the connection has room of.
    #[must_use]
    pub const fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }
}

#[cfg(test)]
mod tests;
