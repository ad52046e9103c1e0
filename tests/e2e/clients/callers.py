"""Calls the gateway by the official SDKs with tokens of Entra instead of keys, as their documentation shows it for Azure: by a
function that makes a token for each call. Prints the names of the checks that passed.

Usage: callers.py GATEWAY ENTRA VERSION
"""
import json
import sys
import urllib.parse
import urllib.request

from anthropic import Anthropic
from openai import AzureOpenAI, OpenAI

gateway, entra, version = sys.argv[1:]
CHAT = {"messages": [{"role": "user", "content": "What is a tundish?"}]}
passed, made = [], 0


def posted(path, body, kind="application/json"):
    request = urllib.request.Request(entra + path, body.encode(), {"content-type": kind})
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def of_user():
    """A token that a user lets an application have."""
    global made
    made += 1
    wanted = {"user": "11111111-aaaa-4aaa-8aaa-111111111111", "scopes": ["chat"], "version": int(version)}
    return posted("/_sim/tokens", json.dumps(wanted))["token"]


def of_application():
    """A token that an application has for itself: the exchange of azure-identity's ClientSecretCredential."""
    global made
    made += 1
    tenant = "11111111-1111-4111-8111-111111111111"
    form = {
        "grant_type": "client_credentials", "client_id": "22222222-2222-4222-8222-222222222222",
        "client_secret": "sim-secret", "scope": "api://tundish/.default",
    }
    form = urllib.parse.urlencode(form)
    return posted(f"/{tenant}/oauth2/v2.0/token", form, "application/x-www-form-urlencoded")["access_token"]


def check(name, holds):
    assert holds, name
    passed.append(name)


for provider in [of_user, of_application]:
    who = provider.__name__
    client = OpenAI(base_url=f"{gateway}/v1", api_key=provider, max_retries=0)
    for _ in range(2):
        answer = client.chat.completions.create(model="gpt-5-mini", **CHAT)
        check(f"chat {who}", answer.choices[0].message.content)
    chunks = list(client.chat.completions.create(model="gpt-5-mini", stream=True, **CHAT))
    check(f"stream {who}", chunks[-1].choices[0].finish_reason == "stop")
    response = client.responses.create(model="gpt-5-mini", input="What is a tundish?", store=False)
    check(f"responses {who}", response.output_text)

    azure = AzureOpenAI(
        azure_endpoint=gateway, api_version="2024-10-21", azure_ad_token_provider=provider, max_retries=0
    )
    answer = azure.chat.completions.create(model="gpt-4o-mini", **CHAT)
    check(f"azure {who}", answer.choices[0].message.content)

    messages = {"model": "claude-sonnet-5-5", "max_tokens": 20, **CHAT}
    for form in ["auth_token", "api_key"]:
        claude = Anthropic(base_url=gateway, max_retries=0, **{form: provider()})
        check(f"messages {form} {who}", claude.messages.create(**messages).content[0].text)
assert made == 14, made
print(json.dumps(passed))
