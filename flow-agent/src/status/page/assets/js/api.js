// Asks the agent. A token is asked for when one is needed, and kept until the tab is closed.

import { $ } from "./dom.js";

const KEY = "flow-agent-token";
/** How long an answer may take, ms. */
const PATIENCE = 8000;

let token = null;
try {
  token = sessionStorage.getItem(KEY);
} catch {
  // Storage may be switched off: then it is asked for each time.
}
let asking = null;

/** The agent said no; `status` says how. */
export class Refused extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

async function ask(path) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  // Without credentials no browser asks for a password of its own.
  const options = { headers, credentials: "omit", cache: "no-store" };
  return fetch(path, { ...options, signal: AbortSignal.timeout(PATIENCE) });
}

/** The document at a path. */
export async function get(path) {
  let answer = await ask(path);
  while (answer.status === 401) {
    const shown = token;
    await (asking ??= askForToken(shown !== null).finally(() => (asking = null)));
    answer = await ask(path);
  }
  const text = await answer.text();
  let page;
  try {
    page = JSON.parse(text);
  } catch {
    throw new Refused(answer.status, `the agent answered ${answer.status} without JSON`);
  }
  if (!answer.ok) throw new Refused(answer.status, page.error ?? `status ${answer.status}`);
  return page;
}

function askForToken(wrong) {
  const [dialog, form, input] = [$("token-dialog"), $("token-form"), $("token")];
  $("token-error").hidden = !wrong;
  dialog.showModal();
  input.focus();
  return new Promise((done) => {
    // There is nothing to see without one.
    dialog.oncancel = (event) => event.preventDefault();
    form.onsubmit = (event) => {
      event.preventDefault();
      token = input.value.trim();
      input.value = "";
      try {
        sessionStorage.setItem(KEY, token);
      } catch {
        // It holds until the page is loaded again.
      }
      dialog.close();
      done();
    };
  });
}
