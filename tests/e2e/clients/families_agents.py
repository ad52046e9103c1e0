"""Runs agents of OpenAI's Agents SDK with each of its stores of sessions: one that the resource keeps, and one in a
file with items whose ids and encrypted parts the gateway has tagged. Prints the names of the checks.

Usage: families_agents.py GATEWAY KEY RESOURCE RESOURCE_KEY OTHER_KEY
"""

import asyncio
import json
import os
import sys
import tempfile

from agents import (
    Agent,
    ModelSettings,
    OpenAIConversationsSession,
    OpenAIResponsesModel,
    Runner,
    SQLiteSession,
    function_tool,
    set_tracing_disabled,
)
from openai import AsyncOpenAI, NotFoundError

gateway, key, _, _, other_key = sys.argv[1:]
set_tracing_disabled(True)
own = AsyncOpenAI(base_url=f"{gateway}/v1", api_key=key)
foreign = AsyncOpenAI(base_url=f"{gateway}/v1", api_key=other_key)
# The simulated model calls the tool twice.
TASK = 'call:pour*2{"ladle":"first"}'


@function_tool
def pour(ladle: str) -> str:
    """Pours a ladle."""
    return f"poured {ladle}"


def agent(**settings):
    model = OpenAIResponsesModel("gpt-5", own)
    return Agent(
        name="smith",
        instructions="Be brief",
        model=model,
        tools=[pour],
        model_settings=ModelSettings(**settings),
    )


async def kept_by_the_resource():
    session = OpenAIConversationsSession(openai_client=own)
    first = await Runner.run(agent(), TASK, session=session)
    assert len(first.raw_responses) == 3, first.raw_responses
    before = len(await session.get_items())
    await Runner.run(agent(), "And now?", session=session)
    assert len(await session.get_items()) > before
    conversation = session.session_id
    stranger = OpenAIConversationsSession(conversation_id=conversation, openai_client=foreign)
    try:
        await stranger.get_items()
        raise AssertionError("another consumer reads the session")
    except NotFoundError as error:
        assert error.code == "not_kept", error
    await session.clear_session()
    return conversation


async def kept_in_a_file(name):
    assert len(name) > 64, name
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "sessions.db")
        settings = {"store": False, "response_include": ["reasoning.encrypted_content"]}
        for text in [TASK, "Go on", "And on"]:
            # As after a restart of the application.
            session = SQLiteSession(name, path)
            await Runner.run(agent(**settings), text, session=session)
            session.close()
        items = await SQLiteSession(name, path).get_items()
        sealed = [item for item in items if item.get("encrypted_content")]
        assert len(sealed) == 5, items


async def chained():
    first = await Runner.run(agent(), TASK)
    assert len(first.last_response_id) > 64
    second = await Runner.run(agent(), "More", previous_response_id=first.last_response_id)
    assert second.last_response_id != first.last_response_id


async def main():
    conversation = await kept_by_the_resource()
    await kept_in_a_file(conversation)
    await chained()
    print(json.dumps(["conversation", "file", "chain"]))


asyncio.run(main())
