"""Calls models through the gateway by LangChain and pydantic-ai with their defaults, and beside it the simulated
Foundry without a gateway: the raw bodies and the results are the same. Prints the names of the calls.

Usage: families_frameworks.py GATEWAY KEY RESOURCE RESOURCE_KEY
"""
import asyncio
import json
import sys

from langchain_anthropic import ChatAnthropic
from langchain_openai import AzureChatOpenAI, AzureOpenAIEmbeddings, ChatOpenAI
from pydantic_ai import Agent
from pydantic_ai.models import infer_model
from pydantic_ai.models.openai import OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider
from recorder import same, same_async

gateway, key, resource, resource_key = sys.argv[1:]
VERSION = "2024-10-21"
ASK = "What is a tundish?"
HERE, DIRECTLY = (gateway, key), (resource, resource_key)


def azure_chat(place):
    return AzureChatOpenAI(
        azure_endpoint=place[0], api_key=place[1], azure_deployment="gpt-5", api_version=VERSION
    )


def chat(place):
    return ChatOpenAI(base_url=f"{place[0]}/openai/v1", api_key=place[1], model="gpt-5")


def responses(place):
    return ChatOpenAI(
        base_url=f"{place[0]}/openai/v1", api_key=place[1], model="gpt-5", use_responses_api=True
    )


def embeddings(place):
    # By default it counts with a vocabulary that it downloads.
    return AzureOpenAIEmbeddings(
        azure_endpoint=place[0],
        api_key=place[1],
        model="text-embedding-3-large",
        api_version=VERSION,
        check_embedding_ctx_length=False,
    )


def claude(place):
    return ChatAnthropic(
        base_url=f"{place[0]}/anthropic", api_key=place[1], model="claude-sonnet-5-5", max_tokens=100
    )


def agent(place):
    provider = OpenAIProvider(base_url=f"{place[0]}/openai/v1", api_key=place[1])
    return Agent(OpenAIResponsesModel("gpt-5", provider=provider), instructions="Be brief")


passed = []
for make in (azure_chat, chat, responses, claude):
    here, directly = make(HERE), make(DIRECTLY)
    message = same(f"{make.__name__}: invoke", lambda c: c.invoke(ASK), here, directly)
    assert message.text.startswith("A tundish") and message.usage_metadata["output_tokens"] > 0, message
    same(f"{make.__name__}: stream", lambda c: list(c.stream(ASK)), here, directly)
    passed += [f"{make.__name__}: invoke", f"{make.__name__}: stream"]
vectors = same(
    "embeddings", lambda c: c.embed_documents(["one", "two"]), embeddings(HERE), embeddings(DIRECTLY)
)
assert len(vectors) == 2
passed.append("embeddings")


def tokens(usage):
    return [usage.requests, usage.input_tokens, usage.cache_read_tokens, usage.output_tokens]


async def run(one):
    answer = await one.run(ASK)
    return [answer.output, tokens(answer.usage)]


async def run_stream(one):
    async with one.run_stream(ASK) as answer:
        return [[part async for part in answer.stream_text(debounce_by=None)], tokens(answer.usage)]


async def agents():
    model = infer_model("openai:gpt-5", provider_factory=lambda _: OpenAIProvider(api_key="unused"))
    assert type(model) is OpenAIResponsesModel, "the model that an agent has by default"
    for name, call in {"agent: run": run, "agent: stream": run_stream}.items():
        output, usage = await same_async(name, call, agent(HERE), agent(DIRECTLY))
        assert output and usage == [1, 15, 5, 23], usage
        passed.append(name)


asyncio.run(agents())
print(json.dumps(passed))
