//! What the simulator speaks: the one table from method, surface and path to the code that answers. A path
//! below `/api/projects/{p}` has the rows of the same path without it.

use http::Method;

use crate::{
    api::{
        batches, chat, completions, containers, conversations, deployments, embeddings, files,
        images, messages, models, moderations,
        responses::{count, create, stored},
        speech, transcriptions, vector_stores,
    },
    call::Handler,
    errors::Failure,
    surface::{Kind, Place},
};

/// One line of the table.
#[derive(Debug)]
pub(crate) struct Route {
    method: Method,
    on: &'static [Kind],
    /// The path below the surface; `{}` stands for one segment.
    path: &'static str,
    /// Azure's name of the operation: in messages about limits, and for faults to choose by.
    pub(crate) operation: &'static str,
    pub(crate) handler: Handler,
}

/// The deployment is in the path of the dated surface, and in the body of the other.
const MODEL: &[Kind] = &[Kind::Deployment, Kind::V1];
/// Nothing in the path names a deployment.
const RESOURCE: &[Kind] = &[Kind::Dated, Kind::V1];
/// What no dated version has.
const V1: &[Kind] = &[Kind::V1];
/// What the v1 surface does not have.
const DATED: &[Kind] = &[Kind::Dated];
/// Anthropic's paths. Foundry has neither its models nor its batches there.
const CLAUDE: &[Kind] = &[Kind::Anthropic];

/// The versions of the dated surface with which paths came; those without a line are older. Microsoft's "Azure OpenAI API
/// version lifecycle" has the changes from version to version: Responses came with 2025-03-01-preview, gpt-image-1 with
/// 2025-04-01-preview, the upload of large files with 2024-08-01-preview, batches with
/// 2024-07-01-preview, vector stores with 2024-05-01-preview, text to speech with 2024-02-15-preview, DALL-E 3
/// with 2023-12-01-preview, Whisper with 2023-09-01-preview.
const SINCE: [(&str, &str); 9] = [
    ("responses", "2025-03-01"),
    ("images/edits", "2025-04-01"),
    ("uploads", "2024-08-01"),
    ("batches", "2024-07-01"),
    ("vector_stores", "2024-05-01"),
    ("audio/speech", "2024-02-15"),
    ("images/generations", "2023-12-01"),
    ("audio/transcriptions", "2023-09-01"),
    ("audio/translations", "2023-09-01"),
];

#[rustfmt::skip]
static ROUTES: &[Route] = &[
    post(MODEL, "chat/completions", "ChatCompletions_Create", chat::create),
    post(MODEL, "completions", "Completions_Create", completions::create),
    post(MODEL, "embeddings", "Embeddings_Create", embeddings::create),
    post(MODEL, "images/generations", "Images_Generate", images::create),
    post(MODEL, "images/edits", "Images_Edit", images::edit),
    post(MODEL, "audio/transcriptions", "Transcriptions_Create", transcriptions::transcribe),
    post(MODEL, "audio/translations", "Translations_Create", transcriptions::translate),
    post(MODEL, "moderations", "Moderations_Create", moderations::create),
    post(MODEL, "audio/speech", "Speech_Create", speech::create),
    // Responses
    post(RESOURCE, "responses", "Responses_Create", create::create),
    get(RESOURCE, "responses/{}", "Responses_Get", stored::get),
    delete(RESOURCE, "responses/{}", "Responses_Delete", stored::delete),
    post(RESOURCE, "responses/{}/cancel", "Responses_Cancel", stored::cancel),
    get(RESOURCE, "responses/{}/input_items", "Responses_ListInputItems", stored::input_items),
    post(RESOURCE, "responses/compact", "Responses_Compact", count::compact),
    post(RESOURCE, "responses/input_tokens", "Responses_CountTokens", count::input_tokens),
    // Conversations
    post(RESOURCE, "conversations", "Conversations_Create", conversations::create),
    get(RESOURCE, "conversations/{}", "Conversations_Get", conversations::get),
    post(RESOURCE, "conversations/{}", "Conversations_Update", conversations::update),
    delete(RESOURCE, "conversations/{}", "Conversations_Delete", conversations::delete),
    get(RESOURCE, "conversations/{}/items", "Conversations_ListItems", conversations::list_items),
    post(RESOURCE, "conversations/{}/items", "Conversations_CreateItems", conversations::create_items),
    get(RESOURCE, "conversations/{}/items/{}", "Conversations_GetItem", conversations::get_item),
    delete(RESOURCE, "conversations/{}/items/{}", "Conversations_DeleteItem", conversations::delete_item),
    // Files
    post(RESOURCE, "files", "Files_Create", files::create),
    get(RESOURCE, "files", "Files_List", files::list),
    get(RESOURCE, "files/{}", "Files_Get", files::get),
    delete(RESOURCE, "files/{}", "Files_Delete", files::delete),
    get(RESOURCE, "files/{}/content", "Files_GetContent", files::content),
    post(RESOURCE, "uploads", "Uploads_Create", files::upload),
    post(RESOURCE, "uploads/{}/parts", "Uploads_AddPart", files::part),
    post(RESOURCE, "uploads/{}/complete", "Uploads_Complete", files::complete),
    post(RESOURCE, "uploads/{}/cancel", "Uploads_Cancel", files::cancel),
    // Vector stores
    post(RESOURCE, "vector_stores", "VectorStores_Create", vector_stores::create),
    get(RESOURCE, "vector_stores", "VectorStores_List", vector_stores::list),
    get(RESOURCE, "vector_stores/{}", "VectorStores_Get", vector_stores::get),
    post(RESOURCE, "vector_stores/{}", "VectorStores_Modify", vector_stores::update),
    delete(RESOURCE, "vector_stores/{}", "VectorStores_Delete", vector_stores::delete),
    post(RESOURCE, "vector_stores/{}/search", "VectorStores_Search", vector_stores::search),
    post(RESOURCE, "vector_stores/{}/files", "VectorStores_CreateFile", vector_stores::add_file),
    get(RESOURCE, "vector_stores/{}/files", "VectorStores_ListFiles", vector_stores::list_files),
    get(RESOURCE, "vector_stores/{}/files/{}", "VectorStores_GetFile", vector_stores::get_file),
    post(RESOURCE, "vector_stores/{}/files/{}", "VectorStores_UpdateFile", vector_stores::update_file),
    get(RESOURCE, "vector_stores/{}/files/{}/content", "VectorStores_GetFileContent", vector_stores::content),
    delete(RESOURCE, "vector_stores/{}/files/{}", "VectorStores_DeleteFile", vector_stores::delete_file),
    post(RESOURCE, "vector_stores/{}/file_batches", "VectorStores_CreateBatch", vector_stores::add_batch),
    get(RESOURCE, "vector_stores/{}/file_batches/{}", "VectorStores_GetBatch", vector_stores::get_batch),
    post(RESOURCE, "vector_stores/{}/file_batches/{}/cancel", "VectorStores_CancelBatch", vector_stores::cancel_batch),
    get(RESOURCE, "vector_stores/{}/file_batches/{}/files", "VectorStores_ListBatchFiles", vector_stores::list_batch),
    // Containers
    post(V1, "containers", "Containers_Create", containers::create),
    get(V1, "containers", "Containers_List", containers::list),
    get(V1, "containers/{}", "Containers_Get", containers::get),
    delete(V1, "containers/{}", "Containers_Delete", containers::delete),
    post(V1, "containers/{}/files", "Containers_CreateFile", containers::add_file),
    get(V1, "containers/{}/files", "Containers_ListFiles", containers::list_files),
    get(V1, "containers/{}/files/{}", "Containers_GetFile", containers::get_file),
    get(V1, "containers/{}/files/{}/content", "Containers_GetFileContent", containers::content),
    delete(V1, "containers/{}/files/{}", "Containers_DeleteFile", containers::delete_file),
    // Batches
    post(RESOURCE, "batches", "Batches_Create", batches::create),
    get(RESOURCE, "batches", "Batches_List", batches::list),
    get(RESOURCE, "batches/{}", "Batches_Get", batches::get),
    post(RESOURCE, "batches/{}/cancel", "Batches_Cancel", batches::cancel),
    // Anthropic
    post(CLAUDE, "v1/messages", "Messages_Create", messages::create),
    post(CLAUDE, "v1/messages/count_tokens", "Messages_CountTokens", messages::count_tokens),
    // Models and deployments
    get(RESOURCE, "models", "Models_List", models::list),
    get(RESOURCE, "models/{}", "Models_Get", models::one),
    get(DATED, "deployments", "Deployments_List", deployments::list),
    get(DATED, "deployments/{}", "Deployments_Get", deployments::one),
];

const fn get(
    on: &'static [Kind],
    path: &'static str,
    operation: &'static str,
    handler: Handler,
) -> Route {
    route(Method::GET, on, path, operation, handler)
}

const fn post(
    on: &'static [Kind],
    path: &'static str,
    operation: &'static str,
    handler: Handler,
) -> Route {
    route(Method::POST, on, path, operation, handler)
}

const fn delete(
    on: &'static [Kind],
    path: &'static str,
    operation: &'static str,
    handler: Handler,
) -> Route {
    route(Method::DELETE, on, path, operation, handler)
}

const fn route(
    method: Method,
    on: &'static [Kind],
    path: &'static str,
    operation: &'static str,
    handler: Handler,
) -> Route {
    Route {
        method,
        on,
        path,
        operation,
        handler,
    }
}

/// The segments for which `{}` stands; an empty text for those that a path does not have.
pub(crate) type Ids<'a> = [&'a str; 2];

/// The line for a request, or Foundry's words that there is none.
pub(crate) fn find<'a>(
    method: &Method,
    place: &Place<'a>,
) -> Result<(&'static Route, Ids<'a>), Failure> {
    let kind = place.surface.kind();
    let found = ROUTES
        .iter()
        .filter(|route| route.method == *method && route.on.contains(&kind))
        .find_map(|route| Some((route, ids(route.path, place.rest)?)))
        .ok_or_else(Failure::no_resource)?;
    let is_newer = |(path, since): &&(&str, &str)| {
        place.rest.starts_with(path) && place.surface.is_before(since)
    };
    match SINCE.iter().find(is_newer) {
        None => Ok(found),
        Some((path, _)) if *path == "responses" => Err(Failure::no_responses()),
        Some(_) => Err(Failure::no_resource()),
    }
}

/// What `{}` stands for, if the path fits.
fn ids<'a>(pattern: &str, path: &'a str) -> Option<Ids<'a>> {
    let mut ids = [""; 2];
    let mut free = ids.iter_mut();
    let mut segments = path.split('/');
    for expected in pattern.split('/') {
        let segment = segments.next()?;
        if expected == "{}" {
            *free.next()? = Some(segment).filter(|segment| !segment.is_empty())?;
        } else if segment != expected {
            return None;
        }
    }
    segments.next().is_none().then_some(ids)
}

#[cfg(test)]
mod tests;
