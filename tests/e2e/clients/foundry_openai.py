"""Drives the simulated Foundry with the official OpenAI SDK, whose parsers are strict here: an answer
that differs from the published types is an error. Prints the names of the checks that passed.

Usage: foundry_openai.py RESOURCE KEY
"""
import json
import sys
import time

import openai
from openai import AzureOpenAI, OpenAI

resource, key = sys.argv[1:]
STRICT = {"api_key": key, "max_retries": 0, "_strict_response_validation": True}
v1 = OpenAI(base_url=f"{resource}/openai/v1", **STRICT)
dated = AzureOpenAI(azure_endpoint=resource, api_version="2025-04-01-preview", **STRICT)
project = OpenAI(base_url=f"{resource}/api/projects/p/openai/v1", **STRICT)
# For the few answers of the service that the published types do not allow.
lenient = OpenAI(base_url=f"{resource}/openai/v1", api_key=key, max_retries=0)
MODEL = "gpt-5"
SENTENCE = "A tundish is the vessel between the ladle and the moulds of a foundry: it"


def refused(kind, call):
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")


def images():
    options = {"model": "gpt-image-2", "prompt": "a small vessel", "quality": "low"}
    answer = v1.images.generate(**options)
    assert answer.data[0].b64_json and answer.usage.output_tokens == 272 and answer.size == "1024x1024"
    events = [e for e in v1.images.generate(**options, stream=True, partial_images=1)]
    assert [e.type for e in events] == ["image_generation.partial_image", "image_generation.completed"]
    assert events[-1].usage.output_tokens == 372


def moderations():
    answer = v1.moderations.create(input=["peace", "they kill"])
    assert [result.flagged for result in answer.results] == [False, True]
    assert answer.results[1].categories.violence


def speech():
    options = {"model": "gpt-4o-mini-tts", "input": "Hello there", "voice": "alloy"}
    assert len(v1.audio.speech.create(**options).read()) == 960
    with v1.audio.speech.with_streaming_response.create(**options, response_format="wav") as response:
        assert response.headers["content-type"] == "audio/wav"
        assert sum(map(len, response.iter_bytes())) == 960


def models():
    ids = [model.id for model in v1.models.list()]
    assert "claude-sonnet-5-5" in ids and v1.models.retrieve("gpt-5-2025-08-07").object == "model"


def responses():
    for client in (v1, dated, project):
        answer = client.responses.create(
            model=MODEL,
            input=[{"role": "user", "content": "Hello there"}],
            instructions="Be brief",
            metadata={"team": "search"},
            tools=[{"type": "function", "name": "look", "parameters": {"type": "object"}, "strict": False}],
            reasoning={"effort": "low"},
            text={"format": {"type": "text"}},
        )
        assert answer.status == "completed" and answer.output_text.startswith(SENTENCE), answer
        assert answer.usage.input_tokens == 2 + 2 + 2 * 3 + 3 and answer.usage.output_tokens == 16
        assert answer.metadata == {"team": "search"} and answer.tools[0].name == "look"
        again = client.responses.retrieve(answer.id)
        assert again.output_text == answer.output_text and again.usage == answer.usage
        items = client.responses.input_items.list(answer.id)
        assert [item.content[0].text for item in items] == ["Hello there"]
        next_one = client.responses.create(model=MODEL, input="And?", previous_response_id=answer.id)
        assert next_one.usage.input_tokens == answer.usage.total_tokens + 1 + 3 + 3
        client.responses.delete(answer.id)
        error = refused(openai.NotFoundError, lambda: client.responses.retrieve(answer.id))
        assert answer.id in error.message, error
    error = refused(
        openai.BadRequestError,
        lambda: v1.responses.create(model=MODEL, input="x", previous_response_id="resp_unknown"),
    )
    assert error.code == "previous_response_not_found" and error.param == "previous_response_id"
    of_project = project.responses.create(model=MODEL, input="x")
    refused(openai.NotFoundError, lambda: v1.responses.retrieve(of_project.id))


def response_streams():
    text, kinds, numbers = "", [], []
    for event in v1.responses.create(model=MODEL, input="Hello", stream=True):
        kinds.append(event.type)
        numbers.append(event.sequence_number)
        if event.type == "response.output_text.delta":
            text += event.delta
    assert numbers == list(range(len(numbers)))
    assert kinds[:4] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ], kinds
    assert kinds[-4:] == [
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ], kinds
    assert event.response.output_text == text and event.response.usage.output_tokens == 16
    assert v1.responses.retrieve(event.response.id).output_text == text
    with v1.responses.stream(model=MODEL, input="Hello") as stream:
        assert stream.get_final_response().output_text == text


def response_function_calls():
    tool = {"type": "function", "name": "look", "parameters": {"type": "object"}, "strict": False}
    options = {"model": MODEL, "input": "Look", "tools": [tool], "tool_choice": "required"}
    answer = v1.responses.create(**options)
    call = answer.output[0]
    assert call.type == "function_call" and call.name == "look"
    assert json.loads(call.arguments)["text"].startswith("A tundish")
    streamed = [e for e in v1.responses.create(stream=True, **options)]
    deltas = [e.delta for e in streamed if e.type == "response.function_call_arguments.delta"]
    assert "".join(deltas) == call.arguments and len(deltas) == 16
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "found it"}
    v1.responses.create(model=MODEL, input=[result], previous_response_id=answer.id)


def responses_in_the_background():
    answer = v1.responses.create(model=MODEL, input="Hello", background=True)
    assert answer.status == "queued" and answer.usage is None and answer.output == []
    seen = {answer.status}
    while answer.status in ("queued", "in_progress"):
        time.sleep(0.02)
        answer = v1.responses.retrieve(answer.id)
        seen.add(answer.status)
    assert seen <= {"queued", "in_progress", "completed"} and answer.usage.output_tokens == 16
    refused(openai.BadRequestError, lambda: v1.responses.cancel(answer.id))
    answer = v1.responses.create(model=MODEL, input="Hello", background=True)
    refused(openai.BadRequestError, lambda: v1.responses.delete(answer.id))
    for _ in range(2):
        assert v1.responses.cancel(answer.id).status == "cancelled"
    error = refused(
        openai.BadRequestError,
        lambda: v1.responses.create(model=MODEL, input="x", background=True, store=False),
    )
    assert error.code == "unsupported_parameter"


def resumed_streams():
    events = [e for e in v1.responses.create(model=MODEL, input="Hi", background=True, stream=True)]
    assert [e.type for e in events[:3]] == ["response.created", "response.queued", "response.in_progress"]
    assert events[-1].type == "response.completed"
    id = events[0].response.id
    rest = [e for e in v1.responses.retrieve(id, stream=True, starting_after=4)]
    assert [e.sequence_number for e in rest] == [e.sequence_number for e in events[5:]]
    stored = v1.responses.create(model=MODEL, input="Hi")
    refused(openai.BadRequestError, lambda: v1.responses.retrieve(stored.id, stream=True))


def other_ends():
    failed = v1.responses.create(model=MODEL, input="fail:response")
    assert failed.status == "failed" and failed.error.code == "server_error" and failed.usage is None
    kinds = [e.type for e in v1.responses.create(model=MODEL, input="fail:response", stream=True)]
    assert kinds[-1] == "response.failed" and "response.output_item.done" not in kinds
    filtered = v1.responses.create(model=MODEL, input="filter:completion")
    assert filtered.incomplete_details.reason == "content_filter"
    error = refused(openai.BadRequestError, lambda: v1.responses.create(model=MODEL, input="filter:prompt"))
    assert error.code == "content_filter"
    messages = [{"role": "user", "content": "filter:completion"}]
    chat = v1.chat.completions.create(model=MODEL, messages=messages)
    assert chat.choices[0].finish_reason == "content_filter"


def sealed_reasoning():
    answer = v1.responses.create(
        model="thinker", input="Hi", store=False, include=["reasoning.encrypted_content"]
    )
    reasoning = answer.output[0]
    assert reasoning.type == "reasoning" and reasoning.encrypted_content
    assert answer.usage.output_tokens_details.reasoning_tokens == 7
    assert answer.usage.input_tokens_details.cached_tokens == 5
    refused(openai.NotFoundError, lambda: v1.responses.retrieve(answer.id))
    item = reasoning.model_dump(exclude_none=True)
    message = {"role": "user", "content": "And?"}
    v1.responses.create(model="thinker", input=[item, message], store=False)
    item["encrypted_content"] = "gAAAAABforeign"
    error = refused(
        openai.BadRequestError, lambda: v1.responses.create(model="thinker", input=[item, message])
    )
    assert error.code == "invalid_encrypted_content"
    capped = v1.responses.create(model="thinker", input="Hi", max_output_tokens=16)
    assert capped.status == "incomplete" and capped.incomplete_details.reason == "max_output_tokens"


def counting_and_compacting():
    assert v1.responses.input_tokens.count(model=MODEL, input="one two three").input_tokens == 9
    # The service returns the user's messages beside the compaction; the SDK's type has no place for them.
    compacted = lenient.responses.compact(model=MODEL, input="one two three")
    assert compacted.output[-1].type == "compaction" and compacted.usage.input_tokens == 9
    v1.responses.create(model=MODEL, input=[item.model_dump(exclude_none=True, warnings=False) for item in compacted.output])


def conversations():
    item = {"type": "message", "role": "user", "content": "First words"}
    conversation = v1.conversations.create(items=[item], metadata={"a": "b"})
    assert v1.conversations.retrieve(conversation.id).metadata == {"a": "b"}
    answer = v1.responses.create(model=MODEL, input="Next", conversation=conversation.id)
    assert answer.conversation.id == conversation.id
    assert answer.usage.input_tokens == (2 + 3) + (1 + 3) + 3
    items = list(v1.conversations.items.list(conversation.id, order="asc"))
    assert [item.role for item in items] == ["user", "user", "assistant"]
    assert v1.conversations.items.retrieve(items[0].id, conversation_id=conversation.id).id == items[0].id
    v1.conversations.items.create(conversation.id, items=[item])
    v1.conversations.items.delete(items[0].id, conversation_id=conversation.id)
    assert len(list(v1.conversations.items.list(conversation.id))) == 3
    assert v1.conversations.update(conversation.id, metadata={}).metadata == {}
    assert v1.conversations.delete(conversation.id).deleted
    refused(openai.NotFoundError, lambda: v1.conversations.retrieve(conversation.id))


def errors():
    assert refused(openai.NotFoundError, lambda: v1.responses.create(model="none", input="x")).code == (
        "DeploymentNotFound"
    )
    error = refused(
        openai.BadRequestError, lambda: v1.responses.create(model=MODEL, input="x", max_output_tokens=1)
    )
    assert error.code == "integer_below_min_value" and error.param == "max_output_tokens"
    error = refused(
        openai.BadRequestError,
        lambda: v1.responses.create(
            model=MODEL, input="x", stream=True, extra_body={"stream_options": {"include_usage": True}}
        ),
    )
    assert error.code == "unknown_parameter", error


def embeddings():
    model = "text-embedding-3-small"
    for client in (v1, dated):
        answer = client.embeddings.create(model=model, input=["one two", "three"], encoding_format="float")
        assert len(answer.data) == 2 and len(answer.data[0].embedding) == 1536
        assert answer.usage.prompt_tokens == 3 == answer.usage.total_tokens
        tokens = client.embeddings.create(model=model, input=[1, 2, 3], encoding_format="float")
        assert tokens.usage.prompt_tokens == 3
    # By default the SDK asks for base64, which it decodes only after its parser has seen it.
    short = {"model": model, "input": "one", "dimensions": 8}
    numbers = v1.embeddings.create(**short, encoding_format="float").data[0].embedding
    decoded = lenient.embeddings.create(**short).data[0].embedding
    assert len(decoded) == 8 and all(abs(a - b) < 1e-6 for a, b in zip(numbers, decoded))


def completions():
    model = "gpt-3.5-turbo-instruct"
    for client in (v1, dated):
        answer = client.completions.create(model=model, prompt="Say", n=2, max_tokens=3)
        assert [choice.text for choice in answer.choices] == ["A tundish is"] * 2
    # The type wants a finish_reason in every chunk.
    stream = lenient.completions.create(model=model, prompt="Say", max_tokens=3, stream=True)
    assert "".join(chunk.choices[0].text for chunk in stream if chunk.choices) == "A tundish is"


CHECKS = [
    embeddings,
    completions,
    images,
    moderations,
    speech,
    models,
    responses,
    response_streams,
    response_function_calls,
    responses_in_the_background,
    resumed_streams,
    other_ends,
    sealed_reasoning,
    counting_and_compacting,
    conversations,
    errors,
]
for check in CHECKS:
    check()
print(json.dumps([check.__name__ for check in CHECKS]))
