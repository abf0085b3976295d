// The messages as they are shown.

import { canGoOn, textOf } from "./answer.js";

const NEAR_END_PX = 80;

export class Conversation {
  constructor(log, said, onGoOn) {
    this.log = log;
    this.said = said; // read out by screen readers, a whole answer at a time
    this.onGoOn = onGoOn;
  }

  clear() {
    this.log.replaceChildren();
  }

  addQuestion(text) {
    const item = element("li", "user");
    item.append(element("span", "hidden", "You: "), element("p", "", text));
    this.log.append(item);
    this.follow(true);
  }

  // Gives what to call for each token, and at the end.
  addAnswer(answer) {
    const item = element("li", "assistant");
    const text = element("p", "answer");
    const about = element("p", "about");
    item.append(element("span", "hidden", "Answer: "), text, about);
    this.log.append(item);
    for (const piece of answer.pieces) text.append(tokenElement(...piece));
    const view = {
      begin: () => {
        about.replaceChildren();
        text.classList.add("waiting");
        this.follow(true);
      },
      add: (piece, source) => {
        const isNear = this.isNearEnd();
        text.append(tokenElement(piece, source));
        if (isNear) this.follow(false);
      },
      end: (problem) => {
        text.classList.remove("waiting");
        this.describe(about, answer, problem);
        this.said.textContent = problem ?? textOf(answer);
        this.follow(false);
      },
      show: () => this.describe(about, answer, null),
    };
    return view;
  }

  describe(about, answer, problem) {
    about.replaceChildren();
    if (canGoOn(answer)) {
      const button = element("button", "", "Go on");
      button.type = "button";
      button.addEventListener("click", () => this.onGoOn(answer));
      about.append(button);
    }
    if (problem) about.append(element("span", "wrong", problem));
    else about.append(summaryText(answer));
  }

  isNearEnd() {
    const place = scroller(this.log);
    return place.scrollHeight - place.scrollTop - place.clientHeight < NEAR_END_PX;
  }

  follow(isForced) {
    const place = scroller(this.log);
    if (isForced || this.isNearEnd()) place.scrollTop = place.scrollHeight;
  }
}

// On a phone the page scrolls, elsewhere the list does.
function scroller(log) {
  return getComputedStyle(log).overflowY === "visible" ? document.scrollingElement : log;
}

function tokenElement(text, source) {
  const token = element("span", `token ${source}`, text);
  token.title = source;
  return token;
}

function summaryText(answer) {
  const { summary, finish } = answer;
  if (finish === "stopped") return `stopped after ${answer.ids.length} tokens`;
  if (!summary) return "";
  const parts = [
    `${answer.ids.length} tokens`,
    `first after ${Math.round(summary.prompt_ms)} ms`,
    `${Math.round(summary.predicted_per_token_ms)} ms a token`,
  ];
  if (summary.tokens_per_pass) parts.push(`${summary.tokens_per_pass.toFixed(1)} a pass`);
  if (finish === "length") parts.push("cut at the limit");
  return parts.join(" · ");
}

function element(name, classes, text) {
  const made = document.createElement(name);
  if (classes) made.className = classes;
  if (text !== undefined) made.textContent = text;
  return made;
}
