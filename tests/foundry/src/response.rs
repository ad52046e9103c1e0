//! Responses: a body with its type, and nothing of what all of them carry.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::Full;

use crate::{
    call::{JSON, Whole},
    record::Usage,
    stream::{Body, Stream},
};

/// A whole JSON response.
pub(crate) fn json(status: StatusCode, body: Bytes) -> Response<Body> {
    whole(Whole {
        status,
        content_type: JSON,
        body,
        usage: Usage::default(),
    })
}

pub(crate) fn whole(whole: Whole) -> Response<Body> {
    let mut response = Response::new(Body::Whole(Full::new(whole.body)));
    *response.status_mut() = whole.status;
    put_type(whole.content_type, response.headers_mut());
    response
}

/// A response that promises all of its body and breaks off after `sent` bytes of it.
pub(crate) fn cut(whole: &Whole, sent: usize) -> Response<Body> {
    let length = whole.body.len();
    let mut response = Response::new(Body::cut(whole.body.slice(..sent.min(length))));
    *response.status_mut() = whole.status;
    put_type(whole.content_type, response.headers_mut());
    response
        .headers_mut()
        .insert(header::CONTENT_LENGTH, length.into());
    response
}

pub(crate) fn stream(content_type: &'static str, stream: Stream) -> Response<Body> {
    let mut response = Response::new(Body::Stream(Box::new(stream)));
    put_type(content_type, response.headers_mut());
    response
}

fn put_type(content_type: &'static str, response: &mut HeaderMap) {
    let value = HeaderValue::from_static(content_type);
    response.insert(header::CONTENT_TYPE, value);
}
