// Drives the simulated Foundry with the official OpenAI SDK for Node. Prints the names of the checks that
// passed.
//
// Usage: foundry_openai.mjs RESOURCE KEY
// The SDK is found from the working directory, which is the folder of its node_modules.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const require = createRequire(pathToFileURL(join(process.cwd(), "package.json")));
const { OpenAI, AzureOpenAI } = await import(pathToFileURL(require.resolve("openai")).href);

const [resource, apiKey] = process.argv.slice(2);
const v1 = new OpenAI({ baseURL: `${resource}/openai/v1`, apiKey, maxRetries: 0 });
const dated = new AzureOpenAI({ endpoint: resource, apiKey, apiVersion: "2025-04-01-preview", maxRetries: 0 });
const model = "gpt-5";

const checks = {
  async responses() {
    for (const client of [v1, dated]) {
      const answer = await client.responses.create({ model, input: "Hello there" });
      assert.ok(answer.output_text.startsWith("A tundish"));
      assert.equal(answer.usage.output_tokens, 16);
      assert.equal((await client.responses.retrieve(answer.id)).output_text, answer.output_text);
      let text = "";
      for await (const event of await client.responses.create({ model, input: "Hi", stream: true })) {
        if (event.type === "response.output_text.delta") text += event.delta;
        if (event.type === "response.completed") assert.equal(event.response.usage.output_tokens, 16);
      }
      assert.equal(text, answer.output_text);
      await client.responses.delete(answer.id);
      await assert.rejects(client.responses.retrieve(answer.id), OpenAI.NotFoundError);
    }
  },
  async background() {
    let answer = await v1.responses.create({ model, input: "Hello", background: true });
    assert.equal(answer.status, "queued");
    assert.equal((await v1.responses.cancel(answer.id)).status, "cancelled");
    const seen = [];
    for await (const event of await v1.responses.create({ model, input: "Hi", background: true, stream: true })) {
      seen.push(event.type);
    }
    assert.equal(seen[1], "response.queued");
    assert.equal(seen.at(-1), "response.completed");
  },
  async conversations() {
    const conversation = await v1.conversations.create({});
    await v1.responses.create({ model, input: "Hello", conversation: conversation.id });
    const roles = [];
    for await (const item of v1.conversations.items.list(conversation.id, { order: "asc" })) roles.push(item.role);
    assert.deepEqual(roles, ["user", "assistant"]);
  },
  async others() {
    const embedded = await v1.embeddings.create({ model: "text-embedding-3-small", input: ["a", "b"] });
    assert.equal(embedded.data[1].embedding.length, 1536);
    const drawn = await v1.images.generate({ model: "gpt-image-2", prompt: "a vessel" });
    assert.ok(drawn.data[0].b64_json);
    const spoken = await v1.audio.speech.create({ model: "gpt-4o-mini-tts", input: "Hi", voice: "alloy" });
    assert.equal((await spoken.arrayBuffer()).byteLength, 480);
    const completed = await dated.completions.create({ model: "gpt-3.5-turbo-instruct", prompt: "Say" });
    assert.ok(completed.choices[0].text.startsWith("A tundish"));
  },
};

for (const check of Object.values(checks)) await check();
console.log(JSON.stringify(Object.keys(checks)));
