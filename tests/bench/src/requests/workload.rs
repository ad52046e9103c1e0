//! The workloads: what is sent, and by which ways.

use crate::subject::{Credential, Settings, Subject, Upstream};

/// What the generator does.
#[derive(Clone, Copy, Debug)]
pub(super) enum Load {
    /// A closed loop of JSON chats.
    Requests { bytes: usize, connections: usize },
    /// Streams of events; with a rate each lasts as long as the sample.
    Events { streams: usize, pace: Pace },
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Pace {
    PerSecond(u64),
    /// This many per stream, as fast as they are taken.
    BackToBack(u64),
}

/// A row of the table.
#[derive(Clone, Debug)]
pub(super) struct Lane {
    pub(super) name: &'static str,
    pub(super) subject: Subject,
    /// Clients ask for the usage of streams themselves.
    pub(super) usage: bool,
}

#[derive(Debug)]
pub(super) struct Workload {
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    pub(super) load: Load,
    pub(super) lanes: Vec<Lane>,
    /// The column of ratios: `x` and the name of the lane that all are compared with.
    pub(super) compared: &'static str,
    /// What must be known to read the table.
    pub(super) note: &'static str,
}

impl Workload {
    pub(super) fn reference(&self) -> &'static str {
        self.compared.trim_start_matches("x ")
    }
}

/// The names that `--workload` takes.
pub(super) const NAMES: [&str; 10] = [
    "1kb",
    "200kb",
    "1mb",
    "one-connection",
    "tokens",
    "events",
    "events-back-to-back",
    "tls-backend",
    "tls-clients",
    super::memory::NAME,
];

fn lane(name: &'static str, subject: Subject) -> Lane {
    Lane {
        name,
        subject,
        usage: false,
    }
}

/// Every way of a JSON chat over plain HTTP.
fn plain() -> Vec<Lane> {
    let log = Settings {
        log: true,
        ..Settings::PLAIN
    };
    let limits = Settings {
        limits: 10,
        ..Settings::PLAIN
    };
    let mut lanes = vec![lane("no proxy (CPU of the backend)", Subject::Direct)];
    lanes.extend(proxies());
    lanes.push(lane("tundish", Subject::Tundish(Settings::PLAIN)));
    lanes.push(lane("tundish, access log", Subject::Tundish(log)));
    lanes.push(lane("tundish, 10 limits", Subject::Tundish(limits)));
    lanes
}

fn proxies() -> [Lane; 3] {
    let nginx = Subject::Nginx {
        upstream: Upstream::Plain,
        front: false,
    };
    [
        lane("bare hyper", Subject::Bare),
        lane("nginx", nginx),
        lane("HAProxy", Subject::HaProxy),
    ]
}

fn streams() -> Vec<Lane> {
    let mut lanes = Vec::from(proxies());
    let tundish = Subject::Tundish(Settings::PLAIN);
    lanes.push(lane("tundish, usage injected and removed", tundish));
    lanes.push(Lane {
        usage: true,
        ..lane("tundish, clients ask for usage", tundish)
    });
    lanes
}

pub(super) fn all() -> Vec<Workload> {
    let mut all = requests();
    all.extend(events());
    all.extend(tls());
    all
}

fn requests() -> Vec<Workload> {
    let of = |name, title, bytes, connections| Workload {
        name,
        title,
        load: Load::Requests { bytes, connections },
        lanes: plain(),
        compared: "x bare hyper",
        note: "",
    };
    let mut one = of("one-connection", "1 KB, one connection", 1024, 1);
    one.lanes.truncate(5);
    one.note = "For the latency: on a machine that is not busy, CPU per request is not that of a loaded one.";
    let key = Subject::Tundish(Settings::PLAIN);
    let token = Subject::Tundish(Settings {
        credential: Credential::Token,
        ..Settings::PLAIN
    });
    let tokens = Workload {
        name: "tokens",
        title: "Callers by token, 1 KB, 64 connections",
        load: Load::Requests {
            bytes: 1024,
            connections: 64,
        },
        lanes: vec![lane("tundish, a key", key), lane("tundish, a token", token)],
        compared: "x tundish, a key",
        note: "A token of Entra that the gateway has judged before.",
    };
    vec![
        of("1kb", "1 KB, 64 connections", 1024, 64),
        of("200kb", "200 KB, 16 connections", 200 * 1024, 16),
        of("1mb", "1 MB, 8 connections", 1024 * 1024, 8),
        one,
        tokens,
    ]
}

fn events() -> [Workload; 2] {
    [
        Workload {
            name: "events",
            title: "Events one by one: 100 streams, 200 events per second each",
            load: Load::Events {
                streams: 100,
                pace: Pace::PerSecond(200),
            },
            lanes: streams(),
            compared: "x bare hyper",
            note: "",
        },
        Workload {
            name: "events-back-to-back",
            title: "Events back to back: 20 streams of 1,000 events",
            load: Load::Events {
                streams: 20,
                pace: Pace::BackToBack(1000),
            },
            lanes: streams(),
            compared: "x bare hyper",
            note: "",
        },
    ]
}

fn tls() -> [Workload; 2] {
    let over = |upstream| {
        Subject::Tundish(Settings {
            upstream,
            ..Settings::PLAIN
        })
    };
    let front = Settings {
        front: true,
        ..Settings::PLAIN
    };
    let nginx = |upstream, front| lane("nginx", Subject::Nginx { upstream, front });
    let load = Load::Requests {
        bytes: 1024,
        connections: 64,
    };
    [
        Workload {
            name: "tls-backend",
            title: "TLS to the backend, 1 KB, 64 connections",
            load,
            lanes: vec![
                nginx(Upstream::Http1, false),
                lane("tundish, backend offers http/1.1", over(Upstream::Http1)),
                lane("tundish, backend offers h2", over(Upstream::Http2)),
            ],
            compared: "x nginx",
            note: "nginx speaks HTTP/1.1 to backends (`proxy_ssl`).",
        },
        Workload {
            name: "tls-clients",
            title: "TLS from clients, 1 KB, 64 connections",
            load,
            lanes: vec![
                nginx(Upstream::Plain, true),
                lane("tundish", Subject::Tundish(front)),
            ],
            compared: "x nginx",
            note: "",
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_workload_has_its_reference_and_a_name_that_can_be_chosen() {
        for workload in all() {
            let mut lanes = workload.lanes.iter();
            assert!(
                lanes.any(|lane| lane.name == workload.reference()),
                "{}",
                workload.name
            );
            assert!(NAMES.contains(&workload.name), "{}", workload.name);
        }
        assert_eq!(all().len() + 1, NAMES.len());
    }
}
