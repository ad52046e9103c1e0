"""Plays many applications at once with the official OpenAI SDK, as users call it: answers, streams that
are read to their end, streams that are closed once they have told their usage or their end, and calls that
are given up. Prints how many of each there were.

Usage: ledger_client.py GATEWAY KEY CALLS MODEL
"""
import asyncio
import collections
import json
import sys

import openai
from openai import AsyncAzureOpenAI, AsyncOpenAI

gateway, key, calls, model = sys.argv[1:]
clients = [
    AsyncOpenAI(base_url=f"{gateway}/v1", api_key=key, max_retries=0),
    AsyncAzureOpenAI(azure_endpoint=gateway, api_key=key, api_version="2024-10-21", max_retries=0),
]
seen = collections.Counter()
gate = asyncio.Semaphore(16)


async def call(turn):
    chat = clients[turn % len(clients)].chat.completions
    asked = {"model": model, "messages": [{"role": "user", "content": "word " * (turn % 23 + 1)}]}
    if turn % 3 == 0:
        asked["max_tokens"] = turn % 19 + 1
    kind = ["answer", "stream", "usage", "left at usage", "left at the end", "stream"][turn % 6]
    if kind == "answer":
        answer = await chat.create(**asked)
        assert answer.usage.total_tokens > 0
    elif kind == "stream":
        # The SDK closes the connection's answer at [DONE].
        async for _ in await chat.create(**asked, stream=True):
            pass
    else:
        options = {"include_usage": kind != "left at the end"}
        stream = await chat.create(**asked, stream=True, stream_options=options)
        async for chunk in stream:
            if kind == "left at usage" and chunk.usage is not None:
                break
            if kind == "left at the end" and chunk.choices and chunk.choices[0].finish_reason:
                break
        await stream.close()
    seen[kind] += 1


async def give_up(turn):
    """Times out before the answer of a backend that bills it."""
    client = clients[turn % len(clients)].with_options(timeout=0.25)
    asked = {"model": "gpt-5-mini", "messages": [{"role": "user", "content": "slowly"}]}
    try:
        await client.chat.completions.create(**asked)
        seen["answered in time"] += 1
    except openai.APITimeoutError:
        seen["given up"] += 1


async def one(turn):
    async with gate:
        await (give_up if turn % 10 == 9 else call)(turn)


async def main():
    await asyncio.gather(*(one(turn) for turn in range(int(calls))))


asyncio.run(main())
print(json.dumps(seen))
