// Meets errors through the gateway with the official SDK of OpenAI for Node: it throws the class that its users
// catch, with the id of the request. Prints the names of the checks.
//
// Usage: families_errors.mjs GATEWAY KEY RESOURCE
import assert from "node:assert/strict";
import { collected, load } from "./recorder.mjs";

const { OpenAI } = await load("openai");

const [gateway, apiKey, resource] = process.argv.slice(2);
const client = (apiKey) => new OpenAI({ baseURL: `${gateway}/v1`, apiKey });
const model = "gpt-5";
const messages = [{ role: "user", content: "Hi" }];
const passed = [];

const faults = (...rules) => fetch(`${resource}/_sim/faults`, { method: "PUT", body: JSON.stringify(rules) });

async function thrown(name, kind, call) {
  try {
    await call();
  } catch (error) {
    assert.equal(error.constructor, kind, `${name}: ${error.stack}`);
    passed.push(name);
    return error;
  }
  assert.fail(`${name}: no ${kind.name}`);
}

for (const [name, kind, code, call] of [
  ["wrong key", OpenAI.AuthenticationError, "invalid_credential", () => client("guessed").responses.create({ model, input: "Hi" })],
  ["unknown model", OpenAI.NotFoundError, "model_not_found", () => client(apiKey).responses.create({ model: "none", input: "Hi" })],
  ["unserved", OpenAI.NotFoundError, "operation_not_served", () => client(apiKey).files.list()],
  ["spent month", OpenAI.RateLimitError, "quota_exceeded", () => client("key-of-poor").responses.create({ model, input: "Hi", max_output_tokens: 20 })],
]) {
  const error = await thrown(name, kind, call);
  assert.equal(error.code, code);
  assert.ok(error.requestID, name);
}

const { chat, responses, completions, images } = client(apiKey);
const streams = {
  chat: () => chat.completions.create({ model, messages, stream: true }),
  responses: () => responses.create({ model, input: "Hi", stream: true }),
  completions: () => completions.create({ model: "gpt-3.5-turbo-instruct", prompt: "Hi", stream: true }),
  images: () => images.generate({ model: "gpt-image-2", prompt: "x", stream: true, partial_images: 2 }),
};
for (const [name, call] of Object.entries(streams)) {
  const cut_after_chunks = name === "images" ? 1 : 4;
  for (const fault of [{ stream_error: true, cut_after_chunks }, { cut_after_chunks }]) {
    await faults(fault);
    const error = await thrown(`${name}: ${JSON.stringify(fault)}`, OpenAI.APIError, () => collected(call()));
    assert.equal(error.code === "upstream_failed", !fault.stream_error, `${name}: ${error.code}`);
  }
}
await faults();
console.log(JSON.stringify(passed));
