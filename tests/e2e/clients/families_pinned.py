"""Clients of a gateway whose resource is pinned to api-version 2024-10-21."""

import json
import sys

from openai import AzureOpenAI, BadRequestError, OpenAI

gateway, key = sys.argv[1:]
passed = []
messages = [{"role": "user", "content": "Hello!"}]
clients = {
    "v1": OpenAI(base_url=f"{gateway}/openai/v1", api_key=key, max_retries=0),
    "dated": AzureOpenAI(
        azure_endpoint=gateway, api_key=key, api_version="2025-04-01-preview", max_retries=0
    ),
}
for name, client in clients.items():
    answer = client.chat.completions.create(model="gpt-5", messages=messages)
    assert answer.usage.total_tokens > 0
    passed.append(f"{name}: chat")
    try:
        client.responses.create(model="gpt-5", input="Hello!")
    except BadRequestError as error:
        assert error.code == "unsupported_api_version", error
        for part in ["2024-10-21", "2025-03-01-preview", "apiVersion"]:
            assert part in error.message, error.message
        passed.append(f"{name}: responses")
print(json.dumps(passed))
