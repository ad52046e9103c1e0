//! `/_sim/`: how a test or a person tells the simulator what to do, and asks what it saw.

use bytes::Bytes;
use http::{Method, Response, StatusCode, request::Parts};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::json;

use crate::{
    entra::{AccessToken, Directory, Rotation},
    faults::{self, Fault},
    foundry::Foundry,
    response,
    stream::Body,
};

/// Path prefix of the control API; nothing under it is recorded.
pub(crate) const PREFIX: &str = "/_sim/";

pub(crate) fn control(foundry: &Foundry, parts: &Parts, body: &Bytes) -> Response<Body> {
    let name = parts.uri.path().strip_prefix(PREFIX).unwrap_or_default();
    match (&parts.method, name) {
        (&Method::GET, "faults") => show(&foundry.faults.left()),
        (&Method::PUT, "faults") => set(body, |faults: Vec<Fault>| {
            faults::check(&faults)?;
            foundry.faults.replace(faults);
            Ok(())
        }),
        (&Method::DELETE, "faults") => {
            foundry.faults.replace(Vec::new());
            done()
        }
        (&Method::GET, "requests") => show(&foundry.log.all()),
        (&Method::DELETE, "requests") => {
            foundry.log.clear();
            done()
        }
        (&Method::GET, "billed") => {
            foundry.settle_background();
            show(&*foundry.billed.lock())
        }
        (&Method::PUT, "keys") => set(body, |keys: Vec<String>| {
            foundry.keys.replace(&keys);
            Ok(())
        }),
        (&Method::GET, "directory") => show(&**foundry.entra.directory.lock()),
        (&Method::PUT, "directory") => set(body, |directory: Directory| {
            foundry.entra.replace(directory);
            Ok(())
        }),
        (&Method::PUT, "entra-faults") => set(body, |faults: Vec<Fault>| {
            faults::check(&faults)?;
            foundry.entra.faults.replace(faults);
            Ok(())
        }),
        (&Method::GET, "tokens") => show(&foundry.entra.tokens()),
        (&Method::DELETE, "tokens") => {
            foundry.entra.revoke_all();
            done()
        }
        (&Method::POST, "tokens") => match serde_json::from_slice::<AccessToken>(body) {
            Ok(wanted) => match foundry.entra.make(foundry.now(), &wanted) {
                Ok(token) => show(&json!({"token": token})),
                Err(error) => refuse(StatusCode::BAD_REQUEST, &error.to_string()),
            },
            Err(error) => refuse(StatusCode::BAD_REQUEST, &error.to_string()),
        },
        (&Method::POST, "rotations") => match serde_json::from_slice::<Rotation>(body) {
            Ok(rotation) => match foundry.entra.signing.rotate(rotation) {
                Ok(()) => done(),
                Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
            },
            Err(error) => refuse(StatusCode::BAD_REQUEST, &error.to_string()),
        },
        (&Method::POST, "assertions") => match serde_json::from_slice(body) {
            Ok(wanted) => show(&json!({"token": assertion(foundry, &wanted)})),
            Err(error) => refuse(StatusCode::BAD_REQUEST, &error.to_string()),
        },
        _ => refuse(
            StatusCode::NOT_FOUND,
            "no such control; see foundry-sim --help",
        ),
    }
}

/// A token of the cluster, as the kubelet projects it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Assertion {
    subject: String,
    audience: String,
    lifetime_s: u64,
}

fn assertion(foundry: &Foundry, wanted: &Assertion) -> String {
    let now = foundry.clock.unix(foundry.clock.now()).as_secs();
    let issuer = &foundry.entra.issuer;
    issuer.assertion(&wanted.subject, &wanted.audience, now, wanted.lifetime_s)
}

fn show(value: &impl Serialize) -> Response<Body> {
    match serde_json::to_vec(value) {
        Ok(bytes) => response::json(StatusCode::OK, bytes.into()),
        Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

fn set<T: DeserializeOwned>(
    body: &Bytes,
    apply: impl FnOnce(T) -> Result<(), faults::InvalidFault>,
) -> Response<Body> {
    let value = match serde_json::from_slice(body) {
        Ok(value) => value,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    match apply(value) {
        Ok(()) => done(),
        Err(error) => refuse(StatusCode::BAD_REQUEST, &error.to_string()),
    }
}

fn done() -> Response<Body> {
    let mut response = Response::new(Body::Whole(Default::default()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

fn refuse(status: StatusCode, message: &str) -> Response<Body> {
    let body = json!({"error": {"code": "sim_control", "message": message}});
    response::json(status, Bytes::from(body.to_string()))
}
