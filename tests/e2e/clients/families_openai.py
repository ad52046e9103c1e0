"""Calls every API of OpenAI through the gateway as its users do, with the official SDK and its defaults, and
beside it the simulated Foundry without a gateway: the raw bodies and the typed results are the same. Prints
the names of the calls.

Usage: families_openai.py GATEWAY KEY RESOURCE RESOURCE_KEY
"""
import asyncio
import json
import sys

from openai import AsyncAzureOpenAI, AsyncOpenAI, AzureOpenAI, OpenAI
from recorder import plain, same, same_async, taken

gateway, key, resource, resource_key = sys.argv[1:]
DATED = "2025-04-01-preview"
direct_v1 = OpenAI(base_url=f"{resource}/openai/v1", api_key=resource_key)
direct_dated = AzureOpenAI(azure_endpoint=resource, api_key=resource_key, api_version=DATED)
# The client's name, the client, and the one that asks the resource the same.
CLIENTS = [
    ("v1", OpenAI(base_url=f"{gateway}/v1", api_key=key), direct_v1),
    ("openai/v1", OpenAI(base_url=f"{gateway}/openai/v1", api_key=key), direct_v1),
    ("azure", AzureOpenAI(azure_endpoint=gateway, api_key=key, api_version=DATED), direct_dated),
    (
        "azure on v1",
        AzureOpenAI(base_url=f"{gateway}/openai/v1", api_key=key, api_version="preview"),
        direct_v1,
    ),
]
MODEL = "gpt-5"
ASK = {"model": MODEL, "messages": [{"role": "user", "content": "What is a tundish?"}]}
INPUT = {"model": MODEL, "input": "What is a tundish?", "instructions": "Be brief"}
TOOL = {"type": "function", "name": "look", "parameters": {"type": "object"}, "strict": False}
CHAT_TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
EMBED = {"model": "text-embedding-3-large", "input": ["one two", "three"]}
PROMPT = {"model": "gpt-3.5-turbo-instruct", "prompt": "Say", "max_tokens": 5}
SPEAK = {"model": "gpt-4o-mini-tts", "input": "Hello there", "voice": "alloy"}
SOUND = ("bells.mp3", bytes(range(256)) * 40)
HEAR = {"model": "gpt-4o-mini-transcribe", "prompt": "bells toll"}
TIMED = {"model": "whisper"}
PICTURE = ("pot.png", b"\x89PNG\r\n--" + bytes(3000), "image/png")
EDIT = {"model": "gpt-image-2", "prompt": "a larger vessel", "quality": "low"}
DRAW = {"model": "gpt-image-2", "prompt": "a small vessel", "quality": "low"}


def chat_helper(client):
    with client.chat.completions.stream(**ASK) as stream:
        return stream.get_final_completion()


def responses_helper(client):
    with client.responses.stream(**INPUT) as stream:
        return stream.get_final_response()


CALLS = {
    "chat": lambda c: c.chat.completions.create(**ASK),
    "chat stream": lambda c: list(c.chat.completions.create(**ASK, stream=True)),
    "chat stream with usage": lambda c: list(
        c.chat.completions.create(**ASK, stream=True, stream_options={"include_usage": True})
    ),
    "chat helper": chat_helper,
    "chat choices": lambda c: c.chat.completions.create(**ASK, n=2, max_completion_tokens=20),
    "chat tools": lambda c: list(
        c.chat.completions.create(**ASK, tools=[CHAT_TOOL], tool_choice="auto", stream=True)
    ),
    "responses": lambda c: c.responses.create(**INPUT),
    "responses stream": lambda c: list(c.responses.create(**INPUT, stream=True)),
    "responses helper": responses_helper,
    "responses tools": lambda c: list(
        c.responses.create(**INPUT, tools=[TOOL], tool_choice="required", stream=True)
    ),
    "responses sealed": lambda c: c.responses.create(
        **INPUT, store=False, include=["reasoning.encrypted_content"], max_output_tokens=16
    ),
    "embeddings": lambda c: c.embeddings.create(**EMBED),
    "embeddings in floats": lambda c: c.embeddings.create(
        **EMBED, encoding_format="float", dimensions=8
    ),
    "completions": lambda c: c.completions.create(**PROMPT, n=2),
    "completions stream": lambda c: list(c.completions.create(**PROMPT, stream=True)),
    "images": lambda c: c.images.generate(**DRAW),
    "images stream": lambda c: list(c.images.generate(**DRAW, stream=True, partial_images=1)),
    "edits": lambda c: c.images.edit(**EDIT, image=[PICTURE, PICTURE], mask=PICTURE, n=2),
    "edits stream": lambda c: list(c.images.edit(**EDIT, image=PICTURE, stream=True, partial_images=1)),
    "transcriptions": lambda c: c.audio.transcriptions.create(**HEAR, file=SOUND),
    "transcriptions in words": lambda c: c.audio.transcriptions.create(
        **TIMED, file=SOUND, response_format="verbose_json", timestamp_granularities=["word", "segment"]
    ),
    "transcriptions stream": lambda c: list(c.audio.transcriptions.create(**HEAR, file=SOUND, stream=True)),
    "translations": lambda c: c.audio.translations.create(**TIMED, file=SOUND),
    "speech stream": lambda c: [c.audio.speech.create(**SPEAK, stream_format="sse").read().decode()],
}
# What no dated API has.
UNDATED = {
    "compact": lambda c: c.responses.compact(model=MODEL, input="one two three"),
    "input tokens": lambda c: c.responses.input_tokens.count(model=MODEL, input="one two three"),
    "moderations": lambda c: c.moderations.create(input=["peace", "they kill"]),
    "moderations by name": lambda c: c.moderations.create(input="peace", model="omni-moderation-latest"),
}


async def events(stream):
    return [event async for event in await stream]


ASYNC_CALLS = {
    "chat": lambda c: c.chat.completions.create(**ASK),
    "chat stream": lambda c: events(c.chat.completions.create(**ASK, stream=True)),
    "responses": lambda c: c.responses.create(**INPUT),
    "responses stream": lambda c: events(c.responses.create(**INPUT, stream=True)),
    "embeddings": lambda c: c.embeddings.create(**EMBED),
    "completions stream": lambda c: events(c.completions.create(**PROMPT, stream=True)),
    "images": lambda c: c.images.generate(**DRAW),
    "edits": lambda c: c.images.edit(**EDIT, image=PICTURE),
    "transcriptions": lambda c: c.audio.transcriptions.create(**HEAR, file=SOUND),
    "transcriptions stream": lambda c: events(
        c.audio.transcriptions.create(**HEAR, file=SOUND, stream=True)
    ),
    "translations": lambda c: c.audio.translations.create(**TIMED, file=SOUND),
}
passed = []


def named(name, result):
    """Every result says by which id it is found in the log."""
    if not isinstance(result, list) and name.split(": ")[1] not in ("chat helper", "responses helper"):
        assert result._request_id, name
    passed.append(name)


def sync_clients():
    for client_name, client, direct in CLIENTS:
        calls = CALLS if client_name == "azure" else CALLS | UNDATED
        for call_name, call in calls.items():
            name = f"{client_name}: {call_name}"
            named(name, same(name, call, client, direct))


def speech():
    """As mere sound it tells no usage: `key-of-sound` has no limit in tokens."""
    for client_name, client, direct in CLIENTS:
        client = client.with_options(api_key="key-of-sound")
        call = lambda c: c.audio.speech.create(**SPEAK).read().hex()
        sound = same(f"{client_name}: speech", call, client, direct)
        assert len(sound) == 2 * 960, sound
        passed.append(f"{client_name}: speech")


def moderations():
    """Azure's client puts no deployment in the path, which the resource itself does not have."""
    call = lambda c: c.moderations.create(input=["peace", "they kill"])
    azure = dict((name, client) for name, client, _ in CLIENTS)["azure"]
    named("azure: moderations", same("azure: moderations", call, azure, direct_v1))


def conversation():
    """Without stored state: the client sends what was said before."""
    for client_name, client, _ in CLIENTS:
        first = client.responses.create(**INPUT, store=False, include=["reasoning.encrypted_content"])
        said = [item.model_dump(exclude_none=True) for item in first.output]
        items = [{"role": "user", "content": INPUT["input"]}, *said, {"role": "user", "content": "And?"}]
        second = client.responses.create(model=MODEL, input=items)
        assert second.usage.input_tokens > first.usage.input_tokens + 16, second.usage
        passed.append(f"{client_name}: conversation")
    taken()


def lists():
    """The gateway's own answers: what the caller's routes reach."""
    for client_name, client, _ in CLIENTS:
        names = {model.id for model in client.models.list()}
        assert {MODEL, "claude-sonnet-5-5", EMBED["model"], PROMPT["model"], DRAW["model"]} <= names, names
        assert client.models.retrieve(MODEL).id == MODEL
        passed.append(f"{client_name}: models")
    taken()


async def async_clients():
    direct = AsyncOpenAI(base_url=f"{resource}/openai/v1", api_key=resource_key)
    dated = AsyncAzureOpenAI(azure_endpoint=resource, api_key=resource_key, api_version=DATED)
    clients = [
        ("async v1", AsyncOpenAI(base_url=f"{gateway}/v1", api_key=key), direct),
        ("async azure", AsyncAzureOpenAI(azure_endpoint=gateway, api_key=key, api_version=DATED), dated),
    ]
    for client_name, client, direct in clients:
        for call_name, call in ASYNC_CALLS.items():
            name = f"{client_name}: {call_name}"
            named(name, await same_async(name, call, client, direct))


sync_clients()
speech()
moderations()
conversation()
lists()
asyncio.run(async_clients())
assert plain({"id": "x"}) == plain({"id": "y"}) != plain({"object": "y"})
print(json.dumps(passed))
