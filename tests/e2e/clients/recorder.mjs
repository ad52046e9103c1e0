// Keeps every answer as `fetch` received it, without the knowledge of the SDKs: what a gateway passes on can
// then be compared byte by byte with what the backend says itself.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

// What a backend makes anew for every answer.
const NEW_TEXT = /("(?:id|previous_response_id|first_id|last_id|item_id|call_id|response_id|upload_id|file_id|request_id|_request_id|encrypted_content)"\s*:\s*)"[^"]*"/g;
const NEW_NUMBER = /("(?:created|created_at|completed_at|expires_at|last_active_at)"\s*:\s*)[\d.]+/g;
// The gateway asks for the usage of every stream of chunks: they say so, and the chunk that has it is taken out.
const NO_USAGE = /,"usage":null/g;

let answers = [];
const send = globalThis.fetch;
globalThis.fetch = async (...request) => {
  const response = await send(...request);
  // The SDK tries out by such a request what `fetch` can do.
  if (String(request[0]).startsWith("data:")) return response;
  const { status, headers } = response;
  const body = response.clone().text();
  // Who compares it learns that it broke off.
  body.catch(() => {});
  answers.push({ status, headers, body });
  return response;
};

// The packages are found from the working directory, which is the folder of their node_modules.
const require = createRequire(pathToFileURL(join(process.cwd(), "package.json")));
export const load = (name) => import(pathToFileURL(require.resolve(name)).href);

const masked = (text) =>
  text.replace(NEW_TEXT, '$1"#"').replace(NEW_NUMBER, "$10").replace(NO_USAGE, "");

export function taken() {
  const kept = answers;
  answers = [];
  return kept;
}

// A call through the gateway against the same call of the backend: raw and as the SDK understands it.
export async function same(name, call, client, direct) {
  const result = await call(client);
  const got = taken();
  const expected = await call(direct);
  const want = taken();
  assert.equal(got.length, want.length, name);
  assert.ok(got.length > 0, name);
  for (let i = 0; i < got.length; i++) {
    assert.equal(got[i].status, 200, name);
    assert.equal(masked(await got[i].body), masked(await want[i].body), name);
    assert.equal(got[i].headers.get("content-type"), want[i].headers.get("content-type"), name);
    assert.ok(got[i].headers.get("x-request-id"), name);
  }
  assert.equal(masked(JSON.stringify(result)), masked(JSON.stringify(expected)), name);
  return result;
}

export async function collected(stream) {
  const events = [];
  for await (const event of await stream) events.push(event);
  return events;
}
