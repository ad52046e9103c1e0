"""Keeps every answer as the HTTP library of the SDKs received it, without their knowledge: what a gateway
passes on can then be compared byte by byte with what the backend says itself.
"""
import json
import re

import httpx2

# What a backend makes anew for every answer.
NEW_TEXT = re.compile(
    r'("(?:id|previous_response_id|first_id|last_id|item_id|call_id|response_id|upload_id|file_id|vector_store_id|container|container_id|request_id|_request_id|encrypted_content|signature)"\s*:\s*)"[^"]*"'
)
NEW_LIST = re.compile(r'("(?:file_ids|vector_store_ids)"\s*:\s*)\[[^\]]*\]')
NEW_NUMBER = re.compile(r'("(?:created|created_at|completed_at|expires_at|last_active_at)"\s*:\s*)[\d.]+')
# The gateway asks for the usage of every stream of chunks: they say so, and the chunk that has it is taken out.
NO_USAGE = re.compile(r',"usage":null')
# Of a connection or host, and not of the answer; the request's own headers, which a resource returns; and what
# names the resource, which the gateway hides.
NOT_OF_ANSWER = re.compile(
    "connection|content-length|date|transfer-encoding|strict-transport-security|x-stainless-.*"
    "|x-ms-region|x-ms-deployment-name|azureml-model-session"
)

answers = []


class Answer:
    def __init__(self, request, response):
        self.method, self.path = request.method, request.url.path
        self.status, self.headers, self.body = response.status_code, response.headers, b""


class Kept(httpx2.SyncByteStream):
    def __init__(self, stream, answer):
        self.stream, self.answer = stream, answer

    def __iter__(self):
        for part in self.stream:
            self.answer.body += part
            yield part

    def close(self):
        self.stream.close()


class KeptAsync(httpx2.AsyncByteStream):
    def __init__(self, stream, answer):
        self.stream, self.answer = stream, answer

    async def __aiter__(self):
        async for part in self.stream:
            self.answer.body += part
            yield part

    async def aclose(self):
        await self.stream.aclose()


def keep(request, response, kept):
    answers.append(Answer(request, response))
    response.stream = kept(response.stream, answers[-1])
    return response


send, send_async = httpx2.HTTPTransport.handle_request, httpx2.AsyncHTTPTransport.handle_async_request


async def keep_async(transport, request):
    return keep(request, await send_async(transport, request), KeptAsync)


httpx2.HTTPTransport.handle_request = lambda transport, request: keep(
    request, send(transport, request), Kept
)
httpx2.AsyncHTTPTransport.handle_async_request = keep_async


def taken():
    """The answers since the last call."""
    kept = answers[:]
    answers.clear()
    return kept


def masked(text):
    return NEW_NUMBER.sub(r"\g<1>0", NEW_LIST.sub(r"\g<1>[]", NEW_TEXT.sub(r'\g<1>"#"', text)))


def differ(got, want):
    """The first line that is not the same."""
    pairs = zip([*got.splitlines(), None], [*want.splitlines(), None])
    return next(((a, b) for a, b in pairs if a != b), None)


def plain(value):
    """A typed result as text."""

    def dumped(one):
        if hasattr(one, "model_dump"):
            return one.model_dump(mode="json", warnings=False)
        return vars(one)

    return masked(json.dumps(value, default=dumped))


def check(name, result, answers, expected, expected_answers):
    """A call through the gateway against the same call of the backend: raw and as the SDK understands it."""
    assert len(answers) == len(expected_answers) > 0, name
    for got, want in zip(answers, expected_answers):
        assert got.status == want.status == 200, (name, got.status, want.status, got.body)
        body, direct = (NO_USAGE.sub("", masked(one.body.decode(errors="replace"))) for one in (got, want))
        assert body == direct, (name, differ(body, direct))
        missing = set(want.headers) - set(got.headers)
        missing = [header for header in missing if not NOT_OF_ANSWER.fullmatch(header)]
        assert not missing, (name, missing)
        assert got.headers["content-type"] == want.headers["content-type"], name
        assert got.headers["x-request-id"], name
    assert plain(result) == plain(expected), (name, plain(result), plain(expected))


def same(name, call, client, direct):
    result, got = call(client), taken()
    expected, want = call(direct), taken()
    check(name, result, got, expected, want)
    return result


async def same_async(name, call, client, direct):
    result, got = await call(client), taken()
    expected, want = await call(direct), taken()
    check(name, result, got, expected, want)
    return result
