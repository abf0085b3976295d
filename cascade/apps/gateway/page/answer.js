// One answer: asked for, stopped, and gone on with.
//
// The text is a function of prompt, settings and seed, so an answer that was stopped goes on with the ids that
// there are and the same seed, and becomes the text that it would have been.

import { stream } from "./api.js";

const MAX_SEED = 2 ** 31;

export function newAnswer(dials) {
  return {
    role: "assistant",
    pieces: [], // [text, source]
    ids: [],
    prompt: null, // token ids, once the gateway has said them
    settings: { temperature: dials.temperature, seed: Math.floor(Math.random() * MAX_SEED) },
    finish: "", // stop, length, stopped, or a reason
    summary: null,
  };
}

export const textOf = (answer) => answer.pieces.map(([text]) => text).join("");

export const canGoOn = (answer) =>
  answer.prompt !== null && answer.ids.length > 0 && answer.finish !== "stop";

// Asks, and calls onToken(text, facts) for each token. Resolves when it is over, however that came.
export async function run(answer, messages, dials, signal, onToken) {
  const how = { objective: dials.objective, ...(dials.quality < 1 ? { quality: dials.quality } : {}) };
  const common = { ...answer.settings, max_tokens: dials.maxTokens };
  const goesOn = canGoOn(answer);
  const path = goesOn ? "/v1/completions" : "/v1/chat/completions";
  const body = goesOn
    ? { ...common, prompt: [...answer.prompt, ...answer.ids], cascade: how }
    : { ...common, messages, cascade: { ...how, ids: true } };
  answer.finish = "";
  try {
    for await (const event of stream(path, body, signal)) take(answer, event, onToken);
  } catch (error) {
    if (!signal.aborted) throw error;
    answer.finish = "stopped";
  }
}

function take(answer, event, onToken) {
  const [choice] = event.choices;
  const facts = event.cascade ?? {};
  if (facts.prompt) answer.prompt = facts.prompt;
  if (choice.finish_reason) {
    answer.finish = choice.finish_reason;
    answer.summary = { ...event.timings, ...facts };
  } else if (facts.source) {
    const text = choice.delta ? choice.delta.content : choice.text;
    answer.pieces.push([text, facts.source]);
    answer.ids.push(facts.token);
    onToken(text, facts);
  }
}
