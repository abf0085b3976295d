// The gateway's HTTP interface: the same that OpenAI's clients use, and two paths of its own.

import { loadKey } from "./store.js";

export class ApiError extends Error {
  constructor(message, code) {
    super(message);
    this.code = code;
  }
}

export async function status() {
  const answer = await fetch("/cascade/status");
  return answer.json();
}

export async function setLink(change) {
  const answer = await post("/cascade/link", change);
  return answer.json();
}

// Yields the objects of an event stream; comments are skipped.
export async function* stream(path, body, signal) {
  const answer = await post(path, { ...body, stream: true }, signal);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) throw new ApiError("the gateway ended in the middle of the answer", "ended");
    text += value;
    const lines = text.split("\n");
    text = lines.pop();
    for (const line of lines) {
      if (!line.startsWith("data: ")) continue;
      if (line === "data: [DONE]") return;
      const event = JSON.parse(line.slice(6));
      if (event.error) throw new ApiError(event.error.message, event.error.code);
      yield event;
    }
  }
}

async function post(path, body, signal) {
  const headers = { "Content-Type": "application/json" };
  if (loadKey()) headers.Authorization = `Bearer ${loadKey()}`;
  const answer = await fetch(path, { method: "POST", headers, body: JSON.stringify(body), signal });
  if (!answer.ok) {
    const content = await answer.json().catch(() => ({}));
    throw new ApiError(content.error?.message ?? `the gateway answered ${answer.status}`, content.error?.code);
  }
  return answer;
}
