//! The kinds of failures.

use std::time::Duration;

use serde_json::json;
use tests_foundry::Fault as Answer;
use tests_support::Fault as Cut;

use super::front::Certificate;

/// One of them.
#[derive(Clone, Debug)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) how: How,
    /// Calls ask for a stream.
    pub(crate) streams: bool,
    /// Lines of the rule.
    pub(crate) rule: &'static str,
    /// Lines of the failing backend.
    pub(crate) health: &'static str,
    /// The endpoint goes out: the word of why, and a part of the cause, as the page of backends has them.
    pub(crate) goes_out: Option<(&'static str, &'static str)>,
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
    /// TLS is spoken, with such a certificate.
    Front(Certificate, Cut),
}

/// Five until it is out, and each of its probes.
const CUT: usize = 5 + 8;
/// One wave of callers, and the probes.
const WAVE: usize = 30 + 8;
/// A backend that may be silent for less than the calls of the run last.
const SUSPICIOUS: &str = "  health: {suspectAfter: 3s}\n";
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

/// An endpoint that fails and goes out for it, and no call that is lost.
fn kind(name: &'static str, how: How) -> Kind {
    shown(name, how, "Failing", "")
}

/// The same, with another reason or a cause.
fn shown(name: &'static str, how: How, reason: &'static str, cause: &'static str) -> Kind {
    Kind {
        name,
        how,
        streams: false,
        rule: "",
        health: "",
        goes_out: Some((reason, cause)),
        is_lasting: false,
        may_lose: 0,
    }
}

/// The same, and the endpoint stays in.
fn mild(name: &'static str, how: How) -> Kind {
    Kind {
        goes_out: None,
        ..kind(name, how)
    }
}

/// The same, until a person mends it.
fn lasting(name: &'static str, how: How, reason: &'static str) -> Kind {
    Kind {
        is_lasting: true,
        ..shown(name, how, reason, "")
    }
}

pub(crate) fn kinds() -> Vec<Kind> {
    let mut kinds = vec![mild("none", How::Well)];
    kinds.extend(of_heads());
    kinds.extend(of_bodies());
    kinds.extend(of_connections());
    kinds.extend(of_handshakes());
    kinds
}

fn of_heads() -> Vec<Kind> {
    let some_500 = Answer {
        status: Some(500),
        times: Some(1),
        ..Answer::default()
    };
    let wait = |name, header, value| {
        let how = answers(429, "429", &[(header, value)]);
        shown(name, how, "Throttled", "")
    };
    vec![
        wait("429, retry-after: 5", "retry-after", "5"),
        wait("429, retry-after-ms: 2500", "retry-after-ms", "2500"),
        kind("500", answers(500, "InternalServerError", &[])),
        kind("503", answers(503, "ServiceUnavailable", &[])),
        mild("some 500", How::Sometimes(some_500)),
        kind("408", answers(408, "Timeout", &[])),
        kind("529", answers(529, "Overloaded", &[])),
        lasting(
            "401 to the gateway's key",
            answers(401, "401", &[]),
            "CredentialRefused",
        ),
        lasting(
            "404 DeploymentNotFound",
            answers(404, "DeploymentNotFound", &[]),
            "NotThere",
        ),
        lasting("410", answers(410, "Gone", &[]), "NotThere"),
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
    let only_head = Answer {
        cut_after_chunks: Some(0),
        ..Answer::default()
    };
    let silent = Answer {
        hang: true,
        ..only_head.clone()
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
        Kind {
            rule: IMPATIENT,
            streams: true,
            ..kind(
                "stream silent behind its head, firstToken 1s",
                How::Answers(silent),
            )
        },
        Kind {
            rule: IMPATIENT,
            streams: true,
            ..kind(
                "stream cut behind its head, firstToken 1s",
                How::Answers(only_head),
            )
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
            health: SUSPICIOUS,
            ..shown("black hole", How::Connections(Cut::BlackHole), "Silent", "")
        },
        Kind {
            may_lose: WAVE,
            health: SUSPICIOUS,
            ..shown("half-open", How::Connections(Cut::HalfOpen), "Silent", "")
        },
        Kind {
            rule: IMPATIENT,
            ..cut("black hole, firstToken 1s", Cut::BlackHole)
        },
        kind("refused", How::Closed),
        cut("first packets are dropped", Cut::Unanswered),
        kind("unknown name", How::Nameless),
    ]
}

fn of_handshakes() -> Vec<Kind> {
    let tls = |name, how, cause| shown(name, how, "Failing", cause);
    let shows = |certificate| How::Front(certificate, Cut::Pass);
    let cut = |cut| How::Front(Certificate::Good, cut);
    vec![
        mild("TLS, none", shows(Certificate::Good)),
        tls(
            "TLS: no TLS there",
            How::Tls(Cut::Pass),
            "does not speak TLS",
        ),
        tls("TLS: silence", How::Tls(Cut::BlackHole), ""),
        tls(
            "TLS: silence within the handshake",
            cut(Cut::SilentAfter(100)),
            "",
        ),
        tls(
            "TLS: reset within the handshake",
            cut(Cut::ResetAfter(100)),
            "",
        ),
        tls(
            "TLS: certificate of another name",
            shows(Certificate::OtherName),
            "is for other.example, not for 127.0.0.1",
        ),
        tls(
            "TLS: expired certificate",
            shows(Certificate::Expired),
            "ended at 2020-01-01",
        ),
        tls(
            "TLS: unknown authority",
            shows(Certificate::OtherRoot),
            "of an authority that is not trusted",
        ),
    ]
}

/// How long what fails sometimes waits before it fails again.
pub(crate) const SOMETIMES: Duration = Duration::from_millis(40);
