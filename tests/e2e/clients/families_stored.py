"""Uses what a resource stores through the gateway as its users do, with the official SDK and its defaults, and
beside it the simulated Foundry without a gateway: the raw bodies and the typed results are the same but for the
ids. Another consumer finds none of it. Prints the names of the calls.

Usage: families_stored.py GATEWAY KEY RESOURCE RESOURCE_KEY OTHER_KEY
"""
import asyncio
import json
import sys
import time

from openai import AsyncOpenAI, AzureOpenAI, BadRequestError, NotFoundError, OpenAI
from recorder import same, same_async, taken

gateway, key, resource, resource_key, other_key = sys.argv[1:]
DATED = "2025-04-01-preview"
direct_v1 = OpenAI(base_url=f"{resource}/openai/v1", api_key=resource_key)
direct_dated = AzureOpenAI(azure_endpoint=resource, api_key=resource_key, api_version=DATED)
direct_project = OpenAI(base_url=f"{resource}/api/projects/pots/openai/v1", api_key=resource_key)
CLIENTS = [
    ("v1", OpenAI(base_url=f"{gateway}/v1", api_key=key), direct_v1),
    ("openai/v1", OpenAI(base_url=f"{gateway}/openai/v1", api_key=key), direct_v1),
    ("azure", AzureOpenAI(azure_endpoint=gateway, api_key=key, api_version=DATED), direct_dated),
    (
        "project",
        OpenAI(base_url=f"{gateway}/api/projects/pots/openai/v1", api_key=key),
        direct_project,
    ),
]
MODEL = "gpt-5"
INPUT = {"model": MODEL, "input": "What is a tundish?", "instructions": "Be brief"}
NEXT = {"model": MODEL, "input": "And a ladle?"}


def chain(client):
    first = client.responses.create(**INPUT)
    second = client.responses.create(**NEXT, previous_response_id=first.id)
    assert second.previous_response_id == first.id
    again = client.responses.retrieve(second.id, include=["reasoning.encrypted_content"])
    assert again.id == second.id
    items = list(client.responses.input_items.list(second.id, limit=1, order="asc"))
    client.responses.delete(first.id)
    return [first, second, again, items]


def stream(client):
    events = list(client.responses.create(**INPUT, stream=True))
    whole = events[-1].response
    assert {event.response.id for event in events if hasattr(event, "response")} == {whole.id}
    return [events, client.responses.retrieve(whole.id)]


def resumed(client):
    events = list(client.responses.create(**INPUT, stream=True, background=True))
    rest = list(client.responses.retrieve(events[-1].response.id, stream=True, starting_after=3))
    assert rest[0].sequence_number == 4, rest[0]
    return [events, rest]


def conversation(client):
    made = client.conversations.create(
        metadata={"team": "steel"}, items=[{"type": "message", "role": "user", "content": "Hello"}]
    )
    first = client.responses.create(**INPUT, conversation=made.id)
    second = client.responses.create(**NEXT, conversation={"id": made.id})
    assert first.conversation.id == second.conversation.id == made.id
    added = client.conversations.items.create(
        made.id, items=[{"type": "message", "role": "user", "content": "Bye"}]
    )
    items = list(client.conversations.items.list(made.id, limit=2, order="asc"))
    item = client.conversations.items.retrieve(items[0].id, conversation_id=made.id)
    left = client.conversations.items.delete(items[0].id, conversation_id=made.id)
    assert left.id == made.id
    updated = client.conversations.update(made.id, metadata={"team": "iron"})
    got = client.conversations.retrieve(made.id)
    gone = client.conversations.delete(made.id)
    assert got.id == gone.id == made.id
    return [made, first, second, added, items, item, left, updated, got, gone]


FILE = ("lines.jsonl", b'{"custom_id": "1"}\r\n' * 400)


def file(client):
    made = client.files.create(file=FILE, purpose="batch", expires_after={"anchor": "created_at", "seconds": 7200})
    got = client.files.retrieve(made.id)
    content = client.files.content(made.id)
    assert content.read() == FILE[1] and got.id == made.id
    assert content.response.headers["content-type"] == "application/octet-stream"
    gone = client.files.delete(made.id)
    assert gone.id == made.id and gone.deleted
    return [made, got, content.response.headers["content-length"], gone]


def upload(client):
    half = len(FILE[1]) // 2
    made = client.uploads.create(
        bytes=len(FILE[1]), filename=FILE[0], mime_type="application/jsonl", purpose="batch"
    )
    parts = [client.uploads.parts.create(made.id, data=data) for data in (FILE[1][:half], FILE[1][half:])]
    assert {part.upload_id for part in parts} == {made.id}
    whole = client.uploads.complete(made.id, part_ids=[part.id for part in parts])
    assert client.files.content(whole.file.id).read() == FILE[1]
    other = client.uploads.create(bytes=1, filename="x.jsonl", mime_type="application/jsonl", purpose="batch")
    return [made, parts, whole, client.uploads.cancel(other.id)]


def named(client):
    """A file at the places of a request where its users name one."""
    made = client.files.create(file=FILE, purpose="user_data")
    asked = {
        "model": MODEL,
        "input": [{"role": "user", "content": [{"type": "input_file", "file_id": made.id}]}],
        "tools": [{"type": "code_interpreter", "container": {"type": "auto", "file_ids": [made.id]}}],
    }
    whole = client.responses.create(**asked)
    assert whole.tools[0].container.file_ids == [made.id], whole.tools
    items = list(client.responses.input_items.list(whole.id))
    assert items[0].content[0].file_id == made.id, items
    events = list(client.responses.create(**asked, stream=True))
    kept = client.conversations.create(items=asked["input"])
    first = next(iter(client.conversations.items.list(kept.id)))
    assert first.content[0].file_id == made.id, first
    results = [made, whole, items, events, first]
    # Projects have no chat.
    if "/api/projects/" not in str(client.base_url):
        part = {"type": "file", "file": {"file_id": made.id}}
        messages = [{"role": "user", "content": [part]}]
        results.append(client.chat.completions.create(model=MODEL, messages=messages))
    return results


TEXT = ("pots.txt", b"A tundish lets steel into the mould.")


def store(client):
    """Files that are searched, alone and by batches, and a response that searches them."""
    one, two = (client.files.create(file=TEXT, purpose="assistants") for _ in range(2))
    made = client.vector_stores.create(
        name="pots", file_ids=[one.id], metadata={"file_id": "mine"}, expires_after={"anchor": "last_active_at", "days": 1}
    )
    stores, files = client.vector_stores, client.vector_stores.files
    got, updated = stores.retrieve(made.id), stores.update(made.id, name="ladles")
    assert got.id == updated.id == made.id
    added = files.create(made.id, file_id=two.id, attributes={"year": 2})
    assert (added.id, added.vector_store_id) == (two.id, made.id), added
    own = files.retrieve(one.id, vector_store_id=made.id)
    changed = files.update(one.id, vector_store_id=made.id, attributes={"file_id": "mine"})
    # Page by page: each goes on behind the id of the last element.
    listed = list(files.list(made.id, limit=1, order="asc"))
    assert {item.id for item in listed} == {one.id, two.id}, listed
    content = list(files.content(one.id, vector_store_id=made.id))
    hits = list(stores.search(made.id, query="steel", max_num_results=2))
    assert {hit.file_id for hit in hits} == {one.id, two.id}, hits
    batch = stores.file_batches.create(made.id, files=[{"file_id": one.id, "attributes": {"n": 1}}])
    # The first look is its end.
    done = stores.file_batches.retrieve(batch.id, vector_store_id=made.id)
    assert (done.id, done.status) == (batch.id, "completed"), done
    in_batch = list(stores.file_batches.list_files(batch.id, vector_store_id=made.id))
    assert [item.id for item in in_batch] == [one.id], in_batch
    begun = stores.file_batches.create(made.id, file_ids=[two.id])
    ended = stores.file_batches.cancel(begun.id, vector_store_id=made.id)
    assert (ended.id, ended.status) == (begun.id, "cancelled"), ended
    tools = [{"type": "file_search", "vector_store_ids": [made.id]}]
    whole = client.responses.create(**INPUT, tools=tools)
    assert whole.tools[0].vector_store_ids == [made.id], whole.tools
    gone = [files.delete(two.id, vector_store_id=made.id), stores.delete(made.id)]
    assert [one.id for one in gone] == [two.id, made.id]
    left = client.files.retrieve(two.id)
    return [one, two, made, got, updated, added, own, changed, listed, content, batch, done, in_batch, ended, whole, gone, left]


def container(client):
    """Where code runs, with files that are sent and files that the resource has."""
    file = client.files.create(file=TEXT, purpose="assistants")
    made = client.containers.create(name="pots", file_ids=[file.id])
    got = client.containers.retrieve(made.id)
    assert got.id == made.id
    files = client.containers.files
    copy, sent = files.create(made.id, file_id=file.id), files.create(made.id, file=TEXT)
    assert copy.container_id == sent.container_id == made.id and copy.id != file.id
    listed = list(files.list(made.id, limit=1, order="asc"))
    assert [item.id for item in listed[1:]] == [copy.id, sent.id], listed
    own = files.retrieve(sent.id, container_id=made.id)
    assert files.content.retrieve(sent.id, container_id=made.id).read() == TEXT[1]
    whole = client.responses.create(**INPUT, tools=[{"type": "code_interpreter", "container": made.id}])
    assert whole.tools[0].container == made.id, whole.tools
    files.delete(sent.id, container_id=made.id)
    client.containers.delete(made.id)
    return [file, made, got, copy, sent, listed, own, whole]


def sealed(client):
    """A session of which the resource keeps nothing."""
    keeps_nothing = {"model": MODEL, "store": False, "include": ["reasoning.encrypted_content"]}
    items, answers = [], []
    for number in range(4):
        items.append({"role": "user", "content": f"Question {number}"})
        answers.append(client.responses.create(**keeps_nothing, input=items))
        items += [item.model_dump(exclude_none=True) for item in answers[-1].output]
    assert any(item.get("encrypted_content") for item in items), items
    return answers


CALLS = {
    "file": file,
    "upload": upload,
    "named": named,
    "store": store,
    "container": container,
    "sealed": sealed,
    "chain": chain,
    "stream": stream,
    "resumed": resumed,
    "conversation": conversation,
}
passed = []


def background(client):
    response = client.responses.create(**INPUT, background=True)
    assert response.status == "queued", response.status
    for _ in range(100):
        response = client.responses.retrieve(response.id)
        if response.status not in ("queued", "in_progress"):
            break
        time.sleep(0.1)
    assert response.status == "completed" and response.usage.output_tokens > 0, response


def cancelled(client):
    response = client.responses.create(**INPUT, background=True)
    assert client.responses.cancel(response.id).status == "cancelled"


def raises(kind, call):
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")


def others(client, other):
    """What one consumer has, another one does not find, and the resource is not asked."""
    response = client.responses.create(**INPUT)
    made = client.conversations.create()
    for call in [
        lambda: other.responses.retrieve(response.id),
        lambda: other.responses.delete(response.id),
        lambda: other.responses.cancel(response.id),
        lambda: list(other.responses.input_items.list(response.id)),
        lambda: other.conversations.retrieve(made.id),
        lambda: other.conversations.delete(made.id),
        lambda: list(other.conversations.items.list(made.id)),
        lambda: other.responses.create(**NEXT, conversation=made.id),
        lambda: client.responses.retrieve("resp_of_before"),
    ]:
        error = raises(NotFoundError, call)
        assert error.code == "not_kept" and "not found" in error.message, error
    made = client.files.create(file=FILE, purpose="batch")
    begun = client.uploads.create(bytes=4, filename="x", mime_type="text/plain", purpose="batch")
    part = client.uploads.parts.create(begun.id, data=b"text")
    own = other.uploads.create(bytes=4, filename="x", mime_type="text/plain", purpose="batch")
    for call in [
        lambda: other.files.retrieve(made.id),
        lambda: other.files.content(made.id),
        lambda: other.files.delete(made.id),
        lambda: other.uploads.parts.create(begun.id, data=b"more"),
        lambda: other.uploads.complete(begun.id, part_ids=[part.id]),
        lambda: other.uploads.complete(own.id, part_ids=[part.id]),
        lambda: other.uploads.cancel(begun.id),
        lambda: client.files.content("file-of-before"),
    ]:
        assert raises(NotFoundError, call).code == "not_kept"
    for made_id in (made.id, made.id[:-16]):
        part = {"type": "input_file", "file_id": made_id}
        tool = {"type": "code_interpreter", "container": {"type": "auto", "file_ids": [made_id]}}
        for call in [
            lambda: other.responses.create(model=MODEL, input=[{"role": "user", "content": [part]}]),
            lambda: other.responses.create(**INPUT, tools=[tool]),
            lambda: other.conversations.create(items=[{"role": "user", "content": [part]}]),
        ]:
            error = raises(NotFoundError, call)
            assert error.code == "not_kept" and "It stands in " in error.message, error
    stores = client.vector_stores
    kept = stores.create(file_ids=[made.id])
    batch = stores.file_batches.create(kept.id, file_ids=[made.id])
    theirs = other.vector_stores.create()
    for kept_id in (kept.id, kept.id[:-16]):
        tool = {"type": "file_search", "vector_store_ids": [kept_id]}
        for call in [
            lambda: other.vector_stores.retrieve(kept_id),
            lambda: other.vector_stores.update(kept_id, name="x"),
            lambda: other.vector_stores.delete(kept_id),
            lambda: other.vector_stores.search(kept_id, query="x"),
            lambda: list(other.vector_stores.files.list(kept_id)),
            lambda: other.vector_stores.files.content(made.id, vector_store_id=kept_id),
            lambda: other.vector_stores.files.content(made.id, vector_store_id=theirs.id),
            lambda: other.vector_stores.files.create(theirs.id, file_id=made.id),
            lambda: other.vector_stores.create(file_ids=[made.id]),
            lambda: other.vector_stores.file_batches.retrieve(batch.id, vector_store_id=kept_id),
            lambda: other.vector_stores.file_batches.cancel(batch.id, vector_store_id=theirs.id),
            lambda: other.responses.create(**INPUT, tools=[tool]),
        ]:
            error = raises(NotFoundError, call)
            assert error.code == "not_kept" and "not found" in error.message, error
    last = sealed(client)[-1].output
    theirs = [item.model_dump(exclude_none=True) for item in last]
    error = raises(BadRequestError, lambda: other.responses.create(model=MODEL, store=False, input=theirs))
    assert error.code == "invalid_encrypted_content", error
    listed = raises(NotFoundError, lambda: list(client.files.list()))
    assert listed.code == "operation_not_served" and "other consumers" in listed.message, listed
    assert client.files.content(made.id).read() == FILE[1]
    call = lambda: other.responses.create(**NEXT, previous_response_id=response.id)
    error = raises(BadRequestError, call)
    assert error.code == "previous_response_not_found", error
    assert client.responses.retrieve(response.id).id == response.id


async def async_chain(client):
    first = await client.responses.create(**INPUT)
    second = await client.responses.create(**NEXT, previous_response_id=first.id)
    return [first, second, await client.responses.retrieve(second.id)]


async def async_file(client):
    made = await client.files.create(file=FILE, purpose="batch")
    content = await client.files.content(made.id)
    return [made, content.read().decode(), await client.files.delete(made.id)]


async def async_client():
    client = AsyncOpenAI(base_url=f"{gateway}/v1", api_key=key)
    direct = AsyncOpenAI(base_url=f"{resource}/openai/v1", api_key=resource_key)
    await same_async("async chain", async_chain, client, direct)
    await same_async("async file", async_file, client, direct)
    passed.extend(["async v1: chain", "async v1: file"])


for client_name, client, direct in CLIENTS:
    for call_name, call in CALLS.items():
        # No dated version has containers.
        if call is container and direct is direct_dated:
            continue
        name = f"{client_name}: {call_name}"
        same(name, call, client, direct)
        passed.append(name)
    background(client)
    cancelled(client)
    others(client, client.with_options(api_key=other_key))
    passed += [f"{client_name}: {name}" for name in ("background", "cancelled", "others")]
    taken()
for call in (file, store, container):
    # Azure's client without a date, as its documents have it.
    client, direct = (
        AzureOpenAI(base_url=f"{host}/openai/v1", api_key=one, api_version="preview")
        for host, one in ((gateway, key), (resource, resource_key))
    )
    name = f"azure v1: {call.__name__}"
    same(name, call, client, direct)
    passed.append(name)
asyncio.run(async_client())
print(json.dumps(passed))
