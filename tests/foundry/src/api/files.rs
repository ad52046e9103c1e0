//! Files, whole and in parts (API reference, "Files" and "Uploads").

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};

use super::responses::page;
use crate::{
    body::{Object, missing, unsupported},
    call::{Call, Job, Reply, Whole},
    errors::Failure,
    form::Form,
    record::Usage,
    state::file::{StoredFile, Upload},
};

const PURPOSES: [&str; 6] = [
    "assistants",
    "batch",
    "fine-tune",
    "vision",
    "user_data",
    "evals",
];
/// The largest part of an upload.
const MAX_PART: usize = 64 << 20;

/// `POST files`
pub(crate) fn create(call: &Call<'_>) -> Result<Job, Failure> {
    let form = Form::read(call.headers, call.body)?;
    form.check(&[
        "file",
        "purpose",
        "expires_after[anchor]",
        "expires_after[seconds]",
    ])?;
    let purpose = purpose(&form.object())?;
    let sent = form.file("file")?;
    if sent.data.is_empty() {
        let message = "File is empty.";
        return Err(Failure::invalid(message, Some("file"), None));
    }
    let file = StoredFile {
        id: file_id(call),
        created: call.created(),
        name: sent.name.clone(),
        purpose,
        data: sent.data.clone(),
        project: call.place.project.map(str::to_owned),
    };
    let foundry = Arc::clone(call.foundry);
    Ok(Job::free(move || {
        let object = file.object();
        let id = file.id.clone();
        foundry.files.lock().insert(&id, file);
        Reply::json(object.to_string())
    }))
}

/// `GET files`
pub(crate) fn list(call: &Call<'_>) -> Result<Job, Failure> {
    let purpose = call.parameter("purpose");
    let files = call.foundry.files.lock();
    let project = call.place.project;
    let mut files: Vec<&StoredFile> = files
        .values()
        .filter(|file| file.project.as_deref() == project)
        .filter(|file| purpose.is_none_or(|purpose| file.purpose == purpose))
        .collect();
    files.sort_unstable_by(|a, b| (a.created, &a.id).cmp(&(b.created, &b.id)));
    let page = page(call, files.into_iter().map(StoredFile::object).collect())?;
    Ok(Job::free(move || Reply::json(page.to_string())))
}

/// `GET files/{}`
pub(crate) fn get(call: &Call<'_>) -> Result<Job, Failure> {
    let object = found(call)?.object();
    Ok(Job::free(move || Reply::json(object.to_string())))
}

/// `GET files/{}/content`
pub(crate) fn content(call: &Call<'_>) -> Result<Job, Failure> {
    let body = found(call)?.data;
    Ok(Job::free(move || {
        Reply::Whole(Whole {
            status: StatusCode::OK,
            content_type: "application/octet-stream",
            body,
            usage: Usage::default(),
        })
    }))
}

/// `DELETE files/{}`
pub(crate) fn delete(call: &Call<'_>) -> Result<Job, Failure> {
    let id = found(call)?.id;
    let (foundry, project) = (Arc::clone(call.foundry), project(call));
    Ok(Job::free(move || {
        foundry.files.lock().remove(&id, project.as_deref());
        let deleted = json!({"id": id, "object": "file", "deleted": true});
        Reply::json(deleted.to_string())
    }))
}

/// `POST uploads`
pub(crate) fn upload(call: &Call<'_>) -> Result<Job, Failure> {
    let body = Object::read(call.body)?;
    let purpose = purpose(&body)?;
    let name = body.text("filename")?.ok_or_else(|| missing("filename"))?;
    body.text("mime_type")?
        .ok_or_else(|| missing("mime_type"))?;
    let bytes = body
        .number("bytes", 1, 8 << 30)?
        .ok_or_else(|| missing("bytes"))?;
    let upload = Upload {
        id: call.foundry.object_id("upload"),
        created: call.created(),
        name: name.to_owned(),
        purpose,
        bytes,
        status: "pending",
        parts: Vec::new(),
        file: None,
        project: project(call),
    };
    let foundry = Arc::clone(call.foundry);
    Ok(Job::free(move || {
        let object = upload.object();
        let id = upload.id.clone();
        foundry.uploads.lock().insert(&id, upload);
        Reply::json(object.to_string())
    }))
}

/// `POST uploads/{}/parts`
pub(crate) fn part(call: &Call<'_>) -> Result<Job, Failure> {
    let upload = pending(call)?;
    let form = Form::read(call.headers, call.body)?;
    form.check(&["data"])?;
    let data = form.file("data")?.data.clone();
    if data.len() > MAX_PART {
        return Err(Failure::too_large());
    }
    let id = call.foundry.object_id("part");
    let object = json!({
        "id": id, "object": "upload.part", "created_at": call.created(), "upload_id": upload.id,
    });
    Ok(change(call, |upload| {
        upload.parts.push((id, data));
        object
    }))
}

/// `POST uploads/{}/complete`
pub(crate) fn complete(call: &Call<'_>) -> Result<Job, Failure> {
    let upload = pending(call)?;
    let body = Object::read(call.body)?;
    let ids = body.array("part_ids")?.ok_or_else(|| missing("part_ids"))?;
    let mut data = Vec::new();
    for id in ids {
        let id = id.as_str().unwrap_or_default();
        let part = upload.parts.iter().find(|(part, _)| part == id);
        let (_, bytes) = part.ok_or_else(|| Failure::unknown_id("Part", id))?;
        data.extend_from_slice(bytes);
    }
    if u64::try_from(data.len()).ok() != Some(upload.bytes) {
        let message = format!(
            "Expected {} bytes, but the parts have {}.",
            upload.bytes,
            data.len()
        );
        return Err(Failure::invalid(&message, Some("part_ids"), None));
    }
    let file = StoredFile {
        id: file_id(call),
        created: call.created(),
        name: upload.name,
        purpose: upload.purpose,
        data: Bytes::from(data),
        project: upload.project,
    };
    let foundry = Arc::clone(call.foundry);
    Ok(change(call, move |upload| {
        foundry.files.lock().insert(&file.id, file.clone());
        upload.status = "completed";
        upload.file = Some(file);
        upload.object()
    }))
}

/// `POST uploads/{}/cancel`
pub(crate) fn cancel(call: &Call<'_>) -> Result<Job, Failure> {
    pending(call)?;
    Ok(change(call, |upload| {
        upload.status = "cancelled";
        upload.object()
    }))
}

fn purpose(body: &Object) -> Result<String, Failure> {
    let purpose = body.text("purpose")?.ok_or_else(|| missing("purpose"))?;
    if PURPOSES.contains(&purpose) {
        return Ok(purpose.to_owned());
    }
    Err(unsupported("purpose", purpose, &PURPOSES.join(", ")))
}

fn file_id(call: &Call<'_>) -> String {
    let (a, b) = (call.foundry.fresh_id(), call.foundry.fresh_id());
    format!("file-{a:016x}{b:016x}")
}

fn project(call: &Call<'_>) -> Option<String> {
    call.place.project.map(str::to_owned)
}

/// The file that the path names.
fn found(call: &Call<'_>) -> Result<StoredFile, Failure> {
    let [id, _] = call.ids;
    let files = call.foundry.files.lock();
    let file = files.get(id, call.place.project).cloned();
    file.ok_or_else(|| Failure::unknown_id("File", id))
}

/// The upload that the path names, as long as parts can come.
fn pending(call: &Call<'_>) -> Result<Upload, Failure> {
    let [id, _] = call.ids;
    let uploads = call.foundry.uploads.lock();
    let upload = uploads.get(id, call.place.project).cloned();
    let upload = upload.ok_or_else(|| Failure::unknown_id("Upload", id))?;
    if upload.status == "pending" {
        return Ok(upload);
    }
    let message = format!("Upload is {}.", upload.status);
    Err(Failure::invalid(&message, None, None))
}

/// Changes the upload that the path names.
fn change(call: &Call<'_>, change: impl FnOnce(&mut Upload) -> Value + Send + 'static) -> Job {
    let [id, _] = call.ids;
    let (id, project) = (id.to_owned(), project(call));
    let foundry = Arc::clone(call.foundry);
    Job::free(move || {
        let mut uploads = foundry.uploads.lock();
        let changed = uploads.get_mut(&id, project.as_deref()).map(change);
        Reply::json(changed.unwrap_or_default().to_string())
    })
}
