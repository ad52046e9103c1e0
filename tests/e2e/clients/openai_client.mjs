// Plays an application with the official OpenAI SDK for Node; prints what it saw as one JSON object.
//
// Usage: openai_client.mjs GATEWAY KEY SPENT_KEY MODEL
// SPENT_KEY belongs to a consumer who may make two requests a minute.
// The SDK is found from the working directory, which is the folder of its node_modules.
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const require = createRequire(pathToFileURL(join(process.cwd(), "package.json")));
const { OpenAI, AzureOpenAI } = await import(pathToFileURL(require.resolve("openai")).href);

const [gateway, key, spentKey, model] = process.argv.slice(2);
const clients = {
  "openai v1": new OpenAI({ baseURL: `${gateway}/v1`, apiKey: key }),
  "azure dated": new AzureOpenAI({ endpoint: gateway, apiKey: key, apiVersion: "2024-10-21" }),
};
const messages = [{ role: "user", content: "What is a tundish?" }];
const seen = { clients: {} };
for (const [name, client] of Object.entries(clients)) {
  const answer = await client.chat.completions.create({ model, messages });
  let text = "";
  let usageChunks = 0;
  for await (const chunk of await client.chat.completions.create({ model, messages, stream: true })) {
    text += chunk.choices[0]?.delta?.content ?? "";
    usageChunks += chunk.usage ? 1 : 0;
  }
  seen.clients[name] = { answer: answer.choices[0].message.content, stream: text, usage_chunks: usageChunks };
}

async function refused(options) {
  const client = new OpenAI({ baseURL: `${gateway}/v1`, apiKey: options.key ?? key, maxRetries: 0 });
  try {
    await client.chat.completions.create({ model: options.model ?? model, messages });
  } catch (error) {
    return {
      class: error.constructor.name,
      status: error.status,
      code: error.code,
      param: error.param,
      retry_after: error.headers?.get("retry-after"),
    };
  }
  return null;
}

for (let i = 0; i < 2; i++) await refused({ key: spentKey });
seen.spent = await refused({ key: spentKey });
seen["wrong key"] = await refused({ key: "guessed" });
seen["unknown model"] = await refused({ model: "none" });
console.log(JSON.stringify(seen));
