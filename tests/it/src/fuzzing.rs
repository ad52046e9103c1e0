//! One function for each parser of foreign bytes: it panics if the parser breaks its contract. The fuzz
//! targets of `tests/fuzz` call them with generated input, and a test of this package with the seeds, so
//! they stay correct between two runs of the fuzzer.

use std::collections::BTreeSet;
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, StatusCode};
use operator_compile::{Index, Object, ObjectRef, Settings, compile, decode};
use proxy_api::coding::{Bounds, Decoder};
use proxy_api::http1;
use proxy_api::proxy_protocol::{MOST_BYTES, PREFIX_BYTES, Prefix};
use proxy_api::{
    Body, BoundName, Call, Edit, Form, Kept, Malformed, Member, Prompt, Reference, count, find,
    media, splice,
};
use proxy_wire::v1::{self, Line};
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

mod answers;
mod batches;
mod callers;
mod rows;

pub use answers::{
    answer_ids, completions_stream, event_stream, family_body, messages_stream, responses_stream,
    usage,
};
pub use batches::batch_lines;
pub use callers::caller_token;
use rows::{DEPLOYMENT, chat, chunks};

/// The check of a target.
pub type Check = fn(&[u8]);

/// Every check, by the name of its target.
pub const CHECKS: [(&str, Check); 21] = [
    ("request_body", request_body),
    ("form", form),
    ("prompt", prompt),
    ("family_body", family_body),
    ("event_stream", event_stream),
    ("completions_stream", completions_stream),
    ("responses_stream", responses_stream),
    ("answer_ids", answer_ids),
    ("batch_lines", batch_lines),
    ("messages_stream", messages_stream),
    ("usage", usage),
    ("upstream_answer", upstream_answer),
    ("coding", coding),
    ("request_path", request_path),
    ("proxy_protocol", proxy_protocol),
    ("claims", claims),
    ("caller_token", caller_token),
    ("channel_line", channel_line),
    ("snapshot_part", snapshot_part),
    ("objects", objects),
    ("duration", duration),
];

fn scan(data: &[u8]) -> Result<Body, Malformed> {
    chat().scan(None, &Bytes::copy_from_slice(data), false)
}

/// A body with a bound on its output stays JSON, and every bound that it states is at most that.
fn bounded(data: &[u8], body: &Body) {
    const MOST: u64 = 9;
    let edit = Edit {
        default_bound: Some((BoundName::Tokens, MOST)),
        max_bound: Some(MOST),
        ..Edit::default()
    };
    let edited = splice(&Bytes::copy_from_slice(data), body, edit).joined();
    let again = scan(&edited).expect("an edited body is accepted");
    let stated = again.max_output_tokens().expect("a bound was put in");
    assert!(stated <= MOST, "{stated}");
}

/// What the scan finds stands where it says: another id takes its place, and a tag comes off.
fn replaced(data: &[u8], body: &Body) {
    let is_id = |one: &&Reference| one.kept != Kept::Item;
    let ids: Vec<_> = body
        .references
        .iter()
        .map(|one| (one.at.clone(), is_id(&one).then(|| "another".into())))
        .collect();
    let edit = Edit {
        ids: &ids,
        ..Edit::default()
    };
    let edited = splice(&Bytes::copy_from_slice(data), body, edit).joined();
    let again = scan(&edited).expect("an edited body is accepted");
    let found = again.references.iter().filter(is_id);
    assert!(found.clone().all(|one| &*one.id == "another"));
    assert_eq!(
        found.count(),
        body.references.iter().filter(is_id).count(),
        "as many as before"
    );
}

/// A body that the scanner accepts is JSON, and the edited body equals the client's, except for the model
/// and the request for usage.
///
/// # Panics
/// The contract is broken.
pub fn request_body(data: &[u8]) {
    let Ok(body) = scan(data) else { return };
    // The scanner accepts control characters in strings: a search for them would cost every request,
    // and no reader ends a string at one.
    let strict = without_control_characters(data);
    serde_json::from_slice::<IgnoredAny>(&strict).expect("an accepted body is JSON");
    let found = media(data, "gpt-4o", None);
    let size = u64::try_from(data.len()).expect("it fits");
    assert!(found.bytes <= size, "more media than there are bytes");
    bounded(data, &body);
    replaced(data, &body);
    let edit = Edit {
        model: Some(DEPLOYMENT),
        usage: true,
        ..Edit::default()
    };
    let edited = splice(&Bytes::copy_from_slice(data), &body, edit).joined();
    // A number above the range of f64, or half a surrogate: JSON, but not a `Value`.
    let Ok(mut before) = serde_json::from_slice::<Value>(&strict) else {
        return;
    };
    let edited = without_control_characters(&edited);
    let after: Value = serde_json::from_slice(&edited).expect("an edited body stays JSON");
    let body = before.as_object_mut().expect("only objects are accepted");
    body.insert("model".to_owned(), json!(DEPLOYMENT));
    if body.get("stream") == Some(&json!(true)) {
        match body.get_mut("stream_options") {
            Some(Value::Object(options)) => {
                options.insert("include_usage".to_owned(), json!(true));
            }
            _ => {
                body.insert("stream_options".to_owned(), json!({"include_usage": true}));
            }
        }
    }
    assert_eq!(after, before);
}

/// Replaces control characters in strings.
fn without_control_characters(json: &[u8]) -> Vec<u8> {
    let (mut inside, mut escaped) = (false, false);
    let replaced = json.iter().map(|&byte| {
        let before = (inside, escaped);
        escaped = inside && !escaped && byte == b'\\';
        if byte == b'"' && !before.1 {
            inside = !inside;
        }
        match (before, byte) {
            ((true, _), ..0x20) => b' ',
            _ => byte,
        }
    });
    replaced.collect()
}

/// Any body is counted or refused; a budget only stops the count early.
///
/// The first byte is the budget.
///
/// # Panics
/// The contract is broken.
pub fn prompt(data: &[u8]) {
    let Some((&budget, body)) = data.split_first() else {
        return;
    };
    let budget = u64::from(budget);
    let prompts = [
        Prompt::Chat,
        Prompt::Responses,
        Prompt::Completions,
        Prompt::Embeddings,
    ];
    for prompt in prompts {
        let count = |budget| count(body, prompt, "gpt-4o", budget);
        let (whole, stopped) = (count(u64::MAX), count(budget));
        if stopped != whole {
            // An unusual part may follow the place where the count stopped.
            let stopped = stopped.expect("a budget refuses nothing");
            assert!(stopped > budget && whole.is_none_or(|whole| stopped <= whole));
        }
    }
}

/// A form in pieces is read as the whole; in one that the scanner accepts, the edit replaces the model and
/// nothing else.
///
/// # Panics
/// The contract is broken.
pub fn form(data: &[u8]) {
    let call = Call {
        form: Form::Multipart,
        members: &[("model", Member::Model), ("stream", Member::Stream)],
        ..*chat()
    };
    let kind = Some("multipart/form-data; boundary=b");
    let bytes = Bytes::copy_from_slice(data);
    let whole = call.scan(kind, &bytes, false);
    let scan = call.form_scan(kind, false).expect("it is a form");
    let mut scan = scan.expect("it is a form");
    let seed = data.first().copied().unwrap_or(0);
    let mut pieces = chunks(data, seed).into_iter();
    let pushed = pieces.try_for_each(|piece| scan.push(piece));
    let read = pushed.and_then(|()| scan.finish());
    // Of two mistakes another one may be found first.
    assert_eq!(read.as_ref().ok(), whole.as_ref().ok());
    let Ok(body) = whole else { return };
    let edit = Edit {
        model: Some("whisper"),
        usage: true,
        ..Edit::default()
    };
    let edited = splice(&bytes, &body, edit).joined();
    let again = call
        .scan(kind, &edited, false)
        .expect("an edited form stays a form");
    assert_eq!(again.model.as_deref(), Some("whisper"));
    let range = again.model_at.expect("a model was put in");
    let around = |bytes: &[u8], range: Range<usize>| {
        let (before, after) = (bytes.get(..range.start), bytes.get(range.end..));
        [before, after].map(|part| part.map(<[u8]>::to_vec))
    };
    let kept = around(&edited, range);
    let Some(range) = body.model_at else {
        assert!(edited.ends_with(data), "bytes were lost");
        return;
    };
    assert_eq!(kept, around(data, range));
}

/// What a reader made of an answer.
#[derive(Debug, PartialEq, Eq)]
struct Answered {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
    /// The answer is whole; whether another may follow it.
    keeps: Option<bool>,
    /// Bytes behind a whole answer.
    rest: Vec<u8>,
}

/// Reads an answer that comes in pieces, before the connection is closed.
fn answered(pieces: &[&[u8]]) -> Result<Answered, http1::Malformed> {
    let (mut decoder, mut buffer) = (http1::Decoder::new(), BytesMut::new());
    let mut pieces = pieces.iter();
    let head = loop {
        match (decoder.head(&mut buffer)?, pieces.next()) {
            (Some(head), next) => {
                buffer.extend_from_slice(next.copied().unwrap_or_default());
                break head;
            }
            (None, Some(piece)) => buffer.extend_from_slice(piece),
            (None, None) => {
                decoder.closed()?;
                unreachable!("an answer without a head has not ended")
            }
        }
    };
    let mut body = Vec::new();
    let is_whole = loop {
        match decoder.body(&mut buffer) {
            Ok(http1::Piece::Data(data)) => body.extend_from_slice(&data),
            Ok(http1::Piece::End) => break true,
            Ok(http1::Piece::More) => match pieces.next() {
                Some(piece) => buffer.extend_from_slice(piece),
                None => break decoder.closed().is_ok(),
            },
            Err(_malformed) => break false,
        }
    };
    pieces.for_each(|piece| buffer.extend_from_slice(piece));
    Ok(Answered {
        status: head.status,
        headers: head.headers,
        body,
        keeps: is_whole.then(|| decoder.keeps()),
        rest: if is_whole {
            buffer.to_vec()
        } else {
            Vec::new()
        },
    })
}

/// An answer of a backend reads the same however it is split; no byte is made up or lost; what was accepted
/// is the same after it was sent in chunks.
///
/// The first byte chooses the split.
///
/// # Panics
/// The contract is broken.
pub fn upstream_answer(data: &[u8]) {
    let Some((&seed, bytes)) = data.split_first() else {
        return;
    };
    let whole = answered(&[bytes]).ok();
    let pieces = chunks(bytes, seed);
    assert_eq!(answered(&pieces).ok(), whole, "pieces: {pieces:?}");
    let Some(whole) = whole else { return };
    let values = whole.headers.iter();
    let values: usize = values
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum();
    assert!(values + whole.body.len() + whole.rest.len() <= bytes.len());
    assert!(bytes.ends_with(&whole.rest), "what follows was touched");
    if whole.keeps.is_none() {
        return;
    }
    let mut sent = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    for chunk in chunks(&whole.body, seed) {
        sent.extend_from_slice(format!("{:X};a=b\r\n", chunk.len()).as_bytes());
        sent.extend_from_slice(chunk);
        sent.extend_from_slice(b"\r\n");
    }
    sent.extend_from_slice(b"0\r\n\r\n");
    let again = answered(&[&sent]).expect("a good answer");
    assert_eq!((again.body, again.keeps), (whole.body, Some(true)));
}

/// A coded answer decodes to the same however it is split, and never to more than its bounds.
///
/// The first byte chooses the coding, the second one the split.
///
/// # Panics
/// The contract is broken.
pub fn coding(data: &[u8]) {
    const CODINGS: [&str; 6] = ["gzip", "deflate", "br", "zstd", "gzip, br", "zstd, deflate"];
    let Some((&[which, seed], bytes)) = data.split_first_chunk() else {
        return;
    };
    let coding = CODINGS.get(usize::from(which) % CODINGS.len());
    let decoded = |pieces: &[&[u8]]| {
        let bound = 1 << 16;
        let bounds = Bounds {
            per_call: bound,
            total: bound,
        };
        let mut decoder = Decoder::new(coding?, bounds)?;
        let mut out = Vec::new();
        for piece in pieces {
            out.extend_from_slice(&decoder.push(piece).ok()?);
        }
        out.extend_from_slice(&decoder.finish().ok()?);
        assert!(out.len() <= bound, "{coding:?} exceeds its bound");
        Some(out)
    };
    let pieces = chunks(bytes, seed);
    assert_eq!(decoded(&pieces), decoded(&[bytes]), "{coding:?}");
}

/// A served path has the same segments for a reader that follows the URL standard.
///
/// # Panics
/// The contract is broken.
pub fn request_path(data: &[u8]) {
    let Ok(path) = std::str::from_utf8(data) else {
        return;
    };
    // These end a path.
    if path.contains(['?', '#']) || find(proxy_api::ROWS, &Method::POST, path).is_err() {
        return;
    }
    let url = format!("http://gateway{path}");
    let url = url::Url::parse(&url).expect("a served path can be part of a URL");
    assert_eq!(url.host_str(), Some("gateway"));
    assert_eq!(
        url.path().matches('/').count(),
        path.matches('/').count(),
        "read as {}",
        url.path()
    );
}

/// A balancer's header that is accepted has a bounded length, and names the client by its addresses alone.
///
/// # Panics
/// The contract is broken.
pub fn proxy_protocol(data: &[u8]) {
    let Some((prefix, rest)) = data.split_first_chunk::<PREFIX_BYTES>() else {
        return;
    };
    let Ok(read) = Prefix::read(*prefix) else {
        return;
    };
    assert!(prefix.starts_with(b"\r\n\r\n\0\r\nQUIT\n"));
    assert!(read.length <= MOST_BYTES);
    let mut whole = rest.to_vec();
    whole.resize(read.length, 0);
    let client = read.client(&whole).expect("its length holds its addresses");
    let addresses = whole.len().min(36);
    whole
        .iter_mut()
        .skip(addresses)
        .for_each(|byte| *byte ^= 0xff);
    assert_eq!(
        read.client(&whole),
        Ok(client),
        "what is behind them decides"
    );
    if let Some(client) = client {
        assert_eq!(client.to_canonical(), client);
    }
}

/// A part that is read as a snapshot has whole lines in it, and comes back when it is written. So does what is
/// compressed in it, whatever the head says of it.
///
/// # Panics
/// The contract is broken.
pub fn snapshot_part(data: &[u8]) {
    let check = |part: Vec<u8>| {
        let Ok(stored) = v1::join(&[part]) else {
            return;
        };
        let parts = v1::split(stored.snapshot.clone(), stored.written_ms);
        let again = parts.and_then(|parts| v1::join(&parts));
        assert_eq!(again.ok(), Some(stored));
    };
    check(data.to_vec());
    let Some(end) = data.iter().position(|byte| *byte == b'\n') else {
        return;
    };
    let (head, piece) = data.split_at(end);
    let piece = piece.get(1..).unwrap_or_default();
    let Ok(Value::Object(mut head)) = serde_json::from_slice(head) else {
        return;
    };
    head.insert("sum".to_owned(), hex::encode(Sha256::digest(piece)).into());
    let head = Value::Object(head).to_string();
    check([head.as_bytes(), b"\n", piece].concat());
}

/// A readable line can be written and read again, and so can the table of a snapshot.
///
/// # Panics
/// The contract is broken.
pub fn channel_line(data: &[u8]) {
    // The channel splits lines before it reads them.
    if data.contains(&b'\n') {
        return;
    }
    let Ok(line) = Line::parse(data) else { return };
    let written = line
        .to_bytes()
        .expect("a line that was read can be written");
    assert_eq!(Line::parse(&written).ok().as_ref(), Some(&line));
    let objects = match line {
        Line::Snapshot(snapshot) => snapshot.objects,
        Line::Delta(delta) => {
            drop(v1::apply(&v1::Objects::default(), &delta.base, &delta));
            delta.changed
        }
        Line::Heartbeat(_) | Line::Carried(_) => return,
    };
    let (none, before) = (v1::Objects::default(), v1::Decoded::default());
    let decoded = v1::decode_reusing(&objects, v1::Features::KNOWN, &none, &before);
    let Ok(decoded) = decoded else { return };
    // Restrictions of unsupported entries do not travel.
    if decoded.unsupported.is_empty() {
        let again = v1::decode(&v1::encode(&decoded.contents));
        assert_eq!(again.ok().as_ref(), Some(&decoded.contents));
    }
    let bare = v1::decode(&v1::without_credentials(&objects));
    assert!(bare.is_ok(), "without credentials: {bare:?}");
}

/// Objects compile to the same table in either order, and the table can be sent.
///
/// # Panics
/// The contract is broken.
pub fn objects(data: &[u8]) {
    let Ok(values) = serde_json::from_slice::<Vec<Value>>(data) else {
        return;
    };
    let read = values.into_iter().filter_map(|value| {
        let word = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default();
        let (kind, version) = (word("kind").to_owned(), word("apiVersion").to_owned());
        match decode(&kind, &version, value) {
            Ok(object) => object,
            Err(problem) => problem.into_object(),
        }
    });
    let objects: Vec<Object> = read.collect();
    let names: BTreeSet<ObjectRef> = objects.iter().map(Object::object_ref).collect();
    if names.len() < objects.len() {
        // Of two with one name, the later one wins.
        return;
    }
    let settings = Settings {
        own_namespace: "tundish-system".to_owned(),
        grants_served: true,
        tenants: operator_compile::Tenants::OfRoutes,
        host_grants: Vec::new(),
        identity_grants: operator_compile::IdentityGrants::All,
        reach: proxy_core::reach::Reach::default(),
        backend_hosts: Vec::new(),
        secrets: operator_compile::Secrets::All,
        gateways: None,
        today: operator_compile::Day::at(0),
    };
    let mut forward = Index::default();
    objects.iter().cloned().for_each(|o| forward.apply(o));
    let mut backward = Index::default();
    objects.into_iter().rev().for_each(|o| backward.apply(o));
    let compiled = compile(&forward, &settings);
    assert_eq!(compile(&backward, &settings), compiled);
    let sent = v1::decode(&v1::encode(&compiled.contents));
    assert_eq!(sent.ok().as_ref(), Some(&compiled.contents));
    drop(proxy_core::table::Table::new(compiled.contents));
}

/// An accepted duration is written in a form that reads as the same duration.
///
/// # Panics
/// The contract is broken.
pub fn duration(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Ok(duration) = text.parse::<crds::Duration>() else {
        return;
    };
    let known = |c: char| c.is_ascii_digit() || matches!(c, 'h' | 'm' | 's');
    assert!(text.chars().all(known), "{text:?}");
    assert!(!duration.as_std().is_zero());
    assert_eq!(duration.to_string().parse(), Ok(duration));
}

/// What a token claims is short, and of letters that no name of a consumer, log or page mistakes.
///
/// # Panics
/// The contract is broken.
pub fn claims(data: &[u8]) {
    let Ok(token) = std::str::from_utf8(data) else {
        return;
    };
    if let Some(claims) = proxy_api::claims(token) {
        for one in [&claims.tenant, &claims.principal] {
            assert_eq!(one.len(), 36);
            let is_plain = |c: char| matches!(c, '0'..='9' | 'a'..='f' | '-');
            assert!(one.chars().all(is_plain), "{one:?}");
        }
    }
}
