//! Containers with their files (API reference, "Containers" and "Container files"). No dated version has them.

use std::sync::Arc;

use bytes::Bytes;
use http::{StatusCode, header};
use serde_json::{Value, json};

use super::responses::page;
use crate::{
    body::{Object, missing},
    call::{Call, Job, Reply, Whole},
    errors::Failure,
    form::Form,
    record::Usage,
    state::container::{Container, ContainerFile},
};

/// `POST containers`
pub(crate) fn create(call: &Call<'_>) -> Result<Job, Failure> {
    let body = Object::read(call.body)?;
    let name = body.text("name")?.ok_or_else(|| missing("name"))?;
    let ids = body.array("file_ids")?.map_or(&[][..], Vec::as_slice);
    let files = ids
        .iter()
        .map(|id| copied(call, id.as_str().unwrap_or_default()));
    let expires = json!({"anchor": "last_active_at", "minutes": 20});
    let container = Container {
        id: call.foundry.object_id("cntr"),
        created: call.created(),
        name: name.to_owned(),
        expires_after: body.or("expires_after", expires),
        memory_limit: body.or("memory_limit", "1g"),
        files: files.collect::<Result<_, _>>()?,
        project: project(call),
    };
    let foundry = Arc::clone(call.foundry);
    Ok(Job::free(move || {
        let object = container.object();
        let id = container.id.clone();
        foundry.containers.lock().insert(&id, container);
        Reply::json(object.to_string())
    }))
}

/// `GET containers`
pub(crate) fn list(call: &Call<'_>) -> Result<Job, Failure> {
    let containers = call.foundry.containers.lock();
    let project = call.place.project;
    let mut containers: Vec<&Container> = containers
        .values()
        .filter(|container| container.project.as_deref() == project)
        .collect();
    containers.sort_unstable_by(|a, b| (a.created, &a.id).cmp(&(b.created, &b.id)));
    answer(page(
        call,
        containers.into_iter().map(Container::object).collect(),
    )?)
}

/// `GET containers/{}`
pub(crate) fn get(call: &Call<'_>) -> Result<Job, Failure> {
    answer(found(call)?.object())
}

/// `DELETE containers/{}`
pub(crate) fn delete(call: &Call<'_>) -> Result<Job, Failure> {
    let id = found(call)?.id;
    let (foundry, project) = (Arc::clone(call.foundry), project(call));
    Ok(Job::free(move || {
        foundry.containers.lock().remove(&id, project.as_deref());
        let deleted = json!({"id": id, "object": "container.deleted", "deleted": true});
        Reply::json(deleted.to_string())
    }))
}

/// `POST containers/{}/files`: a form with the file, or JSON with the id of one that the resource has.
pub(crate) fn add_file(call: &Call<'_>) -> Result<Job, Failure> {
    found(call)?;
    let kind = call.headers.get(header::CONTENT_TYPE);
    let is_form = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"multipart/"));
    let file = if is_form {
        let form = Form::read(call.headers, call.body)?;
        form.check(&["file", "file_id"])?;
        match form.object().text("file_id")? {
            Some(id) => copied(call, id)?,
            None => {
                let sent = form.file("file")?;
                fresh(call, &sent.name, sent.data.clone())
            }
        }
    } else {
        let body = Object::read(call.body)?;
        copied(
            call,
            body.text("file_id")?.ok_or_else(|| missing("file_id"))?,
        )?
    };
    Ok(change(call, |container| {
        let object = container.file_object(&file);
        container.files.push(file);
        object
    }))
}

/// `GET containers/{}/files`
pub(crate) fn list_files(call: &Call<'_>) -> Result<Job, Failure> {
    let container = found(call)?;
    let files = container.files.iter();
    let files = files.map(|file| container.file_object(file)).collect();
    answer(page(call, files)?)
}

/// `GET containers/{}/files/{}`
pub(crate) fn get_file(call: &Call<'_>) -> Result<Job, Failure> {
    let container = found(call)?;
    answer(container.file_object(file(call, &container)?))
}

/// `GET containers/{}/files/{}/content`
pub(crate) fn content(call: &Call<'_>) -> Result<Job, Failure> {
    let body = file(call, &found(call)?)?.data.clone();
    Ok(Job::free(move || {
        Reply::Whole(Whole {
            status: StatusCode::OK,
            content_type: "application/octet-stream",
            body,
            usage: Usage::default(),
        })
    }))
}

/// `DELETE containers/{}/files/{}`
pub(crate) fn delete_file(call: &Call<'_>) -> Result<Job, Failure> {
    let id = file(call, &found(call)?)?.id.clone();
    Ok(change(call, move |container| {
        container.files.retain(|file| file.id != id);
        json!({"id": id, "object": "container.file.deleted", "deleted": true})
    }))
}

/// A copy of a file that the resource has.
fn copied(call: &Call<'_>, id: &str) -> Result<ContainerFile, Failure> {
    let files = call.foundry.files.lock();
    let file = files.get(id, call.place.project);
    let file = file.ok_or_else(|| Failure::unknown_id("File", id))?;
    Ok(fresh(call, &file.name, file.data.clone()))
}

fn fresh(call: &Call<'_>, name: &str, data: Bytes) -> ContainerFile {
    ContainerFile {
        id: call.foundry.object_id("cfile"),
        created: call.created(),
        name: name.to_owned(),
        data,
    }
}

fn answer(object: Value) -> Result<Job, Failure> {
    Ok(Job::free(move || Reply::json(object.to_string())))
}

fn project(call: &Call<'_>) -> Option<String> {
    call.place.project.map(str::to_owned)
}

/// The container that the path names.
fn found(call: &Call<'_>) -> Result<Container, Failure> {
    let [id, _] = call.ids;
    let containers = call.foundry.containers.lock();
    let container = containers.get(id, call.place.project).cloned();
    container.ok_or_else(|| Failure::unknown_id("Container", id))
}

/// The file that the path names, which must be in the container.
fn file<'a>(call: &Call<'_>, container: &'a Container) -> Result<&'a ContainerFile, Failure> {
    let [_, id] = call.ids;
    let file = container.file(id);
    file.ok_or_else(|| Failure::unknown_id("Container file", id))
}

/// Changes the container that the path names.
fn change(call: &Call<'_>, change: impl FnOnce(&mut Container) -> Value + Send + 'static) -> Job {
    let [id, _] = call.ids;
    let (id, project) = (id.to_owned(), project(call));
    let foundry = Arc::clone(call.foundry);
    Job::free(move || {
        let mut containers = foundry.containers.lock();
        let changed = containers.get_mut(&id, project.as_deref()).map(change);
        Reply::json(changed.unwrap_or_default().to_string())
    })
}
