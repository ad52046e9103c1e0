//! The kinds of failures.

use std::time::Duration;

use anyhow::Result;
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
    /// Calls that cannot be saved.
    pub(crate) may_lose: usize,
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

pub(crate) fn kinds() -> Result<Vec<Kind>> {
    let kind = |name, how| Kind {
        name,
        how,
        streams: false,
        rule: "",
        goes_out: true,
        may_lose: 0,
    };
    let some_500 = Answer {
        status: Some(500),
        times: Some(1),
        ..Answer::default()
    };
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
    // Five until it is out, and each of its probes.
    const CUT: usize = 5 + 8;
    // One wave of callers, and the probes.
    const WAVE: usize = 30 + 8;
    Ok(vec![
        Kind {
            goes_out: false,
            ..kind("none", How::Well)
        },
        kind(
            "429, retry-after: 5",
            answers(429, "429", &[("retry-after", "5")]),
        ),
        kind(
            "429, retry-after-ms: 2500",
            answers(429, "429", &[("retry-after-ms", "2500")]),
        ),
        kind("500", answers(500, "InternalServerError", &[])),
        kind("503", answers(503, "ServiceUnavailable", &[])),
        Kind {
            goes_out: false,
            ..kind("some 500", How::Sometimes(some_500))
        },
        kind("408", answers(408, "Timeout", &[])),
        kind("529", answers(529, "Overloaded", &[])),
        kind("401 to the gateway's key", answers(401, "401", &[])),
        kind(
            "404 DeploymentNotFound",
            answers(404, "DeploymentNotFound", &[]),
        ),
        kind("410", answers(410, "Gone", &[])),
        kind(
            "accepted, then closed",
            How::Connections(Cut::CloseOnAccept),
        ),
        kind("accepted, then reset", How::Connections(Cut::ResetOnAccept)),
        Kind {
            goes_out: false,
            ..kind("some resets", How::SometimesCut(Cut::ResetAfter(0)))
        },
        kind(
            "reset before the answer",
            How::Connections(Cut::ResetAfter(0)),
        ),
        Kind {
            goes_out: false,
            ..kind("kept connections close", How::Connections(Cut::CloseKept))
        },
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
            // Tries are few because each takes so long.
            rule: "    timeouts: {firstToken: 1s}\n",
            ..kind("first byte after 10 s, firstToken 1s", How::Answers(slow))
        },
        Kind {
            may_lose: WAVE,
            ..kind("black hole", How::Connections(Cut::BlackHole))
        },
        Kind {
            rule: "    timeouts: {firstToken: 1s}\n",
            ..kind(
                "black hole, firstToken 1s",
                How::Connections(Cut::BlackHole),
            )
        },
        kind("refused", How::Closed),
        kind("TLS: no TLS there", How::Tls(Cut::Pass)),
        kind("TLS: silence", How::Tls(Cut::BlackHole)),
        kind("unknown name", How::Nameless),
    ])
}

/// How long what fails sometimes waits before it fails again.
pub(crate) const SOMETIMES: Duration = Duration::from_millis(40);
