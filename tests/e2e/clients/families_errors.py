"""Meets every kind of error through the gateway with the official SDKs of OpenAI and Anthropic: each raises the
class that its users catch, with the id of the request. Prints the names of the checks.

Usage: families_errors.py GATEWAY KEY RESOURCE
`key-of-poor` has a monthly limit that allows one call, `key-of-hasty` one request in a minute.
"""
import json
import sys
import time
import urllib.request

import anthropic
import openai
from anthropic import Anthropic
from openai import OpenAI
from recorder import taken

gateway, key, resource = sys.argv[1:]
passed = []
TOO_LARGE = "word " * (7 << 20)


def faults(*rules):
    body = json.dumps(rules).encode()
    urllib.request.urlopen(urllib.request.Request(f"{resource}/_sim/faults", body, method="PUT"))


def raised(name, kind, call):
    taken()
    try:
        call()
    except kind as error:
        assert type(error) is kind, (name, error)
        passed.append(name)
        return error
    raise AssertionError(f"{name}: no {kind.__name__}")


class OfOpenAi:
    sdk, name = openai, "openai"
    too_large, overloaded = openai.APIStatusError, openai.InternalServerError

    def __init__(self, key, **options):
        self.client = OpenAI(base_url=f"{gateway}/v1", api_key=key, **options)

    def ask(self, text="Hi", model="gpt-5"):
        return self.client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": text}], max_completion_tokens=20
        )

    @staticmethod
    def code(error):
        return error.code


class OfResponses(OfOpenAi):
    name = "responses"

    def ask(self, text="Hi", model="gpt-5"):
        return self.client.responses.create(model=model, input=text, max_output_tokens=20)


class OfAnthropic:
    sdk, name = anthropic, "anthropic"
    too_large, overloaded = anthropic.RequestTooLargeError, anthropic.OverloadedError

    def __init__(self, key, **options):
        self.client = Anthropic(base_url=gateway, api_key=key, **options)

    def ask(self, text="Hi", model="claude-sonnet-5-5"):
        return self.client.messages.create(
            model=model, messages=[{"role": "user", "content": text}], max_tokens=20
        )

    @staticmethod
    def code(error):
        assert error.body["type"] == "error", error.body
        assert error.body["request_id"] == error.request_id, error.body
        return error.body["error"]["code"]


def refusals(of):
    def check(name, kind, status, code, call):
        error = raised(f"{of.name}: {name}", kind, call)
        assert error.status_code == status and of.code(error) == code, (name, error)
        assert error.request_id and error.request_id == error.response.headers["x-request-id"], name
        return error

    once = of(key, max_retries=0)
    wrong = of("guessed", max_retries=0)
    check("wrong key", of.sdk.AuthenticationError, 401, "invalid_credential", wrong.ask)
    unknown = lambda: once.ask(model="none")
    check("unknown model", of.sdk.NotFoundError, 404, "model_not_found", unknown)
    large = lambda: once.ask(text=TOO_LARGE)
    check("body too large", of.too_large, 413, "request_too_large", large)
    hasty = of("key-of-hasty", max_retries=0)
    error = check("spent minute", of.sdk.RateLimitError, 429, "rate_limited", hasty.ask)
    headers = error.response.headers
    assert 1 <= int(headers["retry-after"]) <= 68 and int(headers["retry-after-ms"]) <= 68_000
    # By its defaults the SDK would try twice more.
    error = check("spent month", of.sdk.RateLimitError, 429, "quota_exceeded", of("key-of-poor").ask)
    assert error.response.headers["x-should-retry"] == "false" and len(taken()) == 1
    assert "search/poor/month" in error.message, error.message


def unserved():
    client, claude = OfOpenAi(key).client, OfAnthropic(key).client
    for name, code, call in [
        ("vector stores", "operation_not_served", lambda: client.vector_stores.list()),
        ("files", "operation_not_served", lambda: client.files.list()),
        ("batches", "operation_not_served", lambda: client.batches.list()),
        ("videos", "operation_not_served", lambda: client.videos.list()),
        ("stored response", "not_kept", lambda: client.responses.retrieve("resp_1")),
        ("conversation", "not_kept", lambda: client.conversations.retrieve("conv_1")),
    ]:
        error = raised(f"openai: {name}", openai.NotFoundError, call)
        assert error.code == code and error.request_id, error
    # A limit of the consumer counts tokens, and speech tells none.
    speech = lambda: client.audio.speech.create(model="gpt-5", input="x", voice="alloy")
    error = raised("openai: speech", openai.PermissionDeniedError, speech)
    assert error.code == "unmetered" and error.request_id, error
    error = raised("anthropic: batches", anthropic.NotFoundError, lambda: claude.messages.batches.list())
    assert OfAnthropic.code(error) == "operation_not_served" and error.request_id, error
    ask = lambda: client.responses.create(model="gpt-5", input="x", previous_response_id="resp_1")
    error = raised("openai: previous response", openai.BadRequestError, ask)
    assert error.code == "previous_response_not_found" and error.request_id, error
    ask = lambda: client.responses.create(model="gpt-5", input="x", conversation="conv_1")
    error = raised("openai: continued conversation", openai.NotFoundError, ask)
    assert error.code == "not_kept" and error.request_id, error


def of_the_backend(of):
    once = of(key, max_retries=0)
    for status, kind in [
        (400, of.sdk.BadRequestError),
        (409, of.sdk.ConflictError),
        (422, of.sdk.UnprocessableEntityError),
        (429, of.sdk.RateLimitError),
        (500, of.sdk.InternalServerError),
        (503, of.sdk.ServiceUnavailableError if of is OfAnthropic else of.sdk.InternalServerError),
        (529, of.overloaded),
    ]:
        body = {"type": "error", "error": {"type": "t", "message": "m"}}
        # The wait of a 429 is over before the next call.
        faults({"status": status, "body": body, "headers": {"retry-after-ms": "1"}})
        error = raised(f"{of.name}: backend says {status}", kind, once.ask)
        assert error.status_code == status and error.request_id, error
        time.sleep(0.01)
    faults()


def streams():
    client, claude = OfOpenAi(key).client, OfAnthropic(key).client
    says = [{"role": "user", "content": "Hi"}]
    calls = {
        "chat": lambda: client.chat.completions.create(model="gpt-5", messages=says, stream=True),
        "responses": lambda: client.responses.create(model="gpt-5", input="Hi", stream=True),
        "completions": lambda: client.completions.create(
            model="gpt-3.5-turbo-instruct", prompt="Hi", stream=True
        ),
        "messages": lambda: claude.messages.create(
            model="claude-sonnet-5-5", messages=says, max_tokens=100, stream=True
        ),
        "images": lambda: client.images.generate(
            model="gpt-image-2", prompt="x", stream=True, partial_images=2
        ),
    }
    for name, call in calls.items():
        kind = anthropic.APIStatusError if name == "messages" else openai.APIError
        after = 1 if name == "images" else 4
        for fault, is_ours in [({"stream_error": True}, False), ({}, True), ({"truncate": True}, True)]:
            faults({**fault, "cut_after_chunks": after})
            events = []
            error = raised(f"{name} stream: {fault or 'cut'}", kind, lambda: events.extend(call()))
            assert events, name
            told = error.body["error"] if name == "messages" else error.body
            assert told["message"], (name, error)
            if is_ours and name == "messages":
                assert error.body["request_id"] == error.response.headers["request-id"], error.body
            assert (told.get("code") == "upstream_failed") == is_ours, (name, told)
    faults()


def spend():
    """The first request of a gateway is guessed by its bytes, until the vocabulary is loaded: that is too much
    for this limit."""
    for _ in range(100):
        try:
            return OfOpenAi("key-of-poor").ask()
        except openai.RateLimitError as error:
            assert "allows 50 Tokens in all" in error.message, error
            time.sleep(0.2)
    raise AssertionError("nothing was ever counted")


assert spend().usage.total_tokens == 27
OfOpenAi("key-of-hasty").ask()
for of in (OfOpenAi, OfResponses, OfAnthropic):
    refusals(of)
    of_the_backend(of)
unserved()
streams()
print(json.dumps(passed))
