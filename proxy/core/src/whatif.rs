//! What would become of a request, without taking quota: forecasts and replays.
//!
//! Every rule of admission stands in [`crate::admit`] and [`crate::quota`]; this module only asks
//! them. Words: a `forecast` judges one request by counters that someone else keeps, a `replay`
//! judges a log of requests by counters of its own.

mod consumer;
mod forecast;
mod replay;
mod tally;
#[cfg(test)]
mod tests;

pub use consumer::{InvalidConsumer, Suggestion};
pub use forecast::{
    CounterLevel, Counters, Forecast, LimitForecast, Outcome, OutputFrom, Probe, Question,
    TargetShare, Unused, forecast,
};
pub use replay::{LimitReplay, LoggedRequest, Replay, ReplaySettings};
pub use tally::{ConsumerCounts, LimitDenial, LimitTally, Tally};
