//! Vector stores with their files and batches of files (API reference, "Vector stores", "Vector store files" and
//! "Vector store file batches").

use std::sync::Arc;

use serde_json::{Value, json};

use super::responses::page;
use crate::{
    body::{Object, missing},
    call::{Call, Job, Reply},
    errors::Failure,
    state::vector_store::{Batch, Searched, VectorStore},
};

/// The most files of one batch.
const MOST: usize = 2_000;
/// Results of a search, unless the request asks for another number.
const RESULTS: u64 = 10;

/// `POST vector_stores`
pub(crate) fn create(call: &Call<'_>) -> Result<Job, Failure> {
    let body = object(call)?;
    let store = VectorStore {
        id: call.foundry.object_id("vs"),
        created: call.created(),
        name: body.or("name", Value::Null),
        metadata: body.or("metadata", json!({})),
        expires_after: body.or("expires_after", Value::Null),
        files: named(call, &body, None)?,
        batches: Vec::new(),
        project: project(call),
    };
    let foundry = Arc::clone(call.foundry);
    Ok(Job::free(move || {
        let object = store.object();
        let id = store.id.clone();
        foundry.vector_stores.lock().insert(&id, store);
        Reply::json(object.to_string())
    }))
}

/// `GET vector_stores`
pub(crate) fn list(call: &Call<'_>) -> Result<Job, Failure> {
    let stores = call.foundry.vector_stores.lock();
    let project = call.place.project;
    let mut stores: Vec<&VectorStore> = stores
        .values()
        .filter(|store| store.project.as_deref() == project)
        .collect();
    stores.sort_unstable_by(|a, b| (a.created, &a.id).cmp(&(b.created, &b.id)));
    answer(page(
        call,
        stores.into_iter().map(VectorStore::object).collect(),
    )?)
}

/// `GET vector_stores/{}`
pub(crate) fn get(call: &Call<'_>) -> Result<Job, Failure> {
    answer(found(call)?.object())
}

/// `POST vector_stores/{}`
pub(crate) fn update(call: &Call<'_>) -> Result<Job, Failure> {
    found(call)?;
    let body = object(call)?;
    Ok(change(call, move |store| {
        store.name = body.or("name", store.name.clone());
        store.metadata = body.or("metadata", store.metadata.clone());
        store.expires_after = body.or("expires_after", store.expires_after.clone());
        store.object()
    }))
}

/// `DELETE vector_stores/{}`
pub(crate) fn delete(call: &Call<'_>) -> Result<Job, Failure> {
    let id = found(call)?.id;
    let (foundry, project) = (Arc::clone(call.foundry), project(call));
    Ok(Job::free(move || {
        foundry.vector_stores.lock().remove(&id, project.as_deref());
        let deleted = json!({"id": id, "object": "vector_store.deleted", "deleted": true});
        Reply::json(deleted.to_string())
    }))
}

/// `POST vector_stores/{}/search`: each file of the store is a result, with the whole of its text.
pub(crate) fn search(call: &Call<'_>) -> Result<Job, Failure> {
    let store = found(call)?;
    let body = object(call)?;
    let query = body.get("query").ok_or_else(|| missing("query"))?;
    let query = match query.as_array() {
        Some(several) => json!(several),
        None => json!([query]),
    };
    let most = body.number("max_num_results", 1, 50)?.unwrap_or(RESULTS);
    let files = call.foundry.files.lock();
    let results = store.files.iter().filter_map(|file| {
        let kept = files.get(&file.id, call.place.project)?;
        let text = String::from_utf8_lossy(&kept.data);
        Some(json!({
            "file_id": file.id, "filename": kept.name, "score": 0.5,
            "attributes": file.attributes, "content": [{"type": "text", "text": text}],
        }))
    });
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    answer(json!({
        "object": "vector_store.search_results.page", "search_query": query,
        "data": results.take(most).collect::<Vec<_>>(), "has_more": false, "next_page": null,
    }))
}

/// `POST vector_stores/{}/files`
pub(crate) fn add_file(call: &Call<'_>) -> Result<Job, Failure> {
    found(call)?;
    let body = object(call)?;
    body.text("file_id")?.ok_or_else(|| missing("file_id"))?;
    let attributes = body.or("attributes", json!({}));
    let file = searched(call, body.get("file_id"), attributes, None)?;
    Ok(change(call, |store| {
        let object = store.file_object(&file);
        put(store, file);
        object
    }))
}

/// `GET vector_stores/{}/files`
pub(crate) fn list_files(call: &Call<'_>) -> Result<Job, Failure> {
    let store = found(call)?;
    answer(page(call, objects(&store, |_| true))?)
}

/// `GET vector_stores/{}/files/{}`
pub(crate) fn get_file(call: &Call<'_>) -> Result<Job, Failure> {
    let store = found(call)?;
    answer(store.file_object(file(call, &store)?))
}

/// `POST vector_stores/{}/files/{}`: other attributes.
pub(crate) fn update_file(call: &Call<'_>) -> Result<Job, Failure> {
    file(call, &found(call)?)?;
    let body = object(call)?;
    let attributes = body.get("attributes").cloned();
    let attributes = attributes.ok_or_else(|| missing("attributes"))?;
    let [_, id] = call.ids;
    let id = id.to_owned();
    Ok(change(call, move |store| {
        for file in store.files.iter_mut().filter(|file| file.id == id) {
            file.attributes = attributes.clone();
        }
        let file = store.file(&id).map(|file| store.file_object(file));
        file.unwrap_or_default()
    }))
}

/// `GET vector_stores/{}/files/{}/content`
pub(crate) fn content(call: &Call<'_>) -> Result<Job, Failure> {
    let store = found(call)?;
    let id = &file(call, &store)?.id;
    let files = call.foundry.files.lock();
    let kept = files.get(id, call.place.project);
    let kept = kept.ok_or_else(|| Failure::unknown_id("File", id))?;
    let text = String::from_utf8_lossy(&kept.data);
    answer(json!({
        "object": "vector_store.file_content.page", "data": [{"type": "text", "text": text}],
        "has_more": false, "next_page": null,
    }))
}

/// `DELETE vector_stores/{}/files/{}`: the file itself stays.
pub(crate) fn delete_file(call: &Call<'_>) -> Result<Job, Failure> {
    let id = file(call, &found(call)?)?.id.clone();
    Ok(change(call, move |store| {
        store.files.retain(|file| file.id != id);
        json!({"id": id, "object": "vector_store.file.deleted", "deleted": true})
    }))
}

/// `POST vector_stores/{}/file_batches`
pub(crate) fn add_batch(call: &Call<'_>) -> Result<Job, Failure> {
    found(call)?;
    let body = object(call)?;
    let batch = Batch {
        id: call.foundry.object_id("vsfb"),
        created: call.created(),
        status: "in_progress",
    };
    let files = named(call, &body, Some(&batch.id))?;
    if files.is_empty() {
        return Err(missing("file_ids"));
    }
    Ok(change(call, |store| {
        for file in files {
            put(store, file);
        }
        let object = store.batch_object(&batch);
        store.batches.push(batch);
        object
    }))
}

/// `GET vector_stores/{}/file_batches/{}`
pub(crate) fn get_batch(call: &Call<'_>) -> Result<Job, Failure> {
    ended(call, "completed")
}

/// `POST vector_stores/{}/file_batches/{}/cancel`
pub(crate) fn cancel_batch(call: &Call<'_>) -> Result<Job, Failure> {
    ended(call, "cancelled")
}

/// `GET vector_stores/{}/file_batches/{}/files`
pub(crate) fn list_batch(call: &Call<'_>) -> Result<Job, Failure> {
    let store = found(call)?;
    let id = &batch(call, &store)?.id;
    answer(page(
        call,
        objects(&store, |file| file.batch.as_ref() == Some(id)),
    )?)
}

/// The batch that the path names, which has come to this end if to none before.
fn ended(call: &Call<'_>, status: &'static str) -> Result<Job, Failure> {
    let id = batch(call, &found(call)?)?.id.clone();
    Ok(change(call, move |store| {
        for batch in &mut store.batches {
            if batch.id == id && batch.status == "in_progress" {
                batch.status = status;
            }
        }
        let batch = store.batch(&id).map(|batch| store.batch_object(batch));
        batch.unwrap_or_default()
    }))
}

/// A file stands in a store once.
fn put(store: &mut VectorStore, file: Searched) {
    store.files.retain(|other| other.id != file.id);
    store.files.push(file);
}

fn objects(store: &VectorStore, is_asked: impl Fn(&Searched) -> bool) -> Vec<Value> {
    let files = store.files.iter().filter(|file| is_asked(file));
    files.map(|file| store.file_object(file)).collect()
}

/// The files that a body names by `file_ids`, or by `files` with attributes of their own.
fn named(call: &Call<'_>, body: &Object, batch: Option<&str>) -> Result<Vec<Searched>, Failure> {
    let ids = body.array("file_ids")?.map_or(&[][..], Vec::as_slice);
    let files = body.array("files")?.map_or(&[][..], Vec::as_slice);
    if ids.len() + files.len() > MOST || !ids.is_empty() && !files.is_empty() {
        let message = "Expected 'file_ids' or 'files', of 2000 at most.";
        return Err(Failure::invalid(message, Some("file_ids"), None));
    }
    let attributes = body.or("attributes", json!({}));
    let by_id = ids
        .iter()
        .map(|id| searched(call, Some(id), attributes.clone(), batch));
    let whole = files.iter().map(|file| {
        let attributes = file.get("attributes").cloned();
        let attributes = attributes.unwrap_or_else(|| json!({}));
        searched(call, file.get("file_id"), attributes, batch)
    });
    by_id.chain(whole).collect()
}

fn searched(
    call: &Call<'_>,
    id: Option<&Value>,
    attributes: Value,
    batch: Option<&str>,
) -> Result<Searched, Failure> {
    let id = id.and_then(Value::as_str).unwrap_or_default();
    let files = call.foundry.files.lock();
    let file = files.get(id, call.place.project);
    let file = file.ok_or_else(|| Failure::unknown_id("File", id))?;
    Ok(Searched {
        id: file.id.clone(),
        created: call.created(),
        bytes: file.data.len(),
        attributes,
        batch: batch.map(str::to_owned),
    })
}

fn object(call: &Call<'_>) -> Result<Object, Failure> {
    if call.body.is_empty() {
        return Ok(Object::default());
    }
    Object::read(call.body)
}

fn answer(object: Value) -> Result<Job, Failure> {
    Ok(Job::free(move || Reply::json(object.to_string())))
}

fn project(call: &Call<'_>) -> Option<String> {
    call.place.project.map(str::to_owned)
}

/// The store that the path names.
fn found(call: &Call<'_>) -> Result<VectorStore, Failure> {
    let [id, _] = call.ids;
    let stores = call.foundry.vector_stores.lock();
    let store = stores.get(id, call.place.project).cloned();
    store.ok_or_else(|| Failure::unknown_id("Vector store", id))
}

/// The file that the path names, which must be in the store.
fn file<'a>(call: &Call<'_>, store: &'a VectorStore) -> Result<&'a Searched, Failure> {
    let [_, id] = call.ids;
    store
        .file(id)
        .ok_or_else(|| Failure::unknown_id("File", id))
}

fn batch<'a>(call: &Call<'_>, store: &'a VectorStore) -> Result<&'a Batch, Failure> {
    let [_, id] = call.ids;
    let batch = store.batch(id);
    batch.ok_or_else(|| Failure::unknown_id("Vector store file batch", id))
}

/// Changes the store that the path names.
fn change(call: &Call<'_>, change: impl FnOnce(&mut VectorStore) -> Value + Send + 'static) -> Job {
    let [id, _] = call.ids;
    let (id, project) = (id.to_owned(), project(call));
    let foundry = Arc::clone(call.foundry);
    Job::free(move || {
        let mut stores = foundry.vector_stores.lock();
        let changed = stores.get_mut(&id, project.as_deref()).map(change);
        Reply::json(changed.unwrap_or_default().to_string())
    })
}
