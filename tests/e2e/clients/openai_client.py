"""Plays an application with the official OpenAI SDK; prints what it saw as one JSON object.

Usage: openai_client.py GATEWAY KEY SPENT_KEY MODEL
SPENT_KEY belongs to a consumer who may make two requests a minute.
"""
import json
import sys

import openai
from openai import AzureOpenAI, OpenAI

gateway, key, spent_key, model = sys.argv[1:]
clients = {
    "openai v1": OpenAI(base_url=f"{gateway}/v1", api_key=key),
    "openai on azure v1": OpenAI(base_url=f"{gateway}/openai/v1", api_key=key),
    "azure dated": AzureOpenAI(azure_endpoint=gateway, api_key=key, api_version="2024-10-21"),
    "azure old": AzureOpenAI(azure_endpoint=gateway, api_key=key, api_version="2024-06-01"),
    "azure odd": AzureOpenAI(base_url=f"{gateway}/openai/v1", api_key=key, api_version="preview"),
}
messages = [{"role": "user", "content": "What is a tundish?"}]
seen = {"clients": {}}
for name, client in clients.items():
    answer = client.chat.completions.create(model=model, messages=messages)
    text, chunks, usage_chunks = "", 0, 0
    for chunk in client.chat.completions.create(model=model, messages=messages, stream=True):
        chunks += 1
        usage_chunks += chunk.usage is not None
        if chunk.choices and chunk.choices[0].delta and chunk.choices[0].delta.content:
            text += chunk.choices[0].delta.content
    seen["clients"][name] = {
        "answer": answer.choices[0].message.content,
        "usage": answer.usage.total_tokens,
        "stream": text,
        "chunks": chunks,
        "usage_chunks": usage_chunks,
    }

client = clients["openai v1"]
asked = client.chat.completions.create(
    model=model, messages=messages, stream=True, stream_options={"include_usage": True}
)
seen["usage_when_asked"] = [c.usage.total_tokens for c in asked if c.usage is not None]
seen["models"] = [entry.id for entry in client.models.list()]


def refused(call):
    try:
        call()
    except openai.APIStatusError as error:
        return {
            "class": type(error).__name__,
            "status": error.status_code,
            "code": error.code,
            "param": error.param,
            "retry_after": error.response.headers.get("retry-after"),
        }
    return None


def ask(**options):
    options = {"api_key": key, "model": model, **options}
    caller = OpenAI(base_url=f"{gateway}/v1", api_key=options.pop("api_key"), max_retries=0)
    return lambda: caller.chat.completions.create(messages=messages, **options)


for _ in range(2):
    ask(api_key=spent_key)()
seen["spent"] = refused(ask(api_key=spent_key))
seen["wrong key"] = refused(ask(api_key="guessed"))
seen["unknown model"] = refused(ask(model="none"))
print(json.dumps(seen))
