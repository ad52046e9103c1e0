"""Transcribes through the gateway into text and subtitles, which tell no usage, with the official SDK and its
defaults, and beside it the simulated Foundry without a gateway: the raw bodies and the results are the same. Prints
the names of the calls.

Usage: families_text.py GATEWAY KEY RESOURCE RESOURCE_KEY
"""
import json
import sys

from openai import AzureOpenAI, OpenAI
from recorder import same

gateway, key, resource, resource_key = sys.argv[1:]
DATED = "2025-04-01-preview"
CLIENTS = [
    (
        "v1",
        OpenAI(base_url=f"{gateway}/v1", api_key=key),
        OpenAI(base_url=f"{resource}/openai/v1", api_key=resource_key),
    ),
    (
        "azure",
        AzureOpenAI(azure_endpoint=gateway, api_key=key, api_version=DATED),
        AzureOpenAI(azure_endpoint=resource, api_key=resource_key, api_version=DATED),
    ),
]
SOUND = ("bells.mp3", bytes(range(256)) * 40)
passed = []
for client_name, client, direct in CLIENTS:
    for model, kind in [("whisper", "srt"), ("whisper", "vtt"), ("gpt-4o-mini-transcribe", "text")]:
        name = f"{client_name}: {model} as {kind}"
        call = lambda c: c.audio.transcriptions.create(model=model, file=SOUND, response_format=kind)
        same(name, call, client, direct)
        passed.append(name)
print(json.dumps(passed))
