//! The closed list of reasons why the gateway answers instead of a backend.

/// One reason word: the same in the response body, the metric label and the access log.
/// `docs/errors.md` is generated from this list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Code {
    /// The request does not follow its dialect.
    InvalidRequest,
    /// No backend of the rule speaks an API version that has the operation.
    UnsupportedApiVersion,
    /// The gateway does not serve the path.
    UnknownPath,
    /// The path is of an operation that the gateway does not serve.
    OperationNotServed,
    /// The path exists, but not with this method.
    MethodNotAllowed,
    /// The request has no credential, and the routes of this host require one.
    MissingCredential,
    /// No consumer has this credential.
    InvalidCredential,
    /// The credential has expired.
    ExpiredCredential,
    /// The request has the keys of two consumers.
    AmbiguousCredential,
    /// The route does not admit the consumer.
    Forbidden,
    /// A limit counts tokens or money, and the operation cannot be metered.
    Unmetered,
    /// No route serves this host.
    RouteNotFound,
    /// No rule serves this model and operation.
    ModelNotFound,
    /// No backend keeps this for the consumer.
    NotKept,
    /// The response that the request continues is not kept for the consumer.
    PreviousResponseNotFound,
    /// An item of the request was not sealed for the consumer.
    InvalidEncryptedContent,
    /// The client sent too slowly.
    RequestTimeout,
    /// The body exceeds the gateway's limit.
    RequestTooLarge,
    /// The head has too many or too large headers.
    HeadersTooLarge,
    /// The body is compressed, so the gateway cannot read it.
    UnsupportedEncoding,
    /// A limit on requests in a rolling window is spent.
    RateLimited,
    /// A limit on tokens or cost, or a calendar window, is spent.
    QuotaExceeded,
    /// As many requests run as the limit allows.
    ConcurrencyExceeded,
    /// Every backend of the rule asks callers to wait.
    BackendThrottled,
    /// The route was rejected by the operator; it keeps its matches and serves nothing.
    RouteRejected,
    /// No backend of the rule can serve the request.
    NoBackend,
    /// The gateway has no table yet.
    NotReady,
    /// The gateway has no memory or file descriptor left.
    Overloaded,
    /// The gateway stops, and its grace period is over.
    ShuttingDown,
    /// The backend does not accept a connection.
    UpstreamUnreachable,
    /// The backend broke the protocol or the connection.
    UpstreamFailed,
    /// The backend did not answer in time.
    UpstreamTimeout,
    /// The installation keeps backends from the address.
    BackendOutOfReach,
    /// The gateway has no token for the backend, or the backend refuses it.
    BackendCredentialRefused,
    /// A defect of the gateway.
    Internal,
}

impl Code {
    /// Every code, in the order of the documentation.
    pub const ALL: [Self; 35] = [
        Self::InvalidRequest,
        Self::UnsupportedApiVersion,
        Self::UnknownPath,
        Self::OperationNotServed,
        Self::MethodNotAllowed,
        Self::MissingCredential,
        Self::InvalidCredential,
        Self::ExpiredCredential,
        Self::AmbiguousCredential,
        Self::Forbidden,
        Self::Unmetered,
        Self::RouteNotFound,
        Self::ModelNotFound,
        Self::NotKept,
        Self::PreviousResponseNotFound,
        Self::InvalidEncryptedContent,
        Self::RequestTimeout,
        Self::RequestTooLarge,
        Self::HeadersTooLarge,
        Self::UnsupportedEncoding,
        Self::RateLimited,
        Self::QuotaExceeded,
        Self::ConcurrencyExceeded,
        Self::BackendThrottled,
        Self::RouteRejected,
        Self::NoBackend,
        Self::NotReady,
        Self::Overloaded,
        Self::ShuttingDown,
        Self::UpstreamUnreachable,
        Self::UpstreamFailed,
        Self::UpstreamTimeout,
        Self::BackendOutOfReach,
        Self::BackendCredentialRefused,
        Self::Internal,
    ];

    /// The word itself.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::UnsupportedApiVersion => "unsupported_api_version",
            Self::UnknownPath => "unknown_path",
            Self::OperationNotServed => "operation_not_served",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::MissingCredential => "missing_credential",
            Self::InvalidCredential => "invalid_credential",
            Self::ExpiredCredential => "expired_credential",
            Self::AmbiguousCredential => "ambiguous_credential",
            Self::Forbidden => "forbidden",
            Self::Unmetered => "unmetered",
            Self::RouteNotFound => "route_not_found",
            Self::ModelNotFound => "model_not_found",
            Self::NotKept => "not_kept",
            Self::PreviousResponseNotFound => "previous_response_not_found",
            Self::InvalidEncryptedContent => "invalid_encrypted_content",
            Self::RequestTimeout => "request_timeout",
            Self::RequestTooLarge => "request_too_large",
            Self::HeadersTooLarge => "headers_too_large",
            Self::UnsupportedEncoding => "unsupported_encoding",
            Self::RateLimited => "rate_limited",
            Self::QuotaExceeded => "quota_exceeded",
            Self::ConcurrencyExceeded => "concurrency_exceeded",
            Self::BackendThrottled => "backend_throttled",
            Self::RouteRejected => "route_rejected",
            Self::NoBackend => "no_backend",
            Self::NotReady => "not_ready",
            Self::Overloaded => "overloaded",
            Self::ShuttingDown => "shutting_down",
            Self::UpstreamUnreachable => "upstream_unreachable",
            Self::UpstreamFailed => "upstream_failed",
            Self::UpstreamTimeout => "upstream_timeout",
            Self::BackendOutOfReach => "backend_out_of_reach",
            Self::BackendCredentialRefused => "backend_credential_refused",
            Self::Internal => "internal",
        }
    }

    /// Whether a limit of an AIQuota refuses.
    #[must_use]
    pub const fn is_limit(self) -> bool {
        matches!(
            self,
            Self::RateLimited | Self::QuotaExceeded | Self::ConcurrencyExceeded
        )
    }

    /// Its HTTP status.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::InvalidRequest
            | Self::UnsupportedApiVersion
            | Self::AmbiguousCredential
            | Self::PreviousResponseNotFound
            | Self::InvalidEncryptedContent => 400,
            Self::MissingCredential | Self::InvalidCredential | Self::ExpiredCredential => 401,
            Self::Forbidden | Self::Unmetered => 403,
            Self::UnknownPath
            | Self::OperationNotServed
            | Self::RouteNotFound
            | Self::ModelNotFound
            | Self::NotKept => 404,
            Self::MethodNotAllowed => 405,
            Self::RequestTimeout => 408,
            Self::RequestTooLarge => 413,
            Self::UnsupportedEncoding => 415,
            Self::HeadersTooLarge => 431,
            Self::RateLimited
            | Self::QuotaExceeded
            | Self::ConcurrencyExceeded
            | Self::BackendThrottled => 429,
            Self::Internal => 500,
            Self::UpstreamUnreachable
            | Self::UpstreamFailed
            | Self::BackendOutOfReach
            | Self::BackendCredentialRefused => 502,
            Self::RouteRejected
            | Self::NoBackend
            | Self::NotReady
            | Self::Overloaded
            | Self::ShuttingDown => 503,
            Self::UpstreamTimeout => 504,
        }
    }

    /// What happened and what to do, for `docs/errors.md`.
    #[must_use]
    #[expect(clippy::too_many_lines, reason = "a table: a line for each code")]
    pub const fn help(self) -> &'static str {
        match self {
            Self::InvalidRequest => {
                "The request is malformed; the message names the field. Correct it."
            }
            Self::UnsupportedApiVersion => {
                "Every backend of the rule is pinned by `apiVersion` to a version of the dated API that does not have \
                 this operation; the message names the version that brought it, if one did. Remove `apiVersion` from \
                 the AIBackend, or add a backend without it to the rule."
            }
            Self::UnknownPath => {
                "The gateway does not serve this path. Check the base URL of the client."
            }
            Self::OperationNotServed => {
                "The base URL is right, and the gateway does not serve this operation. The message \
                 names those that it serves."
            }
            Self::MethodNotAllowed => "The path is served by another method.",
            Self::MissingCredential => {
                "Send a key as `api-key`, `x-api-key` or `Authorization: Bearer`."
            }
            Self::InvalidCredential => {
                "No consumer has this key. Check it, or its Secret and the route's selector."
            }
            Self::ExpiredCredential => {
                "The key's `tundish.dev/expires` has passed. Use the new key."
            }
            Self::AmbiguousCredential => {
                "The request shows two keys of the gateway in different headers. Send one."
            }
            Self::Forbidden => "The key is good, but not for this route. Ask the route's owner.",
            Self::Unmetered => {
                "A limit counts tokens or money, and this operation tells neither. Set `unmetered: Allow` at the \
                 rule, or use an operation that tells its usage."
            }
            Self::RouteNotFound => "No AIRoute serves this host. Check `hostnames`.",
            Self::ModelNotFound => {
                "No rule matches this model and operation, or no deployment of the rule serves it. \
                 See `GET /v1/models`."
            }
            Self::NotKept => {
                "No such response, conversation, file, upload, batch, vector store or container is kept for the consumer. Use \
                 the id as the gateway answered it."
            }
            Self::PreviousResponseNotFound => "As `not_kept`. Send the earlier items in `input`.",
            Self::InvalidEncryptedContent => {
                "An item's `encrypted_content` is another consumer's, or was changed. Send it as the answer had it, or \
                 leave the item out."
            }
            Self::RequestTimeout => "The request did not arrive in time. Send it again.",
            Self::RequestTooLarge => {
                "The body exceeds the gateway's limit (`--max-body`; with files `--max-upload`)."
            }
            Self::HeadersTooLarge => {
                "The request has more than 100 headers, or more than 32 KiB of them. Send fewer."
            }
            Self::UnsupportedEncoding => "Send the body without `Content-Encoding`.",
            Self::RateLimited => {
                "A limit on requests in a second or minute is spent; `retry-after` says when this request fits."
            }
            Self::QuotaExceeded => {
                "A limit on tokens or cost, or one of a calendar window, is spent; `retry-after` says when this \
                 request fits."
            }
            Self::ConcurrencyExceeded => {
                "Too many requests of this consumer are running. Wait for one to end."
            }
            Self::BackendThrottled => {
                "Every backend of the rule is throttled or fails; `retry-after` is the shortest wait."
            }
            Self::RouteRejected => "The AIRoute is in error. See its conditions.",
            Self::NoBackend => {
                "No backend of the rule can serve this, or none answers. Retry if the answer has a wait; else see the AIRoute's ResolvedRefs, and `tundish backends`."
            }
            Self::NotReady => "The gateway has no routing table yet. See the operator.",
            Self::Overloaded => {
                "The gateway has no memory, file descriptor or CPU time left for this. Retry; give it more, or \
                 more replicas. With 429 it is the caller's own share of the memory: send fewer large bodies at \
                 once."
            }
            Self::ShuttingDown => {
                "The gateway stops, and its grace period (`--drain-grace`) is over. Retry: another replica serves."
            }
            Self::UpstreamUnreachable => {
                "The backend cannot be connected. See the AIBackend's endpoint."
            }
            Self::UpstreamFailed => {
                "The backend broke off. Retry; a warning in the log has its cause."
            }
            Self::UpstreamTimeout => {
                "The backend did not answer within the route's or backend's timeouts."
            }
            Self::BackendOutOfReach => {
                "The backend's address is closed to backends: loopback, link-local, a metadata service, the cluster. \
                 A warning in the log names it; `--backend-reach` opens it."
            }
            Self::BackendCredentialRefused => {
                "The gateway has no token of Entra for the backend, or the backend refuses the gateway's token or key \
                 (401). Of a token the message has Entra's number, and a warning in the log the cause and what to do; \
                 of a key see the AIBackend's Secret."
            }
            Self::Internal => "A defect of the gateway. Please report it with the request id.",
        }
    }
}
