"""Calls Claude through the gateway as its users do, with the official SDK and its defaults, and beside it the
simulated Foundry without a gateway: the raw bodies and the typed results are the same. Prints the names of
the calls.

Usage: families_anthropic.py GATEWAY KEY RESOURCE RESOURCE_KEY
"""
import asyncio
import json
import sys

from anthropic import Anthropic, AnthropicFoundry, AsyncAnthropicFoundry
from recorder import same, same_async, taken

gateway, key, resource, resource_key = sys.argv[1:]
direct = AnthropicFoundry(base_url=f"{resource}/anthropic", api_key=resource_key)
CLIENTS = {
    "foundry": AnthropicFoundry(base_url=f"{gateway}/anthropic", api_key=key),
    "foundry by token": AnthropicFoundry(
        base_url=f"{gateway}/anthropic", azure_ad_token_provider=lambda: key
    ),
    "anthropic": Anthropic(base_url=gateway, api_key=key),
    "anthropic on foundry": Anthropic(base_url=f"{gateway}/anthropic", api_key=key),
    "by bearer": Anthropic(base_url=gateway, auth_token=key),
}
MODEL = "claude-sonnet-5-5"
SAYS = [{"role": "user", "content": "What is a tundish?"}]
ASK = {"model": MODEL, "max_tokens": 100, "messages": SAYS, "system": "Be brief"}
TOOLS = {"tools": [{"name": "look", "input_schema": {"type": "object"}}], "tool_choice": {"type": "any"}}


def helper(client):
    with client.messages.stream(**ASK) as stream:
        return ["".join(stream.text_stream), stream.get_final_message()]


CALLS = {
    "messages": lambda c: c.messages.create(**ASK),
    "messages stream": lambda c: list(c.messages.create(**ASK, stream=True)),
    "helper": helper,
    "tools": lambda c: c.messages.create(**ASK, **TOOLS),
    "tools stream": lambda c: list(c.messages.create(**ASK, **TOOLS, stream=True)),
    "beta": lambda c: c.beta.messages.create(**ASK, betas=["context-1m-2025-08-07"]),
    "count tokens": lambda c: c.messages.count_tokens(model=MODEL, messages=SAYS, system="Be brief"),
}


async def events(stream):
    return [event async for event in await stream]


ASYNC_CALLS = {
    "messages": lambda c: c.messages.create(**ASK),
    "messages stream": lambda c: events(c.messages.create(**ASK, stream=True)),
    "count tokens": lambda c: c.messages.count_tokens(model=MODEL, messages=SAYS),
}
passed = []


def passes(name, result):
    if not isinstance(result, list):
        assert result._request_id, name
    passed.append(name)


for client_name, client in CLIENTS.items():
    for call_name, call in CALLS.items():
        name = f"{client_name}: {call_name}"
        passes(name, same(name, call, client, direct))

for client_name in ("anthropic", "anthropic on foundry", "by bearer"):
    client = CLIENTS[client_name]
    listed = client.models.list(limit=1000)
    names = {model.id for model in listed}
    assert MODEL in names, names
    assert client.models.retrieve(MODEL).type == "model"
    assert all(answer.headers["request-id"] for answer in taken())
    passed.append(f"{client_name}: models")


async def async_client():
    client = AsyncAnthropicFoundry(base_url=f"{gateway}/anthropic", api_key=key)
    beside = AsyncAnthropicFoundry(base_url=f"{resource}/anthropic", api_key=resource_key)
    for call_name, call in ASYNC_CALLS.items():
        name = f"async: {call_name}"
        passes(name, await same_async(name, call, client, beside))


asyncio.run(async_client())
print(json.dumps(passed))
