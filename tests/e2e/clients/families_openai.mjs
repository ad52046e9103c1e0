// Calls every API of OpenAI through the gateway as its users do, with the official SDK for Node and its defaults,
// and beside it the simulated Foundry without a gateway: the raw bodies and the results are the same. Prints the
// names of the calls.
//
// Usage: families_openai.mjs GATEWAY KEY RESOURCE RESOURCE_KEY
import assert from "node:assert/strict";
import { collected, load, same, taken } from "./recorder.mjs";

const { OpenAI, AzureOpenAI, toFile } = await load("openai");

const [gateway, apiKey, resource, resourceKey] = process.argv.slice(2);
const apiVersion = "2025-04-01-preview";
const v1 = new OpenAI({ baseURL: `${resource}/openai/v1`, apiKey: resourceKey });
const dated = new AzureOpenAI({ endpoint: resource, apiKey: resourceKey, apiVersion });
// The client's name, the client, and the one that asks the resource the same.
const clients = [
  ["v1", new OpenAI({ baseURL: `${gateway}/v1`, apiKey }), v1],
  ["openai/v1", new OpenAI({ baseURL: `${gateway}/openai/v1`, apiKey }), v1],
  ["azure", new AzureOpenAI({ endpoint: gateway, apiKey, apiVersion }), dated],
  ["azure on v1", new AzureOpenAI({ baseURL: `${gateway}/openai/v1`, apiKey, apiVersion: "preview" }), v1],
];
const model = "gpt-5";
const ask = { model, messages: [{ role: "user", content: "What is a tundish?" }] };
const input = { model, input: "What is a tundish?", instructions: "Be brief" };
const prompt = { model: "gpt-3.5-turbo-instruct", prompt: "Say", max_tokens: 5 };
const draw = { model: "gpt-image-2", prompt: "a small vessel", quality: "low" };
const speak = { model: "gpt-4o-mini-tts", input: "Hello there", voice: "alloy", stream_format: "sse" };
const file = () => toFile(Buffer.alloc(10000, "sound\r\n--"), "bells.mp3");
const image = () => toFile(Buffer.alloc(3000, "pixel"), "pot.png", { type: "image/png" });
const edit = { model: "gpt-image-2", prompt: "a larger vessel", quality: "low" };
// The file before the model, as most who write it by hand do.
const hear = async (more) => ({ file: await file(), model: "gpt-4o-mini-transcribe", ...more });
const timed = async (more) => ({ file: await file(), model: "whisper", ...more });
const embed = { model: "text-embedding-3-large", input: ["one two", "three"] };

const calls = {
  chat: (c) => c.chat.completions.create(ask),
  "chat stream": (c) => collected(c.chat.completions.create({ ...ask, stream: true })),
  "chat stream with usage": (c) =>
    collected(c.chat.completions.create({ ...ask, stream: true, stream_options: { include_usage: true } })),
  "chat helper": (c) => c.chat.completions.stream(ask).finalChatCompletion(),
  responses: (c) => c.responses.create(input),
  "responses stream": (c) => collected(c.responses.create({ ...input, stream: true })),
  "responses helper": (c) => c.responses.stream(input).finalResponse(),
  embeddings: (c) => c.embeddings.create(embed),
  completions: (c) => c.completions.create(prompt),
  "completions stream": (c) => collected(c.completions.create({ ...prompt, stream: true })),
  images: (c) => c.images.generate(draw),
  edits: async (c) => c.images.edit({ image: [await image(), await image()], ...edit }),
  "edits stream": async (c) =>
    collected(c.images.edit({ image: await image(), ...edit, stream: true, partial_images: 1 })),
  transcriptions: async (c) => c.audio.transcriptions.create(await hear()),
  "transcriptions stream": async (c) =>
    collected(c.audio.transcriptions.create(await hear({ stream: true }))),
  translations: async (c) => c.audio.translations.create(await timed()),
  "speech stream": async (c) => [await (await c.audio.speech.create(speak)).text()],
  "images stream": (c) => collected(c.images.generate({ ...draw, stream: true, partial_images: 1 })),
};
// What no dated API has.
const undated = {
  compact: (c) => c.responses.compact({ model, input: "one two three" }),
  "input tokens": (c) => c.responses.inputTokens.count({ model, input: "one two three" }),
  moderations: (c) => c.moderations.create({ input: ["peace", "they kill"] }),
};

const passed = [];
for (const [name, client, direct] of clients) {
  for (const [operation, call] of Object.entries(name === "azure" ? calls : { ...calls, ...undated })) {
    const result = await same(`${name}: ${operation}`, call, client, direct);
    if (!Array.isArray(result) && !operation.endsWith("helper")) assert.ok(result._request_id, operation);
    passed.push(`${name}: ${operation}`);
  }
  const names = (await collected(client.models.list())).map((one) => one.id);
  assert.ok(names.includes(model) && names.includes(embed.model), `${names}`);
  assert.equal((await client.models.retrieve(model)).id, model);
  passed.push(`${name}: models`);
  taken();
}
console.log(JSON.stringify(passed));
