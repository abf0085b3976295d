// Dials, the link's switches, and the line that says whether there is an edge.

import { setLink, status } from "./api.js";
import { loadDials, loadKey, saveDials, saveKey } from "./store.js";

const LOOK_EVERY_MS = 2000;

const byId = (id) => document.getElementById(id);

export class Panel {
  constructor() {
    this.restore();
    byId("key").value = loadKey();
    byId("key").addEventListener("change", (event) => saveKey(event.target.value));
    byId("tints").addEventListener("change", () => this.tint());
    for (const id of ["objective", "quality", "temperature", "max-tokens", "tints"]) {
      byId(id).addEventListener("input", () => this.remember());
    }
    byId("profile").addEventListener("change", (event) => this.switchLink({ profile: event.target.value }));
    byId("cut").addEventListener("click", () =>
      this.switchLink({ is_cut: byId("cut").getAttribute("aria-pressed") !== "true" }),
    );
    this.counts = { hinted: 0, driven: 0, kept: 0 };
    this.look();
  }

  get dials() {
    const tokens = Math.round(byId("max-tokens").valueAsNumber);
    return {
      objective: byId("objective").value,
      quality: byId("quality").valueAsNumber,
      temperature: byId("temperature").valueAsNumber,
      maxTokens: tokens >= 1 ? tokens : 400,
      tints: byId("tints").checked,
    };
  }

  restore() {
    const dials = loadDials();
    if (dials.objective) byId("objective").value = dials.objective;
    if (dials.quality) byId("quality").value = dials.quality;
    if (dials.temperature !== undefined) byId("temperature").value = dials.temperature;
    if (dials.maxTokens) byId("max-tokens").value = dials.maxTokens;
    if (dials.tints !== undefined) byId("tints").checked = dials.tints;
    this.showDials();
    this.tint();
  }

  remember() {
    this.showDials();
    saveDials(this.dials);
  }

  showDials() {
    byId("temperature-value").textContent = byId("temperature").valueAsNumber.toFixed(1);
    byId("quality-value").textContent = byId("quality").value;
  }

  tint() {
    document.body.classList.toggle("tinted", byId("tints").checked);
  }

  count(source) {
    this.counts[source] += 1;
    byId(`num-${source}`).textContent = this.counts[source];
  }

  resetCounts() {
    for (const source of Object.keys(this.counts)) {
      this.counts[source] = 0;
      byId(`num-${source}`).textContent = "";
    }
  }

  showNow({ latency, rtt, window: ahead }) {
    byId("now-latency").textContent = latency === null ? "–" : `${Math.round(latency)} ms`;
    byId("now-rtt").textContent = rtt === null ? "–" : `${Math.round(rtt)} ms`;
    byId("now-window").textContent = ahead;
  }

  askForKey() {
    byId("key-row").hidden = false;
    byId("key").focus();
  }

  async look() {
    try {
      if (!document.hidden) this.showStatus(await status());
    } catch {
      this.say("the gateway does not answer", true);
    }
    setTimeout(() => this.look(), LOOK_EVERY_MS);
  }

  showStatus({ is_connected: isConnected, edge_model: model, needs_key: needsKey, link }) {
    const over = link ? `, over ${link.profile}` : "";
    if (link?.is_cut) this.say("the link is cut", true);
    else if (isConnected) this.say(`connected to ${model}${over}`, false);
    else this.say("no edge; answers wait for one", true);
    byId("key-row").hidden = !needsKey;
    if (link) this.showLink(link);
  }

  say(text, isBad) {
    if (byId("status").textContent !== text) byId("status").textContent = text; // else it would be read again
    byId("status").classList.toggle("bad", isBad);
  }

  showLink({ profile, profiles, is_cut: isCut }) {
    byId("link").hidden = false;
    const select = byId("profile");
    const names = profiles.includes(profile) ? profiles : [profile, ...profiles];
    if (select.options.length !== names.length) {
      select.replaceChildren(...names.map((name) => new Option(name, name)));
    }
    if (document.activeElement !== select) select.value = profile;
    byId("cut").setAttribute("aria-pressed", String(isCut));
    byId("cut").textContent = isCut ? "Restore the link" : "Cut the link";
  }

  async switchLink(change) {
    try {
      this.showLink(await setLink(change));
      if ("is_cut" in change) this.say(change.is_cut ? "the link is cut" : "the link is back", change.is_cut);
    } catch (error) {
      this.say(error.message, true);
    }
  }
}
