"""Calls the gateway with the official OpenAI SDK, without a retry, until its input ends; prints what failed.

Usage: rolling.py GATEWAY KEY MODEL TOKENS
Half of the threads stream answers of TOKENS tokens, the others ask for JSON.
"""
import json
import sys
import threading

from openai import OpenAI

gateway, key, model, tokens = sys.argv[1:]
client = OpenAI(base_url=f"{gateway}/v1", api_key=key, max_retries=0)
messages = [{"role": "user", "content": "What is a tundish?"}]
stop = threading.Event()
lock = threading.Lock()
seen = {"json": 0, "streams": 0, "failed": []}


def ask():
    answer = client.chat.completions.create(model=model, messages=messages)
    assert answer.choices[0].message.content, answer
    stop.wait(0.02)


def stream():
    pieces, finished = 0, None
    for chunk in client.chat.completions.create(model=model, messages=messages, stream=True):
        if chunk.choices:
            delta = chunk.choices[0].delta
            pieces += bool(delta and delta.content)
            finished = chunk.choices[0].finish_reason or finished
    assert finished and pieces >= int(tokens), f"cut after {pieces}"


def repeat(kind, call):
    while not stop.is_set():
        try:
            call()
            with lock:
                seen[kind] += 1
        except Exception as error:
            with lock:
                seen["failed"].append(f"{kind}: {error!r}: {error.__cause__!r}")


calls = [("json", ask), ("streams", stream)] * 2
threads = [threading.Thread(target=repeat, args=call) for call in calls]
for thread in threads:
    thread.start()
sys.stdin.read()
stop.set()
for thread in threads:
    thread.join()
json.dump(seen, sys.stdout)
