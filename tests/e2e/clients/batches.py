"""Runs batches through two gateways before two resources as their users do, with the official SDK: in every form of
the base URL, and with a step between in which the caller may restart a gateway. Another consumer finds none of it.
Prints the names of the calls.

Usage: batches.py ONE OTHER KEY OTHER_KEY [PAUSE]

With PAUSE it waits for a line on its standard input after each batch is made.
"""
import json
import sys
import time

from openai import AzureOpenAI, BadRequestError, NotFoundError, OpenAI, PermissionDeniedError, RateLimitError

one, other, key, other_key, *pause = sys.argv[1:]
DATED = "2025-04-01-preview"


def clients(gateway):
    return {
        "v1": OpenAI(base_url=f"{gateway}/v1", api_key=key),
        "openai/v1": OpenAI(base_url=f"{gateway}/openai/v1", api_key=key),
        "azure": AzureOpenAI(azure_endpoint=gateway, api_key=key, api_version=DATED),
        "azure, deployment": AzureOpenAI(
            azure_endpoint=gateway, azure_deployment="gpt-5", api_key=key, api_version=DATED
        ),
    }


URLS = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "What is a tundish?"}], "max_completion_tokens": 20},
    "/v1/responses": {"input": "What is a tundish?", "max_output_tokens": 20},
}


def lines(url, count=3, model="gpt-5", **more):
    body = {"model": model, **URLS[url], **more}
    made = [{"custom_id": f"r{number}", "method": "POST", "url": url, "body": body} for number in range(count)]
    return "".join(json.dumps(line) + "\n" for line in made).encode()


def uploaded(client, data):
    return client.files.create(file=("lines.jsonl", data), purpose="batch").id


def made(client, file, url):
    return client.batches.create(input_file_id=file, endpoint=url, completion_window="24h")


def ended(client, batch):
    until = time.monotonic() + 30
    while True:
        got = client.batches.retrieve(batch.id)
        assert got.id == batch.id and got.input_file_id == batch.input_file_id, got
        if got.status in ("completed", "failed", "cancelled"):
            return got
        assert time.monotonic() < until, got
        time.sleep(0.1)


def raised(kind, call):
    try:
        result = call()
    except kind as error:
        return error
    raise AssertionError(f"{result} instead of {kind}")


def wait():
    if pause:
        print("made", flush=True)
        sys.stdin.readline()


def whole(client, again, url):
    file = uploaded(client, lines(url))
    batch = made(again, file, url)
    assert batch.object == "batch" and batch.input_file_id == file, batch
    assert max(len(batch.id), len(file)) <= 64, batch
    wait()
    done = ended(client, batch)
    assert done.status == "completed" and done.request_counts.completed == 3, done
    answers = [json.loads(line) for line in again.files.content(done.output_file_id).text.splitlines()]
    assert sorted(answer["custom_id"] for answer in answers) == ["r0", "r1", "r2"], answers
    assert all(answer["response"]["body"]["usage"] for answer in answers), answers
    assert again.files.content(done.error_file_id).text == ""
    stranger = client.with_options(api_key=other_key)
    for call in [
        lambda: stranger.batches.retrieve(batch.id),
        lambda: stranger.batches.cancel(batch.id),
        lambda: made(stranger, file, url),
        lambda: stranger.files.content(done.output_file_id),
        lambda: client.batches.retrieve("batch_of_before"),
    ]:
        assert raised(NotFoundError, call).code == "not_kept"
    listed = raised(NotFoundError, lambda: list(client.batches.list()))
    assert listed.code == "operation_not_served", listed


def refused(client):
    url = "/v1/chat/completions"
    second = lines(url, 1) + lines(url, 1, model="secret")
    error = raised(BadRequestError, lambda: made(client, uploaded(client, second), url))
    assert "line 2 of the file: its model is \"secret\"" in error.message, error
    error = raised(NotFoundError, lambda: made(client, uploaded(client, lines(url, 1, model="secret")), url))
    assert error.code == "model_not_found" and "line 1 of the file: " in error.message, error
    blob = {"input_blob": "https://x.blob.core.windows.net/in/x.jsonl"}
    call = lambda: client.batches.create(input_file_id="", endpoint=url, completion_window="24h", extra_body=blob)
    assert raised(PermissionDeniedError, call).code == "unmetered"
    large = uploaded(client, lines(url, 1, max_completion_tokens=100_000) * 200)
    error = raised(RateLimitError, lambda: made(client.with_options(max_retries=0), large, url))
    assert error.code == "quota_exceeded" and "split the file" in error.message, error


passed = []
for name, client in clients(one).items():
    for url in URLS:
        whole(client, clients(other)[name], url)
        passed.append(f"{name}: {url}")
    refused(client)
    passed.append(f"{name}: refused")
print(json.dumps(passed))
