// Calls models through the gateway by Vercel's `ai` with the default models of its providers for OpenAI and Azure,
// which speak Responses, and beside it the simulated Foundry without a gateway: the raw bodies and the results are
// the same. Prints the names of the calls.
//
// Usage: families_ai.mjs GATEWAY KEY RESOURCE RESOURCE_KEY
import assert from "node:assert/strict";
import { collected, load, same } from "./recorder.mjs";

const { embedMany, generateImage, generateText, streamText } = await load("ai");
const { createOpenAI } = await load("@ai-sdk/openai");
const { createAzure } = await load("@ai-sdk/azure");

const [gateway, apiKey, resource, resourceKey] = process.argv.slice(2);
const openai = (base, apiKey) => createOpenAI({ baseURL: base, apiKey });
const azure = (base, apiKey) => createAzure({ baseURL: base, apiKey });
const dated = (base, apiKey) =>
  createAzure({ baseURL: base, apiKey, apiVersion: "2025-04-01-preview", useDeploymentBasedUrls: true });
const v1 = `${resource}/openai/v1`;
const providers = [
  ["openai", openai(`${gateway}/v1`, apiKey), openai(v1, resourceKey)],
  ["azure", azure(`${gateway}/openai/v1`, apiKey), azure(v1, resourceKey)],
];
const prompt = "What is a tundish?";

const text = async (model) => {
  const { text, usage, finishReason, response } = await generateText({ model, prompt });
  return { text, usage, finishReason, model: response.modelId };
};
const stream = async (model) => {
  const answer = streamText({ model, prompt });
  const parts = await collected(answer.textStream);
  return { parts, usage: await answer.usage, finishReason: await answer.finishReason };
};
const embeddings = async (provider) => {
  const model = provider.embeddingModel("text-embedding-3-large");
  const { embeddings, usage } = await embedMany({ model, values: ["one two", "three"] });
  return { embeddings, usage };
};
const image = async (provider) => {
  const { image } = await generateImage({ model: provider.imageModel("gpt-image-2"), prompt: "a vessel" });
  return image.base64;
};

const passed = [];
const run = async (name, call, client, direct) => {
  const result = await same(name, call, client, direct);
  passed.push(name);
  return result;
};
for (const [name, client, direct] of providers) {
  const answer = await run(`${name}: text`, (p) => text(p("gpt-5")), client, direct);
  assert.ok(answer.text.startsWith("A tundish") && answer.usage.outputTokens > 0, JSON.stringify(answer));
  const streamed = await run(`${name}: stream`, (p) => stream(p("gpt-5")), client, direct);
  assert.equal(streamed.parts.join(""), answer.text);
  await run(`${name}: chat`, (p) => text(p.chat("gpt-5")), client, direct);
  await run(`${name}: embeddings`, embeddings, client, direct);
  await run(`${name}: image`, image, client, direct);
}
const [client, direct] = [dated(`${gateway}/openai`, apiKey), dated(`${resource}/openai`, resourceKey)];
await run("azure by deployment: chat", (p) => text(p.chat("gpt-5")), client, direct);
await run("azure by deployment: embeddings", embeddings, client, direct);
console.log(JSON.stringify(passed));
