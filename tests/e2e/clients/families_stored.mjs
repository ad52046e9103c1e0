// Uses what a resource stores through the gateway as its users do, with the official SDK for Node and its
// defaults, and beside it the simulated Foundry without a gateway: the raw bodies and the results are the same but
// for the ids. Another consumer finds none of it. Prints the names of the calls.
//
// Usage: families_stored.mjs GATEWAY KEY RESOURCE RESOURCE_KEY OTHER_KEY
import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { collected, load, same, taken } from "./recorder.mjs";

const { OpenAI, AzureOpenAI, NotFoundError, BadRequestError, toFile } = await load("openai");

const [gateway, apiKey, resource, resourceKey, otherKey] = process.argv.slice(2);
const apiVersion = "2025-04-01-preview";
const project = "api/projects/pots/openai/v1";
const clients = [
  ["v1", `${gateway}/v1`, `${resource}/openai/v1`],
  ["project", `${gateway}/${project}`, `${resource}/${project}`],
].map(([name, ours, theirs]) => [
  name,
  new OpenAI({ baseURL: ours, apiKey }),
  new OpenAI({ baseURL: theirs, apiKey: resourceKey }),
]);
clients.push([
  "azure",
  new AzureOpenAI({ endpoint: gateway, apiKey, apiVersion }),
  new AzureOpenAI({ endpoint: resource, apiKey: resourceKey, apiVersion }),
]);
const model = "gpt-5";
const input = { model, input: "What is a tundish?", instructions: "Be brief" };
const next = { model, input: "And a ladle?" };

const lines = Buffer.alloc(9000, '{"custom_id": "1"}\r\n');
const fileOf = (data) => toFile(data, "lines.jsonl");

const calls = {
  file: async (c) => {
    const made = await c.files.create({ file: await fileOf(lines), purpose: "batch" });
    const got = await c.files.retrieve(made.id);
    assert.equal(got.id, made.id);
    const content = Buffer.from(await (await c.files.content(made.id)).arrayBuffer());
    assert.ok(content.equals(lines));
    return [made, got, await c.files.delete(made.id)];
  },
  upload: async (c) => {
    const about = { filename: "lines.jsonl", mime_type: "application/jsonl", purpose: "batch" };
    const made = await c.uploads.create({ bytes: lines.length, ...about });
    const parts = [];
    for (const data of [lines.subarray(0, 4000), lines.subarray(4000)]) {
      parts.push(await c.uploads.parts.create(made.id, { data: await fileOf(data) }));
    }
    const whole = await c.uploads.complete(made.id, { part_ids: parts.map((part) => part.id) });
    const content = Buffer.from(await (await c.files.content(whole.file.id)).arrayBuffer());
    assert.ok(content.equals(lines));
    const other = await c.uploads.create({ bytes: 1, ...about });
    return [made, parts, whole, await c.uploads.cancel(other.id)];
  },
  named: async (c) => {
    const made = await c.files.create({ file: await fileOf(lines), purpose: "user_data" });
    const content = [{ type: "input_file", file_id: made.id }];
    const whole = await c.responses.create({ model, input: [{ role: "user", content }] });
    const items = await collected(c.responses.inputItems.list(whole.id));
    assert.equal(items[0].content[0].file_id, made.id);
    return [made, whole, items];
  },
  chain: async (c) => {
    const first = await c.responses.create(input);
    const second = await c.responses.create({ ...next, previous_response_id: first.id });
    assert.equal(second.previous_response_id, first.id);
    const again = await c.responses.retrieve(second.id);
    assert.equal(again.id, second.id);
    const items = await collected(c.responses.inputItems.list(second.id, { limit: 1 }));
    await c.responses.delete(first.id);
    return [first, second, again, items];
  },
  resumed: async (c) => {
    const events = await collected(c.responses.create({ ...input, stream: true, background: true }));
    const id = events.at(-1).response.id;
    const rest = await collected(c.responses.retrieve(id, { stream: true, starting_after: 3 }));
    assert.equal(rest[0].sequence_number, 4);
    return [events, rest];
  },
  conversation: async (c) => {
    const made = await c.conversations.create({ metadata: { team: "steel" } });
    const first = await c.responses.create({ ...input, conversation: made.id });
    const second = await c.responses.create({ ...next, conversation: { id: made.id } });
    assert.equal(second.conversation.id, made.id);
    const items = await collected(c.conversations.items.list(made.id, { limit: 2, order: "asc" }));
    const item = await c.conversations.items.retrieve(items[0].id, { conversation_id: made.id });
    const updated = await c.conversations.update(made.id, { metadata: { team: "iron" } });
    const gone = await c.conversations.delete(made.id);
    assert.equal(gone.id, made.id);
    return [made, first, second, items, item, updated, gone];
  },
};

async function background(client) {
  let response = await client.responses.create({ ...input, background: true });
  for (let turn = 0; turn < 100 && ["queued", "in_progress"].includes(response.status); turn++) {
    await sleep(100);
    response = await client.responses.retrieve(response.id);
  }
  assert.equal(response.status, "completed");
  const begun = await client.responses.create({ ...input, background: true });
  assert.equal((await client.responses.cancel(begun.id)).status, "cancelled");
}

async function others(client) {
  const other = client.withOptions({ apiKey: otherKey });
  const response = await client.responses.create(input);
  const made = await client.conversations.create({});
  const file = await client.files.create({ file: await fileOf(lines), purpose: "batch" });
  const code = (kind, code) => (error) => error instanceof kind && error.code === code;
  for (const call of [
    () => other.responses.retrieve(response.id),
    () => other.responses.delete(response.id),
    () => other.responses.cancel(response.id),
    () => other.conversations.retrieve(made.id),
    () => other.files.retrieve(file.id),
    () => other.responses.create({ model, input: [{ role: "user", content: [{ type: "input_file", file_id: file.id }] }] }),
    () => other.files.content(file.id),
    () => other.files.delete(file.id),
    () => other.responses.create({ ...next, conversation: made.id }),
  ]) {
    await assert.rejects(call, code(NotFoundError, "not_kept"));
  }
  const call = () => other.responses.create({ ...next, previous_response_id: response.id });
  await assert.rejects(call, code(BadRequestError, "previous_response_not_found"));
}

const passed = [];
for (const [name, client, direct] of clients) {
  for (const [operation, call] of Object.entries(calls)) {
    await same(`${name}: ${operation}`, call, client, direct);
    passed.push(`${name}: ${operation}`);
  }
  await background(client);
  await others(client);
  passed.push(`${name}: background`, `${name}: others`);
  taken();
}
console.log(JSON.stringify(passed));
