"""Drives the simulated Foundry with the official Anthropic SDK, whose parsers are strict here: an answer
that differs from the published types is an error. Prints the names of the checks that passed.

Usage: foundry_anthropic.py RESOURCE KEY
"""
import json
import sys

import anthropic
from anthropic import Anthropic, AnthropicFoundry

resource, key = sys.argv[1:]
STRICT = {"max_retries": 0, "_strict_response_validation": True}
base = f"{resource}/anthropic"
clients = {
    "foundry": AnthropicFoundry(base_url=base, api_key=key, **STRICT),
    "plain": Anthropic(base_url=base, api_key=key, **STRICT),
    "bearer": AnthropicFoundry(base_url=base, azure_ad_token_provider=lambda: key, **STRICT),
}
client = clients["foundry"]
MODEL = "claude-sonnet-5-5"
ASK = {"model": MODEL, "max_tokens": 100, "messages": [{"role": "user", "content": "Hello there"}]}
SENTENCE = "A tundish is the vessel between the ladle and the moulds of a foundry: it"


def refused(kind, call):
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")


def messages():
    for name, one in clients.items():
        message = one.messages.create(**ASK)
        assert message.content[0].text.startswith(SENTENCE), name
        assert message.stop_reason == "end_turn" and message.usage.output_tokens == 16
        assert message.usage.input_tokens == 2 + 3 + 3
        assert message._request_id.startswith("req_"), message._request_id
    capped = client.messages.create(**{**ASK, "max_tokens": 3})
    assert capped.stop_reason == "max_tokens" and capped.content[0].text == "A tundish is"
    beta = client.beta.messages.create(**ASK, betas=["context-1m-2025-08-07"])
    assert beta.content[0].text.startswith(SENTENCE)


def streams():
    kinds = [event.type for event in client.messages.create(**ASK, stream=True)]
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert kinds.count("content_block_delta") == 16
    with client.messages.stream(**ASK) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert final.content[0].text == text and text.startswith(SENTENCE)
    assert final.usage.output_tokens == 16, "cumulative, not a sum"


def classes():
    for final in (
        client.messages.create(**{**ASK, "model": "thinker"}),
        client.messages.stream(**{**ASK, "model": "thinker"}).__enter__().get_final_message(),
    ):
        usage = final.usage
        assert (usage.input_tokens, usage.cache_read_input_tokens, usage.cache_creation_input_tokens) == (1, 5, 2)
        assert usage.cache_creation.ephemeral_5m_input_tokens == 2
        assert usage.output_tokens == 23 and usage.output_tokens_details.thinking_tokens == 7
        assert [block.type for block in final.content] == ["thinking", "text"]
        assert final.content[0].signature


def tools():
    tool = {"name": "look", "input_schema": {"type": "object"}}
    options = {**ASK, "tools": [tool], "tool_choice": {"type": "any"}}
    message = client.messages.create(**options)
    block = message.content[0]
    assert message.stop_reason == "tool_use" and block.name == "look"
    with client.messages.stream(**options) as stream:
        assert stream.get_final_message().content[0].input == block.input


def counting():
    count = client.messages.count_tokens(model=MODEL, messages=ASK["messages"], system="Be brief")
    assert count.input_tokens == (2 + 3) + (2 + 3) + 3


def errors():
    wrong = AnthropicFoundry(base_url=base, api_key="guessed", max_retries=0)
    refused(anthropic.AuthenticationError, lambda: wrong.messages.create(**ASK))
    error = refused(
        anthropic.BadRequestError, lambda: client.messages.create(**{**ASK, "messages": []})
    )
    assert error.body["error"]["type"] == "invalid_request_error", error.body
    assert error.body["request_id"] == error.request_id
    refused(anthropic.NotFoundError, lambda: client.messages.create(**{**ASK, "model": "none"}))
    refused(
        anthropic.BadRequestError,
        lambda: client.messages.create(**ASK, extra_body={"mcp_servers": [{"type": "url"}]}),
    )
    assert clients["plain"].models.with_raw_response and refused(
        anthropic.NotFoundError, lambda: clients["plain"].models.list()
    )


CHECKS = [messages, streams, classes, tools, counting, errors]
for check in CHECKS:
    check()
print(json.dumps([check.__name__ for check in CHECKS]))
