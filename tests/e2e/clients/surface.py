"""Makes the calls of surface.json, the table from which docs/surface.md says by what call of an SDK each row of the
gateway is tested, and checks that each asks for the path that the table says. `$CALL` stands for the id of what the
last such call made, and `@NAME` for a small file. Prints the names of the calls.

Usage: surface.py GATEWAY KEY
"""
import json
import re
import sys
from functools import reduce
from pathlib import Path

from anthropic import Anthropic
from openai import APIStatusError, OpenAI
from recorder import taken

gateway, key = sys.argv[1:]
REQUEST = {"custom_id": "1", "method": "POST", "url": "/v1/responses", "body": {"model": "gpt-5", "input": "Hello"}}
FILES = {"requests.jsonl": json.dumps(REQUEST).encode()}
CLIENTS = {"OpenAI": OpenAI, "Anthropic": Anthropic}
passed, made = [], {}


def filled(text):
    """With the ids of what was made."""
    return re.sub(r"\$([a-z_.]+)", lambda name: made[name[1]], text)


def id_of(result):
    """Of the one thing that a call made, or of the first in a list."""
    return getattr(result, "id", None) or next((one.id for one in getattr(result, "data", []) if hasattr(one, "id")), None)


def file_of(value):
    """The file that `@NAME` stands for."""
    is_file = isinstance(value, str) and value.startswith("@")
    return (value[1:], FILES.get(value[1:], b"bytes")) if is_file else value


for row in json.loads(Path(__file__).with_name("surface.json").read_text()):
    client = CLIENTS[row["client"]](base_url=gateway + row["base"], api_key=key, max_retries=0)
    call = reduce(getattr, row["call"].split("."), client)
    # What the SDK has no resource for is asked by its path.
    untyped = {"cast_to": object} if row["call"] == "get" else {}
    arguments = json.loads(filled(json.dumps(row["arguments"])))
    arguments = {name: file_of(value) for name, value in arguments.items()}
    path = filled(row["path"])
    try:
        made[row["call"]] = id_of(call(**arguments, **untyped))
    except APIStatusError as error:
        assert error.status_code == row.get("status"), (row["call"], error)
    (answer,) = taken()
    asked = (answer.method, answer.path, answer.status)
    assert asked == (row["method"], path, row.get("status", 200)), (row["call"], asked)
    passed.append(row["call"])
print(json.dumps(passed))
