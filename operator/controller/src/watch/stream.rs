//! A watch that begins with the objects that are there, one by one, so that no page of them is ever held in memory.
//!
//! kube has the same as `streaming_lists`, but begins with what the API server has in its cache, which may be
//! older than what was read before. This one asks for the newest.

use std::time::Duration;

use futures::stream::{BoxStream, Stream, StreamExt as _, unfold};
use kube::ResourceExt as _;
use kube::api::{Api, DynamicObject, WatchEvent, WatchParams};
use kube::runtime::watcher::{Error, Event};

/// The API server ends each watch after 290 s. One that is silent for longer has lost its connection.
const SILENCE: Duration = Duration::from_secs(300);

/// The annotation of the bookmark behind the objects that were there.
const END: &str = "k8s.io/initial-events-end";

type Watching = BoxStream<'static, kube::Result<WatchEvent<DynamicObject>>>;
type Step = (Option<Result<Event<DynamicObject>, Error>>, Phase);

enum Phase {
    Begin,
    Begun,
    /// Objects that are there.
    Listing(Watching),
    /// Goes on behind this version.
    Resume(String),
    Following(Watching, String),
}

/// Events as kube's watcher has them.
pub(super) fn events(
    api: Api<DynamicObject>,
    parameters: WatchParams,
) -> impl Stream<Item = Result<Event<DynamicObject>, Error>> {
    unfold(
        (api, parameters, Phase::Begin),
        |(api, parameters, mut phase)| async move {
            loop {
                let (event, next) = step(&api, &parameters, phase).await;
                phase = next;
                if let Some(event) = event {
                    return Some((event, (api, parameters, phase)));
                }
            }
        },
    )
}

/// Whether the API server knows no such watch: it has no `WatchList` before Kubernetes 1.34.
pub(super) fn is_unsupported(error: &Error) -> bool {
    match error {
        // A refusal comes as the first thing on the stream.
        Error::WatchStartFailed(error) | Error::WatchFailed(error) => has_code(error, &[400, 422]),
        Error::InitialListFailed(_) | Error::WatchError(_) | Error::NoResourceVersion => false,
    }
}

fn has_code(error: &kube::Error, codes: &[u16]) -> bool {
    matches!(error, kube::Error::Api(status) if codes.contains(&status.code))
}

/// Where a watch goes on that failed behind this version.
fn after(error: &kube::Error, version: String) -> Phase {
    if has_code(error, &[410]) {
        Phase::Begin
    } else {
        Phase::Resume(version)
    }
}

async fn step(api: &Api<DynamicObject>, parameters: &WatchParams, phase: Phase) -> Step {
    match phase {
        Phase::Begin => (Some(Ok(Event::Init)), Phase::Begun),
        Phase::Begun => {
            let parameters = parameters.clone().initial_events();
            // No version: the newest.
            match api.watch(&parameters, "").await {
                Ok(stream) => (None, Phase::Listing(stream.boxed())),
                Err(error) => (Some(Err(Error::WatchStartFailed(error))), Phase::Begin),
            }
        }
        Phase::Listing(mut stream) => match next(&mut stream).await {
            Some(event) => listing(event, stream),
            // Not an end of nothing: it has a pause behind it.
            None => (Some(Err(Error::NoResourceVersion)), Phase::Begin),
        },
        Phase::Resume(version) => match api.watch(parameters, &version).await {
            Ok(stream) => (None, Phase::Following(stream.boxed(), version)),
            Err(error) => {
                let next = after(&error, version);
                (Some(Err(Error::WatchStartFailed(error))), next)
            }
        },
        Phase::Following(mut stream, version) => match next(&mut stream).await {
            Some(event) => following(event, stream, version),
            None => (None, Phase::Resume(version)),
        },
    }
}

async fn next(stream: &mut Watching) -> Option<kube::Result<WatchEvent<DynamicObject>>> {
    tokio::time::timeout(SILENCE, stream.next())
        .await
        .unwrap_or_default()
}

fn listing(event: kube::Result<WatchEvent<DynamicObject>>, stream: Watching) -> Step {
    match event {
        Ok(WatchEvent::Added(object) | WatchEvent::Modified(object)) => {
            (Some(Ok(Event::InitApply(object))), Phase::Listing(stream))
        }
        // Of what is there nothing is deleted.
        Ok(WatchEvent::Deleted(_)) => (None, Phase::Listing(stream)),
        Ok(WatchEvent::Bookmark(mark)) if mark.metadata.annotations.contains_key(END) => {
            let version = mark.metadata.resource_version;
            (Some(Ok(Event::InitDone)), Phase::Following(stream, version))
        }
        Ok(WatchEvent::Bookmark(_)) => (None, Phase::Listing(stream)),
        Ok(WatchEvent::Error(status)) => {
            (Some(Err(Error::WatchError(status.boxed()))), Phase::Begin)
        }
        Err(error) => (Some(Err(Error::WatchFailed(error))), Phase::Begin),
    }
}

fn following(
    event: kube::Result<WatchEvent<DynamicObject>>,
    stream: Watching,
    version: String,
) -> Step {
    let newer = |object: &DynamicObject| object.resource_version().unwrap_or_default();
    match event {
        Ok(WatchEvent::Added(object) | WatchEvent::Modified(object)) => {
            let version = newer(&object);
            (
                Some(Ok(Event::Apply(object))),
                Phase::Following(stream, version),
            )
        }
        Ok(WatchEvent::Deleted(object)) => {
            let version = newer(&object);
            (
                Some(Ok(Event::Delete(object))),
                Phase::Following(stream, version),
            )
        }
        Ok(WatchEvent::Bookmark(mark)) => (
            None,
            Phase::Following(stream, mark.metadata.resource_version),
        ),
        Ok(WatchEvent::Error(status)) => {
            let next = if status.code == 410 {
                Phase::Begin
            } else {
                Phase::Resume(version)
            };
            (Some(Err(Error::WatchError(status.boxed()))), next)
        }
        Err(error) => {
            let next = after(&error, version);
            (Some(Err(Error::WatchFailed(error))), next)
        }
    }
}
