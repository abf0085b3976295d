// The page's threads come together here: a question, its answer, and what is remembered of both.

import { newAnswer, run, textOf } from "./answer.js";
import { Chart } from "./chart.js";
import { Conversation } from "./conversation.js";
import { Panel } from "./panel.js";
import { loadConversation, saveConversation } from "./store.js";

const byId = (id) => document.getElementById(id);

const panel = new Panel();
const chart = new Chart(byId("chart"));
const conversation = new Conversation(byId("log"), byId("said"), (answer) => goOn(answer));
let messages = []; // {role: "user", content} and answers, in turn
const views = new Map();
let running = null; // an AbortController

showAll(loadConversation());

byId("form").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = byId("question").value.trim();
  if (!text || running) return;
  byId("question").value = "";
  messages.push({ role: "user", content: text });
  conversation.addQuestion(text);
  const answer = newAnswer(panel.dials);
  messages.push(answer);
  views.set(answer, conversation.addAnswer(answer));
  goOn(answer);
});

byId("question").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    byId("form").requestSubmit();
  }
});

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") running?.abort();
});

byId("stop").addEventListener("click", () => running?.abort());

byId("clear").addEventListener("click", () => {
  running?.abort();
  saveConversation([]);
  showAll([]);
  byId("question").focus();
});

addEventListener("pagehide", () => saveConversation(messages)); // in the middle of an answer, too

async function goOn(answer) {
  if (running) return;
  running = new AbortController();
  const view = views.get(answer);
  const mine = messages;
  const before = messages.slice(0, messages.indexOf(answer)).map(asMessage);
  let problem = null;
  showRunning(true);
  view.begin();
  chart.begin();
  try {
    await run(answer, before, panel.dials, running.signal, (text, facts) => {
      view.add(text, facts.source);
      panel.count(facts.source);
      panel.showNow(chart.add(facts));
    });
  } catch (error) {
    problem = error.message;
    answer.finish = "failed";
    if (error.code === "invalid_api_key") panel.askForKey();
  }
  running = null;
  view.end(problem);
  showRunning(false);
  if (mine === messages) saveConversation(messages);
}

function asMessage(message) {
  return message.role === "user" ? message : { role: "assistant", content: textOf(message) };
}

function showAll(saved) {
  messages = saved;
  views.clear();
  conversation.clear();
  panel.resetCounts();
  for (const message of messages) {
    if (message.role === "user") {
      conversation.addQuestion(message.content);
    } else {
      if (message.finish === "") message.finish = "stopped"; // the page was left in the middle of it
      const view = conversation.addAnswer(message);
      view.show();
      views.set(message, view);
      for (const [, source] of message.pieces) panel.count(source);
    }
  }
}

function showRunning(isRunning) {
  byId("send").hidden = isRunning;
  byId("stop").hidden = !isRunning;
  if (!isRunning) byId("question").focus();
}
