//! The kinds of failures.

use std::time::Duration;

use serde_json::json;
use tests_foundry::Fault as Answer;
use tests_support::Fault as Cut;

/// One of them.
#[derive(Clone, Debug)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) how: How,
    /// Calls ask for a stream.
    pub(crate) streams: bool,
    /// Lines of the rule.
    pub(crate) rule: &'static str,
    /// The endpoint goes out.
    pub(crate) goes_out: bool,
    /// A person must mend it: it is tried again after half a minute.
    pub(crate) is_lasting: bool,
    /// Calls that cannot be saved.
    pub(crate) may_lose: usize,
}

/// How the failing backend stands beside the other one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// In a tier of its own, before it.
    First,
    /// In the same tier, with the same weight.
    Beside,
}

/// What the backend does.
#[derive(Clone, Debug)]
pub(crate) enum How {
    Well,
    /// Its answers.
    Answers(Answer),
    /// One answer of several, each time after a pause.
    Sometimes(Answer),
    /// Its connections.
    Connections(Cut),
    /// Its connections, for a moment, each time after a pause.
    SometimesCut(Cut),
    /// Nothing listens.
    Closed,
    /// Its name is not known.
    Nameless,
    /// TLS is spoken to what does not speak it.
    Tls(Cut),
}

/// Five until it is out, and each of its probes.
const CUT: usize = 5 + 8;
/// One wave of callers, and the probes.
const WAVE: usize = 30 + 8;
/// A rule that wants a first byte soon.
const IMPATIENT: &str = "    timeouts: {firstToken: 1s}\n";

fn answers(status: u16, code: &str, headers: &[(&str, &str)]) -> How {
    let pairs = headers.iter();
    let pairs = pairs.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    How::Answers(Answer {
        status: Some(status),
        body: Some(json!({"error": {"code": code, "message": "it fails"}})),
        headers: pairs.collect(),
        ..Answer::default()
    })
}

/// An endpoint that goes out for it, and no call that is lost.
fn kind(name: &'static str, how: How) -> Kind {
    Kind {
        name,
        how,
        streams: false,
        rule: "",
        goes_out: true,
        is_lasting: false,
        may_lose: 0,
    }
}

/// The same, and the endpoint stays in.
fn mild(name: &'static str, how: How) -> Kind {
    Kind {
        goes_out: false,
        ..kind(name, how)
    }
}

/// The same, until a person mends it.
fn lasting(name: &'static str, how: How) -> Kind {
    Kind {
        is_lasting: true,
        ..kind(name, how)
    }
}

pub(crate) fn kinds() -> Vec<Kind> {
    let mut kinds = vec![mild("none", How::Well)];
    kinds.extend(of_heads());
    kinds.extend(of_bodies());
    kinds.extend(of_connections());
    kinds
}

fn of_heads() -> Vec<Kind> {
    let some_500 = Answer {
        status: Some(500),
        times: Some(1),
        ..Answer::default()
    };
    let wait = |name, header, value| kind(name, answers(429, "429", &[(header, value)]));
    vec![
        wait("429, retry-after: 5", "retry-after", "5"),
        wait("429, retry-after-ms: 2500", "retry-after-ms", "2500"),
        kind("500", answers(500, "InternalServerError", &[])),
        kind("503", answers(503, "ServiceUnavailable", &[])),
        mild("some 500", How::Sometimes(some_500)),
        kind("408", answers(408, "Timeout", &[])),
        kind("529", answers(529, "Overloaded", &[])),
        lasting("401 to the gateway's key", answers(401, "401", &[])),
        lasting(
            "404 DeploymentNotFound",
            answers(404, "DeploymentNotFound", &[]),
        ),
        lasting("410", answers(410, "Gone", &[])),
    ]
}

fn of_bodies() -> Vec<Kind> {
    let cut = Answer {
        truncate: true,
        ..Answer::default()
    };
    let cut_stream = Answer {
        cut_after_chunks: Some(3),
        ..Answer::default()
    };
    let slow = Answer {
        delay_ms: Some(10_000),
        ..Answer::default()
    };
    vec![
        Kind {
            may_lose: CUT,
            ..kind("JSON cut", How::Answers(cut))
        },
        Kind {
            streams: true,
            may_lose: CUT,
            ..kind("stream cut", How::Answers(cut_stream))
        },
        Kind {
            rule: IMPATIENT,
            ..kind("first byte after 10 s, firstToken 1s", How::Answers(slow))
        },
    ]
}

fn of_connections() -> Vec<Kind> {
    let cut = |name, cut| kind(name, How::Connections(cut));
    vec![
        cut("accepted, then closed", Cut::CloseOnAccept),
        cut("accepted, then reset", Cut::ResetOnAccept),
        cut("reset before the answer", Cut::ResetAfter(0)),
        mild("some resets", How::SometimesCut(Cut::ResetAfter(0))),
        mild("kept connections close", How::Connections(Cut::CloseKept)),
        mild("kept connections reset", How::Connections(Cut::ResetKept)),
        Kind {
            may_lose: WAVE,
            ..cut("black hole", Cut::BlackHole)
        },
        Kind {
            rule: IMPATIENT,
            ..cut("black hole, firstToken 1s", Cut::BlackHole)
        },
        kind("refused", How::Closed),
        kind("TLS: no TLS there", How::Tls(Cut::Pass)),
        kind("TLS: silence", How::Tls(Cut::BlackHole)),
        kind("unknown name", How::Nameless),
    ]
}

/// How long what fails sometimes waits before it fails again.
pub(crate) const SOMETIMES: Duration = Duration::from_millis(40);
