"""Reads eight streams at once on one connection of HTTP/2 with httpx; prints how each ended.

Usage: http2_streams.py GATEWAY KEY MODEL
"""
import asyncio
import json
import sys

import httpx

gateway, key, model = sys.argv[1:]
body = {"model": model, "stream": True, "messages": [{"role": "user", "content": "What is a tundish?"}]}


async def stream(client):
    try:
        call = client.stream("POST", "/v1/chat/completions", json=body, headers={"api-key": key})
        async with call as answer:
            assert answer.http_version == "HTTP/2", answer.http_version
            text = "".join([piece async for piece in answer.aiter_text()])
        return "whole" if text.endswith("data: [DONE]\n\n") else f"cut: {text[-200:]}"
    except Exception as error:
        return repr(error)


async def main():
    limits = httpx.Limits(max_connections=1)
    options = {"http1": False, "http2": True, "limits": limits, "timeout": 60}
    async with httpx.AsyncClient(base_url=gateway, **options) as client:
        ended = await asyncio.gather(*(stream(client) for _ in range(8)))
    json.dump(ended, sys.stdout)


asyncio.run(main())
